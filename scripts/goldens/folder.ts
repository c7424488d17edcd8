import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Autoencoder } from '../../lib/models/bagel/autoencoder.js';
import { Bagel } from '../../lib/models/bagel/bagel.js';
import { parseBagelConfig } from '../../lib/models/bagel/config.js';
import type { SafetensorsFile, Tensor } from '../../lib/torch/index.js';
import { openSafetensors } from '../../lib/torch/index.js';
import { DataError } from '../../lib/util/errors.js';
import type { Config, GoldenIndex } from './index-file.js';
import { readIndex } from './index-file.js';

/** A golden folder: its index, its files opened once, and models built once per configuration. */
export class GoldenFolder {
  readonly dir: string;
  readonly index: GoldenIndex;
  readonly #files = new Map<string, SafetensorsFile>();
  readonly #weights = new Map<string, Map<string, Tensor>>();
  readonly #models = new Map<string, Bagel | Autoencoder>();

  constructor(dir: string) {
    this.dir = dir;
    this.index = readIndex(dir);
  }

  /** A safetensors file of the folder, by file name with or without the extension. */
  file(name: string): SafetensorsFile {
    const full = name.endsWith('.safetensors') ? name : `${name}.safetensors`;
    let open = this.#files.get(full);
    if (open === undefined) {
      const path = join(this.dir, full);
      if (!existsSync(path)) {
        throw new DataError('GOLDENS_MISSING', 'a file of the golden folder is missing', {
          file: path,
        });
      }
      open = openSafetensors(path);
      this.#files.set(full, open);
    }
    return open;
  }

  /** File name of a shared weight set (`bagel`, `vae`) as the index names it. */
  weightsName(set: string): string {
    const name = this.index.weights[set];
    if (name === undefined) {
      throw new DataError('GOLDENS_INDEX', 'the index names no such weight set', {
        file: join(this.dir, 'cases.json'),
        key: `weights.${set}`,
      });
    }
    return name;
  }

  /** All tensors of a weight file, copied out of the file. `fresh` gives tensors that nobody else holds. */
  weights(name: string, fresh = false): Map<string, Tensor> {
    const cached = this.#weights.get(name);
    if (cached !== undefined && !fresh) return cached;
    const file = this.file(name);
    const map = new Map([...file.keys()].map((key) => [key, file.get(key).clone()] as const));
    if (!fresh) this.#weights.set(name, map);
    return map;
  }

  /** The whole model with the set's weights. `fresh`: neither shared with other cases nor cached. */
  bagel(config: Config, name: string, fresh = false): Bagel {
    return this.#model(fresh, ['bagel', config, name], () => {
      const model = new Bagel(parseBagelConfig(config));
      model.loadStateDict(this.weights(name, true));
      return model;
    });
  }

  /** The autoencoder with the set's weights. */
  autoencoder(config: Config, name: string, fresh = false): Autoencoder {
    return this.#model(fresh, ['vae', config.vae, name], () => {
      const model = new Autoencoder(parseBagelConfig(config).vae);
      model.loadStateDict(this.weights(name, true));
      return model;
    });
  }

  #model<M extends Bagel | Autoencoder>(fresh: boolean, key: unknown[], build: () => M): M {
    if (fresh) return build();
    const id = JSON.stringify(key);
    let model = this.#models.get(id) as M | undefined;
    if (model === undefined) {
      model = build();
      this.#models.set(id, model);
    }
    return model;
  }

  /** Takes the traces of a case (gradients, graph flags) off the cached models. */
  reset(): void {
    for (const model of this.#models.values()) {
      model.requiresGrad_(false);
      for (const p of model.parameters()) p.grad = null;
    }
  }
}
