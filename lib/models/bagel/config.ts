import { z } from 'zod';
import { ConfigError } from '../../util/errors.js';
import { faultDetails, keyText, type SchemaFault, schemaFaults } from '../../util/schema-faults.js';
import { judgeWordingSchema } from './judge-wording.js';

const count = z.number().int().positive();
const positive = z.number().positive();

/** The decoder layer variants of the BAGEL reference. */
export const LAYER_MODULES = [
  'Qwen2MoTDecoderLayer',
  'Qwen2MoEDecoderLayer',
  'Qwen2DecoderLayer',
] as const;

/** `llm_config.json`: a Qwen2 configuration with BAGEL's additions. */
export const llmConfigSchema = z
  .object({
    vocab_size: count,
    hidden_size: count,
    intermediate_size: count,
    num_hidden_layers: count,
    num_attention_heads: count,
    num_key_value_heads: count,
    hidden_act: z.literal('silu').default('silu'),
    max_position_embeddings: count.default(32768),
    rms_norm_eps: positive.default(1e-6),
    rope_theta: positive.default(10000),
    rope_scaling: z.null().default(null),
    initializer_range: positive.default(0.02),
    qk_norm: z.boolean().default(true),
    layer_module: z.enum(LAYER_MODULES).default('Qwen2MoTDecoderLayer'),
    tie_word_embeddings: z.boolean().default(false),
    freeze_und: z.boolean().default(false),
  })
  .superRefine((llm, ctx) => {
    const { hidden_size, num_attention_heads, num_key_value_heads } = llm;
    requireMultiple(ctx, 'hidden_size', hidden_size, 2 * num_attention_heads);
    if (num_attention_heads % num_key_value_heads !== 0) {
      const message = `a divisor of num_attention_heads (${num_attention_heads})`;
      ctx.addIssue({ code: 'custom', path: ['num_key_value_heads'], message });
    }
  });

/** `vit_config.json`: a SigLIP vision configuration; here the layers are those really built. */
export const vitConfigSchema = z
  .object({
    hidden_size: count,
    intermediate_size: count,
    num_hidden_layers: z.number().int().nonnegative(),
    num_attention_heads: count,
    num_channels: count.default(3),
    image_size: count.default(980),
    patch_size: count.default(14),
    hidden_act: z.string().default('gelu_pytorch_tanh'),
    layer_norm_eps: positive.default(1e-6),
    rope: z.boolean().default(false),
  })
  .superRefine((vit, ctx) => {
    requireMultiple(ctx, 'hidden_size', vit.hidden_size, vit.num_attention_heads);
    requireMultiple(ctx, 'image_size', vit.image_size, vit.patch_size);
  });

/** The kinds of autoencoder: FLUX's network, or a linear code of pixel patches. */
export const VAE_TYPES = ['flux', 'patch'] as const;

/** The autoencoder's shape; the defaults are the FLUX autoencoder's. */
export const vaeConfigSchema = z.object({
  type: z.enum(VAE_TYPES).default('flux'),
  resolution: count.default(256),
  in_channels: count.default(3),
  downsample: count.default(8),
  ch: count.default(128),
  out_ch: count.default(3),
  ch_mult: z.array(count).min(1).default([1, 2, 4, 4]),
  num_res_blocks: count.default(2),
  z_channels: count.default(16),
  scale_factor: positive.default(0.3611),
  shift_factor: z.number().default(0.1159),
});

/** What finds the regions a judge is asked about. */
export const PROPOSERS = ['boxes', 'blobs'] as const;

/** What BAGEL adds to its parts; the defaults are the released 7B model's inference settings. */
export const bagelConfigSchema = z.object({
  latent_patch_size: count.default(2),
  max_latent_size: count.default(64),
  vit_max_num_patch_per_side: count.default(70),
  connector_act: z.string().default('gelu_pytorch_tanh'),
  interpolate_pos: z.boolean().default(false),
  timestep_shift: positive.default(1),
  lambda_constraint: z.number().nonnegative().default(0.5),
  visual_gen: z.boolean().default(true),
  visual_und: z.boolean().default(true),
});

