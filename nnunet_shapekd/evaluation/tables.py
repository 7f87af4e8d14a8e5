"""Evaluations and comparisons as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from nnunet_shapekd.evaluation.record import DISTANCES, HIGHER_IS_BETTER, METRICS, Evaluation
from nnunet_shapekd.evaluation.results import summarise

NAMES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95": "HD95", "hd": "HD", "assd": "ASSD"}


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The tables that ``shapekd evaluate`` prints."""
    summary = summarise(evaluation)
    unit = evaluation.distance_unit
    n_cases, n_patients = summary["n_cases"], summary["n_patients"]
    yield f"{evaluation.name}: {n_cases} cases" + (f" of {n_patients} patients" if n_patients < n_cases else "")
    yield f"Mean ± standard deviation; Dice, IoU and NSD (at {evaluation.tolerance:g} {unit}) in %, distances in {unit}"
    yield ""
    table = [["", *(NAMES[metric] for metric in METRICS), "n"]]
    for name, found in summary["metrics"].items():
        cells = [_mean_sd(found[evaluation.header(m)], 1 if m in DISTANCES else 100) for m in METRICS]
        table.append([name, *cells, str(found["dice"]["n"])])
    yield from aligned(table)
    yield ""
    yield from _empty_masks(summary["empty_masks"])
    rings = ["open rings / slices"] if evaluation.cardiac.get("myo") else []
    table = [["Plausibility (of the reference)", "extra components", "holes", *rings]]
    for name, found in summary["plausibility"].items():
        cells = [f"{found[key]} ({found[f'reference_{key}']})" for key in ("extra_components", "holes")]
        if "ring_slices" in found:
            own, reference = (f"{found[f'{p}open_ring_slices']}/{found[f'{p}ring_slices']}" for p in ("", "reference_"))
            cells.append(f"{own} ({reference})")
        table.append([name, *cells, *["–"] * (len(table[0]) - 1 - len(cells))])
    yield from aligned(table)
    if summary["cardiac_indices"]:
        yield ""
        yield from _cardiac(summary["cardiac_indices"])


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()


def _mean_sd(found: dict[str, Any], factor: float) -> str:
    if found["mean"] is None:
        return "–"
    sd = "" if found["sd"] is None else f" ± {factor * found['sd']:.1f}"
    return f"{factor * found['mean']:.1f}{sd}"


def _empty_masks(empty: dict[str, dict[str, int]]) -> Iterator[str]:
    touched = {name: counts for name, counts in empty.items() if any(counts.values())}
    if not touched:
        yield "Empty masks: none."
    for name, counts in touched.items():
        yield (
            f"Empty masks, {name}: {counts['prediction']} missed by the prediction and {counts['reference']} only "
            f"predicted (Dice, IoU, NSD 0; distances the image's diagonal); {counts['both']} in neither (left out)."
        )
    yield ""


def _cardiac(indices: Sequence[dict[str, Any]]) -> Iterator[str]:
    table = [["Cardiac indices", "n", "reference", "prediction", "bias", "95 % limits of agreement", "MAE", "r"]]
    for row in indices:
        limits = "–" if row["limits_low"] is None else f"{row['limits_low']:.1f} to {row['limits_high']:.1f}"
        *means, error = (
            "–" if row[key] is None else f"{row[key]:.1f}"
            for key in ("mean_reference", "mean_prediction", "bias", "mean_absolute_error")
        )
        r = "–" if row["pearson_r"] is None else f"{row['pearson_r']:.2f}"
        name = f"{row['index']} ({row['unit']})"
        table.append([name, str(row["n"]), *means, limits, error, r])
    yield from aligned(table)


def comparison_lines(comparison: dict[str, Any]) -> Iterator[str]:
    """The tables and verdicts that ``shapekd compare`` prints."""
    baseline, models = comparison["baseline"], comparison["models"][1:]
    yield (
        f"{comparison['n_cases']} cases of {comparison['n_patients']} patients; baseline {baseline}; "
        "differences are model - baseline, means over patients"
    )
    several, width = len(models) > 1, max(map(len, models))
    for metric in METRICS:
        rows = [row for row in comparison["rows"] if row["metric"] == metric]
        better = "higher" if HIGHER_IS_BETTER[metric] else "lower"
        at = f" at {comparison['tolerance']:g} {comparison['distance_unit']}" if metric == "nsd" else ""
        yield ""
        yield f"{NAMES[metric]}{at} ({comparison['distance_unit'] if metric in DISTANCES else '%'}), {better} is better"
        head = [
            baseline,
            "model" if several else models[0],
            "difference",
            f"{100 * comparison['confidence']:g} % interval",
        ]
        table = [["", *head, "p", "p (Holm)", "better/equal/worse", "patients"]]
        factor = 1 if metric in DISTANCES else 100
        for row in rows:
            means = ["–" if row[key] is None else f"{factor * row[key]:.2f}" for key in ("baseline_mean", "model_mean")]
            difference = "–" if row["difference"] is None else signed(factor * row["difference"])
            interval = "–" if row["low"] is None else f"{signed(factor * row['low'])} to {signed(factor * row['high'])}"
            counts = f"{row['wins']}/{row['ties']}/{row['losses']}"
            name = f"{row['model']:{width}}  {row['class']}" if several else row["class"]
            ps = [_p_cell(row["p"]), _p_cell(row["p_holm"])]
            table.append([name, *means, difference, interval, *ps, counts, str(row["n_patients"])])
        yield from aligned(table)
        listed = [one for one in comparison.get("patient_differences", ()) if one["metric"] == metric]
        for model, name in dict.fromkeys((one["model"], one["class"]) for one in listed):
            of_row = [one for one in listed if (one["model"], one["class"]) == (model, name)]
            each = ", ".join(f"{one['patient']} {signed(factor * one['difference'])}" for one in of_row)
            yield f"  {f'{model}, ' if several else ''}{name}, difference of each patient: {each}"
    yield ""
    # undefined is undefined in all metrics: said once
    for model, name, note in dict.fromkeys((row["model"], row["class"], row["note"]) for row in comparison["rows"]):
        if note:
            yield f"{f'{model}, ' if several else ''}{name}: {note}"
    for paragraph in (*comparison["notes"], "", *(one["text"] for one in comparison["verdicts"])):
        yield from textwrap.wrap(paragraph, 120, break_long_words=False, break_on_hyphens=False) or [""]


def signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # no -0.00


def p_text(p: float) -> str:
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.4f}" if round(p, 3) == 0.05 else f"= {p:.3f}"  # on which side of 0.05 it is must be seen


def _p_cell(p: float | None) -> str:
    return "–" if p is None else p_text(p).removeprefix("= ")
