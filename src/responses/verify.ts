import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { messageOf, UserError } from '../base/errors.ts';
import type { Example } from '../tasks/task.ts';
import type { Response } from './response.ts';

/** What is thought of an answer. */
export interface Verification {
  readonly isRight: boolean;
  /** What `best-of-n` chooses by: higher is better. */
  readonly score: number;
  /** Why it is not right. */
  readonly reason?: string;
}

/** Verifies an answer by itself, without asking anybody. */
export type Verify = (response: Response, example: Example) => Verification | Promise<Verification>;

/** As the task scores answers. An answer that is right by the looser rule alone is better than a wrong one. */
export const verifyByTask =
  (rule: 'strict' | 'flexible') =>
  (response: Response): Verification => ({
    isRight: response[rule],
    score: response.strict ? 1 : response.flexible ? 0.5 : 0,
    ...(!response[rule] && { reason: `not right by the ${rule} rule` }),
  });

/** Whether an answer is JSON of a schema, alone or in one fenced block. Says nothing of its content. */
export const verifyBySchema = async (file: string): Promise<Verify> => {
  const schema = await readSchema(file);
  return ({ text }) => {
    const value = jsonOf(/^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$/s.exec(text)?.[1] ?? text);
    if (value === undefined) return { isRight: false, score: 0, reason: 'not JSON' };
    const issue = schema.safeParse(value.json).error?.issues[0];
    if (issue === undefined) return { isRight: true, score: 1 };
    return { isRight: false, score: 0, reason: `not of the schema: ${issue.path.join('.')}: ${issue.message}` };
  };
};

const readSchema = async (file: string): Promise<z.ZodType> => {
  try {
    return z.fromJSONSchema(JSON.parse(await readFile(file, 'utf8')));
  } catch (thrown) {
    throw new UserError(`collection.verify.file: ${file} is no JSON Schema that can be used: ${messageOf(thrown)}`, { cause: thrown });
  }
};

const jsonOf = (text: string): { readonly json: unknown } | undefined => {
  try {
    return { json: JSON.parse(text) };
  } catch {
    return undefined;
  }
};

const givenVerification = z.union([
  z.boolean(),
  z.object({ isRight: z.boolean(), score: z.number().optional(), reason: z.string().optional() }),
]);

/** By a function of the user's: `(answer, example) => boolean | { isRight, score?, reason? }`, or a promise of it. `where` goes into errors. */
export const verifyByFunction =
  (verify: (answer: string, example: Example) => unknown, where: string): Verify =>
  async ({ text, exampleId }, example) => {
    const result = await Promise.resolve()
      .then(() => verify(text, example))
      .catch((thrown: unknown) => {
        throw new UserError(`${where}: the function failed for an answer to ${exampleId}: ${messageOf(thrown)}`, { cause: thrown });
      });
    const parsed = givenVerification.safeParse(result);
    if (!parsed.success)
      throw new UserError(
        `${where}: expected true, false or { isRight, score, reason }; came ${JSON.stringify(result) ?? typeof result} for an answer to ${exampleId}.`,
      );
    if (typeof parsed.data === 'boolean')
      return { isRight: parsed.data, score: Number(parsed.data), ...(!parsed.data && { reason: 'not right by the function' }) };
    const { isRight, score = Number(isRight), reason } = parsed.data;
    return { isRight, score, ...(!isRight && { reason: reason ?? 'not right by the function' }) };
  };
