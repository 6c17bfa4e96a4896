/**
 * Holm's step-down correction (Holm 1979): p-values of a family, such that rejecting those ≤ α keeps the chance of any false rejection
 * at α, whatever the dependence between them. In the order given.
 */
export const holm = (pValues: readonly number[]): number[] => {
  const order = pValues.map((_, index) => index).sort((a, b) => (pValues[a] ?? 0) - (pValues[b] ?? 0));
  const adjusted = new Array<number>(pValues.length).fill(1);
  let largest = 0;
  for (const [rank, index] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (pValues.length - rank) * (pValues[index] ?? 1)));
    adjusted[index] = largest;
  }
  return adjusted;
};
