import { UserError } from '../base/errors.ts';
import { objectOf, stringField } from './data-line.ts';
import { scoreNumber } from './number-scores.ts';
import type { Task } from './task.ts';

/**
 * GSM8K (Cobbe et al. 2021): grade-school word problems whose answers are whole numbers. A line is `{"question", "answer"}`, the answer a
 * worked solution with the calculator's annotations (`<<48/2=24>>`, taken out here) and a last line `#### 24`. Scored as
 * lm-evaluation-harness scores it.
 */
export const gsm8k: Task = {
  name: 'gsm8k',
  instruction:
    'Work out the answer step by step. The last line of your reply must be #### followed by the final number alone, for example:\n#### 42',
  columns: ['question', 'answer'],
  parseExample: (value, { split, index, where }) => {
    const line = objectOf(value, where);
    const question = stringField(line, 'question', where).trim();
    const solution = stringField(line, 'answer', where)
      .replace(/<<[^<>\n]*>>/g, '')
      .trim();
    const gold = /(?:^|\n)#### (-?[0-9][0-9,]*(?:\.[0-9]+)?)$/.exec(solution)?.[1];
    if (gold === undefined) {
      throw new UserError(
        `${where}: the answer must end in a line "#### number", and ends in ${JSON.stringify(solution.slice(-40))}. ` +
          'Without it there is nothing to score against: complete or remove the line.',
      );
    }
    return { id: `gsm8k-${split}-${index}`, question, solution, gold };
  },
  score: (answer, example) => scoreNumber(answer, example.gold),
};
