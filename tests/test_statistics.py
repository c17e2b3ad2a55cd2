"""Estimates and intervals: published examples, known truths, and what must change nothing."""

import math
from dataclasses import astuple
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from pleural.statistics import (
    BlandAltman,
    Estimate,
    bland_altman,
    concordance,
    few,
    mean,
    median,
    paired,
    proportion,
)

# Peak flow by two meters, L/min: Bland & Altman 1986, Lancet 327:307, first measurements.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Depression before and after tranquillisers: Hollander & Wolfe 1973, p. 29, as in R's wilcox.test.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

cases = st.lists(
    st.tuples(
        st.sampled_from("ABCDEFGH"),
        st.floats(0, 1).map(lambda x: round(x, 3)),
        st.floats(0, 900).map(lambda x: round(x, 1)),
    ),
    min_size=1,
    max_size=25,
)


def names(n):
    return [f"P{number}" for number in range(n)]


def everything(rows):
    """All that is computed from cases, to be compared as a whole."""
    patients, a, b = zip(*rows, strict=True)
    return (
        mean(a, patients),
        median(b, patients),
        bland_altman(a, b, patients),
        concordance(a, b, patients),
        paired(a, b, patients),
    )


@settings(max_examples=25, deadline=None)
@given(cases, st.randoms())
def test_the_order_of_the_cases_changes_nothing(rows, random: Random):
    shuffled = random.sample(rows, len(rows))
    assert everything(shuffled) == everything(rows)


@settings(max_examples=25, deadline=None)
@given(cases)
def test_means_and_medians_are_those_of_the_cases(rows):
    patients, values, _ = zip(*rows, strict=True)
    for estimate, expected in ((mean, np.mean), (median, np.median)):
        result = estimate(values, patients)
        assert result.n == len(set(patients))
        assert result.value == pytest.approx(expected(values))
        if result.n < (2 if estimate is mean else 5):
            assert (result.low, result.high) == (None, None)
        elif result.n < 5:
            assert result.low <= result.value <= result.high
        else:
            within = [min(values) - 1e-9, result.low, result.high, max(values) + 1e-9]
            assert within == sorted(within)


@pytest.mark.parametrize("estimate", [mean, median])
def test_too_little_for_an_interval(estimate):
    assert estimate([], []) == Estimate(None, None, None, 0)
    assert estimate([0.5], ["A"]) == Estimate(0.5, None, None, 1)
    assert estimate([0.5, 0.7], ["A", "A"]) == Estimate(pytest.approx(0.6), None, None, 1)
    assert astuple(estimate([0.7] * 9, names(9))) == pytest.approx((0.7, 0.7, 0.7, 9))


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_what_is_no_number_is_refused_not_left_out(bad):
    for estimate in (mean, median):
        with pytest.raises(ValueError, match="finite"):
            estimate([0.5, bad], ["A", "B"])
    with pytest.raises(ValueError, match="shorter"):
        mean([0.5], ["A", "B"])


def width(estimate):
    return estimate.high - estimate.low


@pytest.mark.parametrize("estimate", [mean, median])
def test_a_second_scan_of_a_patient_is_no_new_patient(estimate):
    values = list(np.random.default_rng(3).random(12))
    once = estimate(values, names(12))
    twice = estimate(values * 2, names(12) * 2)
    others = estimate(values * 2, names(24))
    assert astuple(twice) == pytest.approx(astuple(once))
    assert width(others) < 0.85 * width(once)


def test_a_patient_is_drawn_with_all_cases():
    """Within each patient the cases cancel out, so that the mean is the same in every draw."""
    assert width(mean([0.2, 0.8] * 5, [name for name in names(5) for _ in "ab"])) < 1e-9
    assert width(mean([0.2, 0.8] * 5, names(10))) > 0.2


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_patients_have_students_interval_within_what_is_possible(n):
    values = np.random.default_rng(n).normal(0.9, 0.05, n)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    found = mean(values, names(n))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    cut = mean(values, names(n), bounds=(values.min(), 0.9))
    assert (cut.low, cut.high) == (values.min(), pytest.approx(min(0.9, found.high)))
    assert astuple(mean([*values] * 2, names(n) * 2)) == pytest.approx(astuple(found))
    assert median(values, names(n)).low is None


@pytest.mark.parametrize("n", [6, 12, 50])
def test_the_interval_of_a_mean_is_students_where_students_is_right(n):
    values = np.random.default_rng(n).normal(100, 10, n)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert width(mean(values, names(n))) == pytest.approx(2 * half, rel=0.12)


