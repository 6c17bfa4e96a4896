import { nearestName } from '../base/errors.ts';
import type { ArmConfig } from './arm-config.ts';
import type { Departure } from './departures.ts';
import type { MethodConfig } from './method-config.ts';
import { candidateCountOf, type SearchConfig } from './search-config.ts';
import type { TaskConfig } from './task-config.ts';
import type { TrainingConfig } from './training-config.ts';

export interface Contradiction {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What of a run's config can contradict itself. */
export interface ContradictoryParts {
  readonly arms: readonly ArmConfig[];
  readonly seeds: readonly number[];
  readonly task: TaskConfig;
  readonly teacher?: { readonly kind: string };
  readonly collection: { readonly batch?: unknown };
  readonly training: TrainingConfig;
  readonly student: { readonly initialisation: 'folder' | 'random' };
  readonly search?: SearchConfig;
  readonly methods?: readonly MethodConfig[];
  readonly departures?: readonly Departure[];
  readonly comparison: { readonly baseline?: string; readonly compared?: readonly string[] };
}

/** What no single key is wrong in. */
export function* contradictions(config: ContradictoryParts): Generator<Contradiction> {
  yield* unknownArms(config);
  yield* impossibleMethods(config);
  if (new Set(config.seeds).size < config.seeds.length)
    yield { path: ['seeds'], message: 'the same seed twice would count one student as two' };
  const primed = config.arms.findIndex(({ kind }) => kind === 'strategy');
  if (config.teacher === undefined && primed >= 0) {
    yield {
      path: ['arms', primed],
      message: `the arm ${config.arms[primed]?.name} needs a teacher that answers: add \`teacher:\` to the config`,
    };
  }
  const { kind } = config.teacher ?? {};
  if (config.collection.batch !== undefined && kind !== undefined && kind !== 'openai-compatible' && kind !== 'anthropic') {
    yield { path: ['collection', 'batch'], message: `a teacher of kind ${kind} takes no batches; leave it out` };
  }
  const read = config.arms.findIndex((arm) => arm.kind === 'gold' && arm.strategy !== undefined);
  if (read >= 0 && lossesOf(config).every(({ name }) => name !== 'distillation')) {
    yield {
      path: ['arms', read],
      message: `without a teacher's logits this is the arm gold over again: set \`training.loss.name: distillation\`, or write gold`,
    };
  }
  yield* lossesWithoutTeacher(config);
  yield* searchesInVain(config);
}

function* unknownArms({ arms, comparison, search, methods = [] }: ContradictoryParts): Generator<Contradiction> {
  const names = arms.map(({ name }) => name);
  const isArm = (name: string | undefined, path: readonly (string | number)[]): Contradiction[] => {
    if (name === undefined || names.includes(name)) return [];
    const nearest = nearestName(name, names);
    return [
      { path, message: `no arm is called ${name}.${nearest === undefined ? '' : ` Did you mean ${nearest}?`} Arms: ${names.join(', ')}` },
    ];
  };
  yield* isArm(comparison.baseline, ['comparison', 'baseline']);
  yield* comparison.compared?.flatMap((name, index) => isArm(name, ['comparison', 'compared', index])) ?? [];
  yield* isArm(search?.arm, ['search', 'arm']);
  for (const [index, method] of methods.entries())
    yield* method.arms?.flatMap((name, at) => isArm(name, ['methods', index, 'arms', at])) ?? [];
}

function* impossibleMethods({ student, methods = [] }: ContradictoryParts): Generator<Contradiction> {
  for (const [index, { name, parameters }] of methods.entries()) {
    if (methods.findIndex((other) => other.name === name) !== index)
      yield { path: ['methods', index, 'name'], message: `a second method is called ${name}. Give one of the two another name` };
    if (student.initialisation === 'random' && parameters?.kind === 'lora')
      yield {
        path: ['methods', index, 'parameters'],
        message: 'new weights (student.initialisation: random) are trained as a whole, since an adapter would be kept without them',
      };
  }
}

function* lossesWithoutTeacher({ training, methods, teacher }: ContradictoryParts): Generator<Contradiction> {
  if (teacher?.kind === 'local') return;
  const message = 'distillation needs the logits of a teacher of kind local; others give text alone';
  if (training.loss.name === 'distillation') yield { path: ['training', 'loss', 'name'], message };
  for (const [index, { loss }] of (methods ?? []).entries())
    if (loss?.name === 'distillation') yield { path: ['methods', index, 'loss', 'name'], message };
}

function* searchesInVain({ search, methods = [], training, task, departures = [] }: ContradictoryParts): Generator<Contradiction> {
  if (training.checkpoint === 'best' && task.development.limit === 0) {
    yield {
      path: ['training', 'checkpoint'],
      message: 'the best weights are those with the least loss on development questions, and task.development.limit is 0',
    };
  }
  if (departures.includes('chosen-on-test') && search === undefined)
    yield { path: ['departures'], message: 'chosen-on-test is about a search, and this config has none: add `search:`' };
  if (search === undefined) {
    const vain = methods.findIndex((method) => method.search !== undefined);
    if (vain >= 0)
      yield { path: ['methods', vain, 'search'], message: 'these are in place of lists of `search`, which the config does not have' };
    return;
  }
  const counts = methods.map((method) => candidateCountOf({ ...search, ...method.search }, (method.loss ?? training.loss).name));
  const unequal = counts.findIndex((count) => count !== counts[0]);
  if (unequal >= 0 && !departures.includes('unequal-search')) {
    yield {
      path: ['methods', unequal],
      message: `${counts[unequal]} candidates against the ${counts[0]} of ${methods[0]?.name}: what is compared must be searched with the same budget. Give it lists of its own in \`search\``,
    };
  }
  if ((search.alpha ?? search.temperature) !== undefined && lossesOf({ training, methods }).every(({ name }) => name !== 'distillation')) {
    yield {
      path: ['search', search.alpha === undefined ? 'temperature' : 'alpha'],
      message: 'this is of the distillation loss, and no student is trained by it: set `training.loss.name: distillation`',
    };
  }
  if (task.development.limit === 0 && !departures.includes('chosen-on-test'))
    yield { path: ['search'], message: 'settings are chosen on development questions, and task.development.limit is 0' };
}

const lossesOf = ({ training, methods }: Pick<ContradictoryParts, 'training' | 'methods'>): TrainingConfig['loss'][] =>
  methods === undefined || methods.length === 0 ? [training.loss] : methods.map(({ loss }) => loss ?? training.loss);
