#!/usr/bin/env python
"""How often does the interval of `shapekd compare` contain the true mean difference? A simulation.

Simulated patients' differences with true mean 0 go through the very functions `shapekd compare` uses. Exit code 1 if a
row is outside its band. For comparison: the plain percentile interval, and (where a patient has two frames) the
interval that takes every frame for a patient of its own.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np

from nnunet_shapekd.evaluation.statistics import bootstrap_interval, bootstrap_means, patient_means

# Written down before the first simulation was run, and not to be moved afterwards: where the interval misses its band,
# the band stays, and the interval is changed or the miss is documented.
NOMINAL = 0.95
SIZES = (10, 15, 40)  # patients
BANDS = {
    "normal": (0.93, 0.97),
    "heavy-tailed": (0.90, 0.98),  # Student's t with 3 degrees of freedom
    "skewed": (0.90, 0.98),  # exponential, shifted to mean 0
    "clustered": (0.90, 0.98),  # two frames a patient: a patient's effect plus a frame's, both normal with variance 1
}


def differences(kind: str, patients: int, rng: np.random.Generator) -> np.ndarray:
    """Simulated differences of cases, (patients, frames), with true mean 0."""
    if kind == "normal":
        return rng.standard_normal((patients, 1))
    if kind == "heavy-tailed":
        return rng.standard_t(3, (patients, 1))
    if kind == "skewed":
        return rng.standard_exponential((patients, 1)) - 1
    return rng.standard_normal((patients, 1)) + rng.standard_normal((patients, 2))


def coverage(kind: str, patients: int, repeats: int, resamples: int, seed: int) -> dict[str, float]:
    """The fraction of simulated data sets whose interval contains 0, for each kind of interval.

    Returns:
        "expanded" (what `shapekd compare` prints), "percentile", and "frames" (NaN where a patient has one frame).
    """
    rng = np.random.default_rng([seed, patients, list(BANDS).index(kind)])
    tail = (1 - NOMINAL) / 2
    hits = np.zeros((repeats, 3))
    for repeat in range(repeats):
        cases = differences(kind, patients, rng)
        labels = np.repeat(np.arange(patients), cases.shape[1])
        _, means = patient_means(cases.ravel(), labels)
        options = {"resamples": resamples, "seed": int(rng.integers(2**32))}
        intervals = [
            bootstrap_interval(means, confidence=NOMINAL, **options),
            np.quantile(bootstrap_means(means, **options), [tail, 1 - tail]),
            bootstrap_interval(cases.ravel(), confidence=NOMINAL, **options) if cases.shape[1] > 1 else (np.nan,) * 2,
        ]
        hits[repeat] = [low <= 0 <= high if low == low else np.nan for low, high in intervals]
    return dict(zip(("expanded", "percentile", "frames"), hits.mean(axis=0).tolist(), strict=True))


def monte_carlo_error(covered: float, repeats: int) -> float:
    """Standard error of a coverage that was estimated from ``repeats`` data sets."""
    return math.sqrt(covered * (1 - covered) / repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5000, help="data sets a row (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=999, help="bootstrap samples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    print(
        f"Coverage (%) of nominal {NOMINAL:.0%} intervals; {args.repeats} data sets a row, {args.resamples} resamples"
    )
    head = f"{'differences':13} {'patients':>8} {'expanded':>9} {'± error':>8} {'band':>9}        "
    print(head + f"{'percentile':>10} {'frames as patients':>19}")
    failed = 0
    for kind, (low, high) in BANDS.items():
        for patients in SIZES:
            covered = coverage(kind, patients, args.repeats, args.resamples, args.seed)
            error = monte_carlo_error(covered["expanded"], args.repeats)
            inside = low <= covered["expanded"] <= high
            failed += not inside
            frames = "" if math.isnan(covered["frames"]) else f"{100 * covered['frames']:.1f}"
            cells = f"{kind:13} {patients:8} {100 * covered['expanded']:9.1f} {100 * error:8.2f} "
            cells += f"{f'{100 * low:.0f}-{100 * high:.0f}':>9}  {'PASS' if inside else 'FAIL'}  "
            print(cells + f"{100 * covered['percentile']:10.1f} {frames:>19}", flush=True)
    print(f"{failed} of {len(BANDS) * len(SIZES)} rows outside their band")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
