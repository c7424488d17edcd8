/** A colour in 8-bit RGB. */
export type Rgb = readonly [number, number, number];

/** From punished to rewarded: red over near-white to blue, readable with red-green blindness. */
const STOPS: ReadonlyArray<readonly [number, Rgb]> = [
  [-1, [150, 16, 40]],
  [-0.6, [206, 70, 66]],
  [-0.25, [242, 172, 146]],
  [0, [247, 247, 246]],
  [0.25, [158, 202, 225]],
  [0.6, [54, 136, 190]],
  [1, [8, 72, 138]],
];

/** Colour of a value in [-1, 1]; values beyond take the colour of the end. */
export function divergingColour(value: number): Rgb {
  const v = Math.min(1, Math.max(-1, value));
  let i = 1;
  while (i < STOPS.length - 1 && v > STOPS[i][0]) i += 1;
  const [from, a] = STOPS[i - 1];
  const [to, b] = STOPS[i];
  const t = (v - from) / (to - from);
  return [0, 1, 2].map((c) => Math.round(a[c] + t * (b[c] - a[c]))) as unknown as Rgb;
}

export function hex(colour: Rgb): string {
  return `#${colour.map((c) => c.toString(16).padStart(2, '0')).join('')}`;
}

/** A score as people read it: sign always shown, true minus, two decimals. */
export function signed(value: number, digits = 2): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return `${value < 0 ? '\u2212' : '+'}${text}`;
}
