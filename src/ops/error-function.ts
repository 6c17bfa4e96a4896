/**
 * erf(x) = 2/√π · ∫₀ˣ exp(-t²) dt, to about 1e-15: the references need it in float64, and JavaScript has none. Series below 3 and continued
 * fraction above (Abramowitz and Stegun 7.1.6 and 7.1.14).
 */
export const erfOf = (x: number): number => {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  return Math.sign(x) * (size < 3 ? series(size) : 1 - tail(size));
};

// erf(x) = 2/√π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·5…(2n+1)): every term is positive, nothing cancels
const series = (x: number): number => {
  let term = x;
  let sum = x;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
};

// erfc(x) = exp(-x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …))))
const tail = (x: number): number => {
  let fraction = x;
  for (let n = 60; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
};
