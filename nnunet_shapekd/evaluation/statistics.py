"""Is one model better than another? Paired statistics in which a patient is one unit, whatever its number of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Below this there is neither interval nor p: of five differences the smallest two-sided signed-rank p is 2 / 2**5 =
#: 0.0625, and the bootstrap of so few values is too coarse and too narrow to be called an interval.
MIN_PATIENTS = 6
#: Two patient means that are closer than this are equal (a fraction, or mm, or px): what differs is rounding.
TIE = 1e-9
#: Up to so many patients the signed-rank p is exact; beyond, the normal approximation is as good and takes no memory.
EXACT_PATIENTS = 200


def patient_means(values: np.ndarray, patients: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The patients, sorted, and the mean of each one's cases, (patients, ...).

    Args:
        values: (cases, ...), finite.
        patients: (cases,), the patient of each case.
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    means = np.stack([values[index == i].mean(axis=0) for i in range(len(names))]) if len(names) else values[:0]
    return names.tolist(), means


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples,) of samples that are drawn with replacement from values (n,), each of n."""
    rng = np.random.default_rng(seed)
    n, block = len(values), max(1, 1_000_000 // len(values))  # bounds the memory at any n
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])


def expanded_tail(n: int, confidence: float) -> float:
    """The tail probability at which the expanded percentile interval of a mean cuts the bootstrap distribution.

    alpha' = Phi(-sqrt(n / (n - 1)) * t), t the quantile of Student's t with n - 1 degrees of freedom at
    (1 + confidence) / 2. The plain percentile interval, which cuts at (1 - confidence) / 2, is too narrow at small n:
    the bootstrap distribution's variance has the divisor n, and its quantiles know nothing of Student's t.

    Source: T. C. Hesterberg, "What Teachers Should Know About the Bootstrap: Resampling in the Undergraduate
    Statistics Curriculum", The American Statistician 69(4):371-386, 2015, on the expanded percentile interval.
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + confidence) / 2)))


def bootstrap_interval(
    differences: np.ndarray, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval (:func:`expanded_tail`) of the mean difference.

    ``scripts/simulate_coverage.py`` measures how often it contains the true mean. It is two lines over NumPy because
    the argument by which ``scipy.stats.bootstrap`` takes its random numbers was renamed between SciPy versions.

    Args:
        differences: (patients,), at least MIN_PATIENTS of them; one value a patient, see :func:`patient_means`.
        confidence: nominal coverage, between 0 and 1.
        resamples: bootstrap samples.
        seed: the same seed gives the same interval.

    Returns:
        Lower and upper end, in the unit of ``differences``.

    Raises:
        ValueError: if there are fewer patients.
    """
    n = len(differences)
    if n < MIN_PATIENTS:
        raise ValueError(
            f"differences: expected those of at least {MIN_PATIENTS} patients, got {n}; list them instead."
        )
    tail = expanded_tail(n, confidence)
    low, high = np.quantile(bootstrap_means(differences, resamples, seed), [tail, 1 - tail])
    return float(low), float(high)


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that the differences are symmetric about 0.

    - Zeros (up to TIE) are dropped, as Wilcoxon did and ``scipy.stats.wilcoxon`` and R do by default.
    - Equal magnitudes share the mean of their ranks.
    - p is exact given these ranks: the distribution of the sum of positive ranks under all 2^n signs, counted by
      convolution. SciPy's own p is exact only without zeros and ties, which distances on a voxel grid often have.
      Beyond EXACT_PATIENTS it is the normal approximation (tie-corrected, no continuity correction).
    - All differences zero: p = 1, the data are as far from speaking against "no difference" as can be.

    Source: F. Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1(6):80-83, 1945.

    Args:
        differences: (patients,), finite; one value a patient, see :func:`patient_means`.
    """
    from scipy.stats import rankdata

    differences = np.round(differences / TIE)  # what differs by rounding only is zero, or a tie
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    doubled_ranks = np.round(2 * rankdata(np.abs(differences))).astype(int)  # whole numbers, even where ties share
    total, positive = int(doubled_ranks.sum()), int(doubled_ranks[differences > 0].sum())
    deviation = abs(2 * positive - total)  # of the sum of positive ranks from its mean, times 4
    if len(differences) > EXACT_PATIENTS:
        return max(math.erfc(deviation / math.sqrt(2 * float(np.sum(doubled_ranks**2)))), np.finfo(float).tiny)
    probability = np.zeros(total + 1)  # of each doubled sum of positive ranks
    probability[0] = 1
    for rank in doubled_ranks:
        probability[rank:] = (probability[rank:] + probability[: len(probability) - rank]) / 2
        probability[:rank] /= 2
    extreme = np.abs(2 * np.arange(total + 1) - total) >= deviation
    return float(min(1, probability[extreme].sum()))


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values (m,) corrected for their number: the chance of any false "difference" among them stays at the level.

    The i-th smallest of m is multiplied by m - i + 1, and none is smaller than the one before it, or larger than 1.

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6(2):65-70, 1979.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def wins_ties_losses(differences: np.ndarray, higher_is_better: bool) -> tuple[int, int, int]:
    """How many patients the model does better on, as well on (up to TIE), and worse on, from model - baseline (n,)."""
    gains = differences if higher_is_better else -differences
    wins, losses = int(np.sum(gains > TIE)), int(np.sum(gains < -TIE))
    return wins, len(gains) - wins - losses, losses
