import { UserError } from '../base/errors.ts';
import type { Prices } from '../teachers/prices.ts';
import type { Usage } from '../teachers/teacher.ts';

export type { Prices };

/** The most that a folder of answers may cost, over all runs that added to it. */
export interface Budget {
  readonly usd?: number | undefined;
  /** Of prompts and completions together. */
  readonly tokens?: number | undefined;
  /** Sent, tries that failed included. */
  readonly requests?: number | undefined;
}

/** What was spent; sums, so that they add up over runs. */
export interface Spending {
  readonly usd: number;
  readonly tokens: number;
  readonly requests: number;
}

export const nothingSpent: Spending = { usd: 0, tokens: 0, requests: 0 };

/** Reasoning tokens are part of the completion's, as providers count and bill them. */
export const costUsd = (usage: Usage, prices: Prices): number => {
  const cached = usage.cachedPromptTokens ?? 0;
  const cachedPrice = prices.cachedInputPerMillion ?? prices.inputPerMillion;
  return (
    ((usage.promptTokens - cached) * prices.inputPerMillion + cached * cachedPrice + usage.completionTokens * prices.outputPerMillion) / 1e6
  );
};

/** The next request could cross the budget. What was collected is kept. */
export class BudgetReachedError extends UserError {
  override name = 'BudgetReachedError';
}

/** One request's share of the budget while it is under way. */
export interface Reservation {
  /** What it cost in the end; undefined: it counts in full. */
  settle(usage: Usage | undefined): void;
}

/** Keeps spending within a budget. */
export interface BudgetKeeper {
  /**
   * Takes a request's full cost out of the budget, waiting for requests under way when only what they turn out to cost decides. Throws a
   * BudgetReachedError when the request could cross the line whatever they cost.
   */
  reserve(full: Usage): Promise<Reservation>;
  /** What was spent, without what is under way. */
  readonly spent: () => Spending;
}

export const budgetKeeper = (budget: Budget, prices: Prices | undefined, spentBefore: Spending): BudgetKeeper => {
  checkPrices(budget, prices);
  let spent = spentBefore;
  // A running sum: with hundreds under way, adding them all up for each request would cost more than the request.
  let underWay = nothingSpent;
  let underWayCount = 0;
  let settled = Promise.withResolvers<void>();

  return {
    spent: () => spent,
    reserve: async (full) => {
      const cost = spendingFor(full, prices);
      while (crossedBudget(budget, addSpending(addSpending(spent, underWay), cost)) !== undefined) {
        checkBudget(budget, spent, cost);
        await settled.promise;
      }
      underWay = addSpending(underWay, cost);
      underWayCount++;
      return {
        settle: (usage) => {
          underWayCount--;
          // What rounding left of a sum of prices goes when nothing is under way.
          underWay = underWayCount === 0 ? nothingSpent : subtractSpending(underWay, cost);
          spent = addSpending(spent, usage === undefined ? cost : spendingFor(usage, prices));
          settled.resolve();
          settled = Promise.withResolvers<void>();
        },
      };
    },
  };
};

/** A budget in dollars wants prices. */
export const checkPrices = (budget: Budget, prices: Prices | undefined): void => {
  if (budget.usd !== undefined && prices === undefined)
    throw new UserError(
      'budget.usd: the prices of this teacher are not known. Name them as prices: {inputPerMillion, outputPerMillion}, or bound tokens or requests.',
    );
};

/** What one request with this usage costs. */
export const spendingFor = (usage: Usage, prices: Prices | undefined): Spending => ({
  usd: prices === undefined ? 0 : costUsd(usage, prices),
  tokens: tokenCountOf(usage),
  requests: 1,
});

const budgetNames = ['usd', 'tokens', 'requests'] as const;

/** Sums of prices are not exact; nobody minds a thousandth of a millionth. */
const rounding = 1e-9;

/** The first part of the budget that so much would be over. */
export const crossedBudget = (budget: Budget, total: Spending): keyof Budget | undefined =>
  budgetNames.find((name) => total[name] > (budget[name] ?? Number.POSITIVE_INFINITY) * (1 + rounding));

/** Throws a BudgetReachedError when what a request may cost does not fit beside what is spent. */
export const checkBudget = (budget: Budget, spent: Spending, cost: Spending): void => {
  const name = crossedBudget(budget, addSpending(spent, cost));
  if (name !== undefined) throw new BudgetReachedError(reachedMessage(name, budget, spent));
};

/** The same prices at a share of them. */
export const discounted = (prices: Prices, share: number): Prices => ({
  ...prices,
  inputPerMillion: prices.inputPerMillion * share,
  outputPerMillion: prices.outputPerMillion * share,
  ...(prices.cachedInputPerMillion !== undefined && { cachedInputPerMillion: prices.cachedInputPerMillion * share }),
});

export const addSpending = (a: Spending, b: Spending): Spending => ({
  usd: a.usd + b.usd,
  tokens: a.tokens + b.tokens,
  requests: a.requests + b.requests,
});

const subtractSpending = (a: Spending, b: Spending): Spending => ({
  usd: a.usd - b.usd,
  tokens: a.tokens - b.tokens,
  requests: a.requests - b.requests,
});

const amountText: Record<keyof Budget, (amount: number) => string> = {
  usd: (amount) => `$${amount.toFixed(amount < 1 ? 4 : 2)}`,
  tokens: (amount) => `${Math.round(amount).toLocaleString('en')} tokens`,
  requests: (amount) => `${amount.toLocaleString('en')} requests`,
};

const reachedMessage = (name: keyof Budget, budget: Budget, spent: Spending): string =>
  `The budget of ${amountText[name](budget[name] ?? 0)} does not reach for another answer: ${amountText[name](spent[name])} are spent. Raise budget.${name} to go on.`;

/** Of prompt and completion; none where nothing is known. */
export const tokenCountOf = (usage: Usage | undefined): number => (usage === undefined ? 0 : usage.promptTokens + usage.completionTokens);

/** What an answer took in all its tries: its own usage, of tries that gave nothing, and of those that are assumed in full. */
export const wholeUsage = (answered: {
  readonly usage?: Usage | undefined;
  readonly wastedUsage?: Usage | undefined;
  readonly assumedUsage?: Usage | undefined;
}): Usage | undefined => addUsage(answered.usage, addUsage(answered.wastedUsage, answered.assumedUsage));

/** The sum of two usages; an absent one adds nothing. */
export const addUsage = (a: Usage | undefined, b: Usage | undefined): Usage | undefined => {
  if (a === undefined || b === undefined) return a ?? b;
  const optional = (name: 'cachedPromptTokens' | 'reasoningTokens') =>
    a[name] === undefined && b[name] === undefined ? {} : { [name]: (a[name] ?? 0) + (b[name] ?? 0) };
  return {
    promptTokens: a.promptTokens + b.promptTokens,
    completionTokens: a.completionTokens + b.completionTokens,
    ...optional('cachedPromptTokens'),
    ...optional('reasoningTokens'),
  };
};
