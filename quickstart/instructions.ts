import type { Random } from '../src/base/random.ts';

const bracket = /\[([^\]]*)\]/;

/** One of the texts that a frame stands for, with an alternative drawn for each bracket. */
export const drawText = (frame: string, random: Random): string =>
  frame.replace(new RegExp(bracket, 'g'), (_, alternatives: string) => {
    const choices = alternatives.split('|');
    return choices[random.integer(choices.length)] ?? '';
  });

/** All the texts that a frame stands for: 'a [b|c]' is 'a b' and 'a c'. */
export const allTexts = (frame: string): string[] => {
  const found = bracket.exec(frame);
  if (found === null) return [frame];
  return (found[1] ?? '').split('|').flatMap((choice) => allTexts(frame.replace(bracket, () => choice)));
};
