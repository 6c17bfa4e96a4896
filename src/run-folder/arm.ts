import { UserError } from '../base/errors.ts';

/**
 * One trained student of a run. Arms differ in exactly what these four say and in nothing else.
 * The source is where its training answers came from: a priming strategy, `gold`, `shuffled`, or a name from the config.
 */
export interface ArmId {
  readonly source: string;
  readonly method: string;
  readonly student: string;
  readonly seed: number;
}

/** What answers questions in an evaluation: a trained student, a student as it came, or the teacher itself. */
export type Subject =
  | { readonly kind: 'arm'; readonly arm: ArmId }
  /** `variant`: how it was asked, where that differs from the arms (`variantName`); absent: exactly as the arms. */
  | { readonly kind: 'untouched'; readonly student: string; readonly variant?: string }
  | { readonly kind: 'teacher'; readonly variant?: string };

/** A way of asking the untouched student: after worked examples, or under the priming of an arm. */
export type Variant = { readonly kind: 'shots'; readonly count: number } | { readonly kind: 'primed'; readonly source: string };

/** `shots-4`, `primed-teacher` */
export const variantName = (variant: Variant): string => (variant.kind === 'shots' ? `shots-${variant.count}` : `primed-${variant.source}`);

/** Reads `variantName` back; undefined where the text is no variant's name. */
export const parseVariant = (name: string): Variant | undefined => {
  const shots = /^shots-(\d+)$/.exec(name)?.[1];
  if (shots !== undefined) return { kind: 'shots', count: Number(shots) };
  const source = /^primed-(.+)$/.exec(name)?.[1];
  return source === undefined ? undefined : { kind: 'primed', source };
};

/** Lower case, digits, single hyphens, dots and underscores: safe as a folder's name everywhere, and never holding the separator `--`. */
const part = /^[a-z0-9]+(?:[-._][a-z0-9]+)*$/;

const separator = '--';

/** `SmolLM2 135M` → `smollm2-135m`: the nearest name that may stand in an arm's name. Throws where nothing is left. */
export const namePart = (text: string): string => {
  const name = text
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9._]+/g, '-')
    .replace(/[-._]{2,}/g, '-')
    .replace(/^[-._]+|[-._]+$/g, '');
  if (!part.test(name)) throw new UserError(`Expected a name with at least one Latin letter or digit, got ${JSON.stringify(text)}.`);
  return name;
};

const checkPart = (text: string, what: string): string => {
  if (part.test(text)) return text;
  throw new UserError(
    `The ${what} of an arm is part of folder names: expected lower-case letters, digits, and single hyphens, dots or underscores between them; got ${JSON.stringify(text)}.`,
  );
};

/**
 * The canonical name, unique within a run and a folder's name: `{source}--{method}--{student}--seed-{seed}`.
 * @example armName({ source: 'teacher', method: 'lora', student: 'smollm2', seed: 0 }) // 'teacher--lora--smollm2--seed-0'
 */
export const armName = ({ source, method, student, seed }: ArmId): string => {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UserError(`The seed of an arm is a whole number from 0 on; got ${seed}.`);
  return [checkPart(source, 'source'), checkPart(method, 'method'), checkPart(student, 'student'), `seed-${seed}`].join(separator);
};

/** What arms of different seeds have in common: the name without its seed. */
export const groupName = ({ source, method, student }: Omit<ArmId, 'seed'>): string => [source, method, student].join(separator);

/** Reads `armName` back; undefined where the text is no arm's name. */
export const parseArmName = (name: string): ArmId | undefined => {
  const [source, method, student, seedText, ...rest] = name.split(separator);
  const seed = /^seed-(0|[1-9]\d*)$/.exec(seedText ?? '')?.[1];
  if (source === undefined || method === undefined || student === undefined || seed === undefined || rest.length > 0) return undefined;
  if (![source, method, student].every((text) => part.test(text)) || !Number.isSafeInteger(Number(seed))) return undefined;
  return { source, method, student, seed: Number(seed) };
};

/** `teacher`, `teacher--VARIANT`, `untouched--STUDENT`, `untouched--STUDENT--VARIANT`, or an arm's name. */
export const subjectName = (subject: Subject): string => {
  if (subject.kind === 'arm') return armName(subject.arm);
  const student = subject.kind === 'untouched' ? [checkPart(subject.student, 'student')] : [];
  const variant = subject.variant === undefined ? [] : [checkPart(subject.variant, 'variant')];
  return [subject.kind, ...student, ...variant].join(separator);
};

/** Reads `subjectName` back; undefined where the text is no subject's name. */
export const parseSubjectName = (name: string): Subject | undefined => {
  const arm = parseArmName(name);
  if (arm !== undefined) return { kind: 'arm', arm };
  const [kind, ...rest] = name.split(separator);
  if (!rest.every((text) => part.test(text))) return undefined;
  const [first, second] = rest;
  if (kind === 'teacher' && rest.length <= 1) return first === undefined ? { kind } : { kind, variant: first };
  if (kind === 'untouched' && first !== undefined && rest.length <= 2) {
    return second === undefined ? { kind, student: first } : { kind, student: first, variant: second };
  }
  return undefined;
};
