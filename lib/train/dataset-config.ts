import { z } from 'zod';
import { ConfigError } from '../util/errors.js';
import { type ConfigSource, nearest, readYaml, validate } from './yaml-config.js';

// The dataset YAML and the dataset registry of the BAGEL reference. A dataset YAML maps group names
// to mappings that name data sets; the registry says where each named data set lies. The reference
// keeps the registry in a Python file, here it is YAML too. Relative paths are relative to the
// working directory, as in the reference.

const count = z.int().min(1);

const imageTransformSchema = z.strictObject({
  image_stride: count,
  max_image_size: count,
  min_image_size: count,
  max_pixels: count.optional(),
});

const groupSchema = z.strictObject({
  dataset_names: z.array(z.string().min(1)).min(1),
  num_used_data: z.array(z.int()).optional(),
  weight: z.number().min(0).default(0),
  is_mandatory: z.boolean().default(false),
  image_transform_args: imageTransformSchema,
  vit_image_transform_args: imageTransformSchema.optional(),
  frame_sampler_args: z
    .strictObject({
      max_num_frames: z.int().default(-1),
      min_num_frames: z.int().default(8),
      sample: z.string().default('rand'),
    })
    .optional(),
  shuffle_lines: z.boolean().default(false),
  shuffle_seed: z.int().default(0),
  resume_data_status: z.boolean().default(true),
});

/** Groups of the reference; this trainer feeds from `regional_reward`. */
export const DATASET_GROUPS = [
  't2i_pretrain',
  'vlm_sft',
  'unified_edit',
  'regional_reward',
] as const;
/** One of {@link DATASET_GROUPS}. */
export type DatasetGroup = (typeof DATASET_GROUPS)[number];

/** Schema of a dataset YAML: groups by name. Unknown keys are refused. */
export const datasetConfigSchema = z.strictObject({
  t2i_pretrain: groupSchema.optional(),
  vlm_sft: groupSchema.optional(),
  unified_edit: groupSchema.optional(),
  regional_reward: groupSchema.optional(),
});

const rewardInfoSchema = z.strictObject({
  jsonl_path: z.string().min(1),
  image_dirs: z.strictObject({ good: z.string().min(1), bad: z.string().min(1) }),
  num_total_samples: z.int().optional(),
});

const otherInfo = z.record(z.string(), z.record(z.string(), z.unknown()));

/**
 * Schema of the registry: for each group the data sets by name. Only the entries of
 * `regional_reward` are checked; those of the other groups are accepted as they stand.
 */
export const datasetInfoSchema = z.strictObject({
  t2i_pretrain: otherInfo.optional(),
  vlm_sft: otherInfo.optional(),
  unified_edit: otherInfo.optional(),
  regional_reward: z.record(z.string(), rewardInfoSchema).optional(),
});

/** Options of an image transform: sizes in pixels, `max_pixels` over all images of a sample. */
export type ImageTransformArgs = z.output<typeof imageTransformSchema>;
/** A group of a dataset YAML with all defaults filled in. */
export type DatasetGroupConfig = z.output<typeof groupSchema>;
/** A validated dataset YAML. */
export type DatasetConfig = z.output<typeof datasetConfigSchema>;
/** A validated registry. */
export type DatasetInfo = z.output<typeof datasetInfoSchema>;
/** What the registry says about one regional-reward data set. */
export type RewardDatasetInfo = z.output<typeof rewardInfoSchema>;

/** One regional-reward data set, ready to be opened. */
export interface RewardSource {
  /** Its name in the registry. */
  name: string;
  /** File of reward records, one a line. */
  jsonl: string;
  /** Folder of the target images. */
  goodDir: string;
  /** Folder of the judged images, which the boxes of the records refer to. */
  badDir: string;
}

/** Reads a dataset YAML. @throws ConfigError with file, line and key. */
export function readDatasetConfig(file: string): DatasetConfig {
  return validate(datasetConfigSchema, readYaml(file));
}

/** Reads a registry file. @throws ConfigError with file, line and key. */
export function readDatasetInfo(file: string): DatasetInfo {
  return validate(datasetInfoSchema, readYaml(file));
}

/**
 * The regional-reward data sets a dataset YAML asks for, in its order. Unlike the reference all
 * names count, not only the first.
 *
 * @throws ConfigError when the group is absent, another group is asked for, or a name is not in
 * the registry.
 */
export function rewardSources(
  config: DatasetConfig,
  info: DatasetInfo,
  source: Pick<ConfigSource, 'file'>,
): { group: DatasetGroupConfig; sources: RewardSource[] } {
  const other = DATASET_GROUPS.find((g) => g !== 'regional_reward' && config[g] !== undefined);
  if (other !== undefined) {
    throw new ConfigError('ERR_DATASET_GROUP', 'this trainer cannot feed from the group', {
      file: source.file,
      key: other,
      expected: 'regional_reward',
    });
  }
  const group = config.regional_reward;
  if (group === undefined) {
    throw new ConfigError('ERR_DATASET_GROUP', 'the dataset configuration has no usable group', {
      file: source.file,
      expected: 'a mapping regional_reward',
    });
  }
  const known = info.regional_reward ?? {};
  const sources = group.dataset_names.map((name) => {
    const entry = known[name];
    if (entry === undefined) {
      const near = nearest(name, Object.keys(known));
      throw new ConfigError('ERR_DATASET_NAME', `no data set named "${name}" in the registry`, {
        file: source.file,
        key: 'regional_reward.dataset_names',
        expected: `one of ${Object.keys(known).join(', ') || '(the registry is empty)'}`,
        hint:
          near === undefined
            ? 'Add it under dataset_info.regional_reward.'
            : `Did you mean "${near}"?`,
      });
    }
    return {
      name,
      jsonl: entry.jsonl_path,
      goodDir: entry.image_dirs.good,
      badDir: entry.image_dirs.bad,
    };
  });
  return { group, sources };
}
