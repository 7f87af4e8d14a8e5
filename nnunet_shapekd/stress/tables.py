"""The tables of ``shapekd stress``, printed and written, and its curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.drawing import png
from nnunet_shapekd.evaluation.metrics import headlines
from nnunet_shapekd.evaluation.record import Evaluation, columns
from nnunet_shapekd.evaluation.results import write_csv, write_json
from nnunet_shapekd.evaluation.tables import aligned
from nnunet_shapekd.stress.pictures import curves
from nnunet_shapekd.stress.shifts import SHIFTS, UNSHIFTED, size_of

#: the normalisation after which nnU-Net's training and the sizes speak of the same intensities
Z_SCORE = "ZScoreNormalization"


def write_tables(
    evaluations: Mapping[tuple[str, str, int], Evaluation],
    of_patients: Mapping[tuple[str, str, int], Mapping[str, np.ndarray]],
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write stress.csv, .json and .md, and the curves.

    Args:
        evaluations: of each model, shift and severity.
        of_patients: likewise, metric -> one value a patient.
        result: what ``stress.json`` holds.
        folder: to write into.
    """
    first, marked = next(iter(evaluations.values())), is_marked(result["normalisation"])
    header = ("model", "shift", "severity", "value", "in_training", *(first.header(key) for key in columns()))
    rows = []
    for (name, shift, severity), evaluation in evaluations.items():
        what = (name, shift, severity, size_of(shift, severity), in_training(shift, severity, marked))
        rows += [(*what, *(row[key] for key in columns())) for row in evaluation.rows]
    write_csv(folder / "stress.csv", header, rows)
    write_json(folder / "stress.json", result)
    page = [*result["remarks"], "```", *lines(result), "```", ""]
    (folder / "stress.md").write_text("\n".join(page), encoding="utf-8")
    names, kinds, levels = _axes(result)
    for metric in headlines():
        values = {
            kind: {
                name: {n: metric.factor * of_patients[name, kind if n else UNSHIFTED, n][metric.key] for n in levels}
                for name in names
            }
            for kind in kinds
        }
        figure = curves(values, metric.label(result["distance_unit"]), result["n_patients"], marked)
        (folder / f"{metric.key}.png").write_bytes(png(figure))


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The tables that ``shapekd stress`` prints."""
    of = {(row["model"], row["shift"], row["severity"]): row for row in result["means"]}
    names, kinds, levels = _axes(result)
    marked = is_marked(result["normalisation"])
    judged = f"{result['n_cases']} cases of {result['n_patients']} patients"
    yield f"{judged}; mean over {', '.join(result['classes'])}, then over patients, by severity."
    if result["n_invented"]:
        each = ", ".join(f"{count} by {name}" for name, count in result["invented"].items())
        yield f"Without {result['n_invented']} structures that are not there and were predicted at some step: {each}."
    known = "nnU-Net trains with shifts up to severity 1 where there is a *, and with no others"
    yield f"0 is the image itself; {known}." if marked else "0 is the image itself."
    for metric in headlines():
        table = [["", *map(str, levels)]]
        for kind in kinds:
            mark = "*" if marked and SHIFTS[kind].trained else " "
            for name in names:
                found = [of[name, kind if n else UNSHIFTED, n][metric.key] for n in levels]
                cells = ["–" if value is None else f"{metric.factor * value:.1f}" for value in found]
                table.append([f"{kind:14} {mark}  {name}", *cells])
        yield ""
        yield f"{metric.label(result['distance_unit'])}, {metric.better} is better"
        yield from aligned(table)


def is_marked(schemes: list[str]) -> bool:
    """Whether it is shown how strong nnU-Net's training makes a shift: sizes compare for one normalisation alone."""
    return schemes == [Z_SCORE]


def in_training(shift: str, severity: int, marked: bool) -> str:
    """Whether nnU-Net trains with a shift of this severity; nothing where sizes do not compare."""
    if severity == 0:
        return "yes"
    if SHIFTS[shift].trained is None:
        return "no"
    return ("yes" if severity == 1 else "no") if marked else ""


def _axes(result: Mapping[str, Any]) -> tuple[list[str], list[str], list[int]]:
    """Models, shifts, and severities with 0."""
    names = [model["name"] for model in result["models"]]
    kinds = [kind for kind in dict.fromkeys(row["shift"] for row in result["means"]) if kind != UNSHIFTED]
    return names, kinds, sorted({row["severity"] for row in result["means"]})
