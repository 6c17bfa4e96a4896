import { InternalError } from '../base/errors.ts';

/** log Γ(x) for x > 0: Lanczos' approximation with g = 7 and nine terms, accurate to about 1e-14. */
export const logGamma = (x: number): number => {
  const shifted = x - 1;
  let series = 0.99999999999980993;
  for (const [index, coefficient] of lanczos.entries()) series += coefficient / (shifted + index + 1);
  const t = shifted + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(t) - t + Math.log(series);
};

/** Godfrey's coefficients for g = 7, n = 9, without the constant term. */
const lanczos = [
  676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
  9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** Regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (Numerical Recipes, 6.4). */
export const incompleteBeta = (x: number, a: number, b: number): number => {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  // The fraction converges fast on the left of its mean; on the right its mirror image does.
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(x, a, b)) / a : 1 - (front * betaFraction(1 - x, b, a)) / b;
};

const betaFraction = (x: number, a: number, b: number): number => {
  const away = (value: number) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let c = 1;
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= 10_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) return fraction;
  }
  throw new InternalError(`the incomplete beta function did not converge at x ${x}, a ${a}, b ${b}`);
};

/** P(T ≤ t) of Student's t; infinite degrees of freedom give the normal distribution. */
export const studentCdf = (t: number, degreesOfFreedom: number): number => {
  if (degreesOfFreedom === Number.POSITIVE_INFINITY || degreesOfFreedom > 1e7) return normalCdf(t);
  const tail = 0.5 * incompleteBeta(degreesOfFreedom / (degreesOfFreedom + t * t), degreesOfFreedom / 2, 0.5);
  return t > 0 ? 1 - tail : tail;
};

/** P(|T| ≥ |t|): computed from the tail, so that small ones keep their digits. */
export const studentTwoSided = (t: number, degreesOfFreedom: number): number => 2 * studentCdf(-Math.abs(t), degreesOfFreedom);

/** Φ(x) = erfc(−x/√2)/2, the upper tail of χ² with one degree of freedom. */
export const normalCdf = (x: number): number => {
  const tail = 0.5 * upperGammaHalf((x * x) / 2);
  return x > 0 ? 1 - tail : tail;
};

/** Q(½, x) = erfc(√x): series below 1.5, continued fraction above (Numerical Recipes, 6.2). */
const upperGammaHalf = (x: number): number => {
  if (x === 0) return 1;
  const front = Math.exp(-x + 0.5 * Math.log(x) - logGamma(0.5));
  if (x < 1.5) {
    let term = 2;
    let sum = term;
    for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
      term *= x / (0.5 + n);
      sum += term;
    }
    return 1 - front * sum;
  }
  let b = x + 0.5;
  let c = 1e300;
  let d = 1 / b;
  let fraction = d;
  for (let n = 1; n <= 10_000; n++) {
    const a = -n * (n - 0.5);
    b += 2;
    d = 1 / (a * d + b);
    c = b + a / c;
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return front * fraction;
};

/** Φ⁻¹(p). */
export const normalQuantile = (p: number): number => quantileOf(normalCdf, p);

/** The t with P(T ≤ t) = p. */
export const studentQuantile = (p: number, degreesOfFreedom: number): number => quantileOf((t) => studentCdf(t, degreesOfFreedom), p);

/** Bisection on a distribution that is symmetric around 0: slow, certain, to the last bits. */
const quantileOf = (cdf: (x: number) => number, p: number): number => {
  if (!(p > 0 && p < 1)) throw new InternalError(`a quantile was asked for at ${p}`);
  if (p > 0.5) return -quantileOf(cdf, 1 - p);
  let low = -1;
  while (cdf(low) > p) low *= 2;
  let high = 0;
  for (let step = 0; step < 200 && high - low > 1e-15 * Math.abs(low); step++) {
    const middle = (low + high) / 2;
    if (cdf(middle) > p) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
};

/** log C(n, k). */
export const logChoose = (n: number, k: number): number => logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
