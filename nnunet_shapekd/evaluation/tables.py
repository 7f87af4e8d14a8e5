"""Evaluations and comparisons as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.metrics import METRICS, PERCENT, Metric, empty_rule, headlines
from nnunet_shapekd.evaluation.plausibility import COUNTS
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import summarise


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The tables that ``shapekd evaluate`` prints."""
    summary = summarise(evaluation)
    unit = evaluation.distance_unit
    n_cases, n_patients = summary["n_cases"], summary["n_patients"]
    yield f"{evaluation.name}: {n_cases} cases" + (f" of {n_patients} patients" if n_patients < n_cases else "")
    if n_unknown := evaluation.unknown_patients:
        yield (
            f"Whose {n_unknown} of them are is not known, and each counts as a patient of its own: say it with "
            "--patients or --pattern where patients have several."
        )
    at = f" (at {evaluation.tolerance:g} {unit})"
    *fractions, last = (one.name + at * one.at_tolerance for one in METRICS.values() if one.unit == PERCENT)
    yield f"Mean ± standard deviation; {', '.join(fractions)} and {last} in %, distances in {unit}"
    yield ""
    table = [["", *(metric.name for metric in METRICS.values()), "n"]]
    for name, found in summary["metrics"].items():
        cells = []
        for key, metric in METRICS.items():
            mean, sd = (found[evaluation.header(key)][what] for what in ("mean", "sd"))
            cells.append(shown(mean, metric.factor) + ("" if sd is None else f" ± {shown(sd, metric.factor)}"))
        table.append([name, *cells, str(found["dice"]["n"])])
    yield from aligned(table)
    yield ""
    yield from _empty_masks(summary["empty_masks"])
    rings = ["open rings / slices"] if evaluation.cardiac.get("myo") else []
    table = [["Plausibility (of the reference)", *(key.replace("_", " ") for key in COUNTS), *rings]]
    for name, found in summary["plausibility"].items():
        cells = [f"{found[key]} ({found[f'reference_{key}']})" for key in COUNTS]
        if "ring_slices" in found:
            own, reference = (f"{found[f'{p}open_ring_slices']}/{found[f'{p}ring_slices']}" for p in ("", "reference_"))
            cells.append(f"{own} ({reference})")
        table.append([name, *cells, *["–"] * (len(table[0]) - 1 - len(cells))])
    yield from aligned(table)
    if summary["cardiac_indices"]:
        yield ""
        yield from _cardiac(summary["cardiac_indices"])
    for column in evaluation.groups:
        yield ""
        yield f"By {column}: means over its cases; units as above"
        table = [["", *(metric.name for metric in METRICS.values()), "n", "patients"]]
        for part in (part for part in summary["by"] if part["column"] == column):
            for name, found in part["metrics"].items():
                means = [shown(found[evaluation.header(key)]["mean"], metric.factor) for key, metric in METRICS.items()]
                table.append(
                    [by_value(part, name, summary["by"]), *means, str(found["dice"]["n"]), str(part["n_patients"])]
                )
        yield from aligned(table)
    yield from by.remarks(evaluation)


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()


def _empty_masks(empty: dict[str, dict[str, int]]) -> Iterator[str]:
    touched = {name: counts for name, counts in empty.items() if any(counts.values())}
    if not touched:
        yield "Empty masks: none."
    for name, counts in touched.items():
        yield (
            f"Empty masks, {name}: {counts['prediction']} missed by the prediction and {counts['reference']} only "
            f"predicted ({empty_rule()}); {counts['both']} in neither (left out)."
        )
    yield ""


def _cardiac(indices: Sequence[dict[str, Any]]) -> Iterator[str]:
    table = [["Cardiac indices", "n", "reference", "prediction", "bias", "95 % limits of agreement", "MAE", "r"]]
    for row in indices:
        limits = "–" if row["limits_low"] is None else f"{row['limits_low']:.1f} to {row['limits_high']:.1f}"
        name = f"{row['index']} ({row['unit']})"
        means = [shown(row[key]) for key in ("mean_reference", "mean_prediction", "bias")]
        rest = [limits, shown(row["mean_absolute_error"]), shown(row["pearson_r"], digits=2)]
        table.append([name, str(row["n"]), *means, *rest])
    yield from aligned(table)


