"""``shapekd compare``: several models on the same cases, paired, with a patient as the unit.

For each model, metric and class, and for the mean over classes within a case, the difference to the baseline is taken
case by case, averaged over each patient's cases and then over patients. Its interval is a bootstrap over patients, its
p Wilcoxon's signed-rank test on the patients' means, corrected by Holm over all rows of one metric. Both are left out
below MIN_PATIENTS patients. See :mod:`~nnunet_shapekd.evaluation.statistics`.

A case whose metric is undefined in one of the two models (reference and prediction both empty) leaves both. It does so
even where the other model invented the structure; the row's note counts those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.evaluate import evaluate
from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.names import check_names, default_names
from nnunet_shapekd.evaluation.paired import COLUMNS, Statistics, correct, paired_rows, rows_by_value
from nnunet_shapekd.evaluation.prepare import prepare
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import fill, write_csv, write_json
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS
from nnunet_shapekd.evaluation.verdict import is_teacher, notes, verdict
from nnunet_shapekd.files.names import some
from nnunet_shapekd.files.output import new_folder

#: what :func:`compare_folders` writes its result into
FILE = "comparison.json"


def compare_evaluations(evaluations: Sequence[Evaluation], statistics: Statistics | None = None) -> dict[str, Any]:
    """Compare models with the first one, the baseline.

    Args:
        evaluations: two or more, of the same cases.
        statistics: by default as ``Statistics()`` says.

    Returns:
        What ``comparison.json`` holds: "reference", "baseline", "models" (baseline first), "seed", "resamples",
        "confidence", "distance_unit", "tolerance", "n_patients", "n_cases", "rows" (keys ``COLUMNS``; fractions or
        "distance_unit"; "difference" is model - baseline), "patient_differences" (of the rows of too few patients;
        only where there are such), "by" (rows of each value of a column, with "column" and "value"; only where the
        evaluations have groups), "verdicts" (one of each model) and "notes". None is undefined. With a single class
        there is no row of the mean, which would test the same twice.

    Raises:
        ValueError: if there are fewer than two, two have one name, or the evaluations are of different things (all
            differences are listed).
    """
    statistics = statistics or Statistics()
    if len(evaluations) < 2:
        raise ValueError(f"expected the evaluations of two models or more, got {len(evaluations)}")
    check_names([evaluation.name for evaluation in evaluations])
    if found := [line for other in evaluations[1:] for line in differences(evaluations[0], other)]:
        raise ValueError("The evaluations cannot be compared:" + "".join(f"\n  - {line}" for line in found))

    baseline, whose = evaluations[0], evaluations[0].patients
    n_patients = len(set(whose.values()))
    teachers = [evaluation.name for evaluation in evaluations if is_teacher(evaluation)]
    rows, listed, verdicts = [], [], []
    for metric in METRICS:
        of_metric, last = [], {}
        for row, patients, difference, invented in paired_rows(evaluations, metric, statistics):
            of_metric.append(row)
            last[row["model"]] = row, invented
            if len(patients) < MIN_PATIENTS:
                if n_patients >= MIN_PATIENTS:  # else the comparison's own notes say so, once
                    too_few = f"{len(patients)} patients are too few for an interval or a test"
                    row["note"] = "; ".join(filter(None, (row["note"], too_few)))
                key = {name: row[name] for name in ("model", "class", "metric")}
                each = zip(patients, difference.tolist(), strict=True)
                listed += [{**key, "patient": patient, "difference": value} for patient, value in each]
        correct(of_metric, teachers)
        rows += of_metric
        if metric == "dice":  # the primary outcome: of the mean over classes, or of the only class
            verdicts = [
                {"model": name, "text": verdict(row, baseline.name, statistics.confidence, teachers, invented)}
                for name, (row, invented) in last.items()
            ]

    comparison = {
        "reference": str(baseline.reference),
        "baseline": baseline.name,
        "models": [evaluation.name for evaluation in evaluations],
        **asdict(statistics),
        "distance_unit": baseline.distance_unit,
        "tolerance": baseline.tolerance,
        "n_patients": n_patients,
        "n_cases": len(whose),
        "rows": rows,
        **({"patient_differences": listed} if listed else {}),
        **({"by": rows_by_value(evaluations, statistics, teachers)} if baseline.groups else {}),
        "verdicts": verdicts,
    }
    return {**comparison, "notes": notes(evaluations, comparison)}


def differences(baseline: Evaluation, other: Evaluation) -> list[str]:
    """What keeps two evaluations from being compared."""
    found = []
    # references may lie in several places; what was judged against must be the same
    for what in ("reference", "classes", "ignore_label", "left_out", "distance_unit", "size_unit", "tolerance"):
        ours, theirs = getattr(baseline, what), getattr(other, what)
        if ours != theirs:
            found.append(f"{what.replace('_', ' ')}: {baseline.name} {ours}, {other.name} {theirs}")
    ours, theirs = baseline.patients, other.patients
    for name, alone in ((baseline.name, ours.keys() - theirs.keys()), (other.name, theirs.keys() - ours.keys())):
        if alone:
            found.append(f"{len(alone)} cases that only {name} has: {some(sorted(alone))}")
    if moved := sorted(case for case in ours.keys() & theirs.keys() if ours[case] != theirs[case]):
        found.append(f"cases of other patients in {other.name} than in {baseline.name}: {some(moved)}")
    edited, sizes = set(), {(row["case"], row["class"]): row["reference_size"] for row in baseline.rows}
    for row in other.rows:
        size = sizes.get((row["case"], row["class"]), row["reference_size"])
        if not math.isclose(row["reference_size"], size, rel_tol=1e-5):  # files keep six significant digits
            edited.add(row["case"])
    if edited:
        found.append(f"the reference was another when {other.name} was evaluated: {some(sorted(edited))}")
    return found


def compare_folders(
    reference: str | Path,
    predictions: Sequence[str | Path],
    names: Sequence[str] | None,
    out: str | Path,
    judging: Judging | None = None,
    statistics: Statistics | None = None,
) -> dict[str, Any]:
    """Evaluate all folders, compare them with the first, and write the result.

    Args:
        reference: folder of the references.
        predictions: folders of the models' predictions, the baseline's first.
        names: of the models; by default :func:`default_names`.
        out: new or empty folder, or one of an earlier comparison, which is replaced: ``comparison.json``,
            ``comparison.csv``, ``by.csv`` where columns are named, and, in a folder of each model's name, what
            ``shapekd evaluate`` writes.
        judging: see :func:`~.evaluate.evaluate_folders`.
        statistics: see :func:`compare_evaluations`, whose result is returned.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if the folders are fewer than two or not different, the names do not fit, or as the two functions
            raise it.
    """
    folders = [Path(prediction).resolve() for prediction in predictions]
    if len(folders) < 2:
        raise ValueError(f"expected two prediction folders or more, got {len(folders)}; `shapekd evaluate` judges one")
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise ValueError(f"the same prediction folder was given more than once: {', '.join(twice)}")
    if names is not None and len(names) != len(folders):
        raise ValueError(f"--names: expected {len(folders)} names, one a prediction folder, got {len(names)}")
    names = default_names([Path(prediction) for prediction in predictions]) if names is None else list(names)
    check_names(names)
    with new_folder(out, kind="comparison") as building:
        # all models' files are looked at before the first is judged
        judging, problems = judging or Judging(), []
        prepared = _each(lambda folder: prepare(reference, folder, judging), folders, problems)
        work = [] if problems else list(zip(prepared, names, strict=True))
        evaluations = _each(lambda found: evaluate(found[0], judging, found[1]), work, problems)
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))
        comparison = compare_evaluations(evaluations, statistics)
        for one in evaluations:
            (building / one.name).mkdir()
            fill(one, building / one.name)
        write_csv(building / "comparison.csv", COLUMNS, ([row[key] for key in COLUMNS] for row in comparison["rows"]))
        if "by" in comparison:
            columns = (*by.KEYS, *COLUMNS)
            write_csv(building / by.FILE, columns, ([row[key] for key in columns] for row in comparison["by"]))
        write_json(building / FILE, comparison)
    return comparison


def _each(work: Callable[[Any], Any], items: Sequence[Any], problems: list[str]) -> list[Any]:
    """What the work makes of each item; what is wrong with one joins the problems."""
    found = []
    for item in items:
        try:
            found.append(work(item))
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    return found