const configSchema = z
  .object({
    llm: llmConfigSchema,
    vit: vitConfigSchema,
    vae: vaeConfigSchema.prefault({}),
    bagel: bagelConfigSchema.prefault({}),
    /** How it wants to be asked as a judge; without one, in the usual words. */
    judge: judgeWordingSchema.optional(),
    /** What finds the regions of its pictures, where the user does not say. */
    proposer: z.enum(PROPOSERS).optional(),
  })
  .superRefine((config, ctx) => {
    // Both position tables are 2-D sine-cosine tables: two axes of sines and cosines.
    requireMultiple(ctx, 'llm.hidden_size', config.llm.hidden_size, 4);
    const { type, z_channels, in_channels, out_ch, downsample } = config.vae;
    if (type !== 'patch') return;
    const pixels = in_channels * downsample ** 2;
    const wrong = (key: string, message: string) =>
      ctx.addIssue({ code: 'custom', path: ['vae', key], message });
    if (z_channels > pixels) wrong('z_channels', `at most the ${pixels} values of a patch`);
    if (out_ch !== in_channels) wrong('out_ch', `as many as in_channels (${in_channels})`);
  });

/** The language model, defaults filled in. */
export type LlmConfig = z.output<typeof llmConfigSchema>;
/** The vision tower as it is built. */
export type VitConfig = z.output<typeof vitConfigSchema>;
/** The autoencoder. */
export type VaeConfig = z.output<typeof vaeConfigSchema>;
/** What joins the parts, and the defaults of training. */
export type BagelConfig = z.output<typeof bagelConfigSchema>;
/** Name of a region proposer. */
export type ProposerName = (typeof PROPOSERS)[number];
/** Everything that determines the shape and behaviour of a BAGEL model. */
export type Config = z.output<typeof configSchema>;
/** A configuration as read from JSON, defaults not yet filled in. */
export type ConfigInput = z.input<typeof configSchema>;

/** Files the parts of a configuration were read from. */
export type ConfigFiles = Partial<Record<keyof Config, string>>;

/**
 * Checks a whole configuration and fills in defaults; unknown keys are ignored.
 *
 * @param files named in errors, with keys as they stand in the file.
 * @throws ConfigError naming every wrong key, of the first file with faults where files are known.
 */
export function parseBagelConfig(json: unknown, files: ConfigFiles = {}): Config {
  const result = configSchema.safeParse(json);
  if (result.success) return result.data;
  const faults = schemaFaults(result.error, json);
  const part = faults[0].path[0] as keyof Config | undefined;
  const file = part === undefined ? undefined : files[part];
  if (part === undefined || file === undefined) throw configError(faults);
  const here = faults.filter(({ path }) => path[0] === part);
  throw configError(
    here.map((fault) => ({ ...fault, key: keyText(fault.path.slice(1)) || undefined })),
    file,
  );
}

/** Checks an `llm_config.json`. @throws ConfigError naming every wrong key. */
export function parseLlmConfig(json: unknown, file?: string): LlmConfig {
  return parse(llmConfigSchema, json, file);
}

/** Checks a `vit_config.json`. @throws ConfigError naming every wrong key. */
export function parseVitConfig(json: unknown, file?: string): VitConfig {
  return parse(vitConfigSchema, json, file);
}

/** Checks any of the schemas here and reports all problems at once. */
export function parse<S extends z.ZodType>(schema: S, json: unknown, file?: string): z.output<S> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw configError(schemaFaults(result.error, json), file);
}

/** One error for all faults: a single one in its details, several in the message. */
function configError(faults: readonly SchemaFault[], file?: string): ConfigError {
  const message = 'the model configuration is wrong';
  if (faults.length === 1) {
    return new ConfigError('ERR_MODEL_CONFIG', message, { file, ...faultDetails(faults[0]) });
  }
  const list = faults.map(({ key, expected, found }) => {
    const place = key === undefined ? '' : `${key}: `;
    return `${place}expected ${expected}, found ${found}`;
  });
  const text = `${message} in ${faults.length} places: ${list.join('; ')}`;
  return new ConfigError('ERR_MODEL_CONFIG', text, { file, key: faults[0].key });
}

/** Width of one attention head of the language model. */
export function headDim(llm: LlmConfig): number {
  return llm.hidden_size / llm.num_attention_heads;
}

/** Values per latent token: patch * patch * channels. */
export function patchLatentDim(config: Config): number {
  return config.bagel.latent_patch_size ** 2 * config.vae.z_channels;
}

/** Pixels per side of a latent token. */
export function latentDownsample(config: Config): number {
  return config.vae.downsample * config.bagel.latent_patch_size;
}

function requireMultiple(ctx: z.RefinementCtx, key: string, value: number, divisor: number): void {
  if (value % divisor === 0) return;
  ctx.addIssue({
    code: 'custom',
    path: key.split('.'),
    message: `a multiple of ${divisor}`,
  });
}