def comparison_lines(comparison: dict[str, Any]) -> Iterator[str]:
    """The tables and verdicts that ``shapekd compare`` prints."""
    baseline, models = comparison["baseline"], comparison["models"][1:]
    yield (
        f"{comparison['n_cases']} cases of {comparison['n_patients']} patients; baseline {baseline}; "
        "differences are model - baseline, means over patients"
    )
    several = len(models) > 1
    for key, metric in METRICS.items():
        label = metric.label(comparison["distance_unit"], comparison["tolerance"])
        yield ""
        yield f"{label}, {metric.better} is better"
        yield from _rows_of(metric, comparison["rows"], comparison)
        differences = [one for one in comparison.get("patient_differences", ()) if one["metric"] == key]
        for model, name in dict.fromkeys((one["model"], one["class"]) for one in differences):
            of_row = [one for one in differences if (one["model"], one["class"]) == (model, name)]
            each = ", ".join(f"{one['patient']} {signed(metric.factor * one['difference'])}" for one in of_row)
            yield f"  {f'{model}, ' if several else ''}{name}, difference of each patient: {each}"
    rows = comparison.get("by", ())
    for column, metric in product(dict.fromkeys(row["column"] for row in rows), headlines() if rows else ()):
        yield ""
        yield f"By {column}: {metric.label(comparison['distance_unit'])}, {metric.better} is better"
        yield from _rows_of(metric, [row for row in rows if row["column"] == column], comparison)
    yield ""
    # undefined is undefined in all metrics: said once
    for model, name, note in dict.fromkeys((row["model"], row["class"], row["note"]) for row in comparison["rows"]):
        if note:
            yield f"{f'{model}, ' if several else ''}{name}: {note}"
    for paragraph in (*comparison["notes"], "", *(one["text"] for one in comparison["verdicts"])):
        yield from textwrap.wrap(paragraph, 120, break_long_words=False, break_on_hyphens=False) or [""]


def _rows_of(metric: Metric, rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any]) -> Iterator[str]:
    """Those rows of a metric as a table, named by what differs: value, model, class."""
    models = comparison["models"][1:]
    model, width = ("model", max(map(len, models))) if len(models) > 1 else (models[0], 0)
    head = comparison_head(comparison["baseline"], model, comparison["confidence"])
    table = [["", *head, "better/equal/worse", "patients"]]
    for row in (row for row in rows if row["metric"] == metric.key):
        name = f"{row['model']:{width}}  {row['class']}" if width else row["class"]
        counts = f"{row['wins']}/{row['ties']}/{row['losses']}"
        table.append([by_value(row, name, rows), *comparison_cells(metric, row), counts, str(row["n_patients"])])
    yield from aligned(table)


def by_value(row: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A row's name, after its value where the rows are of values."""
    if "value" not in row:
        return name
    values = {of["value"] or by.UNKNOWN for of in rows if of["column"] == row["column"]}
    return f"{row['value'] or by.UNKNOWN:{max(map(len, values))}}  {name}"


def comparison_head(baseline: str, model: str, confidence: float) -> list[str]:
    """What stands above :func:`comparison_cells`."""
    return [baseline, model, "difference", f"{100 * confidence:g} % interval", "p", "p (Holm)"]


def comparison_cells(metric: Metric, row: Mapping[str, Any]) -> list[str]:
    """A comparison's row: both means, difference, interval, p and corrected p; a dash for what is undefined."""
    ends = [signed(metric.factor * row[key]) for key in ("low", "high") if row[key] is not None]
    return [
        *(shown(row[key], metric.factor, 2) for key in ("baseline_mean", "model_mean")),
        "–" if row["difference"] is None else signed(metric.factor * row["difference"]),
        " to ".join(ends) or "–",
        *("–" if row[key] is None else p_text(row[key]).removeprefix("= ") for key in ("p", "p_holm")),
    ]


def shown(value: float | None, factor: float = 1, digits: int = 1) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"


def signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # no -0.00


def p_text(p: float) -> str:
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.4f}" if round(p, 3) == 0.05 else f"= {p:.3f}"  # on which side of 0.05 it is must be seen
