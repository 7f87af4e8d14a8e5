"""The rows of a comparison: differences of models to the first one, on the same cases, tested by patient."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnunet_shapekd.evaluation.by import parts
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import MEAN, Evaluation
from nnunet_shapekd.evaluation.statistics import (
    MIN_PATIENTS,
    bootstrap_interval,
    holm,
    patient_means,
    signed_rank_p,
    wins_ties_losses,
)

COLUMNS = (
    *("model", "class", "metric", "n_cases", "n_patients", "baseline_mean", "model_mean", "difference", "low", "high"),
    *("p", "p_holm", "wins", "ties", "losses", "note"),
)


@dataclass(frozen=True)
class Statistics:
    """How differences are tested.

    Attributes:
        seed: of the bootstrap; every row draws the same resamples, so no row depends on which others there are.
        resamples: of the bootstrap.
        confidence: of the intervals; the verdicts' level of significance is 1 - confidence.

    Raises:
        ValueError: if one is out of range.
    """

    seed: int = 0
    resamples: int = 9999
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence <= 0.99:
            # beyond, the few patients' bootstrap has no tails to cut
            raise ValueError(f"--confidence: expected 0.5 to 0.99, such as 0.95, got {self.confidence}")
        if self.resamples < 100:
            raise ValueError(f"--resamples: expected 100 or more, got {self.resamples}")
        if self.seed < 0:
            raise ValueError(f"--seed: expected 0 or more, got {self.seed}")


def paired_rows(
    evaluations: Sequence[Evaluation], metric: str, statistics: Statistics
) -> Iterator[tuple[dict[str, Any], list[str], np.ndarray, tuple[int, int]]]:
    """Of each model but the first, and each class and their mean: a row with all its numbers but "p_holm".

    Beside it its patients, their differences (patients,), and how many masks only the baseline, and only the model has
    where the reference has none.
    """
    baseline, *models = evaluations
    whose = list(baseline.patients.values())
    for model in models:
        for name, values, note, invented in _columns(baseline, model, metric):
            row = {"model": model.name, "class": name, "metric": metric, "note": note}
            yield *_row(row, values, whose, statistics), invented


def rows_by_value(
    evaluations: Sequence[Evaluation], statistics: Statistics, teachers: Collection[str]
) -> list[dict[str, Any]]:
    """The rows of each value's cases alone; their p is corrected for all rows of a metric, of all values together."""
    rows = [
        {**of, **row}
        for of, alone in parts(evaluations)
        for metric in METRICS
        for row, *_ in paired_rows(alone, metric, statistics)
    ]
    for metric in METRICS:
        correct([row for row in rows if row["metric"] == metric], teachers)
    return rows


def correct(rows: Sequence[dict[str, Any]], teachers: Collection[str]) -> None:
    """Fill in "p_holm" of rows that are tested together; nothing is concluded of teachers."""
    tested = [row for row in rows if row["p"] is not None and row["model"] not in teachers]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = float(corrected)


def _columns(
    baseline: Evaluation, model: Evaluation, metric: str
) -> Iterator[tuple[str, np.ndarray, str, tuple[int, int]]]:
    """Of each class and of the mean over classes: name, values (cases, 2) of baseline and model, note, and inventions.

    What is undefined in one is NaN in both. Cases are in the order in which the baseline's rows have them. Inventions
    are masks that only the one, and only the other has, where the reference has none.
    """
    cases, classes = list(baseline.patients), list(baseline.classes)
    tables = [evaluation.values(metric) for evaluation in (baseline, model)]
    values = np.array([[[table[name].get(case, math.nan) for case in cases] for name in classes] for table in tables])
    undefined = np.isnan(values).any(axis=0)  # (classes, cases)
    invented = (undefined & ~np.isnan(values)).sum(axis=2)  # (2, classes)
    values[:, undefined] = np.nan

    def inventors(counts: np.ndarray) -> str:
        who = [f"{n} by {e.name}" for n, e in zip(counts, (baseline, model), strict=True) if n]
        return f"; invented alone, and not counted against it: {' and '.join(who)}" if who else ""

    for j, name in enumerate(classes):
        left = int(undefined[j].sum())
        note = f"{left} of {len(cases)} cases left out: absent from the reference and from a prediction" if left else ""
        yield name, values[:, j].T, note + inventors(invented[:, j]), tuple(invented[:, j])
    if len(classes) > 1:
        n_defined = (~undefined).sum(axis=0)
        sums = np.nansum(values, axis=1)
        means = np.divide(sums, n_defined, out=np.full_like(sums, np.nan), where=n_defined > 0)
        fewer, total = int(np.sum(n_defined < len(classes))), invented.sum(axis=1)
        note = f"{fewer} of {len(cases)} cases without some class" if fewer else ""
        yield MEAN, means.T, note + inventors(total), tuple(total)


def _row(
    row: dict[str, Any], values: np.ndarray, patients: Sequence[str], statistics: Statistics
) -> tuple[dict[str, Any], list[str], np.ndarray]:
    """A row with all its numbers but "p_holm", its patients, and their differences (patients,).

    Args:
        row: "model", "class", "metric" and "note".
        values: (cases, 2), of baseline and model.
        patients: of the cases.
        statistics: of the interval.
    """
    kept = ~np.isnan(values).any(axis=1)
    names, means = patient_means(values[kept], [p for p, keep in zip(patients, kept, strict=True) if keep])
    difference = means[:, 1] - means[:, 0]
    row = {**dict.fromkeys(COLUMNS), **row, "n_cases": int(kept.sum()), "n_patients": len(names)}
    better = METRICS[row["metric"]].higher_is_better
    row["wins"], row["ties"], row["losses"] = wins_ties_losses(difference, better)
    if len(names):
        row["baseline_mean"], row["model_mean"] = means.mean(axis=0).tolist()
        row["difference"] = float(difference.mean())
    if len(names) >= MIN_PATIENTS:
        row["low"], row["high"] = bootstrap_interval(difference, **asdict(statistics))
        row["p"] = signed_rank_p(difference)
    return row, names, difference
