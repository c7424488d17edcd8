import { samplerSchedule } from '../../lib/generate/schedule.js';
import { sincosTable, timestepFeatures } from '../../lib/models/bagel/embeddings.js';
import { packLatent, patchify, unpackLatent } from '../../lib/models/bagel/patchify.js';
import { flatPositionIds } from '../../lib/models/bagel/position-ids.js';
import {
  applyRope,
  inverseFrequencies,
  ropeCosSin,
  ropeTable,
} from '../../lib/models/bagel/rope.js';
import { rope2dTables } from '../../lib/models/bagel/siglip.js';
import { trainingTimesteps } from '../../lib/models/bagel/timesteps.js';
import { GroupNorm, LayerNorm, RMSNorm } from '../../lib/nn/norm.js';
import type { Tensor } from '../../lib/torch/index.js';
import { ops, tensor } from '../../lib/torch/index.js';
import type { GoldenCase, Handler, Json } from './handler.js';

/** Every value of `reduction` an ATen loss takes: no reduction. */
const noReduction = 0;

/** The inputs of a case that are named like a layer's parameters. */
function weights(c: GoldenCase, names: string[]): Array<[string, Tensor]> {
  return names.map((name) => [name, c.input(name)]);
}

function rope(c: GoldenCase): void {
  const q = c.input('q');
  const inverse = inverseFrequencies(c.params.head_dim, c.params.theta);
  const positions = c.input('position_ids');
  const { cos, sin } = ropeCosSin(positions, inverse);
  const table = ropeTable(positions, inverse, q.dtype);
  c.expect('inv_freq', inverse);
  c.expect('cos', cos);
  c.expect('sin', sin);
  c.expect('q_rot', applyRope(q, table));
  c.expect('k_rot', applyRope(c.input('k'), table));
}

function ropeTableOnly(c: GoldenCase): void {
  const inverse = inverseFrequencies(c.params.head_dim, c.params.theta);
  const { cos, sin } = ropeCosSin(c.input('position_ids'), inverse);
  c.expect('cos', cos);
  c.expect('sin', sin);
}

function rmsNorm(c: GoldenCase): void {
  const x = c.input('x');
  const norm = new RMSNorm(x.size(-1), c.params.eps);
  norm.loadStateDict(weights(c, ['weight']));
  c.expect('y', norm.forward(x));
}

function layerNorm(c: GoldenCase): void {
  const x = c.input('x');
  const norm = new LayerNorm(x.size(-1), c.params.eps);
  norm.loadStateDict(weights(c, ['weight', 'bias']));
  c.expect('y', norm.forward(x));
}

function groupNorm(c: GoldenCase): void {
  const x = c.input('x');
  const norm = new GroupNorm(c.params.groups, x.size(1), c.params.eps);
  norm.loadStateDict(weights(c, ['weight', 'bias']));
  c.expect('y', norm.forward(x));
}

function timestepEmbedding(c: GoldenCase): void {
  c.expect('features', timestepFeatures(c.input('t'), c.params.dim));
  c.expect('features_odd', timestepFeatures(c.input('t'), c.params.odd_dim));
}

function timestepEmbedder(c: GoldenCase): void {
  c.expect('y', c.bagel().timeEmbedder.forward(c.input('t')));
}

function sincosRows(c: GoldenCase): void {
  const rows = tensor(c.params.rows, { dtype: 'int64' });
  c.expect('rows', sincosTable(c.params.dim, c.params.grid).indexSelect(0, rows));
}

function flatIds(c: GoldenCase): void {
  c.params.cases.forEach((size: Json, i: number) => {
    const spec = {
      height: size.h,
      width: size.w,
      patch: size.patch,
      side: size.max_per_side,
    };
    c.expect(`extrapolate_${i}`, flatPositionIds(spec));
    c.expect(`interpolate_${i}`, flatPositionIds({ ...spec, interpolate: true }));
  });
}

function latentPatchify(c: GoldenCase): void {
  const { h, w, p } = c.params;
  const tokens = packLatent(c.input('latent'), h, w, p);
  c.expect('tokens', tokens);
  c.expect('unpatched', unpackLatent(tokens, h, w, p));
}

function rope2d(c: GoldenCase): void {
  const tables = rope2dTables(c.params.dim, c.params.max_h, c.params.max_w);
  c.expect('cos_h', tables.cosH);
  c.expect('sin_h', tables.sinH);
  c.expect('cos_w', tables.cosW);
  c.expect('sin_w', tables.sinW);
}

function samplerTimesteps(c: GoldenCase): void {
  for (const count of c.params.num_timesteps) {
    for (const shift of c.params.shifts) {
      const schedule = samplerSchedule(count, shift);
      c.expect(`timesteps_${count}_${shift}`, schedule.timesteps);
      c.expect(`dts_${count}_${shift}`, schedule.dts);
    }
  }
}

function trainTimesteps(c: GoldenCase): void {
  for (const shift of c.params.shifts) {
    const t = trainingTimesteps(c.input('raw'), shift);
    c.expect(`t_${shift}`, t);
    const clean = c.input('raw').toFloat32Array();
    const times = t.toFloat32Array();
    const exact = clean.every((raw, i) => raw !== Number.NEGATIVE_INFINITY || times[i] === 0);
    c.expectTrue(`t_${shift}: -inf gives 0`, exact, 'a clean image has a time other than 0');
  }
}

function activations(c: GoldenCase): void {
  c.expect('gelu_tanh', ops.gelu(c.input('x'), { approximate: 'tanh' }));
  c.expect('silu', ops.silu(c.input('x')));
}

function crossEntropy(c: GoldenCase): void {
  const [logits, labels] = [c.input('logits'), c.input('labels')];
  c.expect('loss', ops.crossEntropyLoss(logits, labels, null, noReduction));
}

/** Everything below the models: position codes, norms, activations, token layouts, time grids. */
export const handlers: Handler[] = [
  [/^rope(_\d+)?$/, rope],
  [/^rope_table/, ropeTableOnly],
  [/^rmsnorm/, rmsNorm],
  [/^layer_norm/, layerNorm],
  [/^group_norm/, groupNorm],
  [/^timestep_embedding/, timestepEmbedding],
  [/^timestep_embedder/, timestepEmbedder],
  [/^sincos2d_rows/, sincosRows],
  [/^sincos2d/, (c) => c.expect('table', sincosTable(c.params.dim, c.params.grid))],
  [/^flat_position_ids/, flatIds],
  [/^patchify/, (c) => c.expect('tokens', patchify(c.input('image'), c.params.patch))],
  [/^latent_patchify/, latentPatchify],
  [/^siglip_rope2d_tables/, rope2d],
  [/^sampler_timesteps/, samplerTimesteps],
  [/^train_timesteps/, trainTimesteps],
  [/^activations/, activations],
  [/^cross_entropy/, crossEntropy],
];
