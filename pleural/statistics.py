"""From numbers of cases to statements about patients: estimates with 95 % intervals.

Two scans of one patient are alike, so patients are what is counted and drawn: ``n`` is their
number everywhere but in :func:`proportion`, which counts what it is given. Nothing here depends on
the order of the cases, and nothing is left out: a value that is not a finite number is refused,
because a mean without the cases that failed looks better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, nct, norm, t, wilcoxon

from pleural.words import counted

FEW_PATIENTS = 20
TOO_FEW = "too few to tell small differences from chance"
SIDES = (0.025, 0.975)  # of every interval: 95 % lie between
LIMIT_SDS = 1.96
N_RESAMPLES = 10_000
FEWEST_DRAWN = 5  # patients; of 2, 3 and 4, resamples hold the mean in 50, 75 and 85 of 100 samples
SEED = 0
WILCOXON = "Wilcoxon signed-rank test, two-sided"
SAME_DECIMALS = 12


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, from ``n`` patients.

    ``low`` and ``high`` are ``None`` where no interval can be made: of fewer than two patients, or
    five where only resampling makes one. ``value`` is ``None`` too where there is nothing to
    estimate.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class BlandAltman:
    """Predicted minus reference: mean, SD (``None`` for fewer than two cases) and limits."""

    bias_ml: Estimate
    sd_ml: float | None
    lower_ml: Estimate
    upper_ml: Estimate


@dataclass(frozen=True)
class Paired:
    """Mean of ours minus theirs, and the p of ``test`` (``None`` without patients)."""

    difference: Estimate
    p: float | None
    test: str


def mean(
    values: Sequence[float],
    patients: Sequence[str],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean over cases; ``patients`` says whose case each is, ``bounds`` what no mean can be beyond.

    The interval is a bootstrap over patients, each drawn with all of their cases. It takes the
    percentiles of the resampled means, widened for small n (Hesterberg 2015, doi
    10.1080/00031305.2015.1089789): plain percentiles are too narrow by what sets t apart from z,
    and so is BCa, which covers the mean of few values badly (Owen 2025, arXiv 2508.10083).
    Resampled means never leave the values, so of fewer than five patients the interval is Student's
    t of patients (of a ratio of sums, as some may have more cases), within ``bounds``.

    >>> dice = mean([0.5, 0.75, 1.0, 0.75], ["A", "B", "C", "C"], bounds=(0, 1))
    >>> dice.value, round(dice.low, 2), dice.high, dice.n
    (0.75, 0.28, 1.0, 3)
    """
    patient, (value,) = _by_patient(patients, values)
    cases, total = np.bincount(patient), np.bincount(patient, weights=value)
    n = len(cases)
    if not 2 <= n < FEWEST_DRAWN:
        return _over_patients(n, lambda drawn: drawn @ total / (drawn @ cases))
    found = total.sum() / cases.sum()
    error = np.sqrt(n / (n - 1) * ((total - found * cases) ** 2).sum()) / cases.sum()
    low, high = np.clip(found + error * t.ppf(SIDES, n - 1), *bounds)
    return Estimate(float(found), float(low), float(high), n)


def median(values: Sequence[float], patients: Sequence[str]) -> Estimate:
    """Median over cases, half-way between the middle two of an even number.

    The interval as in :func:`mean`, but none of fewer than five patients.
    """
    patient, (value,) = _by_patient(patients, values)
    order = np.argsort(value, kind="stable")

    def middle(drawn: np.ndarray) -> np.ndarray:
        rank = np.cumsum(drawn[:, patient[order]], axis=1)
        half = rank[:, -1:] / 2
        lower, upper = (np.argmax(reached, axis=1) for reached in (rank >= half, rank > half))
        return (value[order][lower] + value[order][upper]) / 2

    return _over_patients(len(set(patients)), middle)


def proportion(successes: int, n: int) -> Estimate:
    """Share of ``n``, with Wilson's interval (Wilson 1927, doi 10.2307/2276774).

    It supposes that the ``n`` know nothing of each other: too narrow for scans of few patients.

    >>> none_of_20 = proportion(0, 20)
    >>> none_of_20.low, round(none_of_20.high, 4)
    (0.0, 0.1611)
    """
    if n == 0:
        return Estimate(None, None, None, 0)
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def bland_altman(
    predicted_ml: Sequence[float], reference_ml: Sequence[float], patients: Sequence[str]
) -> BlandAltman:
    """Bias and limits of agreement, bias ± 1.96 SD of the differences over cases.

    After Bland & Altman 1986 (doi 10.1016/S0140-6736(86)90837-8). The intervals suppose normal
    differences and count patients, not cases: that of the bias from Student's t, those of the
    limits exact (Carkeet 2015, doi 10.1097/OPX.0000000000000513) instead of the approximation of
    1986, which is too narrow outwards for small n.
    """
    _, (predicted, reference) = _by_patient(patients, predicted_ml, reference_ml)
    difference, n = predicted - reference, len(set(patients))
    if len(difference) < 2:
        nothing = Estimate(None, None, None, n)
        bias = Estimate(float(difference[0]), None, None, n) if n else nothing
        return BlandAltman(bias, None, nothing, nothing)
    lower, bias, upper = (_line(difference, sds, n) for sds in (-LIMIT_SDS, 0.0, LIMIT_SDS))
    return BlandAltman(bias, float(difference.std(ddof=1)), lower, upper)


