"""The statistics of paired comparisons, against numbers derived by hand, SciPy and enumeration."""

import importlib.util
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT

from nnunet_shapekd.evaluation.statistics import (
    bootstrap_interval,
    bootstrap_means,
    expanded_tail,
    holm,
    patient_means,
    signed_rank_p,
    wins_ties_losses,
)

SPEC = importlib.util.spec_from_file_location("simulate_coverage", ROOT / "scripts" / "simulate_coverage.py")
simulation = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(simulation)


def test_a_patient_is_one_unit_however_many_cases():
    # the mean over cases would be (1 + 1 + 1 + 5) / 4 = 2
    names, means = patient_means(np.array([1.0, 5.0, 1.0, 1.0]), ["p1", "p2", "p1", "p1"])
    assert names == ["p1", "p2"]
    assert means.mean() == 3


def test_patient_means_keep_further_axes():
    names, means = patient_means(np.array([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]]), ["b", "b", "a"])
    assert names == ["a", "b"]
    np.testing.assert_array_equal(means, [[0, 0], [2, 4]])


def test_no_cases_have_no_patients():
    names, means = patient_means(np.empty((0, 2)), [])
    assert names == [] and means.shape == (0, 2)


@pytest.mark.parametrize(
    ("n", "confidence", "tail"),
    [
        # Student's t from a printed table: 2.2622 (9 df), 2.1448 (14 df), 1.8331 (9 df, 90 %); Phi likewise
        (10, 0.95, 0.00855),  # Phi(-2.2622 * sqrt(10 / 9)) = Phi(-2.3846)
        (15, 0.95, 0.01321),  # Phi(-2.1448 * sqrt(15 / 14)) = Phi(-2.2201)
        (10, 0.90, 0.02666),  # Phi(-1.8331 * sqrt(10 / 9)) = Phi(-1.9323)
    ],
)
def test_the_expanded_tail_is_hesterbergs(n, confidence, tail):
    assert expanded_tail(n, confidence) == pytest.approx(tail, abs=2e-5)


def test_the_expanded_tail_of_many_patients_is_the_plain_one():
    assert expanded_tail(100_000, 0.95) == pytest.approx(0.025, abs=1e-5)


def test_the_interval_cuts_the_bootstrap_distribution_at_the_expanded_tails():
    values = np.random.default_rng(1).normal(size=12)
    low, high = bootstrap_interval(values, resamples=2000, seed=5)
    means = np.sort(bootstrap_means(values, 2000, 5))
    tail = expanded_tail(12, 0.95)
    assert low < np.quantile(means, 0.025) < values.mean() < np.quantile(means, 0.975) < high
    assert np.mean(means < low) == pytest.approx(tail, abs=1 / 2000)
    assert np.mean(means > high) == pytest.approx(tail, abs=1 / 2000)


def test_bootstrap_means_have_the_mean_and_the_variance_of_the_theory():
    values = np.array([0.0, 1.0, 2.0, 7.0])  # mean 2.5, variance (divisor n) 7.25
    means = bootstrap_means(values, 100_000, 0)
    assert means.mean() == pytest.approx(2.5, abs=4 * math.sqrt(7.25 / 4 / 100_000))
    assert means.var() == pytest.approx(7.25 / 4, rel=0.02)


def test_the_seed_decides_the_interval(monkeypatch):
    values = np.random.default_rng(1).normal(size=8)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_many_patients_are_resampled_in_blocks():
    means = bootstrap_means(np.arange(300_000.0), 7, 0)
    assert means.shape == (7,) and len(set(means)) == 7


def test_equal_differences_have_an_interval_without_width():
    assert bootstrap_interval(np.full(6, 0.25)) == (0.25, 0.25)


def test_five_patients_have_no_interval():
    with pytest.raises(ValueError, match="6 .* got 5"):
        bootstrap_interval(np.arange(5.0))


