import type { RunConfig } from '../config/run-config.ts';
import { engineAnswerer, teacherAnswerer } from '../evaluation/answerer.ts';
import { evaluate, evaluateLikelihood } from '../evaluation/evaluate.ts';
import { type Subject, subjectName } from '../run-folder/arm.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { Teacher } from '../teachers/teacher.ts';
import type { RedactHook } from './hooks.ts';
import type { RunTeacher } from './local-teacher.ts';
import { loadStudent, type Student, templateRecord } from './student.ts';
import type { StageProgress, Surroundings } from './surroundings.ts';

export interface EvaluateSubjectOptions {
  readonly subject: Subject;
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

/** Has one subject answer the test questions, and takes the likelihood of their solutions where it is a student; unless that is done. */
export const evaluateSubject = async (options: EvaluateSubjectOptions): Promise<void> => {
  const { subject, test, task, run, student, teacher, redact, config, surroundings } = options;
  const { maximumTokens, temperature, topP, batchSize, likelihood } = config.evaluation;
  const sampling = { maximumTokens, temperature, topP, seed: subject.kind === 'arm' ? subject.arm.seed : 0 };
  const { tokenizer, template, endTokens } = student.text;
  const { engine } = student;
  const modelHash = await modelHashOf(options);
  const key = {
    modelHash,
    sampling,
    questionsHash: hashOf(test.map(({ id, question, gold }) => [id, question, gold])),
    instruction: task.instruction,
    teacher: subject.kind === 'teacher' ? JSON.stringify(config.teacher) : '',
    ...(subject.kind === 'teacher' && redact !== undefined && { redact: redact.hash }),
  };
  const common = {
    task,
    examples: test,
    onProgress: (progress: StageProgress) => surroundings.onProgress?.(`measure ${subjectName(subject)}`, progress),
    ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
  };
  const facts = subject.kind === 'teacher' ? {} : { template: templateRecord(template) };
  const load = () =>
    subject.kind === 'arm' ? loadStudent(student, run.paths.student(subject.arm).adapter) : engine.reset(config.seeds[0] ?? 0);

  await runStage(run, { name: stageNames.evaluate(subject), key }, async () => {
    await run.openTest(subjectName(subject));
    const file = run.paths.answers(subject);
    if (subject.kind === 'teacher') {
      await evaluate({ ...common, file, answerer: teacherAnswerer(redacted(await teacher.open(), redact), sampling) });
    } else {
      await load();
      const batch = batchSize === undefined ? {} : { batchSize };
      await evaluate({
        ...common,
        file,
        answerer: engineAnswerer({ engine, tokenizer, template, modelHash, endTokens, sampling, ...batch }),
      });
    }
    return { files: [file], facts };
  });
  if (!likelihood || subject.kind === 'teacher') return;
  await runStage(run, { name: stageNames.likelihood(subject), key }, async () => {
    await load();
    const file = run.paths.likelihoods(subject);
    await evaluateLikelihood({ ...common, engine, tokenizer, template, modelHash, file });
    return { files: [file], facts };
  });
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

/** Hash of the weights that answer: the base's and what was trained. */
const modelHashOf = async ({ subject, run, student }: EvaluateSubjectOptions): Promise<string> => {
  if (subject.kind !== 'arm') return hashOf({ base: student.baseHash, subject: subject.kind, weights: [] });
  const { stages, files } = await run.manifest();
  // The metrics hold times: two trainings to the same weights have other ones.
  const weightFiles = (stages[stageNames.train(subject.arm)]?.files ?? []).filter((file) => file.endsWith('.safetensors'));
  return hashOf({ base: student.baseHash, subject: subject.kind, weights: weightFiles.map((file) => files[file]?.sha256 ?? '') });
};
