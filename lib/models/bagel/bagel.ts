import { zerosInit } from '../../nn/init.js';
import { Linear } from '../../nn/linear.js';
import { Module, setParameter } from '../../nn/module.js';
import { PackedLayout } from '../../nn/packed-layout.js';
import type { Device, DType, Generator, Tensor } from '../../torch/index.js';
import { keep, noGrad, ops, scope } from '../../torch/index.js';
import { DataError } from '../../util/errors.js';
import type { PackedBatch } from './batch.js';
import type { Config } from './config.js';
import { patchLatentDim } from './config.js';
import { MlpConnector } from './connector.js';
import type { Streams, TrainContext } from './decoder-layer.js';
import { PositionEmbedding, TimestepEmbedder } from './embeddings.js';
import { LanguageModel } from './language-model.js';
import { packLatent } from './patchify.js';
import { SiglipVisionModel } from './siglip.js';
import { trainingTimesteps } from './timesteps.js';

/** Which parts of the model are built. */
export interface BagelOptions {
  /** Build the vision tower with its connector and position table (default true). */
  vision?: boolean;
}

/** The flow-matching side of a batch before the decoder sees it; n VAE rows of P values each. */
export interface FlowInputs {
  /** [n, P] float32 latents of the input images. */
  clean: Tensor;
  /** [n, P] float32 latents of the target images; null: the inputs are the targets. */
  good: Tensor | null;
  /** [n, P] float32. */
  noise: Tensor;
  /** [n] float32 in [0, 1], after sigmoid and shift; 0 marks clean images. */
  timesteps: Tensor;
  /** [mse] int64: the VAE rows with t > 0, whose velocity is learned. */
  lossRows: Tensor;
}

/** A batch as token embeddings sorted by expert, with everything the decoder layers need. */
export interface TrainStart {
  streams: Streams;
  context: TrainContext;
  flow: FlowInputs | null;
}

/** What the losses look at. All flow tensors are restricted to the loss tokens. */
export interface TrainOutputs {
  /** [ce] float32 cross entropy per labelled token (natural log); null without labels. */
  cePerToken: Tensor | null;
  /** [mse, P] predicted velocity; null without flow loss. */
  velocity: Tensor | null;
  /** [mse, P] noise that was mixed in. */
  noise: Tensor | null;
  /** [mse, P] latents of the input ("bad") images. */
  clean: Tensor | null;
  /** [mse, P] latents of the target ("good") images; null: the inputs are the targets. */
  good: Tensor | null;
  /** [mse] int64: which VAE rows the loss tokens are, e.g. to choose their rewards. */
  lossRows: Tensor | null;
  /** [vae] float32 times of all VAE rows. */
  timesteps: Tensor | null;
}

/** Randomness of a training pass, drawn by the caller. */
export interface TrainForwardOptions {
  /** [vae, P] float32 standard normal noise, one row per VAE token. */
  noise?: Tensor;
}

/**
 * BAGEL: a decoder with an understanding and a generation expert, a vision tower for looking and
 * projections between latents and tokens for drawing. Parameter names are those of its checkpoints.
 */
export class Bagel extends Module {
  languageModel: LanguageModel;
  timeEmbedder: TimestepEmbedder;
  vae2llm: Linear;
  llm2vae: Linear;
  latentPosEmbed: PositionEmbedding;
  vitModel?: SiglipVisionModel;
  connector?: MlpConnector;
  vitPosEmbed?: PositionEmbedding;
  readonly config: Config;

  constructor(config: Config, options: BagelOptions = {}) {
    super();
    this.config = config;
    const { llm, vit, bagel } = config;
    const hidden = llm.hidden_size;
    this.languageModel = new LanguageModel(llm);
    this.timeEmbedder = new TimestepEmbedder(hidden);
    this.vae2llm = new Linear(patchLatentDim(config), hidden);
    this.llm2vae = new Linear(hidden, patchLatentDim(config));
    this.latentPosEmbed = new PositionEmbedding(bagel.max_latent_size, hidden);
    if (options.vision ?? true) {
      this.vitModel = new SiglipVisionModel(vit);
      this.connector = new MlpConnector(vit.hidden_size, hidden, bagel.connector_act);
      this.vitPosEmbed = new PositionEmbedding(bagel.vit_max_num_patch_per_side, hidden);
    }
  }

  /** Where the model lives. */
  get device(): Device {
    return this.languageModel.model.embedTokens.weight.device;
  }

  /** In which precision the residual stream runs. */
  get dtype(): DType {
    return this.languageModel.model.embedTokens.weight.dtype;
  }

