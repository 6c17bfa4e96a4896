/** A calculation found in a text: what it says the result is, and what it is. */
export interface FoundCalculation {
  readonly left: number;
  readonly right: number;
  readonly stated: number;
  readonly evaluated: number;
}

const operations: Readonly<Record<string, (left: number, right: number) => number>> = {
  '+': (left, right) => left + right,
  '-': (left, right) => left - right,
  '*': (left, right) => left * right,
  '/': (left, right) => left / right,
};

/** Every `5+3=8` of a text, evaluated here and not by the generator that wrote it. */
export const calculationsIn = (text: string): FoundCalculation[] =>
  [...text.matchAll(/(\d+)([-+*/])(\d+)=(\d+)/g)].map(([, left, operator, right, stated]) => ({
    left: Number(left),
    right: Number(right),
    stated: Number(stated),
    evaluated: operations[operator ?? '']?.(Number(left), Number(right)) ?? Number.NaN,
  }));
