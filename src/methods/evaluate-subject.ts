import type { RunConfig } from '../config/run-config.ts';
import { engineAnswerer, teacherAnswerer } from '../evaluation/answerer.ts';
import { evaluate, evaluateLikelihood } from '../evaluation/evaluate.ts';
import { patientTeacher } from '../responses/patient-teacher.ts';
import { BudgetReachedError } from '../responses/spending.ts';
import { type Subject, subjectName } from '../run-folder/arm.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import { listedPrices } from '../teachers/prices.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { type Asking, askingOf, longestPrompt } from './asked-otherwise.ts';
import type { RedactHook } from './hooks.ts';
import type { RunTeacher } from './local-teacher.ts';
import { hasLikelihood } from './run-plan.ts';
import { spentElsewhere } from './run-spending.ts';
import { loadStudent, type Student, templateRecord } from './student.ts';
import type { StageProgress, Surroundings } from './surroundings.ts';

export interface EvaluateSubjectOptions {
  readonly subject: Subject;
  /** Few shots are drawn from these. */
  readonly train: readonly Example[];
  readonly test: readonly Example[];
  readonly task: Task;
  readonly run: RunFolder;
  readonly student: Student;
  readonly teacher: RunTeacher;
  /** Sees every text before it is sent to the teacher. */
  readonly redact?: RedactHook | undefined;
  readonly config: RunConfig;
  readonly surroundings: Surroundings;
}

/** Has one subject answer the test questions, and takes the likelihood of their solutions where it has one; unless that is done. */
export const evaluateSubject = async (options: EvaluateSubjectOptions): Promise<void> => {
  const { subject, train, test, task, run, student, teacher, redact, config, surroundings } = options;
  const { maximumTokens, temperature, topP, batchSize, likelihood } = config.evaluation;
  const sampling = { maximumTokens, temperature, topP, seed: subject.kind === 'arm' ? subject.arm.seed : 0 };
  const { tokenizer, template, endTokens } = student.text;
  const { engine } = student;
  const modelHash = await modelHashOf(options);
  const revision = subject.kind === 'teacher' ? await teacher.revision() : undefined;
  const variant = subject.kind === 'untouched' ? subject.variant : undefined;
  const asking = variant === undefined ? undefined : askingOf({ variant, config, task, train, test });
  const key = {
    modelHash,
    sampling,
    questionsHash: hashOf(test.map(({ id, question, gold }) => [id, question, gold])),
    instruction: task.instruction,
    teacher: subject.kind === 'teacher' ? JSON.stringify(config.teacher) : '',
    ...(revision !== undefined && { revision }),
    ...(subject.kind === 'teacher' && redact !== undefined && { redact: redact.hash }),
    ...(asking !== undefined && { asked: asking.facts }),
  };
  const common = {
    task,
    examples: test,
    onProgress: (progress: StageProgress) => surroundings.onProgress?.(`measure ${subjectName(subject)}`, progress),
    ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
  };
  const facts = subject.kind === 'teacher' ? {} : { template: templateRecord(template), ...asking?.facts };
  const load = () =>
    subject.kind === 'arm' ? loadStudent(student, run.paths.student(subject.arm).adapter) : engine.reset(config.seeds[0] ?? 0);

  await runStage(run, { name: stageNames.evaluate(subject), key }, async () => {
    const obstacle = asking && obstacleOf(asking, options);
    if (obstacle !== undefined) {
      await run.warn(stageNames.evaluate(subject), obstacle);
      surroundings.say?.(`${subjectName(subject)}: ${obstacle}`);
      return { files: [], facts: { ...facts, leftOut: obstacle } };
    }
    await run.openTest(subjectName(subject));
    const file = run.paths.answers(subject);
    if (subject.kind === 'teacher') {
      const opened = redacted(await teacher.open(), redact);
      const { budget, limits, prices = await listedPrices(opened.identity) } = config.collection;
      const bounded = patientTeacher(opened, {
        budget,
        limits,
        prices,
        spentBefore: await spentElsewhere(undefined, { config, run, prices }),
      });
      await evaluate({ ...common, file, answerer: teacherAnswerer(bounded, sampling, prices) }).catch(withoutTeacher);
    } else {
      await load();
      const batch = batchSize === undefined ? {} : { batchSize };
      await evaluate({
        ...common,
        ...(asking !== undefined && { messagesOf: asking.messagesOf }),
        file,
        answerer: engineAnswerer({ engine, tokenizer, template, modelHash, endTokens, sampling, ...batch }),
      });
    }
    return { files: [file], facts };
  });
  if (!likelihood || !hasLikelihood(subject)) return;
  await runStage(run, { name: stageNames.likelihood(subject), key }, async () => {
    await load();
    const file = run.paths.likelihoods(subject);
    await evaluateLikelihood({ ...common, engine, tokenizer, template, modelHash, file });
    return { files: [file], facts };
  });
};

/** The students are trained by now, and nobody has to pay to see what they learnt. */
const withoutTeacher = (thrown: unknown): never => {
  if (!(thrown instanceof BudgetReachedError)) throw thrown;
  throw new BudgetReachedError(`${thrown.message} Or leave the teacher's row out: evaluation.teacher: false.`, { cause: thrown });
};

const redacted = (teacher: Teacher, redact: RedactHook | undefined): Teacher =>
  redact === undefined
    ? teacher
    : {
        ...teacher,
        generate: (request) =>
          teacher.generate({
            ...request,
            messages: request.messages.map(({ role, content }) => ({ role, content: redact.call(content) })),
          }),
      };

/** Why a student cannot be asked so: the row is left out then, and the run goes on. */
const obstacleOf = (asking: Asking, { config, test, student }: EvaluateSubjectOptions): string | undefined => {
  const { fewShots, maximumTokens } = config.evaluation;
  const { shots } = asking.facts;
  if (Array.isArray(shots) && shots.length < fewShots.examples)
    return `the row is left out: only ${shots.length} of ${fewShots.examples} examples are to be had that share nothing with a test question. Lower evaluation.fewShots.examples.`;
  const { contextLength } = student.engine.information;
  const longest = longestPrompt(asking, test, student.text);
  if (longest + maximumTokens <= contextLength) return undefined;
  return `the row is left out: the longest prompt has ${longest} tokens, which with ${maximumTokens} of an answer are more than the model's ${contextLength}. Lower evaluation.fewShots.examples or evaluation.maximumTokens.`;
};

/** Hash of the weights that answer: the base's and what was trained. */
const modelHashOf = async ({ subject, run, student }: EvaluateSubjectOptions): Promise<string> => {
  if (subject.kind !== 'arm') return hashOf({ base: student.baseHash, subject: subject.kind, weights: [] });
  const { stages, files } = await run.manifest();
  // The metrics hold times: two trainings to the same weights have other ones.
  const weightFiles = (stages[stageNames.train(subject.arm)]?.files ?? []).filter((file) => file.endsWith('.safetensors'));
  return hashOf({ base: student.baseHash, subject: subject.kind, weights: weightFiles.map((file) => files[file]?.sha256 ?? '') });
};
