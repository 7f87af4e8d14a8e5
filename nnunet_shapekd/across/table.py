"""The table of ``shapekd cross`` as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_shapekd.evaluation.record import DISTANCES, HIGHER_IS_BETTER, MEAN
from nnunet_shapekd.evaluation.tables import NAMES, aligned, p_text, signed


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table that ``shapekd cross`` prints."""
    first, *others = result["models"]
    folds = list(first["weights_sha256"])
    together = "; they predict together, but for validation cases" if len(folds) > 1 else ""
    yield f"Trained on {first['dataset']}, fold{'s' * (len(folds) > 1)} {', '.join(folds)}{together}"
    for dataset in result["datasets"]:
        parts = [f"images{dataset['part']}, {dataset['n_cases']} cases", dataset["labels"], *dataset["remarks"]]
        yield from _wrapped(f"{dataset['name']} ({dataset['where']}): {'; '.join(parts)}", "  ")
    width = max((len(model["name"]) for model in others), default=0)
    for metric in ("dice", "hd95"):
        rows = [row for row in result["rows"] if row["metric"] == metric]
        # a model's last row of a dataset is the mean over the classes, or the only class
        rows = list({(row["dataset"], row["model"]): row for row in rows}.values())
        factor = 1 if metric in DISTANCES else 100
        units = " or ".join(sorted({row["distance_unit"] for row in rows})) if metric in DISTANCES else "%"
        head = ["cases", "patients", first["name"]]
        if others:
            model = "model" if len(others) > 1 else others[0]["name"]
            head += [model, "difference", f"{100 * result['confidence']:g} % interval", "p", "p (Holm)"]
        table = [["", *head]]
        for row in rows:
            name = f"{row['dataset']}  {row['where']}" + (f"  {row['model']:{width}}" if len(others) > 1 else "")
            means = [row["baseline_mean"], row["model_mean"]] if others else [row["model_mean"]]
            cells = ["–" if mean is None else f"{factor * mean:.2f}" for mean in means]
            if others:
                cells.append("–" if row["difference"] is None else signed(factor * row["difference"]))
                ends = [row["low"], row["high"]]
                cells.append("–" if None in ends else " to ".join(signed(factor * end) for end in ends))
                cells += ["–" if p is None else p_text(p).removeprefix("= ") for p in (row["p"], row["p_holm"])]
            table.append([name, str(row["n_cases"]), str(row["n_patients"]), *cells])
        of = f"mean over {', '.join(_judged(result))}"
        better = "higher" if HIGHER_IS_BETTER[metric] else "lower"
        yield ""
        yield f"{NAMES[metric]} ({units}), {of}; means over patients; {better} is better"
        yield from aligned(table)
    yield ""
    if others:
        yield from _wrapped(
            "Intervals and p are about patients, each dataset's own: they do not tell whether another training would "
            "do as well. Holm's correction is for the rows of a metric within one dataset, not for several datasets. "
            "Below six patients there is neither."
        )
    for dataset in result["datasets"]:
        for verdict in dataset["verdicts"]:
            yield from _wrapped(f"{dataset['name']}: {verdict['text']}", "  ")


def _judged(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["class"] for row in result["rows"] if row["class"] != MEAN))


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
