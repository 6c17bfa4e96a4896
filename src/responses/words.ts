/**
 * The words of a text as overlaps are searched in: case, punctuation, accents' encoding and the way numbers are written do not count.
 *
 * @example words('Janet’s 1,000 eggs cost $16.00!') // ['janet', 's', '1000', 'eggs', 'cost', '16']
 */
export const words = (text: string): string[] =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/(\d),(?=\d{3}(?!\d))/g, '$1')
    .replace(/(\d)\.0+(?!\d)/g, '$1')
    .match(/\d+(?:\.\d+)?|[\p{L}\p{M}]+/gu) ?? [];

/** Runs of `length` words in a row, joined by blanks; the whole when there are fewer. */
export const wordGrams = (list: readonly string[], length: number): string[] => {
  if (list.length === 0) return [];
  const whole = list.join(' ');
  if (list.length <= length) return [whole];
  // Slices of one text: a tenth of the time that joining each run takes.
  const grams: string[] = [];
  let start = 0;
  let end = list.slice(0, length).join(' ').length;
  for (let first = 0; first + length <= list.length; first++) {
    grams.push(whole.slice(start, end));
    start += (list[first] ?? '').length + 1;
    end += (list[first + length] ?? '').length + 1;
  }
  return grams;
};
