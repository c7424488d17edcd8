import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Autoencoder } from '../../lib/models/bagel/autoencoder.js';
import type { Bagel } from '../../lib/models/bagel/bagel.js';
import type { SafetensorsFile, Tensor } from '../../lib/torch/index.js';
import { DataError, messageOf, SrumError } from '../../lib/util/errors.js';
import type { Comparison, OutputSpec, Values } from './compare.js';
import { compare, plain, toJson } from './compare.js';
import type { GoldenFolder } from './folder.js';
import type { CaseEntry, Config, GoldenIndex, Json } from './index-file.js';
import { mergeConfig } from './index-file.js';

/** One checked thing of a case. */
export interface Check extends Comparison {
  name: string;
}

/** What a handler works with: the arguments, inputs and models of one case, and the checks of its results. */
export class GoldenCase {
  readonly id: string;
  /** The JSON entry. */
  readonly entry: CaseEntry;
  /** Plain JSON arguments of the case. Reading one it does not have throws DataError; see `optional`. */
  readonly params: Json;
  readonly dir: string;
  /** Default configuration with the case's override merged in. */
  readonly config: Config;
  /** All checks made so far, in order. */
  readonly checks: Check[] = [];
  readonly #folder: GoldenFolder;
  readonly #specs: Map<string, OutputSpec>;
  readonly #covered = new Set<string>();

  constructor(folder: GoldenFolder, entry: CaseEntry) {
    this.#folder = folder;
    this.entry = entry;
    this.id = entry.id;
    this.dir = folder.dir;
    this.params = this.#guarded(entry.params ?? {});
    this.config = mergeConfig(folder.index.default_config, entry.config_override);
    this.#specs = new Map(entry.outputs.map((o) => [this.#short(o.name, 'out'), o]));
  }

  get specialTokens(): GoldenIndex['special_token_ids'] {
    return this.#folder.index.special_token_ids;
  }

