"""The table of ``shapekd cross`` as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.metrics import headlines
from nnunet_shapekd.evaluation.record import MEAN
from nnunet_shapekd.evaluation.tables import aligned, comparison_cells, comparison_head


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table that ``shapekd cross`` prints."""
    first, *others = result["models"]
    folds = list(first["weights_sha256"])
    together = "; they predict together, but for validation cases" if len(folds) > 1 else ""
    yield f"Trained on {first['dataset']}, fold{'s' * (len(folds) > 1)} {', '.join(folds)}{together}"
    for dataset in result["datasets"]:
        parts = [f"images{dataset['part']}, {dataset['n_cases']} cases", dataset["labels"], *dataset["remarks"]]
        yield from _wrapped(f"{dataset['name']} ({dataset['where']}): {'; '.join(parts)}", "  ")
    by_value, datasets = result.get("by", ()), list(dict.fromkeys(row["dataset"] for row in result["rows"]))
    width = max((len(model["name"]) for model in others), default=0)
    for metric in headlines():
        rows = [row for row in (*result["rows"], *by_value) if row["metric"] == metric.key]
        # a model's last row of a dataset, or of a value, is the mean over the classes, or the only class
        rows = list({(row["dataset"], _which(row), row["model"]): row for row in rows}.values())
        rows.sort(key=lambda row: datasets.index(row["dataset"]))
        widest = max(map(len, map(_which, rows))) if len(others) > 1 else 0
        units = " or ".join(sorted({row["distance_unit"] for row in rows}))
        model = "model" if len(others) > 1 else others[0]["name"] if others else ""
        head = comparison_head(first["name"], model, result["confidence"])
        table = [["", "cases", "patients", *(head if others else head[:1])]]
        for row in rows:
            name = f"{row['dataset']}  {_which(row):{widest}}" + (
                f"  {row['model']:{width}}" if len(others) > 1 else ""
            )
            cells = comparison_cells(metric, row)
            table.append([name, str(row["n_cases"]), str(row["n_patients"]), *(cells if others else cells[1:2])])
        of = f"mean over {', '.join(_judged(result))}"
        yield ""
        yield f"{metric.label(units)}, {of}; means over patients; {metric.better} is better"
        yield from aligned(table)
    yield ""
    if others:
        yield from _wrapped(
            "Intervals and p are about patients, each dataset's own: they do not tell whether another training would "
            "do as well. Holm's correction is for the rows of a metric within one dataset, not for several datasets. "
            "Below six patients there is neither."
        )
    if others and by_value:
        yield from _wrapped(by.NOTE)
    for dataset in result["datasets"]:
        for verdict in dataset["verdicts"]:
            yield from _wrapped(f"{dataset['name']}: {verdict['text']}", "  ")


def _which(row: Mapping[str, Any]) -> str:
    """Which of a dataset's cases a row is of."""
    return f"{row['column']} {row['value'] or by.UNKNOWN}" if "column" in row else row["where"]


def _judged(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["class"] for row in result["rows"] if row["class"] != MEAN))


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