  /**
   * Latent tokens as decoder input: `(vae2llm(z) + time) + position`, in that order.
   * @param latents [n, P] in any float dtype
   * @param times [n] or [1] float32 in [0, 1]
   * @param positionIds [n] int64
   * @returns [n, H]
   */
  embedLatents(latents: Tensor, times: Tensor, positionIds: Tensor): Tensor {
    return scope(() => {
      const projected = this.vae2llm.forward(latents.to(this.vae2llm.weight.dtype));
      const timed = projected.add(this.timeEmbedder.forward(times));
      return timed.add(this.latentPosEmbed.forward(positionIds));
    });
  }

  /**
   * Image patches as decoder input: tower, connector, plus position.
   * @param patches [n, patch * patch * channels]
   * @param positionIds [n] int64, the same for tower and decoder
   * @param seqlens patches of each image
   * @returns [n, H]
   * @throws DataError when the model was built without a vision tower
   */
  embedPatches(patches: Tensor, positionIds: Tensor, seqlens: readonly number[]): Tensor {
    const { vitModel, connector, vitPosEmbed } = this;
    if (!vitModel || !connector || !vitPosEmbed) {
      throw new DataError('ERR_NO_VISION', 'The model has no vision tower to look at images with', {
        hint: 'Load a checkpoint with vit_model.* keys, or leave understanding images out.',
      });
    }
    return scope(() => {
      const pixels = patches.to(connector.fc1.weight.dtype);
      const seen = connector.forward(vitModel.forward(pixels, positionIds, seqlens));
      return seen.add(vitPosEmbed.forward(positionIds));
    });
  }

  /** Velocities of hidden states after the final norm: [n, H] -> [n, P]. */
  velocity(hidden: Tensor): Tensor {
    return this.llm2vae.forward(hidden);
  }

  /** The whole training pass: {@link startTrain}, all decoder layers, {@link endTrain}. */
  forwardTrain(batch: PackedBatch, options: TrainForwardOptions = {}): TrainOutputs {
    return scope(() => {
      const start = this.startTrain(batch, options);
      const final = this.languageModel.forwardStreams(start.streams, start.context);
      return this.endTrain(batch, start, final);
    });
  }

  /**
   * Everything before the decoder: embeds text, patches and noised latents.
   * Together with `languageModel.startTrain`, its layers, `languageModel.endTrain` and
   * {@link endTrain} this is {@link forwardTrain} in steps, for trainers that recompute layers.
   */
  startTrain(batch: PackedBatch, options: TrainForwardOptions = {}): TrainStart {
    return scope(() => {
      const { visual_und: und, visual_gen: gen } = this.config.bagel;
      const undParts = [this.languageModel.embed(batch.packedTextIds)];
      const undRows = [batch.packedTextIndexes];
      if (und && batch.packedVitTokens && batch.packedVitTokens.shape[0] > 0) {
        const ids = need(batch, 'packedVitPositionIds');
        const seen = this.embedPatches(batch.packedVitTokens, ids, need(batch, 'vitTokenSeqlens'));
        undParts.push(seen.to(undParts[0].dtype));
        undRows.push(need(batch, 'packedVitTokenIndexes'));
      }
      const flow = gen ? this.flowInputs(batch, options) : null;
      const streams: Streams = { und: ops.cat(undParts, 0), gen: null };
      if (flow !== null) {
        const noisy = mix(flow);
        const ids = need(batch, 'packedLatentPositionIds');
        streams.gen = this.embedLatents(noisy, flow.timesteps, ids).to(undParts[0].dtype);
      }
      const layout = PackedLayout.plan({
        sampleLens: batch.sampleLens,
        splitLens: batch.splitLens,
        attnModes: batch.attnModes,
        length: batch.sequenceLength,
      });
      const context = this.languageModel.trainContext({
        streams,
        layout,
        positionIds: batch.packedPositionIds,
        undIndexes: ops.cat(undRows, 0),
        genIndexes: flow === null ? undefined : need(batch, 'packedVaeTokenIndexes'),
      });
      return { streams, context, flow };
    });
  }