  #short(full: string, side: 'in' | 'out'): string {
    const prefix = `${this.id}/${side}/`;
    return full.startsWith(prefix) ? full.slice(prefix.length) : full;
  }

  #file(): SafetensorsFile {
    if (!this.entry.file) throw this.#wrong(`case ${this.id} has no tensor file`, 'file');
    return this.#folder.file(this.entry.file);
  }

  #wrong(message: string, key: string): DataError {
    return new DataError('GOLDENS_INDEX', message, { file: join(this.dir, 'cases.json'), key });
  }

  /** The parameters, such that an absent one is an error of the golden set and not of its handler. */
  #guarded(params: Json): Json {
    return new Proxy(params, {
      get: (target, key) => {
        if (typeof key === 'symbol' || key in target) return target[key];
        throw this.#wrong(`case ${this.id} lacks a parameter`, `params.${key}`);
      },
    });
  }

  /** Names of the inputs after `<id>/in/`. */
  inputNames(): string[] {
    return (this.entry.inputs ?? []).map((name) => this.#short(name, 'in'));
  }

  hasInput(name: string): boolean {
    return this.inputNames().includes(name);
  }

  /** A copy of input `<id>/in/<name>`. */
  input(name: string): Tensor {
    if (!this.hasInput(name)) throw this.#wrong(`case ${this.id} has no input ${name}`, 'inputs');
    return this.#file().get(`${this.id}/in/${name}`).clone();
  }

  /** Names of the outputs after `<id>/out/`. */
  outputNames(): string[] {
    return [...this.#specs.keys()];
  }

  hasOutput(name: string): boolean {
    return this.#specs.has(name);
  }

  /** A copy of the reference value of output `<id>/out/<name>`. */
  expected(name: string): Tensor {
    if (!this.hasOutput(name)) {
      throw this.#wrong(`case ${this.id} has no output ${name}`, 'outputs');
    }
    return this.#file().get(`${this.id}/out/${name}`).clone();
  }

  /** A safetensors file of the folder, by name with or without its extension. */
  tensorsFile(name: string): SafetensorsFile {
    return this.#folder.file(name);
  }

  /** Path of any other file of the folder, e.g. an image. */
  path(name: string): string {
    return join(this.dir, name);
  }

  /** The case's own weight file, or the first of the shared sets it names. Tensors are the caller's to change. */
  weightsFile(): Map<string, Tensor> {
    const own = this.entry.weights_file;
    const set = this.entry.weights?.split('+')[0];
    if (own === undefined && set === undefined) {
      throw this.#wrong(`case ${this.id} names no weights`, 'weights');
    }
    return this.#folder.weights(own ?? this.#folder.weightsName(set as string), true);
  }

  /** The whole model in this case's configuration. Shared between cases unless `fresh` (needed where it is trained). */
  bagel(options: { fresh?: boolean } = {}): Bagel {
    const name = this.entry.weights_file ?? this.#folder.weightsName('bagel');
    return this.#folder.bagel(this.config, name, options.fresh);
  }

  /** The autoencoder in this case's configuration. */
  vae(options: { fresh?: boolean } = {}): Autoencoder {
    return this.#folder.autoencoder(this.config, this.#folder.weightsName('vae'), options.fresh);
  }

  /** Another case of the same folder, for its inputs and parameters. */
  otherCase(id: string): GoldenCase {
    const entry = this.#folder.index.cases.find((c) => c.id === id);
    if (entry === undefined) throw this.#wrong(`the folder has no case ${id}`, 'cases');
    return new GoldenCase(this.#folder, entry);
  }

  /**
   * Compares a result with output `<name>` under that output's tolerance.
   * A set may store a selection only, so a result that the case does not list is not looked at; `finish` fails every
   * listed output that got no result. `shape` may be given for flat lists that stand for more than one dimension; without it only their count is checked.
   */
  expect(name: string, got: Values, shape?: readonly number[]): void {
    const spec = this.#specs.get(name);
    if (spec === undefined) return;
    this.#covered.add(name);
    this.#record(name, () => compare(plain(got, shape), plain(this.expected(name)), spec));
  }

  /** Requires a result to equal `params[name]`; tensors and typed arrays count as lists, absent as null. */
  expectParam(name: string, got: unknown): void {
    if (!Object.hasOwn(this.params, name)) {
      this.#fail(`params.${name}`, `case ${this.id} lists no such parameter`);
      return;
    }
    this.expectEqual(`params.${name}`, got, this.params[name]);
  }

  /** Requires two JSON-like values to be equal. */
  expectEqual(label: string, got: unknown, reference: unknown): void {
    this.#record(label, () => {
      const a = toJson(got);
      const b = toJson(reference);
      if (isDeepStrictEqual(a, b)) return { ok: true, error: 0 };
      return {
        ok: false,
        error: Number.POSITIVE_INFINITY,
        message: `got ${clip(a)}, reference ${clip(b)}`,
      };
    });
  }

  /** Requires numbers to be within `atol + rtol * |reference|` of a reference that stands in `params`. */
  expectClose(
    label: string,
    got: Values,
    reference: Values,
    tolerance: { atol?: number; rtol?: number },
  ): void {
    this.#record(label, () => {
      const b = plain(reference);
      const shape = b.shape ?? [b.data.length];
      const spec = { name: label, shape, atol: 0, rtol: 0, ...tolerance };
      return compare(plain(got), { ...b, shape, family: 'unknown' }, spec);
    });
  }

  /** Requires an error measure computed by the handler to be at most `limit`. */
  expectAtMost(label: string, error: number, limit: number): void {
    const ok = error <= limit;
    this.checks.push({
      name: label,
      ok,
      error: limit > 0 ? error / limit : ok ? 0 : Number.POSITIVE_INFINITY,
      message: ok ? undefined : `${error} is above ${limit}`,
    });
  }

  /** Requires a statement about the case to hold. */
  expectTrue(label: string, ok: boolean, message = 'does not hold'): void {
    this.checks.push({ name: label, ok, error: ok ? 0 : Number.POSITIVE_INFINITY, message });
  }

  /** Requires the call to be refused with an error of this package, not to succeed and not to break in another way. */
  async expectThrows(label: string, run: () => unknown): Promise<void> {
    try {
      await run();
    } catch (error) {
      const ok = error instanceof SrumError;
      this.expectTrue(label, ok, `threw an untyped error: ${messageOf(error)}`);
      return;
    }
    this.#fail(label, 'was accepted, the reference raises');
  }

  /** Declares an output that the handler has checked in another way (against `params`, or by its own measure). */
  declareChecked(name: string): void {
    if (this.#specs.has(name)) this.#covered.add(name);
    else this.#fail(name, `case ${this.id} lists no such output`);
  }

  /** Adds a failure for every output nobody looked at, and for a case in which nothing was checked at all. */
  finish(): void {
    for (const name of this.#specs.keys()) {
      if (!this.#covered.has(name)) this.#fail(name, 'was not checked by the handler');
    }
    if (this.checks.length === 0) this.#fail('case', 'the handler checked nothing');
  }

  #fail(name: string, message: string): void {
    this.checks.push({ name, ok: false, error: Number.POSITIVE_INFINITY, message });
  }

  #record(name: string, run: () => Comparison): void {
    try {
      this.checks.push({ name, ...run() });
    } catch (error) {
      this.#fail(name, messageOf(error));
    }
  }
}

function clip(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}
