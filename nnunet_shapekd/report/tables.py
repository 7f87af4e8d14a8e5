"""The report's tables: numbers as a reader wants them, each with what its column sorts by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.metrics import METRICS, PERCENT, Metric
from nnunet_shapekd.evaluation.plausibility import COUNTS
from nnunet_shapekd.evaluation.record import MEAN, SIDES, Evaluation
from nnunet_shapekd.evaluation.results import describe, with_mean

MINUS = "−"  # as wide as a plus


@dataclass(frozen=True)
class Cell:
    """What a cell shows, a smaller second line, and what its column sorts by (``None``: always last)."""

    text: str
    sort: float | str | None = None
    detail: str = ""
    title: str = ""

    @property
    def is_number(self) -> bool:
        return not isinstance(self.sort, str)


@dataclass(frozen=True)
class Table:
    """A table; ``foot`` stays below when rows are sorted."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    foot: list[list[Cell]] = field(default_factory=list)


def text(value: Any) -> Cell:
    """A cell of text."""
    return Cell(str(value), str(value))


def number(value: float | None, digits: int = 0, signed: bool = False, detail: str = "", factor: int = 1) -> Cell:
    """A cell of a number; a dash for what is undefined."""
    return Cell(shown(value, digits, signed, factor), _finite(value, factor), detail)


def shown(value: float | None, digits: int = 0, signed: bool = False, factor: int = 1) -> str:
    """A number for a reader: a dash if undefined, a true minus."""
    value = _finite(value, factor)
    return "–" if value is None else f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _finite(value: float | None, factor: int = 1) -> float | None:
    return value * factor if isinstance(value, (int, float)) and math.isfinite(value) else None


def digits(metric: Metric) -> int:
    return 1 if metric.unit == PERCENT else 2


def metrics_table(evaluation: Evaluation) -> Table:
    """Rows: classes; columns: metrics; a cell: mean ± sd over the cases, median and n below."""
    columns = {metric: with_mean(evaluation, key) for key, metric in METRICS.items()}
    rows = [
        [text(_class(name)), *(_spread(metric, found[name].values()) for metric, found in columns.items())]
        for name in (*evaluation.classes, MEAN)
    ]
    headings = [metric.label(evaluation.distance_unit, evaluation.tolerance) for metric in columns]
    return Table(evaluation.name, ["class", *headings], rows[:-1], rows[-1:] if len(rows) > 2 else [])


def _spread(metric: Metric, values: Iterable[float]) -> Cell:
    found = describe(values)
    if not found["n"]:
        return Cell("–", None, "n 0")
    mean, sd, median = (shown(found[key], digits(metric), factor=metric.factor) for key in ("mean", "sd", "median"))
    return Cell(f"{mean} ± {sd}", found["mean"] * metric.factor, f"median {median}, n {found['n']}")


def empty_table(evaluations: Sequence[Evaluation]) -> Table:
    """How many cases of each class the rule for empty masks touched."""
    kinds = {"both": "both empty", "prediction": "prediction empty (missed)", "reference": "reference empty (invented)"}
    rows = []
    for evaluation in evaluations:
        for name, of_case in evaluation.values("empty").items():
            counts = [sum(empty == kind for empty in of_case.values()) for kind in kinds]
            if any(counts):
                rows.append([text(evaluation.name), text(name), *map(number, counts), number(len(of_case))])
    return Table("Cases the rule for empty masks touched", ["model", "class", *kinds.values(), "cases"], rows)


def plausibility_table(evaluations: Sequence[Evaluation]) -> Table:
    """Loose pieces, holes and open rings of every model's class, and of the reference's."""
    columns = ["model", "class"]
    for key in COUNTS:
        columns += [key.replace("_", " "), "in the reference"]
    with_rings = any(math.isfinite(row["ring_slices"]) for e in evaluations for row in e.rows)
    rows = []
    for evaluation in evaluations:
        for name in evaluation.classes:
            of_class = [row for row in evaluation.rows if row["class"] == name]
            cells = [text(evaluation.name), text(name)]
            cells += [_total(row[side + key] for row in of_class) for key in COUNTS for side in SIDES]
            for side in SIDES * with_rings:
                keys = (f"{side}open_ring_slices", f"{side}ring_slices")
                n_open, n = (sum(row[key] for row in of_class if math.isfinite(row[key])) for key in keys)
                cells.append(Cell(f"{n_open:.0f} of {n:.0f}", n_open, "slices") if n else Cell("–"))
            rows.append(cells)
    if with_rings:
        columns += ["open myocardial rings", "in the reference"]
    return Table("Sum over all cases, and in how many cases", columns, rows)