def concordance(
    predicted: Sequence[float], reference: Sequence[float], patients: Sequence[str]
) -> Estimate:
    """Lin's concordance correlation coefficient over cases (Lin 1989, doi 10.2307/2532051).

    1: the same values; 0: no more alike than values shuffled; -1: mirrored. Variances are divided
    by the number of cases, as Lin's are. Undefined where the reference is the same for all cases;
    0 where the prediction alone is. The interval as in :func:`median`; of five to seven patients it
    holds the truth in some 88 of 100 samples.
    """
    patient, (p, r) = _by_patient(patients, predicted, reference)
    n = len(set(patients))
    if len(set(r)) < 2:
        return Estimate(None, None, None, n)
    p, r = p - r.mean(), r - r.mean()  # the same shift for both, so that squares stay small
    terms = (np.ones_like(p), p, r, p * r, p**2, r**2)
    sums = np.stack([np.bincount(patient, weights=term) for term in terms], axis=1)

    def coefficient(drawn: np.ndarray) -> np.ndarray:
        cases, *totals = (drawn @ sums).T
        p, r, pr, pp, rr = (total / cases for total in totals)
        apart = pp + rr - 2 * p * r  # mean square difference of all predictions to all references
        varies = rr - r**2 > 1e-9 * rr  # not where one patient was drawn again and again
        return np.divide(2 * (pr - p * r), apart, out=np.full_like(apart, np.nan), where=varies)

    return _over_patients(n, coefficient)


def paired(
    ours: Sequence[float],
    theirs: Sequence[float],
    patients: Sequence[str],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Paired:
    """Two methods on the same cases: mean of ours minus theirs, and whether it may be chance.

    The interval of the mean as in :func:`mean`, with ``bounds`` of a difference.

    The test takes one difference for each patient, the mean over their cases. It is exact for up to
    50 patients (13 where some differences are equal) and then a normal approximation. Patients
    without a difference do not count in it; where none has one, p is 1. With n patients who differ
    p is never below 2 / 2^n, so that fewer than 6 cannot reach 0.05.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    patient, (value,) = _by_patient(patients, differences)
    if not differences:
        return Paired(mean([], []), None, WILCOXON)
    own = np.bincount(patient, weights=value) / np.bincount(patient)
    own = own.round(SAME_DECIMALS)  # 0.3 - 0.2 and 0.2 - 0.1 share a rank
    differing = own[own != 0]  # with zeros among them scipy would give up being exact
    p = float(wilcoxon(differing).pvalue) if len(differing) else 1.0
    return Paired(mean(differences, patients, bounds), p, WILCOXON)


def few(n: int) -> str | None:
    """What to say beside an estimate from so few patients; ``None`` from 20 on.

    >>> few(7)
    'n = 7 patients: too few to tell small differences from chance'
    """
    if n >= FEW_PATIENTS:
        return None
    return f"n = {counted(n, 'patient')}: {TOO_FEW}"


def _by_patient(
    patients: Sequence[str], *columns: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The number of each case's patient (from 0) and the columns, in an order of their own."""
    rows = sorted(zip(patients, *columns, strict=True))
    numbers = {name: number for number, name in enumerate(sorted(set(patients)))}
    values = np.array([row[1:] for row in rows], dtype=float).reshape(len(rows), len(columns)).T
    if not np.isfinite(values).all():
        raise ValueError("statistics take finite numbers; decide what an undefined one counts as")
    return np.array([numbers[row[0]] for row in rows], dtype=int), values


def _over_patients(n: int, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """A statistic and its bootstrap interval (see :func:`mean`) over ``n`` patients, 5 or more.

    ``statistic`` takes how often each patient was drawn, ``(draws, n)``, and gives one value for
    each row: NaN where it is undefined.
    """
    if n == 0:
        return Estimate(None, None, None, 0)
    value = float(statistic(np.ones((1, n)))[0])
    if n < FEWEST_DRAWN:
        return Estimate(value, None, None, n)
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    sides = norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(SIDES, n - 1))
    low, high = np.nanquantile(statistic(drawn), sides)
    return Estimate(value, float(low), float(high), n)


def _line(difference: np.ndarray, sds: float, n: int) -> Estimate:
    """Mean + ``sds`` SD of normal differences; at 0 SD the noncentral t is Student's."""
    centre, sd = difference.mean(), difference.std(ddof=1)
    value = float(centre + sds * sd)
    if n < 2:
        return Estimate(value, None, None, n)
    low, high = centre + sd * nct.ppf(SIDES, n - 1, sds * np.sqrt(n)) / np.sqrt(n)
    return Estimate(value, float(low), float(high), n)
