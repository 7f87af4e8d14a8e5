"""The report's tables: numbers as a reader wants them, each with what its column sorts by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

from nnunet_shapekd.evaluation.record import HIGHER_IS_BETTER, MEAN, METRICS
from nnunet_shapekd.evaluation.results import describe, mean_over_classes
from nnunet_shapekd.evaluation.tables import NAMES

if TYPE_CHECKING:
    from nnunet_shapekd.evaluation.record import Evaluation

#: fractions in files, percent for people
PERCENT = ("dice", "iou", "nsd")
EMPTY_RULE = (
    "If both masks of a class are empty, all metrics are undefined (–) and the case is left out of the class's means. "
    "If one is empty, Dice, IoU and NSD are 0 and the distances are the length of the image's diagonal, the largest "
    "there could be."
)
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


def number(value: float | None, digits: int = 0, signed: bool = False, detail: str = "") -> Cell:
    """A cell of a number; a dash for what is undefined."""
    return Cell(shown(value, digits, signed), _finite(value), detail)


def shown(value: float | None, digits: int = 0, signed: bool = False) -> str:
    """A number for a reader: a dash if undefined, a true minus."""
    value = _finite(value)
    return "–" if value is None else f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _finite(value: float | None) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def scaled(metric: str, value: float | None) -> float | None:
    """The value in the unit it is shown in."""
    return None if value is None else value * 100 if metric in PERCENT else value


def digits(metric: str) -> int:
    return 1 if metric in PERCENT else 2


def metric_label(evaluation: Evaluation, metric: str) -> str:
    """ "Dice (%)", "HD95 (mm)"."""
    name = NAMES[metric]
    if metric == "nsd":
        name += f" at {evaluation.tolerance:g} {evaluation.distance_unit}"
    return f"{name} ({'%' if metric in PERCENT else evaluation.distance_unit})"


def per_class(evaluation: Evaluation, key: str) -> dict[str, dict[str, Any]]:
    """Class -> case -> value of a column."""
    table: dict[str, dict[str, Any]] = {name: {} for name in evaluation.classes}
    for row in evaluation.rows:
        table[row["class"]][row["case"]] = row[key]
    return table


def metrics_table(evaluation: Evaluation) -> Table:
    """Rows: classes; columns: metrics; a cell: mean ± sd over the cases, median and n below."""
    columns = [per_class(evaluation, metric) for metric in METRICS]
    rows = [
        [text(name), *(_spread(m, column[name].values()) for m, column in zip(METRICS, columns, strict=True))]
        for name in evaluation.classes
    ]
    foot = [[text("mean of the classes"), *(_spread(m, mean_over_classes(evaluation, m).values()) for m in METRICS)]]
    headings = [metric_label(evaluation, m) for m in METRICS]
    return Table(evaluation.name, ["class", *headings], rows, foot if len(rows) > 1 else [])


def _spread(metric: str, values: Iterable[float]) -> Cell:
    found = describe(list(values))
    if not found["n"]:
        return Cell("–", None, "n 0")
    mean, sd, median = (scaled(metric, found[key]) for key in ("mean", "sd", "median"))
    places = digits(metric)
    return Cell(f"{shown(mean, places)} ± {shown(sd, places)}", mean, f"median {shown(median, places)}, n {found['n']}")


def empty_table(evaluations: Sequence[Evaluation]) -> Table:
    """How many cases of each class the rule for empty masks touched."""
    kinds = {"both": "both empty", "prediction": "prediction empty (missed)", "reference": "reference empty (invented)"}
    rows = []
    for evaluation in evaluations:
        for name, of_case in per_class(evaluation, "empty").items():
            counts = [sum(empty == kind for empty in of_case.values()) for kind in kinds]
            if any(counts):
                rows.append([text(evaluation.name), text(name), *map(number, counts), number(len(of_case))])
    return Table("Cases the rule for empty masks touched", ["model", "class", *kinds.values(), "cases"], rows)


def plausibility_table(evaluations: Sequence[Evaluation]) -> Table:
    """Loose pieces, holes and open rings of every model's class, and of the reference's."""
    columns = ["model", "class", "extra components", "in the reference", "holes", "in the reference"]
    keys = ["extra_components", "reference_extra_components", "holes", "reference_holes"]
    with_rings = any(math.isfinite(row["ring_slices"]) for e in evaluations for row in e.rows)
    rows = []
    for evaluation in evaluations:
        for name in evaluation.classes:
            of_class = [row for row in evaluation.rows if row["class"] == name]
            cells = [text(evaluation.name), text(name), *(_total(row[key] for row in of_class) for key in keys)]
            if with_rings:
                for prefix in ("", "reference_"):
                    pairs = [(row[f"{prefix}open_ring_slices"], row[f"{prefix}ring_slices"]) for row in of_class]
                    n_open, n = (sum(v for v in column if math.isfinite(v)) for column in zip(*pairs, strict=True))
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
    confidence = f"{100 * comparison['confidence']:g} %"
    columns = [
        "model",
        "class",
        "baseline’s mean",
        "model’s mean",
        "difference",
        f"{confidence} interval",
        "p",
        "p (Holm)",
        "better – equal – worse",
        "patients (cases)",
        "note",
    ]
    tables = {}
    for metric in METRICS:
        rows = []
        for row in comparison["rows"]:
            if row["metric"] != metric:
                continue
            mean, of_model, difference, low, high = (
                scaled(metric, row[key]) for key in ("baseline_mean", "model_mean", "difference", "low", "high")
            )
            places = digits(metric)
            interval = (
                "–"
                if _finite(low) is None or _finite(high) is None
                else (f"{shown(low, 2, True)} to {shown(high, 2, True)}")
            )
            rows.append(
                [
                    text(row["model"]),
                    text(_class(row["class"])),
                    number(mean, places),
                    number(of_model, places),
                    number(difference, 2, signed=True),
                    Cell(interval, _finite(low)),
                    _p(row["p"]),
                    _p(row["p_holm"]),
                    Cell(f"{shown(row['wins'])} – {shown(row['ties'])} – {shown(row['losses'])}", _finite(row["wins"])),
                    Cell(f"{shown(row['n_patients'])} ({shown(row['n_cases'])})", _finite(row["n_patients"])),
                    text(row["note"]),
                ]
            )
        if rows:
            # a column that says one thing in every row is none
            kept = [len(comparison["models"]) > 2, *[True] * (len(columns) - 2), any(row[-1].text for row in rows)]
            rows = [list(compress(row, kept)) for row in rows]
            better = "higher" if HIGHER_IS_BETTER[metric] else "lower"
            table = Table(
                f"{metric_label(evaluation, metric)}: {better} is better", list(compress(columns, kept)), rows
            )
            tables[metric] = table, patients_table(comparison, metric)
    return tables


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
            Cell(
                "–"
                if _finite(row["limits_low"]) is None or _finite(row["limits_high"]) is None
                else f"{shown(row['limits_low'], 1, True)} to {shown(row['limits_high'], 1, True)}",
                _finite(row["limits_low"]),
            ),
            number(row["mean_absolute_error"], 1),
            number(row["pearson_r"], 3),
        ]
        for row in rows
    ]
    return Table(name, columns, body)


def patients_table(comparison: Mapping[str, Any], metric: str) -> Table | None:
    """The patients' differences, a column each: listed where there are too few patients for statistics."""
    found = [entry for entry in comparison.get("patient_differences") or () if entry["metric"] == metric]
    patients = list(dict.fromkeys(entry["patient"] for entry in found))
    of_row: dict[tuple[str, str], dict[str, float]] = {}
    for entry in found:
        of_row.setdefault((entry["model"], entry["class"]), {})[entry["patient"]] = entry["difference"]
    rows = [
        [text(model), text(_class(name)), *(number(scaled(metric, of.get(p)), 2, signed=True) for p in patients)]
        for (model, name), of in of_row.items()
    ]
    return Table("Difference of each patient", ["model", "class", *patients], rows) if rows else None


def _class(name: str) -> str:
    """compare's name of the mean over classes, said in full."""
    return "mean of the classes" if name == MEAN else name
