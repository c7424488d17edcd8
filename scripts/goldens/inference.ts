import { readImage } from '../../lib/data/images.js';
import { ImageTransform } from '../../lib/data/transforms.js';
import {
  emptyContext,
  type GenerationContext,
  type GenerationModel,
  latentGrid,
  patchGrid,
  prefillText,
  prefillVae,
  prefillVit,
} from '../../lib/generate/context.js';
import {
  decodeLatent,
  InterleaveInferencer,
  type TextCodec,
} from '../../lib/generate/inferencer.js';
import type { InferenceInput } from '../../lib/generate/options.js';
import {
  preparePrompts,
  prepareVaeImages,
  prepareVaeLatent,
  prepareVaeLatentCfg,
  prepareVitImages,
} from '../../lib/generate/prepare.js';
import { generateImage, samplerDefaults } from '../../lib/generate/sampler.js';
import { generateText } from '../../lib/generate/text.js';
import { keep, ops, type Tensor, tensor } from '../../lib/torch/index.js';
import { type GoldenCase, type Handler, type Json, optional } from './handler.js';

/** The parts a case needs; the autoencoder only where the case lists its weights. */
function parts(c: GoldenCase): GenerationModel {
  const withVae = c.entry.weights?.split('+').includes('vae');
  return { model: c.bagel(), special: c.specialTokens, ...(withVae && { vae: c.vae() }) };
}

/** Compares every listed `<prefix>/<array>` output; an array that nobody prepared is a failure. */
function expectArrays(c: GoldenCase, prefix: string, arrays: object): void {
  for (const name of c.outputNames().filter((n) => n.startsWith(`${prefix}/`))) {
    const value = (arrays as Record<string, number[]>)[name.slice(prefix.length + 1)];
    if (value) c.expect(name, value);
  }
}

/** Compares `<prefix>/k<layer>` and `<prefix>/v<layer>` of every layer. */
function expectCache(c: GoldenCase, prefix: string, context: GenerationContext): void {
  for (let layer = 0; layer < c.config.llm.num_hidden_layers; layer++) {
    const key = context.cache.key(layer);
    const value = context.cache.value(layer);
    if (!key || !value) throw new Error(`layer ${layer} of the cache is empty`);
    c.expect(`${prefix}/k${layer}`, key);
    c.expect(`${prefix}/v${layer}`, value);
  }
}

const sizeOf = (image: Tensor): [number, number] => [image.shape[1], image.shape[2]];

/** Image inputs of a case; the posterior noise is that of the one VAE image. */
function appendVae(c: GoldenCase, g: GenerationModel, context: GenerationContext) {
  const noise = { posteriorNoise: c.input('posterior_noise') };
  return prefillVae(g, context, [c.input('vae_image')], [noise]);
}

const appendVit = (c: GoldenCase, g: GenerationModel, context: GenerationContext) =>
  prefillVit(g, context, [c.input('vit_image')]);

function prefillOneText(c: GoldenCase): void {
  const g = parts(c);
  const empty = emptyContext(g);
  expectArrays(c, 'prep', preparePrompts(empty, [c.params.prompt_ids], g.special));
  expectCache(c, 'kv', prefillText(g, empty, [c.params.prompt_ids]));
}

/** The prompts `p0`, `p1`, ... (or `q0`, ...) of a case, one per sequence. */
function promptsOf(params: Json, round: 'p' | 'q'): number[][] {
  const prompts: number[][] = [];
  while (optional(params, `${round}${prompts.length}`))
    prompts.push(params[`${round}${prompts.length}`]);
  return prompts;
}

function prefillBatch(c: GoldenCase): void {
  const g = parts(c);
  const [p, q] = [promptsOf(c.params, 'p'), promptsOf(c.params, 'q')];
  const empty = emptyContext(g, p.length);
  expectArrays(c, 'prep_round1', preparePrompts(empty, p, g.special));
  const first = prefillText(g, empty, p);
  expectArrays(c, 'prep_round2', preparePrompts(first, q, g.special));
  const second = prefillText(g, first, q);
  expectCache(c, 'kv', second);
  c.expectParam('kv_lens', second.kvLens);
  c.expectParam('ropes', second.ropes);
}

