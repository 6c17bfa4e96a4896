import type { ReadableBytes } from '../base/json-lines.ts';
import type { ByteFile } from '../weights/byte-file.ts';

// Of a file on the hub each piece is a request.
const pieceBytes = 4 * 1024 * 1024;

/** A file's bytes from the first to the last, a few MB in memory at a time. Whoever opened the file closes it. */
export const byteStream = (file: ByteFile): ReadableBytes => {
  let piece = new Uint8Array(0);
  let used = 0;
  let offset = 0;
  return {
    read: async (target) => {
      if (used === piece.length) {
        piece = piece.length === pieceBytes ? piece : new Uint8Array(Math.min(pieceBytes, file.sizeBytes));
        piece = piece.subarray(0, Math.min(piece.length, file.sizeBytes - offset));
        await file.readInto(piece, offset, 'its content');
        offset += piece.length;
        used = 0;
      }
      const part = piece.subarray(used, used + target.length);
      target.set(part);
      used += part.length;
      return part.length;
    },
    close: async () => undefined,
  };
};