def test_intervals_hold_what_they_promise():
    """Plain percentiles hold the mean of such samples 867 times of 1000."""
    rng, n, repeats = np.random.default_rng(5), 7, 1000
    held = {"mean": 0, "bias": 0, "lower": 0, "upper": 0}
    truth = {"mean": 0, "bias": 0, "lower": -1.96, "upper": 1.96}
    for _ in range(repeats):
        sample = rng.standard_normal(n)
        result = bland_altman(sample, [0] * n, names(n))
        found = {
            "mean": mean(sample, names(n)),
            "bias": result.bias_ml,
            "lower": result.lower_ml,
            "upper": result.upper_ml,
        }
        for name, estimate in found.items():
            held[name] += estimate.low <= truth[name] <= estimate.high
    assert {name: count / repeats for name, count in held.items()} == pytest.approx(
        dict.fromkeys(held, 0.95), abs=0.03
    )


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Stat Med 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval(successes, n, low, high):
    expected = (successes / n, low, high, n)
    assert astuple(proportion(successes, n)) == pytest.approx(expected, abs=5e-5)
    mirrored = (1 - successes / n, 1 - high, 1 - low, n)
    assert astuple(proportion(n - successes, n)) == pytest.approx(mirrored, abs=5e-5)


def test_a_share_of_nobody_is_unknown():
    assert proportion(0, 0) == Estimate(None, None, None, 0)


def test_bland_and_altmans_own_example():
    result = bland_altman(WRIGHT, MINI, names(17))
    assert result.bias_ml.value == pytest.approx(-2.1, abs=0.05)
    assert result.sd_ml == pytest.approx(38.8, abs=0.05)
    assert (result.bias_ml.low, result.bias_ml.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert result.lower_ml.value == pytest.approx(-78.1, abs=0.05)
    assert result.upper_ml.value == pytest.approx(73.9, abs=0.05)
    assert result.lower_ml.n == 17


def test_exact_limits_approach_the_approximation_of_1986():
    """There, the standard error of a limit is the square root of 3 / n, times the SD."""
    n = 4000
    ramp = np.linspace(-1, 1, n)
    result = bland_altman(ramp, np.zeros(n), names(n))
    half = 1.96 * math.sqrt(3 / n) * result.sd_ml
    for limit in (result.lower_ml, result.upper_ml):
        assert (limit.value - limit.low, limit.high - limit.value) == pytest.approx(
            (half, half), rel=0.05
        )


def test_exact_limits_reach_further_outwards_than_inwards():
    few_patients = bland_altman(WRIGHT[:7], MINI[:7], names(7))
    upper, lower = few_patients.upper_ml, few_patients.lower_ml
    assert upper.high - upper.value > 2 * (upper.value - upper.low)
    assert lower.value - lower.low == pytest.approx(upper.high - upper.value)


def test_differences_of_one_patient_do_not_narrow_the_limits():
    once = bland_altman(WRIGHT, MINI, names(17))
    twice = bland_altman(WRIGHT * 2, MINI * 2, names(17) * 2)
    assert twice.upper_ml.n == 17
    assert width(twice.upper_ml) == pytest.approx(width(once.upper_ml), rel=0.02)


def test_too_little_for_limits():
    nothing = Estimate(None, None, None, 0)
    assert bland_altman([], [], []) == BlandAltman(nothing, None, nothing, nothing)
    one = bland_altman([12.0], [10.0], ["A"])
    unknown = Estimate(None, None, None, 1)
    assert one == BlandAltman(Estimate(2.0, None, None, 1), None, unknown, unknown)
    same_patient = bland_altman([12.0, 16.0], [10.0, 10.0], ["A", "A"])
    assert same_patient.bias_ml == Estimate(4.0, None, None, 1)
    assert same_patient.sd_ml == pytest.approx(math.sqrt(8))
    assert same_patient.upper_ml.value == pytest.approx(4 + 1.96 * math.sqrt(8))
    assert same_patient.upper_ml.low is None
    constant = bland_altman([12.0] * 5, [10.0] * 5, names(5))
    assert astuple(constant.upper_ml) == (2.0, 2.0, 2.0, 5)


def test_lins_coefficient_of_a_published_example():
    """R's DescTools::CCC gives 0.942742 for Bland & Altman's peak flows."""
    result = concordance(WRIGHT, MINI, names(17))
    assert result.value == pytest.approx(0.942742, abs=1e-6)
    assert 0.8 < result.low < result.value < result.high < 1


@settings(max_examples=25, deadline=None)
@given(cases)
def test_lins_coefficient_by_its_definition(rows):
    """1 - mean square difference of pairs, over that of all predictions to all references."""
    patients, p, r = (np.array(column) for column in zip(*rows, strict=True))
    result = concordance(p, r, patients)
    if len(set(r)) == 1:
        assert result == Estimate(None, None, None, len(set(patients)))
    else:
        by_chance = np.mean((p[:, None] - r[None, :]) ** 2)
        assert result.value == pytest.approx(1 - np.mean((p - r) ** 2) / by_chance, abs=1e-9)


def test_agreement_of_values_needs_more_than_correlation():
    r = np.array([10.0, 50.0, 200.0, 700.0, 90.0, 30.0])
    for p, expected in ((r, 1), (2 * r.mean() - r, -1), (np.full(6, 20.0), 0)):
        assert concordance(p, r, names(6)).value == pytest.approx(expected)
    assert concordance(r + 300, r, names(6)).value < 0.6
    shifted = concordance(3 * WRIGHT_ML + 1e6, 3 * MINI_ML + 1e6, names(17))
    plain = concordance(WRIGHT_ML, MINI_ML, names(17))
    assert astuple(shifted) == pytest.approx(astuple(plain), abs=1e-6)


WRIGHT_ML, MINI_ML = np.array(WRIGHT), np.array(MINI)


def test_a_patient_drawn_alone_tells_nothing_of_concordance():
    """Some of the resamples are one alone, and have no coefficient."""
    r = np.array([10.0, 200.0, 700.0, 90.0, 300.0])
    assert concordance(r * 1.01, r, names(5)).low > 0.9


def test_too_little_for_concordance():
    assert concordance([], [], []) == Estimate(None, None, None, 0)
    assert concordance([5.0], [5.0], ["A"]) == Estimate(None, None, None, 1)
    assert concordance([1.0, 5.0], [5.0, 5.0], ["A", "B"]) == Estimate(None, None, None, 2)
    assert concordance([1.0, 5.0], [1.0, 5.0], ["A", "A"]) == Estimate(1.0, None, None, 1)
    ml = [1.0, 5.0, 9.0, 7.0]
    assert astuple(concordance(ml, ml, names(4))) == (pytest.approx(1), None, None, 4)


def test_wilcoxons_test_of_a_published_example():
    result = paired(BEFORE, AFTER, names(9))
    assert result.p == pytest.approx(2 * 0.01953, abs=2e-5)
    assert result.difference.value == pytest.approx(0.432, abs=5e-4)
    assert result.difference == mean(np.subtract(BEFORE, AFTER), names(9))
    mirrored = paired(AFTER, BEFORE, names(9))
    assert mirrored.p == result.p
    assert mirrored.difference.value == pytest.approx(-result.difference.value)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 8])
