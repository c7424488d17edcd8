const MAX = 60;

/** A short text of what stands at `path` inside a JSON-like value, for error messages. */
export function inspectJson(value: unknown, path: ReadonlyArray<PropertyKey> = []): string {
  let at: unknown = value;
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return 'nothing';
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  if (at === undefined) return 'nothing';
  const text = typeof at === 'number' ? String(at) : (JSON.stringify(at) ?? typeof at);
  return text.length > MAX ? `${text.slice(0, MAX)}…` : text;
}
