import { setImmediate as macrotask } from 'node:timers/promises';
import { patchLatentDim } from '../models/bagel/config.js';
import { type Generator, noGrad, ops, randn, scope, type Tensor, tensor } from '../torch/index.js';
import { ConfigError, DataError, NumericError } from '../util/errors.js';
import {
  type GenerationContext,
  type GenerationModel,
  indexTensor,
  latentGrid,
  packRows,
} from './context.js';
import { checkGuidance, type GuidanceOptions, guide, passesAt } from './guidance.js';
import { prepareVaeLatent, prepareVaeLatentCfg } from './prepare.js';
import { samplerSchedule } from './schedule.js';

/** Options of the flow sampler, under the reference's names. */
export interface SamplerOptions extends GuidanceOptions {
  /** Points of the time grid; the network runs one time less. */
  num_timesteps: number;
  /** Bends the grid towards noise; 1 leaves it even. */
  timestep_shift: number;
}

/** The values of the BAGEL app and of SRUM's data generation for text to image. */
export const samplerDefaults: Readonly<SamplerOptions> = Object.freeze({
  num_timesteps: 50,
  timestep_shift: 3,
  cfg_text_scale: 4,
  cfg_img_scale: 1,
  cfg_interval: [0.4, 1] as [number, number],
  cfg_renorm_min: 0,
  cfg_renorm_type: 'global' as const,
  cfg_renorm_scope: 'image' as const,
});

/** State after one Euler step; tensors are valid during the callback only (clone or `keep` them). */
export interface SamplerStep {
  /** 0-based. */
  step: number;
  steps: number;
  /** Time at which the velocity was evaluated. */
  t: number;
  dt: number;
  guided: boolean;
  /** Guided velocity, float32 `[n, P]`. */
  velocity: Tensor;
  /** Latent tokens after the step, float32 `[n, P]`. */
  x: Tensor;
}

/** One batch of pictures: contexts, sizes, start noise and options. */
export interface GenerateImageRequest {
  /** Everything seen so far. */
  context: GenerationContext;
  /** The same without the last text; needed when `cfg_text_scale` > 1. */
  contextWithoutText?: GenerationContext;
  /** The same without images; needed when both scales are above 1. May be `context` itself. */
  contextWithoutImage?: GenerationContext;
  /** (height, width) of the image of each sequence, in pixels. */
  imageSizes: ReadonlyArray<readonly [number, number]>;
  /** Start noise `[sum of cells, P]` float32, or one generator per image. */
  noise: Tensor | readonly Generator[];
  options: SamplerOptions;
  onStep?: (step: SamplerStep) => void;
  signal?: AbortSignal;
}

/**
 * Draws one image per sequence of the context by Euler steps along the guided velocity.
 *
 * Between steps the event loop gets a turn, so a server stays responsive and `signal` can end the run.
 *
 * @returns float32 latent tokens `[cells, P]` per image, on the model's device.
 * @throws ConfigError for options out of range or a missing context, DataError for a bad size or noise,
 *   NumericError when the result is not finite, the signal's reason when aborted.
 */
