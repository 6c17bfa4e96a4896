import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import type { StudentConfig } from '../config/student-config.ts';
import type { EngineConfig } from '../config/training-config.ts';
import { createEngine, runnerCountFor } from '../engines/create-engine.ts';
import type { Engine, EngineSpecification, Parameter } from '../engines/engine.ts';
import { shareOf } from '../engines/program-memory.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import { loadModelText, type ModelText, type ModelTextOptions } from '../text/model-text.ts';
import { readAdapter, writeAdapter } from '../weights/adapter.ts';
import { modelFingerprint, openModelFolder, readModelConfiguration, readTokenizerFiles } from '../weights/model-folder.ts';
import { writeModel } from '../weights/model-writer.ts';

/** A student that is being trained or measured: its engine, and how it is talked to. */
export interface Student {
  readonly engine: Engine;
  readonly text: ModelText;
  readonly config: StudentConfig;
  /** Folder or .gguf file on this machine. */
  readonly modelPath: string;
  /** Hash of the weights that training starts from, but for those that a seed draws, and of the precision that they are held in. */
  readonly baseHash: string;
}

export interface StudentOptions {
  readonly config: StudentConfig;
  readonly engine: EngineConfig;
  readonly modelPath: string;
  readonly seed: number;
  readonly text?: ModelTextOptions;
  /** Of the machine's memory, where several students are open at once. */
  readonly memoryShare?: number;
}

/**
 * As many engines of one student as arms are to be trained at once. The cores are shared among them: two runs of one thread each are done
 * sooner than one of two, since neither waits for the other. Whoever opens them releases their engines.
 */
const openStudents = async (options: StudentOptions, coreCount: number): Promise<Student[]> => {
  const { workers } = options.engine;
  const threadCount = options.engine.threadCount ?? Math.max(1, Math.floor(coreCount / workers));
  const students: Student[] = [];
  try {
    // One after the other: the first converts the weights that all of them map.
    for (let worker = 0; worker < workers; worker++)
      students.push(await openStudent({ ...options, engine: { ...options.engine, threadCount }, memoryShare: shareOf(workers) }));
    return students;
  } catch (error) {
    await releaseStudents(students);
    throw error;
  }
};

/** Students of one model that are trained in one way or another: opened when asked for, those of another way released first. */
export interface StudentPool {
  readonly of: (config: StudentConfig) => Promise<readonly Student[]>;
  readonly release: () => Promise<void>;
}

export const studentPool = (options: Omit<StudentOptions, 'config'>, coreCount: number): StudentPool => {
  let opened: { readonly key: string; readonly students: readonly Student[] } | undefined;
  const release = async (): Promise<void> => {
    const students = opened?.students ?? [];
    opened = undefined;
    await releaseStudents(students);
  };
  return {
    of: async (config) => {
      const key = JSON.stringify(config);
      if (opened?.key !== key) {
        await release();
        opened = { key, students: await openStudents({ ...options, config }, coreCount) };
      }
      return opened.students;
    },
    release,
  };
};

const releaseStudents = async (students: readonly Student[]): Promise<void> => {
  for (const { engine } of students) await engine.release();
};

/**
 * Does each item with a student that is free, in their order. When one fails, those under way are finished, nothing new is begun, and the
 * first failure is thrown.
 */
export const withStudents = async <Item>(
  students: readonly Student[],
  items: readonly Item[],
  work: (item: Item, student: Student) => Promise<void>,
): Promise<void> => {
  const queue = [...items];
  const ends = await Promise.allSettled(
    students.map(async (student) => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        try {
          await work(item, student);
        } catch (error) {
          queue.length = 0;
          throw error;
        }
      }
    }),
  );
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
};

/** What a student's engine is made from. */
export const studentSpecification = ({
  config,
  engine,
  modelPath,
  seed,
  memoryShare,
}: Omit<StudentOptions, 'text'>): EngineSpecification => {
  const threadCount = engine.threadCount ?? availableParallelism();
  return {
    modelFolder: modelPath,
    initialisation: config.initialisation === 'random' ? { from: 'random', seed } : { from: 'folder' },
    parameters: config.parameters.kind === 'lora' ? { ...config.parameters, seed } : config.parameters,
    precision: engine.precision,
    inferencePrecision: engine.inferencePrecision,
    ...(engine.activations !== undefined && { activations: engine.activations }),
    device: engine.device,
    layout: 'worker',
    ...(memoryShare !== undefined && { memoryShare }),
    threadCount,
    runnerCount: runnerCountFor(threadCount),
  };
};

/** Opens a student. Whoever opens it releases its engine. */
export const openStudent = async (options: StudentOptions): Promise<Student> => {
  const { config, engine, modelPath, text: textOptions } = options;
  const text = await loadModelText(modelPath, textOptions);
  const weightsHash =
    config.initialisation === 'random'
      ? JSON.stringify((await readModelConfiguration(modelPath)).config)
      : await modelFingerprint(modelPath);
  return { engine: await createEngine(studentSpecification(options)), text, config, modelPath, baseHash: inPrecision(weightsHash, engine) };
};

/** A base that is rounded computes otherwise: what it is held in is part of what it is. */
const inPrecision = (hash: string, { precision, inferencePrecision }: EngineConfig): string =>
  precision === 'float32' && inferencePrecision === 'float32' ? hash : hashOf({ hash, precision, inferencePrecision });

/** What a record must say of the chat template: two runs with other system texts or dates are other runs. */
export const templateRecord = ({ name, hash, systemText, date }: ModelText['template']) => ({ name, hash, systemText, date });

/** The formats that whole models are written in, by their names in configs. */
export const modelFormats = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;

/**
 * Writes what was trained, as others read it: a PEFT adapter (always float32), or a whole Hugging Face model where every parameter was
 * trained.
 */
export const writeStudent = async (folder: string, student: Student, format: keyof typeof modelFormats = 'float32'): Promise<void> => {
  const parameters = await student.engine.parameters();
  const { config, modelPath } = student;
  if (config.parameters.kind === 'lora') {
    await writeAdapter(folder, { parameters, lora: config.parameters, baseModel: config.model });
    return;
  }
  const files = await readTokenizerFiles(modelPath);
  const from = {
    folder: modelPath.endsWith('.gguf') ? dirname(modelPath) : modelPath,
    ...(await readModelConfiguration(modelPath)),
    tokenizerFiles: async () => files,
  };
  await writeModel(folder, parameters, from, { format: modelFormats[format] });
};

/** Loads what `writeStudent` wrote, so that the weights measured are the weights taken home. */
export const loadStudent = async (student: Student, folder: string): Promise<void> => {
  if (student.config.parameters.kind === 'lora') {
    await student.engine.load((await readAdapter(folder)).parameters);
    return;
  }
  const { tensors } = await openModelFolder(folder);
  try {
    const parameters: Record<string, Parameter> = {};
    for (const [name, { shape }] of tensors.names) parameters[name] = { shape, data: await tensors.read(name) };
    await student.engine.load(parameters);
  } finally {
    await tensors.close();
  }
};