def test_the_least_p_that_so_few_patients_can_give(n):
    ours = [0.5 + 0.01 * number for number in range(n)]
    assert paired(ours, [0.4] * n, names(n)).p == pytest.approx(2 / 2**n)
    assert (2 / 2**n < 0.05) == (n >= 6)


@pytest.mark.parametrize("n", [5, 6, 8])
def test_patients_without_a_difference_make_no_evidence(n):
    differing = paired([0.5 + 0.01 * number for number in range(n)], [0.4] * n, names(n))
    ours = [0.5 + 0.01 * number for number in range(n)] + [0.4] * 15
    assert paired(ours, [0.4] * len(ours), names(len(ours))).p == differing.p


def test_the_test_counts_patients():
    """Ten scans of one patient say no more than one about patients."""
    ours, theirs, patients = BEFORE + [3.0] * 10, AFTER + [1.0] * 10, names(9) + ["P8"] * 10
    own = [*np.subtract(BEFORE, AFTER)[:8], (10 * 2 + BEFORE[8] - AFTER[8]) / 11]
    result = paired(ours, theirs, patients)
    assert result.p == paired(own, [0] * 9, names(9)).p
    assert result.difference.n == 9


def test_no_difference_is_no_evidence():
    assert paired([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], names(3)).p == 1
    assert paired([0.1, 0.3], [0.3, 0.1], ["A", "A"]).p == 1
    empty = paired([], [], [])
    assert (empty.difference.n, empty.difference.value, empty.p) == (0, None, None)
    assert "Wilcoxon" in empty.test


def test_differences_that_are_equal_but_for_rounding_share_a_rank():
    tenths = paired([0.3, 0.2, 0.9, 0.5, 0.6, 0.7], [0.2, 0.1, 0.8, 0.6, 0.4, 0.4], names(6))
    whole = paired([3, 2, 9, 5, 6, 7], [2, 1, 8, 6, 4, 4], names(6))
    assert tenths.p == whole.p


def test_few_patients_are_told_in_words():
    assert few(19) == "n = 19 patients: too few to tell small differences from chance"
    assert str(few(1)).startswith("n = 1 patient:")
    assert few(20) is None