/** The stages of a prefill that mixes images and text, each with its own arrays and cache. */
function prefillStages(c: GoldenCase): void {
  const g = parts(c);
  let context = emptyContext(g);
  for (const { stage, kv_lens, ropes } of c.params.stages) {
    let arrays: object;
    let next: GenerationContext;
    if (stage === 'vae') {
      arrays = prepareVaeImages(context, [sizeOf(c.input('vae_image'))], latentGrid(g), g.special);
      next = appendVae(c, g, context);
    } else if (stage === 'vit') {
      arrays = prepareVitImages(context, [sizeOf(c.input('vit_image'))], patchGrid(g), g.special);
      next = appendVit(c, g, context);
    } else {
      arrays = preparePrompts(context, [c.params.prompt_ids], g.special);
      next = prefillText(g, context, [c.params.prompt_ids]);
    }
    expectArrays(c, `prep_${stage}`, arrays);
    expectCache(c, `after_${stage}`, next);
    c.expectEqual(`kv_lens after ${stage}`, next.kvLens, kv_lens);
    c.expectEqual(`ropes after ${stage}`, next.ropes, ropes);
    context = next;
  }
}

async function decodeText(c: GoldenCase): Promise<void> {
  const g = parts(c);
  const prompts: number[][] = c.params.prompts;
  let context = emptyContext(g, prompts.length);
  if (c.hasInput('vit_image')) context = appendVit(c, g, context);
  context = prefillText(g, context, prompts);
  const logits: Tensor[] = [];
  const { ids } = await generateText(g, {
    context,
    options: { max_length: c.params.max_length },
    endTokenId: optional(c.params, 'end_token_id'),
    stop: 'first',
    onLogits: (step) => logits.push(keep(step.clone())),
  });
  const rows = ids[0].map((_, i) => ids.map((sequence) => sequence[i]));
  c.expect('ids', rows);
  if (c.hasOutput('logits')) c.expect('logits', ops.stack(logits, 0));
}

/** Sampler options of a case; what it leaves out does not matter to it. */
function samplerOptions(params: Json) {
  const given: Json = {};
  for (const key of Object.keys(samplerDefaults)) if (key in params) given[key] = params[key];
  return { ...samplerDefaults, ...given, cfg_renorm_scope: 'batch' as const };
}

/** The three contexts: with images in the case it is an edit, else text to image. */
function guidedContexts(c: GoldenCase, g: GenerationModel, prompts: number[][]) {
  const empty = emptyContext(g, prompts.length);
  if (!c.hasInput('vae_image')) {
    const context = prefillText(g, empty, prompts);
    return { context, contextWithoutText: empty, contextWithoutImage: context };
  }
  const images = appendVit(c, g, appendVae(c, g, empty));
  return {
    context: prefillText(g, images, prompts),
    contextWithoutText: images,
    contextWithoutImage: prefillText(g, empty, prompts),
  };
}

