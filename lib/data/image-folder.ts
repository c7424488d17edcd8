import path from 'node:path';
import { DataError } from '../util/errors.js';

/**
 * Path of an image named in a record, inside its folder.
 *
 * @throws DataError when the name leads out of the folder.
 */
export function imagePath(folder: string, name: string): string {
  const file = path.join(folder, name);
  const relative = path.relative(folder, file);
  if (path.isAbsolute(name) || relative === '..' || relative.startsWith(`..${path.sep}`)) {
    throw new DataError('ERR_IMAGE_PATH', 'an image name leads out of the image folder', {
      file: folder,
      expected: 'a path inside the folder',
      found: name,
    });
  }
  return file;
}
