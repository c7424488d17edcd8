/** Facts that let a reader act on an error: what was expected, what was found, and where. */
export interface ErrorDetails {
  /** File the fault lies in. */
  file?: string;
  /** 1-based line, for line-oriented formats. */
  line?: number;
  /** Key, column, option or tensor name inside the file. */
  key?: string;
  expected?: string;
  found?: string;
  /** What the user can do about it, as one sentence. */
  hint?: string;
}

/** Root of every error this package throws on purpose; `code` is stable, the message is for people. */
export class SrumError extends Error {
  readonly code: string;
  readonly details: ErrorDetails;

  constructor(code: string, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(describe(message, details), options);
    this.name = new.target.name;
    this.code = code;
    this.details = details;
  }
}

/** A bad option, recipe or model configuration. */
export class ConfigError extends SrumError {}
/** A bad record, prompt list, reward or dataset. */
export class DataError extends SrumError {}
/** An image that cannot be read, or has no place in the requested transform. */
export class ImageError extends SrumError {}
/** A checkpoint, weight file or model directory that is not what it claims to be. */
export class CheckpointError extends SrumError {}
/** LibTorch or the addon is missing, or does not fit. */
export class NativeError extends SrumError {}
/** Training or scoring left the range of finite numbers. */
export class NumericError extends SrumError {}

/** The text a person reads: message, place, expectation and advice in a fixed order. */
function describe(message: string, d: ErrorDetails): string {
  const parts = [message];
  if (d.file !== undefined) parts.push(`file ${d.file}${d.line === undefined ? '' : `:${d.line}`}`);
  if (d.key !== undefined) parts.push(`key ${d.key}`);
  if (d.expected !== undefined) parts.push(`expected ${d.expected}`);
  if (d.found !== undefined) parts.push(`found ${d.found}`);
  const text = parts.join('; ');
  return d.hint === undefined ? text : `${text}. ${d.hint}`;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
