import type { ChwImage } from './transforms.js';

/** One entry of a sample's plan, with the key names of the BAGEL reference. */
export interface PlanItem {
  type: 'text' | 'vit_image' | 'vae_image';
  /** 1: may be dropped in training, for classifier-free guidance. */
  enable_cfg: 0 | 1;
  /** 1: the text is learned (cross-entropy), or the image is generated (flow matching). */
  loss: 0 | 1;
  /** 1: the closing boundary token gets `special_token_label` as its label. */
  special_token_loss?: 0 | 1;
  special_token_label?: number | null;
  /** false: the image continues the split of the one before it (frames of a video). */
  split_start?: boolean;
  /** false: the next image continues this split. */
  split_end?: boolean;
  /** Rope positions to the next frame. */
  frame_delta?: number;
}

/** A dense map of rewards in row-major order, one value a pixel of the transformed image. */
export interface PixelMap {
  width: number;
  height: number;
  data: Float32Array;
}

/** One training sample before packing. */
export interface Sample {
  sequencePlan: PlanItem[];
  /** Token ids of the plan's texts, in order, without boundary tokens. */
  textIdsList: number[][];
  /** Transformed images of the plan's images, in order; surplus images are never packed. */
  images: ChwImage[];
  /** Estimated tokens: text ids and image tokens, without boundary tokens. */
  numTokens: number;
  /** Clean target of the image with loss; absent: the image itself. */
  gtImage?: ChwImage;
  /** Regional rewards of the image with loss. */
  rewardMap?: PixelMap;
  /** Where the sample came from, for resuming and for reports. */
  source?: SampleSource;
}

/** Origin of a sample. */
export interface SampleSource {
  dataset: string;
  /** Line (1-based) or row of the source. */
  row: number;
}

/** Plan item of understanding data: never dropped; `loss` 1 for a text that is learned. */
export const plainItem = (type: 'text' | 'vit_image', loss: 0 | 1): PlanItem => ({
  type,
  enable_cfg: 0,
  loss,
  special_token_loss: 0,
  special_token_label: null,
});

/** Plan item of a text that conditions an image. */
export const conditionText = (): PlanItem => ({
  type: 'text',
  enable_cfg: 1,
  loss: 0,
  special_token_loss: 0,
  special_token_label: null,
});

/** Plan item of a clean image that conditions what follows. */
export const conditionImage = (type: 'vit_image' | 'vae_image'): PlanItem => ({
  type,
  enable_cfg: 1,
  loss: 0,
  special_token_loss: 0,
  special_token_label: null,
});

/** Plan item of an image that is learned to be generated. */
export const targetImage = (): PlanItem => ({
  type: 'vae_image',
  enable_cfg: 0,
  loss: 1,
  special_token_loss: 0,
  special_token_label: null,
});
