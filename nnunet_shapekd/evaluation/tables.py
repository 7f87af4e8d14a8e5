"""An evaluation as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nnunet_shapekd.evaluation.evaluate import DISTANCES, METRICS, Evaluation, summarise

NAMES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95": "HD95", "hd": "HD", "assd": "ASSD"}


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The tables that ``shapekd evaluate`` prints."""
    summary = summarise(evaluation)
    unit = evaluation.distance_unit
    yield f"{evaluation.name}: {summary['n_cases']} cases of {summary['n_patients']} patients"
    yield f"Mean ± standard deviation; Dice, IoU and NSD (at {evaluation.tolerance:g} {unit}) in %, distances in {unit}"
    yield ""
    table = [["", *(NAMES[metric] for metric in METRICS), "n"]]
    for name, found in summary["metrics"].items():
        cells = [_mean_sd(found[evaluation.header(m)], 1 if m in DISTANCES else 100) for m in METRICS]
        table.append([name, *cells, str(found["dice"]["n"])])
    yield from aligned(table)
    yield ""
    yield from _empty_masks(summary["empty_masks"])
    table = [["Plausibility (of the reference)", "extra components", "holes", "open rings / slices"]]
    for name, found in summary["plausibility"].items():
        cells = [f"{found[key]} ({found[f'reference_{key}']})" for key in ("extra_components", "holes")]
        rings = "–"
        if "ring_slices" in found:
            own, reference = (f"{found[f'{p}open_ring_slices']}/{found[f'{p}ring_slices']}" for p in ("", "reference_"))
            rings = f"{own} ({reference})"
        table.append([name, *cells, rings])
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
        means = [f"{row[key]:.1f}" for key in ("mean_reference", "mean_prediction", "bias")]
        r = "–" if row["pearson_r"] is None else f"{row['pearson_r']:.2f}"
        name = f"{row['index']} ({row['unit']})"
        table.append([name, str(row["n"]), *means, limits, f"{row['mean_absolute_error']:.1f}", r])
    yield from aligned(table)