export async function generateImage(
  g: GenerationModel,
  request: GenerateImageRequest,
): Promise<Tensor[]> {
  const { context, options } = request;
  checkGuidance(options);
  const schedule = samplerSchedule(options.num_timesteps, options.timestep_shift);
  const p = prepareVaeLatent(context, request.imageSizes, latentGrid(g), g.special);
  const spans = p.patchified_vae_latent_shapes.map(([r, c]) => r * c);
  const { device } = g.model;
  requireContexts(request);
  request.signal?.throwIfAborted();

  const state = noGrad(() =>
    scope(() => ({
      frame: g.model.languageModel.embed(indexTensor(p.packed_text_ids, device)),
      undIndexes: indexTensor(p.packed_text_indexes, device),
      genIndexes: indexTensor(p.packed_vae_token_indexes, device),
      latentPositions: indexTensor(p.packed_vae_position_ids, device),
      x: startNoise(request.noise, spans, patchLatentDim(g.model.config)).to({
        dtype: 'float32',
        device,
      }),
    })),
  );

  /** Velocity of the whole batch as one context sees it, float32 or the model's dtype. */
  const velocity = (query: Tensor, from: GenerationContext): Tensor => {
    const positions = prepareVaeLatentCfg(from, p.packed_seqlens).cfg_packed_position_ids;
    const { hidden } = g.model.languageModel.forwardInference({
      query,
      queryLens: p.packed_seqlens,
      positionIds: indexTensor(positions, device),
      cache: from.cache,
      causal: false,
      updateCache: false,
      mode: 'gen',
      undIndexes: state.undIndexes,
      genIndexes: state.genIndexes,
    });
    return g.model.velocity(hidden.indexSelect(0, state.genIndexes));
  };

  const steps = schedule.timesteps.length;
  try {
    for (let step = 0; step < steps; step++) {
      if (step > 0) await macrotask();
      request.signal?.throwIfAborted();
      const t = schedule.timesteps[step];
      const dt = schedule.dts[step];
      const passes = passesAt(t, options);
      const previous = state.x;
      state.x = noGrad(() =>
        scope(() => {
          const time = tensor([t], { dtype: 'float32', device });
          const tokens = g.model.embedLatents(previous, time, state.latentPositions);
          const query = packRows(p.packed_position_ids.length, [
            [state.undIndexes, state.frame],
            [state.genIndexes, tokens],
          ]);
          const conditional = velocity(query, context);
          const again = (from?: GenerationContext): Tensor | undefined =>
            from === context ? conditional : from && velocity(query, from);
          const v = guide(
            {
              conditional,
              withoutText: passes.text ? again(request.contextWithoutText) : undefined,
              withoutImage: passes.image ? again(request.contextWithoutImage) : undefined,
            },
            options,
            spans,
          );
          const x = previous.sub(v.mul(dt));
          request.onStep?.({ step, steps, t, dt, guided: passes.text, velocity: v, x });
          return x;
        }),
      );
      previous.dispose();
    }
    return scope(() => {
      if (!ops.isfinite(state.x).all().item()) {
        throw new NumericError('ERR_NOT_FINITE', 'the sampler left the range of finite numbers', {
          hint: 'Check the weights, and the dtype if it is float16',
        });
      }
      return state.x.split(spans, 0).map((part) => part.clone());
    });
  } finally {
    for (const t of Object.values(state)) t.dispose();
  }
}

/** @throws ConfigError when a branch that the options switch on has no context. */
function requireContexts(request: GenerateImageRequest): void {
  const { options } = request;
  const batch = request.context.kvLens.length;
  const check = (name: 'contextWithoutText' | 'contextWithoutImage', key: string): void => {
    const found = request[name]?.kvLens.length;
    if (found === batch) return;
    throw new ConfigError('ERR_MISSING_CONTEXT', `${key} above 1 needs ${name}`, {
      expected: `a context of ${batch} sequences`,
      found: found === undefined ? 'none' : `${found} sequences`,
    });
  };
  if (options.cfg_text_scale > 1) {
    check('contextWithoutText', 'cfg_text_scale');
    if (options.cfg_img_scale > 1) check('contextWithoutImage', 'cfg_img_scale');
  }
}

/** Given noise, checked, or one draw per image in token layout. */
function startNoise(
  noise: Tensor | readonly Generator[],
  spans: readonly number[],
  width: number,
): Tensor {
  const total = spans.reduce((sum, n) => sum + n, 0);
  if (Array.isArray(noise)) {
    const generators = noise as readonly Generator[];
    if (generators.length !== spans.length) {
      throw new DataError('ERR_NOISE', 'one generator per image is needed', {
        expected: String(spans.length),
        found: String(generators.length),
      });
    }
    return ops.cat(
      generators.map((generator, i) => randn([spans[i], width], { generator })),
      0,
    );
  }
  const given = noise as Tensor;
  if (given.ndim !== 2 || given.shape[0] !== total || given.shape[1] !== width) {
    throw new DataError('ERR_NOISE', 'start noise has a wrong shape', {
      expected: `[${total}, ${width}]`,
      found: `[${given.shape.join(', ')}]`,
    });
  }
  return given.clone();
}