  /** Everything after the decoder's final norms: losses per token and velocities. */
  endTrain(batch: PackedBatch, start: TrainStart, final: Streams): TrainOutputs {
    return scope(() => {
      const { context, flow } = start;
      const { ceLossIndexes, packedLabelIds } = batch;
      let cePerToken: Tensor | null = null;
      if (ceLossIndexes && packedLabelIds && ceLossIndexes.shape[0] > 0) {
        const rows = streamRows(ceLossIndexes, context);
        const logits = this.languageModel.logits((final.und as Tensor).indexSelect(0, rows));
        cePerToken = ops.crossEntropyLoss(logits.to('float32'), packedLabelIds, null, 0);
      }
      if (flow === null || final.gen === null || flow.lossRows.shape[0] === 0) {
        const none = { velocity: null, noise: null, clean: null, good: null, lossRows: null };
        return { cePerToken, ...none, timesteps: flow?.timesteps ?? null };
      }
      const { lossRows } = flow;
      return {
        cePerToken,
        velocity: this.velocity(final.gen.indexSelect(0, lossRows)),
        noise: flow.noise.indexSelect(0, lossRows),
        clean: flow.clean.indexSelect(0, lossRows),
        good: flow.good?.indexSelect(0, lossRows) ?? null,
        lossRows,
        timesteps: flow.timesteps,
      };
    });
  }

  /** Latents, times and noise of a batch's VAE rows; null when it has none. No gradients. */
  flowInputs(batch: PackedBatch, options: TrainForwardOptions = {}): FlowInputs | null {
    const shapes = batch.patchifiedVaeLatentShapes ?? [];
    if (shapes.length === 0) return null;
    return noGrad(() =>
      scope(() => {
        const clean = this.packLatents(need(batch, 'paddedLatent'), shapes);
        const good = batch.paddedLatentGt ? this.packLatents(batch.paddedLatentGt, shapes) : null;
        const { noise } = options;
        if (noise === undefined || noise.shape.join() !== clean.shape.join()) {
          throw new DataError('ERR_NOISE', 'Training on latents needs noise of their shape', {
            expected: `[${clean.shape.join(', ')}]`,
            found: noise === undefined ? 'none' : `[${noise.shape.join(', ')}]`,
          });
        }
        const { timestep_shift: shift } = this.config.bagel;
        const timesteps = trainingTimesteps(need(batch, 'packedTimesteps'), shift);
        const lossRows = timesteps.gt(0).nonzero().flatten();
        const rows = batch.mseLossIndexes?.shape[0] ?? 0;
        if (lossRows.shape[0] !== rows || timesteps.shape[0] !== clean.shape[0]) {
          throw new DataError(
            'ERR_TIMESTEPS',
            'The timesteps contradict the rows with a flow loss',
            {
              expected: `${clean.shape[0]} timesteps, ${rows} of them above 0`,
              found: `${timesteps.shape[0]}, ${lossRows.shape[0]} above 0`,
            },
          );
        }
        return { clean, good, noise: noise.to('float32'), timesteps, lossRows };
      }),
    );
  }

  /** Crops and packs the latents of all images into rows: [n, P] float32. */
  private packLatents(latents: Tensor | Tensor[], shapes: Array<[number, number]>): Tensor {
    const images = Array.isArray(latents) ? latents : latents.unbind(0);
    if (images.length !== shapes.length) {
      throw new DataError('ERR_LATENTS', 'Every latent image needs its token grid', {
        expected: `${shapes.length} latents`,
        found: `${images.length}`,
      });
    }
    const { latent_patch_size: patch } = this.config.bagel;
    const rows = images.map((z, i) => packLatent(z, shapes[i][0], shapes[i][1], patch));
    return ops.cat(rows, 0).to('float32');
  }

  /** Fresh weights; the output projection starts at zero, so that a new model predicts no motion. */
  override initWeights(generator: Generator): this {
    super.initWeights(generator);
    setParameter(this.llm2vae, 'weight', keep(zerosInit([...this.llm2vae.weight.shape])));
    const { bias } = this.llm2vae;
    if (bias) setParameter(this.llm2vae, 'bias', keep(zerosInit([...bias.shape])));
    return this;
  }
}

/** `x_t = (1 - t) x + t eps`: [n, P] float32. */
function mix({ clean, noise, timesteps }: FlowInputs): Tensor {
  return noGrad(() =>
    scope(() => {
      const t = timesteps.unsqueeze(1);
      return clean.mul(t.neg().add(1)).add(noise.mul(t));
    }),
  );
}

/** Rows of the joined streams at the given sequence positions. */
function streamRows(positions: Tensor, context: TrainContext): Tensor {
  return context.order === null ? positions : context.order.indexSelect(0, positions);
}

function need<K extends keyof PackedBatch>(
  batch: PackedBatch,
  key: K,
): NonNullable<PackedBatch[K]> {
  const value = batch[key];
  if (value === undefined || value === null) {
    throw new DataError('ERR_BATCH', 'The batch is incomplete', { key });
  }
  return value as NonNullable<PackedBatch[K]>;
}