async function sampleImage(c: GoldenCase): Promise<void> {
  const g = parts(c);
  const { params } = c;
  const batched = 'prompts' in params;
  const prompts: number[][] = batched ? params.prompts : [params.prompt_ids];
  const imageSizes: Array<[number, number]> = optional(params, 'image_sizes_hw') ?? [
    params.image_size_hw,
  ];
  const contexts = guidedContexts(c, g, prompts);
  const p = prepareVaeLatent(contexts.context, imageSizes, latentGrid(g), g.special);
  expectArrays(c, 'prep', p);
  for (const [name, context] of [
    ['prep_cfg_text', contexts.contextWithoutText],
    ['prep_cfg_img', contexts.contextWithoutImage],
  ] as const) {
    expectArrays(c, name, prepareVaeLatentCfg(context, p.packed_seqlens));
  }
  const steps: Array<{ t: number; x: Tensor; v: Tensor }> = [];
  const images = await generateImage(g, {
    ...contexts,
    imageSizes,
    noise: c.input('init_noise'),
    options: samplerOptions(params),
    onStep: ({ t, x, velocity }) =>
      steps.push({ t, x: keep(x.clone()), v: keep(velocity.clone()) }),
  });
  if (batched) {
    for (const [i, image] of images.entries()) c.expect(`final_${i}`, image);
  } else {
    c.expect('final', images[0]);
  }
  if (!c.hasOutput('x_after_step')) return;
  c.expect('t_per_step', tensor(steps.map((s) => s.t)));
  const stacked = (pick: 'x' | 'v') => ops.stack(steps.map((s) => s[pick]));
  c.expect('x_after_step', stacked('x'));
  c.expect('v_per_step', stacked('v'));
}

function decodeToPixels(c: GoldenCase): void {
  const g = { model: c.bagel(), vae: c.vae(), special: c.specialTokens };
  const size = c.params.image_size_hw;
  const image = decodeLatent(g, c.input('latent_tokens'), size);
  c.expect('image', image.data, [image.height, image.width, 3]);
}

/** First id of the toy tokenizer's bytes. */
const byteOffset = 16;

/** The folder's tokenizer: one token per UTF-8 byte, and `[id]` per token when decoding. */
const toyTokenizer: TextCodec = {
  encode: (text) => [...new TextEncoder().encode(text)].map((byte) => byte + byteOffset),
  decode: (ids) => ids.map((id) => `[${id}]`).join(''),
};

function toyText(ids: number[]): string {
  return new TextDecoder().decode(Uint8Array.from(ids, (id) => id - byteOffset));
}

function transform(rule: { max: number; min: number; stride: number }): ImageTransform {
  return new ImageTransform({
    max_image_size: rule.max,
    min_image_size: rule.min,
    image_stride: rule.stride,
  });
}

/** Parameters of an end-to-end case that are options of a request. */
const requestOptions = [
  'cfg_text_scale',
  'cfg_img_scale',
  'cfg_interval',
  'cfg_renorm_min',
  'cfg_renorm_type',
  'timestep_shift',
  'num_timesteps',
  'image_shapes',
  'do_sample',
  'text_temperature',
  'think',
  'understanding_output',
  'max_think_token_n',
] as const;

async function endToEnd(c: GoldenCase): Promise<void> {
  const { params } = c;
  const inferencer = new InterleaveInferencer({
    ...parts(c),
    tokenizer: toyTokenizer,
    vaeTransform: transform(params.vae_transform),
    vitTransform: transform(params.vit_transform),
  });
  const options: InferenceInput = {};
  for (const key of requestOptions)
    if (key in params) Object.assign(options, { [key]: params[key] });
  const system = optional(params, 'system_prompt_ids');
  if (system) options.system_prompt = toyText(system);
  const png = optional(params, 'input_png');
  const inputs = png ? [await readImage(c.path(png))] : [];
  const result = await inferencer.interleaveInference([...inputs, params.prompt], options, {
    initNoise: c.hasInput('init_noise') ? c.input('init_noise') : undefined,
    posteriorNoise: c.hasInput('posterior_noise') ? [c.input('posterior_noise')] : undefined,
    onLatent: (tokens) => c.expect('latent', tokens),
  });
  if (optional(params, 'resized_hw')) c.expectParam('resized_hw', result.settings.image_shapes);
  c.expectParam('output_text', result.text);
  const { image } = result;
  if (image) c.expect('image', image.data, [image.height, image.width, 3]);
}

export const handlers: Handler[] = [
  [/^prefill_text_batch/, prefillBatch],
  [/^prefill_text/, prefillOneText],
  [/^prefill_/, prefillStages],
  [/^generate_text/, decodeText],
  [/^generate_image/, sampleImage],
  [/^decode_latent/, decodeToPixels],
  [/^e2e_/, endToEnd],
];
