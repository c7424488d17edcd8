import { createHash } from 'node:crypto';
import fs from 'node:fs';

/** sha256 of a text (as UTF-8) or of bytes, as hexadecimal text. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** sha256 of a file's content, read piece by piece, as hexadecimal text. */
export async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of fs.createReadStream(file, { highWaterMark: 1 << 22 })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
