import {
  controlsOf,
  type ItemControls,
  type ItemResult,
  type ItemStageOptions,
  runItemStage,
  type StageItem,
  type StageReport,
} from './item-stage.js';
import {
  checkModelFiles,
  type ModelOptions,
  type ModelSession,
  modelFingerprint,
  openModel,
  resolveModelDir,
  resolvePlace,
} from './model-session.js';

/** What every stage is told that works through items with a model. */
export interface ModelStageOptions extends ModelOptions, ItemControls {
  /** Folder of the results. */
  out: string;
  /** Seed of everything random; each item draws its own from it. */
  seed: number;
  /** Told once when the model is being loaded. */
  onLoad?: () => void;
}

/** A stage of one kind. */
export interface ModelStage<T>
  extends Pick<ItemStageOptions<T>, 'stage' | 'stage_version' | 'views'> {
  /** Whether pictures are drawn, which takes the autoencoder. */
  drawing: boolean;
  /** What decides the results besides seed, device and precision. */
  settings: Readonly<Record<string, unknown>>;
  /** The items; called with the model directory before anything is loaded or written. */
  inputs: (dir: string) => Pick<ItemStageOptions<T>, 'items' | 'rejected'>;
  /** Called once with the loaded model and all items of this process, before the first is worked on. */
  prepare?: (session: ModelSession, items: ReadonlyArray<StageItem<T>>) => void;
  /** Makes one item. */
  work: (session: ModelSession, item: StageItem<T>) => Promise<ItemResult>;
}

/**
 * Works through the items of a stage with a model, which is loaded only where there is work and freed
 * at the end.
 *
 * @throws CheckpointError for a model directory that lacks files, ConfigError for a device that is
 * not there; else as `runItemStage`.
 */
export async function runModelStage<T>(
  options: ModelStageOptions,
  stage: ModelStage<T>,
): Promise<StageReport> {
  const dir = resolveModelDir(options.model);
  const model = modelFingerprint(dir);
  const { device, dtype } = resolvePlace(options);
  const inputs = stage.inputs(dir);
  checkModelFiles(dir, stage.drawing);
  let session: ModelSession | null = null;
  try {
    return await runItemStage<T>({
      stage: stage.stage,
      stage_version: stage.stage_version,
      model,
      settings: { ...stage.settings, seed: options.seed, dtype, device: device.split(':')[0] },
      folder: options.out,
      ...inputs,
      ...controlsOf(options),
      prepare: (items) => {
        options.onLoad?.();
        session = openModel({ ...options, model: dir, device, dtype });
        stage.prepare?.(session, items);
      },
      work: (item) => stage.work(session as unknown as ModelSession, item),
      views: stage.views,
    });
  } finally {
    (session as ModelSession | null)?.dispose();
  }
}
