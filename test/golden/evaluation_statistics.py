"""Writes statistics.json: numbers of scipy and statsmodels that test/statistics.test.ts holds src/evaluation to.

    python test/golden/evaluation_statistics.py

Needs scipy and statsmodels (the versions that wrote the committed file stand in it). Takes a few seconds.
"""

import json
import pathlib

import numpy
import scipy
import statsmodels
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

random = numpy.random.default_rng(20241217)


def normal_and_student():
    xs = [-8.5, -3.2, -1.96, -0.7, 0.0, 0.3, 1.1, 2.5758, 6.0]
    return {
        "normalCdf": [{"x": x, "value": stats.norm.cdf(x)} for x in xs],
        "normalQuantile": [{"p": p, "value": stats.norm.ppf(p)} for p in [1e-9, 0.001, 0.025, 0.2, 0.5, 0.8, 0.975, 0.9999]],
        "studentCdf": [{"x": x, "df": df, "value": stats.t.cdf(x, df)} for x in xs for df in [1, 2.7, 4, 11.3, 299, 6594]],
        "studentQuantile": [{"p": p, "df": df, "value": stats.t.ppf(p, df)} for p in [0.001, 0.025, 0.8, 0.975] for df in [1, 4, 7.3, 120, 1e5]],
        "incompleteBeta": [
            {"x": x, "a": a, "b": b, "value": special.betainc(a, b, x)}
            for x in [0.001, 0.2, 0.5, 0.93]
            for a, b in [(0.5, 0.5), (2, 3.5), (40, 1.5), (300, 310)]
        ],
        "logGamma": [{"x": x, "value": special.gammaln(x)} for x in [0.1, 0.5, 1, 2, 3.7, 20, 1000.5]],
    }


def wilson():
    rows = []
    for successes, count in [(0, 1), (0, 300), (3, 300), (20, 1319), (150, 300), (299, 300), (300, 300)]:
        for confidence in [0.9, 0.95, 0.99]:
            low, high = proportion_confint(successes, count, alpha=1 - confidence, method="wilson")
            rows.append({"successes": successes, "count": count, "confidence": confidence, "low": low, "high": high})
    return rows


def mcnemar_rows():
    rows = []
    for b, c in [(0, 1), (1, 0), (1, 7), (5, 5), (3, 12), (40, 61), (150, 86), (300, 240)]:
        exact = mcnemar([[0, b], [c, 0]], exact=True).pvalue
        # mid-p by its definition: the exact two-sided value less the probability of the table itself
        mid = min(1.0, exact - stats.binom.pmf(min(b, c), b + c, 0.5)) if b != c else 1 - 0.5 * stats.binom.pmf(b, b + c, 0.5)
        rows.append({"b": b, "c": c, "exact": min(1.0, exact), "mid": mid})
    return rows


def sign_flip():
    """scipy goes through all sign patterns one by one."""
    rows = []
    for _ in range(12):
        n = int(random.integers(4, 13))
        differences = [int(x) for x in random.integers(-3, 4, n)]
        result = stats.permutation_test(
            (numpy.array(differences, dtype=float),), numpy.sum, permutation_type="samples", n_resamples=numpy.inf
        )
        rows.append({"differences": differences, "pValue": float(result.pvalue)})
    return rows


def holm():
    families = [[0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 0.02], [0.9, 0.001, 0.3, 0.049, 0.02, 0.7], [1.0, 1.0, 0.0]]
    return [{"pValues": family, "adjusted": list(multipletests(family, method="holm")[1])} for family in families]


def crossed():
    """Mean squares by statsmodels' analysis of variance of seeds and questions as factors, Hillis's formula, with our floor, on top of them."""
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rows = []
    for seeds, questions, seed_deviation in [(5, 12, 0.0), (5, 20, 0.8), (7, 15, 0.3), (10, 25, 0.1)]:
        table = (
            seed_deviation * random.standard_normal((seeds, 1))
            + random.standard_normal((1, questions))
            + random.standard_normal((seeds, questions))
            + 0.3
        )
        frame = pandas.DataFrame(
            [{"seed": s, "question": q, "value": table[s, q]} for s in range(seeds) for q in range(questions)]
        )
        fit = anova_lm(ols("value ~ C(seed) + C(question)", frame).fit())
        ms_seed, ms_question, ms_error = (float(fit.loc[name, "mean_sq"]) for name in ["C(seed)", "C(question)", "Residual"])
        bracket = max(ms_seed, ms_error) + max(ms_question - ms_error, 0)
        error = (bracket / (seeds * questions)) ** 0.5
        df = bracket**2 / (ms_seed**2 / (seeds - 1)) if ms_seed > ms_error else questions - 1
        half = stats.t.ppf(0.975, df) * error
        centre = float(table.mean())
        rows.append(
            {
                "table": [[float(x) for x in row] for row in table],
                "seed": ms_seed,
                "question": ms_question,
                "error": ms_error,
                "df": df,
                "low": centre - half,
                "high": centre + half,
                "pValue": float(2 * stats.t.sf(abs(centre / error), df)),
            }
        )
    return rows


def bootstrap():
    """The percentile interval of a ratio of sums over pairs, from 200,000 draws: accurate to about 0.3 % of its width."""
    n = 80
    numerators = random.normal(5, 12, n)
    denominators = random.integers(40, 160, n).astype(float)
    result = stats.bootstrap(
        (numerators, denominators),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=200_000,
        batch=2_000,
        method="percentile",
        rng=random,
    )
    return {
        "numerators": list(numerators),
        "denominators": list(denominators),
        "low": float(result.confidence_interval.low),
        "high": float(result.confidence_interval.high),
    }


def mcnemar_power(questions, discordance, difference, alpha=0.05):
    """The chance that the asymptotic McNemar test (the one that Connor's formula is about) rejects, summed over all tables."""
    share = (discordance + difference) / (2 * discordance)
    z = stats.norm.ppf(1 - alpha / 2)
    total = 0.0
    for pairs in range(1, questions + 1):
        weight = stats.binom.pmf(pairs, questions, discordance)
        if weight < 1e-12:
            continue
        first = numpy.arange(pairs + 1)
        rejected = numpy.abs(2 * first - pairs) / pairs**0.5 > z
        total += weight * stats.binom.pmf(first, pairs, share)[rejected].sum()
    return total


def connor():
    """The formula itself, with scipy's quantiles and root finder, and the true power at its answer."""
    from scipy.optimize import brentq

    rows = []
    for questions, discordance in [(300, 0.05), (300, 0.2), (1319, 0.1), (1319, 0.3), (2000, 0.4)]:
        for power in [0.8, 0.9]:
            za, zb = stats.norm.ppf(0.975), stats.norm.ppf(power)

            def short(delta):
                return (za * discordance**0.5 + zb * (discordance - delta**2) ** 0.5) ** 2 / delta**2 - questions

            delta = brentq(short, 1e-6, discordance)
            truth = mcnemar_power(questions, discordance, delta)
            rows.append({"questions": questions, "discordance": discordance, "power": power, "difference": delta, "truePower": truth})
    return rows


numbers = {
    "writtenBy": {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__, "numpy": numpy.__version__},
    "distributions": normal_and_student(),
    "wilson": wilson(),
    "mcnemar": mcnemar_rows(),
    "signFlip": sign_flip(),
    "holm": holm(),
    "crossed": crossed(),
    "bootstrap": bootstrap(),
    "connor": connor(),
}
target = pathlib.Path(__file__).parent / "statistics.json"
target.write_text(json.dumps(numbers, indent=1, default=float) + "\n")
print(f"wrote {target.name}, {target.stat().st_size} bytes")
