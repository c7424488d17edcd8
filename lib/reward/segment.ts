import type { RgbImage } from '../data/images.js';

/** A picture in a perceptual colour space: three planes interleaved, row-major. */
export interface ColourField {
  width: number;
  height: number;
  /** OKLab times 100, `[height, width, 3]`: a difference of about 2 is just visible. */
  lab: Float32Array;
}

/** An image shrunk by area mean so that its longer side is at most `maxSide`, without its noise. */
export function colourField(image: RgbImage, maxSide: number): ColourField {
  const shrink = Math.max(1, Math.max(image.width, image.height) / maxSide);
  const width = Math.max(1, Math.round(image.width / shrink));
  const height = Math.max(1, Math.round(image.height / shrink));
  const lab = new Float32Array(width * height * 3);
  const stepX = image.width / width;
  const stepY = image.height / height;
  for (let y = 0; y < height; y += 1) {
    const fromY = Math.floor(y * stepY);
    const toY = Math.max(fromY + 1, Math.floor((y + 1) * stepY));
    for (let x = 0; x < width; x += 1) {
      const fromX = Math.floor(x * stepX);
      const toX = Math.max(fromX + 1, Math.floor((x + 1) * stepX));
      let r = 0;
      let g = 0;
      let b = 0;
      for (let sy = fromY; sy < toY; sy += 1) {
        for (let i = (sy * image.width + fromX) * 3; i < (sy * image.width + toX) * 3; i += 3) {
          r += LINEAR[image.data[i]];
          g += LINEAR[image.data[i + 1]];
          b += LINEAR[image.data[i + 2]];
        }
      }
      const n = (toY - fromY) * (toX - fromX);
      writeOklab(lab, (y * width + x) * 3, r / n, g / n, b / n);
    }
  }
  return { width, height, lab: median(lab, width, height) };
}

/** sRGB's transfer curve, by byte. */
const LINEAR = Float64Array.from({ length: 256 }, (_, v) => {
  const c = v / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
});

/** Linear RGB to OKLab (B. Ottosson, 2020), times 100. */
function writeOklab(out: Float32Array, at: number, r: number, g: number, b: number): void {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  out[at] = 100 * (0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s);
  out[at + 1] = 100 * (1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s);
  out[at + 2] = 100 * (0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s);
}

/** Median of the 3x3 neighbourhood, by channel: takes out noise and leaves edges where they are. */
function median(lab: Float32Array, width: number, height: number): Float32Array {
  const out = new Float32Array(lab.length);
  const near = new Float32Array(9);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let c = 0; c < 3; c += 1) {
        let n = 0;
        for (let dy = -1; dy <= 1; dy += 1) {
          const row = Math.min(height - 1, Math.max(0, y + dy)) * width;
          for (let dx = -1; dx <= 1; dx += 1) {
            const value = lab[(row + Math.min(width - 1, Math.max(0, x + dx))) * 3 + c];
            let at = n;
            for (; at > 0 && near[at - 1] > value; at -= 1) near[at] = near[at - 1];
            near[at] = value;
            n += 1;
          }
        }
        out[(y * width + x) * 3 + c] = near[4];
      }
    }
  }
  return out;
}

/** Colour distance of two pixels. */
export function colourDistance(field: ColourField, a: number, b: number): number {
  const { lab } = field;
  const l = lab[a * 3] - lab[b * 3];
  const u = lab[a * 3 + 1] - lab[b * 3 + 1];
  const v = lab[a * 3 + 2] - lab[b * 3 + 2];
  return Math.sqrt(l * l + u * u + v * v);
}

/** Edges of the pixel graph (8 neighbours), weakest first. */
interface SortedEdges {
  a: Int32Array;
  b: Int32Array;
  weight: Float32Array;
}

/** Steps per unit of colour distance when sorting. */
const RESOLUTION = 64;

