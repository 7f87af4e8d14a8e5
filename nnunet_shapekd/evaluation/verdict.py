"""A comparison in words: what may be concluded from it, and what a reader of its numbers must know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.metrics import empty_rule
from nnunet_shapekd.evaluation.record import MEAN, Evaluation
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS
from nnunet_shapekd.evaluation.tables import p_text, signed


def is_teacher(evaluation: Evaluation) -> bool:
    """Whether predictions lie in a folder of nnU-Net's that a MeanImage trainer made (by its name)."""
    return any(re.fullmatch(r"nnUNetTrainer\w*MeanImage\w*__.+", part) for part in evaluation.prediction.parts)


def verdict(
    row: dict[str, Any],
    baseline: str,
    confidence: float,
    teachers: Sequence[str] = (),
    invented: tuple[int, int] = (0, 0),
) -> str:
    """One sentence on a row of Dice that claims no more than interval and corrected p both carry.

    Args:
        row: of :func:`compare_evaluations`.
        baseline: the baseline's name.
        confidence: of the row's interval.
        teachers: models that saw the references, of which nothing is concluded.
        invented: masks that only the baseline, and only the model has where the reference has none: undefined for the
            other one, so not in the row. The better of the two is not called better if it has any.
    """
    if seen := [name for name in (row["model"], baseline) if name in teachers]:
        return (
            f"Nothing follows from comparing {row['model']} with {baseline}: {' and '.join(seen)} "
            f"{'is a teacher' if len(seen) == 1 else 'are teachers'}, whose input is made from the reference."
        )
    model, n = row["model"], row["n_patients"]
    what = "mean Dice" if row["class"] == MEAN else f"Dice of {row['class']}"
    patients = f"{n} patient{'' if n == 1 else 's'}"
    if n == 0:
        return f"{model} and {baseline} cannot be compared: the {what} is undefined in every case."
    alone = [f"{count} by {name}" for count, name in zip(invented, (baseline, model), strict=True) if count]
    uncounted = f"; masks of structures that are not there are left out: {' and '.join(alone)}" if alone else ""
    points = f"{signed(100 * row['difference'])} percentage points"
    if row["p"] is None:
        return (
            f"{model} against {baseline}: {points} of {what} on {patients}, too few for an interval or a test "
            f"(at least {MIN_PATIENTS} are needed), so no difference is shown{uncounted}."
        )
    if row["ties"] == n:
        return f"{model} and {baseline} have the same {what} in each of these {patients}{uncounted}."
    low, high = 100 * row["low"], 100 * row["high"]
    interval = f"{100 * confidence:g} % interval {signed(low)} to {signed(high)}"
    numbers = f"{points} ({interval}, corrected p {p_text(row['p_holm'])})"
    excludes, rejects = low > 0 or high < 0, row["p_holm"] < _level(confidence)
    if excludes and rejects and invented[row["difference"] > 0]:
        winner = model if row["difference"] > 0 else baseline
        return (
            f"No conclusion on {what} from {model} against {baseline} on these {patients}: {numbers}, but this leaves "
            f"out masks of structures that are not there, invented {' and '.join(alone)}, which count against {winner}."
        )
    if excludes and rejects:
        direction = "higher" if row["difference"] > 0 else "lower"
        return (
            f"{model} has a {direction} {what} than {baseline} on these {patients}: {numbers}; this is about these two "
            f"trained models, since one training of each says nothing about another seed{uncounted}."
        )
    if excludes:
        why = "the interval excludes 0, but the corrected test does not reject, and a difference needs both"
    elif rejects:
        why = "the corrected test rejects, but the interval contains 0, and a difference needs both"
    else:
        why = f"anything from {-low:.2f} points worse to {high:.2f} points better remains possible"
    shown = f"No difference in {what} is shown between {model} and {baseline} on these {patients}"
    return f"{shown}: {numbers}; {why}{uncounted}."


def notes(evaluations: Sequence[Evaluation], comparison: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    n_cases, n_patients = comparison["n_cases"], comparison["n_patients"]
    found = [
        "A patient is one unit: differences are means over a patient's cases, then over patients. Intervals are "
        f"bootstrap intervals over patients ({comparison['resamples']} resamples, seed {comparison['seed']}), each for "
        "its row alone; p is Wilcoxon's signed-rank p on patient means, p (Holm) is corrected for all rows of a "
        "metric. Neither tells whether another training of the same method would do as well."
    ]
    if n_patients < MIN_PATIENTS:
        found.append(
            f"{n_patients} patients are too few for an interval or a test (of five, the smallest signed-rank p is "
            "0.0625, and a bootstrap of so few values is none); their differences are listed instead."
        )
    n_tests = sum(row["metric"] == "dice" and row["p"] is not None for row in comparison["rows"])
    level = _level(comparison["confidence"])
    if n_tests and n_tests * 2.0 ** (1 - n_patients) >= level:
        found.append(
            f"With {n_patients} patients and {n_tests} rows no corrected p can fall below "
            f"{n_tests * 2.0 ** (1 - n_patients):.2g}, whatever the models do: there is no way to show a difference at "
            f"{level:.2g}."
        )
    if n_unknown := max(evaluation.unknown_patients for evaluation in evaluations):
        found.append(
            f"Whose {n_unknown} of {n_cases} cases are is not known: each counts as a patient of its own. If some "
            "belong together, say so with --patients or --pattern: otherwise the intervals are too narrow and the p "
            "too small."
        )
    if "by" in comparison:
        found += [by.NOTE, *by.remarks(evaluations[0])]
    for evaluation in evaluations:
        counts = {which: sum(row["empty"] == which for row in evaluation.rows) for which in ("prediction", "reference")}
        if any(counts.values()):
            found.append(
                f"{evaluation.name}: of {len(evaluation.rows)} masks, {counts['prediction']} missed and "
                f"{counts['reference']} invented. They count as the worst ({empty_rule()}), which can govern a mean "
                "distance; but a paired difference leaves out an invented mask that the other model rightly lacks, as "
                "there is nothing to compare it with."
            )
    return found


def _level(confidence: float) -> float:
    """The level of significance; 1 - 0.95 is a little more than 0.05 in binary."""
    return round(1 - confidence, 12)