def _total(counts: Iterable[float]) -> Cell:
    counts = [c for c in counts if math.isfinite(c)]
    cases = sum(c > 0 for c in counts)
    detail = f"in {cases} case{'s' if cases != 1 else ''}" if cases else ""
    return number(sum(counts), detail=detail) if counts else Cell("–")


def comparison_tables(comparison: Mapping[str, Any], evaluation: Evaluation) -> dict[str, tuple[Table, Table | None]]:
    """Metric -> the comparison's rows of it, and the patients' differences where they are listed."""
    interval = f"{100 * comparison['confidence']:g} % interval"
    columns = [
        "model", "class", "baseline’s mean", "model’s mean", "difference", interval, "p", "p (Holm)",
        "better – equal – worse", "patients (cases)", "note",
    ]  # fmt: skip
    tables = {}
    for key, metric in METRICS.items():
        rows = [
            [
                text(row["model"]),
                text(_class(row["class"])),
                number(row["baseline_mean"], digits(metric), factor=metric.factor),
                number(row["model_mean"], digits(metric), factor=metric.factor),
                number(row["difference"], 2, signed=True, factor=metric.factor),
                _interval(row["low"], row["high"], 2, metric.factor),
                _p(row["p"]),
                _p(row["p_holm"]),
                Cell(f"{shown(row['wins'])} – {shown(row['ties'])} – {shown(row['losses'])}", _finite(row["wins"])),
                Cell(f"{shown(row['n_patients'])} ({shown(row['n_cases'])})", _finite(row["n_patients"])),
                text(row["note"]),
            ]
            for row in comparison["rows"]
            if row["metric"] == key
        ]
        if rows:
            # a column that says one thing in every row is none
            kept = [len(comparison["models"]) > 2, *[True] * (len(columns) - 2), any(row[-1].text for row in rows)]
            rows = [list(compress(row, kept)) for row in rows]
            caption = f"{metric.label(evaluation.distance_unit, evaluation.tolerance)}: {metric.better} is better"
            tables[key] = Table(caption, list(compress(columns, kept)), rows), patients_table(comparison, metric)
    return tables


def by_value_tables(comparison: Mapping[str, Any], evaluation: Evaluation) -> dict[str, tuple[Table, Table | None]]:
    """:func:`comparison_tables` of the cases of each value of a column; empty where none was named."""
    rows = [
        {**row, "class": f"{row['column']} {row['value'] or by.UNKNOWN}: {_class(row['class'])}"}
        for row in comparison.get("by", ())
    ]
    return comparison_tables({**comparison, "rows": rows, "patient_differences": []}, evaluation)


def _interval(low: float | None, high: float | None, digits: int, factor: int = 1) -> Cell:
    ends = [shown(end, digits, True, factor) for end in (low, high)]
    return Cell("–" if "–" in ends else " to ".join(ends), _finite(low, factor))


def _p(value: float | None) -> Cell:
    value = _finite(value)
    return Cell("< 0.001", value) if value is not None and value < 0.001 else number(value, 3)


def agreement_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """``cardiac.agreement`` of one model."""
    columns = [
        "index", "n", "mean, reference", "mean, prediction", "bias", "sd", "limits of agreement",
        "mean absolute error", "Pearson r",
    ]  # fmt: skip
    body = [
        [
            text(f"{row['index']} ({row['unit']})"),
            number(row["n"]),
            number(row["mean_reference"], 1),
            number(row["mean_prediction"], 1),
            number(row["bias"], 1, signed=True),
            number(row["sd"], 1),
            _interval(row["limits_low"], row["limits_high"], 1),
            number(row["mean_absolute_error"], 1),
            number(row["pearson_r"], 3),
        ]
        for row in rows
    ]
    return Table(name, columns, body)


def patients_table(comparison: Mapping[str, Any], metric: Metric) -> Table | None:
    """The patients' differences, a column each: listed where there are too few patients for statistics."""
    found = [entry for entry in comparison.get("patient_differences") or () if entry["metric"] == metric.key]
    patients = list(dict.fromkeys(entry["patient"] for entry in found))
    of_row: dict[tuple[str, str], dict[str, float]] = {}
    for entry in found:
        of_row.setdefault((entry["model"], entry["class"]), {})[entry["patient"]] = entry["difference"]
    rows = [
        [text(model), text(_class(name)), *(number(of.get(p), 2, signed=True, factor=metric.factor) for p in patients)]
        for (model, name), of in of_row.items()
    ]
    return Table("Difference of each patient", ["model", "class", *patients], rows) if rows else None


def _class(name: str) -> str:
    """compare's name of the mean over classes, said in full."""
    return "mean of the classes" if name == MEAN else name
