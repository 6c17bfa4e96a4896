/**
 * Values in [-scale, scale) that depend on the name and the index alone; `hashed_values` in golden_files.py computes the same bits.
 * FNV-1a of the name's UTF-8 bytes, plus index times the golden ratio, mixed in the manner of lowbias32 (Wellons 2018), over 2³².
 */
export const hashedValues = (name: string, count: number, scale: number): Float32Array => {
  const seed = Buffer.from(name, 'utf8').reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), 0x811c9dc5 | 0);
  return Float32Array.from({ length: count }, (_, index) => {
    let word = (seed + Math.imul(index, 0x9e3779b9)) | 0;
    word ^= word >>> 16;
    word = Math.imul(word, 0x21f0aaad);
    word ^= word >>> 15;
    word = Math.imul(word, 0xd35a2d97);
    word ^= word >>> 15;
    return (((word >>> 0) / 4294967296) * 2 - 1) * scale;
  });
};