def by_enumeration(differences) -> float:
    """Two-sided p over all signs, from the definition."""
    differences = differences[differences != 0]
    ranks = scipy.stats.rankdata(np.abs(differences))
    center = ranks.sum() / 2
    observed = abs(ranks[differences > 0].sum() - center)
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([abs(s - center) >= observed - 1e-12 for s in sums]))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5, 6], 2 / 2**6),  # all of one sign: two of 64 sign patterns are as extreme
        ([-1, 2, 3, 4, 5, 6], 4 / 2**6),  # sums of negative ranks 0 and 1, and their mirror images
        ([1, 2, 3, 4, 5], 0.0625),
        ([1, 1, 1, 1, 1, 1], 2 / 2**6),  # ties do not change that
        ([0, 0, 1, 2, 3, 4, 5, 6], 2 / 2**6),  # zeros are dropped
        ([1, -1], 1.0),
        ([7], 1.0),
        ([0, 0, 0, 0, 0, 0], 1.0),
        ([], 1.0),
    ],
)
def test_signed_rank_p_by_hand(differences, p):
    assert signed_rank_p(np.array(differences, dtype=float)) == pytest.approx(p)


@pytest.mark.parametrize("n", [6, 10, 15, 40])
def test_signed_rank_p_is_scipys_without_zeros_and_ties(n):
    rng = np.random.default_rng(n)
    for shift in (0, 0.3, 1):
        differences = rng.normal(shift, size=n)
        assert signed_rank_p(differences) == pytest.approx(scipy.stats.wilcoxon(differences).pvalue)


def test_signed_rank_p_with_zeros_and_ties_is_that_of_all_signs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        differences = rng.integers(-2, 4, size=10).astype(float)
        assert signed_rank_p(differences) == pytest.approx(by_enumeration(differences))


def test_what_differs_by_rounding_only_is_a_tie():
    assert signed_rank_p(np.array([0.3, 0.1 + 0.2, -0.3])) == signed_rank_p(np.array([0.3, 0.3, -0.3]))
    assert signed_rank_p(np.array([1e-12, 1, 2, 3, 4, 5, 6])) == pytest.approx(2 / 2**6)


def test_many_patients_have_the_tie_corrected_normal_approximation():
    differences = np.random.default_rng(0).integers(-5, 7, size=400).astype(float)
    expected = scipy.stats.wilcoxon(differences, correction=False).pvalue
    assert signed_rank_p(differences) == pytest.approx(expected)


def test_exact_and_approximate_p_meet(monkeypatch):
    differences = np.random.default_rng(2).normal(0.15, size=200)
    exact = signed_rank_p(differences)
    monkeypatch.setattr("nnunet_shapekd.evaluation.statistics.EXACT_PATIENTS", 100)
    assert signed_rank_p(differences) == pytest.approx(exact, rel=0.02)


def test_p_is_never_zero():
    assert signed_rank_p(np.arange(1.0, 3001)) > 0


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1 = .04 .06 .06 .04, and none below the one before
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    np.testing.assert_allclose(holm([0.03]), [0.03])
    assert holm([]).size == 0


def test_wins_follow_the_metrics_direction():
    differences = np.array([1.0, 1.0, 1e-12, -2.0])
    assert wins_ties_losses(differences, higher_is_better=True) == (2, 1, 1)
    assert wins_ties_losses(differences, higher_is_better=False) == (1, 1, 2)


@pytest.mark.parametrize("kind", ["normal", "clustered"])
@pytest.mark.parametrize("patients", [10, 15])
def test_coverage_lies_in_the_band_that_was_written_down_beforehand(kind, patients):
    repeats = 800
    covered = simulation.coverage(kind, patients, repeats, resamples=999, seed=0)["expanded"]
    low, high = simulation.BANDS[kind]
    # three Monte-Carlo errors of a coverage that lies on the band's edge
    assert low - 3 * simulation.monte_carlo_error(low, repeats) <= covered
    assert covered <= high + 3 * simulation.monte_carlo_error(high, repeats)


def test_the_simulation_tells_a_frame_from_a_patient():
    covered = simulation.coverage("clustered", 15, 400, resamples=399, seed=0)
    assert covered["frames"] < covered["expanded"]
    assert covered["percentile"] < covered["expanded"]


@pytest.mark.parametrize("kind", list(simulation.BANDS))
def test_simulated_differences_have_the_mean_0(kind):
    values = simulation.differences(kind, 100_000, np.random.default_rng(0))
    assert values.shape == (100_000, 2 if kind == "clustered" else 1)
    assert abs(values.mean()) < 5 * math.sqrt(3 / 100_000)  # the largest variance is that of t with 3 df: 3
