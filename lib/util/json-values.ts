const MAX = 60;

/** Whether a value is what JSON calls an object: no list, not null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    // Values that contain themselves, or integers JSON does not know.
    return Array.isArray(value) ? 'a list' : 'an object';
  }
}

/** A short text of what stands at `path` inside a JSON-like value, for error messages. */
export function inspectJson(value: unknown, path: ReadonlyArray<PropertyKey> = []): string {
  let at: unknown = value;
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return 'nothing';
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  if (at === undefined) return 'nothing';
  const text = textOf(at);
  return text.length > MAX ? `${text.slice(0, MAX)}…` : text;
}
