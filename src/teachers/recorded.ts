import { basename } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { sha256OfFile } from '../base/folders.ts';
import { readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { PlannedRequest, Teacher, TeacherAnswer } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

/** One line of a recording. Other keys are left alone: recordings come from elsewhere. */
const recordedLine = z
  .object({
    id: z.union([z.string(), z.number()]).transform(String).optional(),
    question: z.string().optional(),
    answer: z.string(),
    reasoning: z.string().optional(),
    /** The only strategy that the answer is for; absent: any. */
    strategy: z.string().optional(),
    /** Absent: lines of one question are its samples in their order. */
    sampleIndex: z.int().min(0).optional(),
    finishReason: z.enum(['stop', 'length', 'content-filter', 'other']).default('stop'),
  })
  .refine((line) => line.id !== undefined || line.question !== undefined, 'expected an "id" or a "question" to join the answer by');

/**
 * Answers from a JSON-lines file: `{"id" or "question", "answer"}`, and if you like `"strategy"`, `"sampleIndex"`, `"reasoning"` and
 * `"finishReason"`. Nothing is asked of anybody.
 */
export const recordedTeacher = async (file: string): Promise<Teacher> => {
  const answers = await readRecording(file);
  const find = (request: PlannedRequest): TeacherAnswer | undefined =>
    namesOf(request)
      .map((name) => answers.get(name))
      .find((answer) => answer !== undefined);
  return {
    identity: { kind: 'recorded', model: basename(file), revision: (await sha256OfFile(file)).slice(0, 16), location: file },
    concurrency: 16,
    isFree: true,
    prepare: async (planned) => {
      const missing = planned.filter((request) => find(request) === undefined);
      if (missing.length > 0) throw new UserError(missingMessage(file, missing, planned.length));
    },
    generate: async (request) => {
      const answer = find(request);
      if (answer === undefined) throw new TeacherError(missingMessage(file, [request], 1), { retry: 'never', scope: 'question' });
      return answer;
    },
    release: () => Promise.resolve(),
  };
};

const missingMessage = (file: string, missing: readonly PlannedRequest[], wantedCount: number): string => {
  const first = missing
    .slice(0, 3)
    .map(({ exampleId, strategy, sampleIndex }) => `${exampleId} (strategy ${strategy}, sample ${sampleIndex})`);
  return (
    `${file}: ${missing.length} of ${wantedCount} questions have no recorded answer, first ${first.join(', ')}. ` +
    'Lines are joined by "id", or else by "question"; use fewer questions or complete the file.'
  );
};

/** Under which names a request's answer may stand, the most telling first. */
const namesOf = ({ exampleId, question, strategy, sampleIndex }: PlannedRequest): string[] => [
  nameOf('id', exampleId, strategy, sampleIndex),
  nameOf('id', exampleId, undefined, sampleIndex),
  nameOf('question', question, strategy, sampleIndex),
  nameOf('question', question, undefined, sampleIndex),
];

const nameOf = (joinedBy: 'id' | 'question', value: string, strategy: string | undefined, sampleIndex: number): string =>
  JSON.stringify([joinedBy, joinedBy === 'question' ? value.trim() : value, strategy ?? null, sampleIndex]);

const readRecording = async (file: string): Promise<Map<string, TeacherAnswer>> => {
  const answers = new Map<string, TeacherAnswer>();
  const sampleCounts = new Map<string, number>();
  for await (const { line, value } of readJsonLines(file, { onTorn: refuseTornLine(file) })) {
    const parsed = recordedLine.safeParse(value);
    if (!parsed.success) throw new UserError(`${file}:${line}: ${parsed.error.issues.map(issueText).join('; ')}.`);
    const { id, question, answer, reasoning, strategy, finishReason } = parsed.data;
    const joins: ['id' | 'question', string][] = [];
    if (id !== undefined) joins.push(['id', id]);
    if (question !== undefined) joins.push(['question', question]);
    for (const [joinedBy, text] of joins) {
      const base = nameOf(joinedBy, text, strategy, 0);
      const sampleIndex = parsed.data.sampleIndex ?? sampleCounts.get(base) ?? 0;
      sampleCounts.set(base, sampleIndex + 1);
      const name = nameOf(joinedBy, text, strategy, sampleIndex);
      // Different questions of one text may each have an id; by id, twice the same sample is a mistake in the file.
      if (answers.has(name) && joinedBy === 'id')
        throw new UserError(
          `${file}:${line}: a second answer for id ${JSON.stringify(id)}, sample ${sampleIndex}. Give each its own "sampleIndex".`,
        );
      answers.set(name, { text: answer, finishReason, ...(reasoning === undefined ? {} : { reasoning }) });
    }
  }
  if (answers.size === 0) throw new UserError(`${file} holds no answers. Expected JSON lines such as {"id": "7", "answer": "…"}.`);
  return answers;
};

const issueText = (issue: z.core.$ZodIssue): string => `${issue.path.length === 0 ? '' : `"${issue.path.join('.')}": `}${issue.message}`;