/** The pixel graph's edges in a stable order by weight (counting sort, so deterministic and linear). */
export function sortedEdges(field: ColourField): SortedEdges {
  const { width, height } = field;
  const a: number[] = [];
  const b: number[] = [];
  const join = (p: number, q: number) => {
    a.push(p);
    b.push(q);
  };
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const p = y * width + x;
      if (x + 1 < width) join(p, p + 1);
      if (y + 1 < height) join(p, p + width);
      if (x + 1 < width && y + 1 < height) join(p, p + width + 1);
      if (x > 0 && y + 1 < height) join(p, p + width - 1);
    }
  }
  const weight = Float32Array.from(a, (p, i) => colourDistance(field, p, b[i]));
  const bins = Uint16Array.from(weight, (w) => Math.min(65534, Math.floor(w * RESOLUTION)));
  const start = new Int32Array(65536);
  for (const bin of bins) start[bin + 1] += 1;
  for (let i = 1; i < start.length; i += 1) start[i] += start[i - 1];
  const sorted: SortedEdges = {
    a: new Int32Array(a.length),
    b: new Int32Array(a.length),
    weight: new Float32Array(a.length),
  };
  for (let i = 0; i < a.length; i += 1) {
    const at = start[bins[i]]++;
    sorted.a[at] = a[i];
    sorted.b[at] = b[i];
    sorted.weight[at] = weight[i];
  }
  return sorted;
}

/**
 * Graph-based segmentation (Felzenszwalb and Huttenlocher, 2004): two components merge when the
 * weakest edge between them is no stronger than the inner variation of both, `int + scale / size`.
 * Components below `minSize` pixels are then given to the neighbour they differ from least.
 *
 * @returns a label per pixel: the index of one pixel of its component.
 */
export function segment(
  pixels: number,
  edges: SortedEdges,
  scale: number,
  minSize: number,
): Int32Array {
  const parent = Int32Array.from({ length: pixels }, (_, i) => i);
  const size = new Int32Array(pixels).fill(1);
  const inner = new Float32Array(pixels);
  const find = (p: number): number => {
    let root = p;
    while (parent[root] !== root) {
      parent[root] = parent[parent[root]];
      root = parent[root];
    }
    return root;
  };
  const merge = (p: number, q: number, weight: number) => {
    const [big, small] = size[p] >= size[q] ? [p, q] : [q, p];
    parent[small] = big;
    size[big] += size[small];
    inner[big] = Math.max(inner[p], inner[q], weight);
  };
  const { a, b, weight } = edges;
  for (let i = 0; i < a.length; i += 1) {
    const p = find(a[i]);
    const q = find(b[i]);
    if (p === q) continue;
    const limit = Math.min(inner[p] + scale / size[p], inner[q] + scale / size[q]);
    if (weight[i] <= limit) merge(p, q, weight[i]);
  }
  for (let i = 0; i < a.length; i += 1) {
    const p = find(a[i]);
    const q = find(b[i]);
    if (p !== q && Math.min(size[p], size[q]) < minSize) merge(p, q, weight[i]);
  }
  return Int32Array.from(parent, (_, i) => find(i));
}

/** Connected groups (4 neighbours) of the pixels for which `inside` holds; -1 elsewhere. */
export function connectedGroups(
  width: number,
  height: number,
  inside: (pixel: number) => boolean,
): Int32Array {
  const label = new Int32Array(width * height).fill(-1);
  const stack: number[] = [];
  for (let seed = 0; seed < label.length; seed += 1) {
    if (label[seed] >= 0 || !inside(seed)) continue;
    label[seed] = seed;
    stack.push(seed);
    for (let p = stack.pop(); p !== undefined; p = stack.pop()) {
      const x = p % width;
      const near = [
        x > 0 ? p - 1 : -1,
        x + 1 < width ? p + 1 : -1,
        p - width,
        p + width < label.length ? p + width : -1,
      ];
      for (const q of near) {
        if (q < 0 || label[q] >= 0 || !inside(q)) continue;
        label[q] = seed;
        stack.push(q);
      }
    }
  }
  return label;
}
