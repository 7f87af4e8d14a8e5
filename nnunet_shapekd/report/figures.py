"""The report's pictures of numbers: distributions with the paired cases joined, and agreement (Bland-Altman).

Every function returns a matplotlib figure, without pyplot, and leaves matplotlib's settings as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_shapekd.drawing import COLOURS, MOST_INCHES, drawing, wrapped


def distributions(
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    label: str,
    styles: Mapping[str, tuple[str, str]],
    marked: Mapping[str, Mapping[str, set[str]]] | None = None,
) -> Figure:
    """A strip per class and model; the same case's points are joined by a thin line.

    Args:
        values: class -> model -> case -> value; NaN is left out.
        label: of the value axis, with the unit.
        styles: of the classes, from :func:`class_styles`.
        marked: class -> model -> cases drawn as crosses (one mask is empty: the value comes from the rule).
    """
    marked = marked or {}
    models = list(next(iter(values.values())))
    lines_of_names = max(wrapped(model).count("\n") + 1 for model in models)
    row = 0.35 + len(models) * max(0.42, 0.19 * lines_of_names)
    with drawing():
        figure = Figure(figsize=(4.7, min(0.7 + row * len(values), MOST_INCHES)), layout="constrained")
        axes = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, of_models) in zip(axes, values.items(), strict=True):
            _strips(ax, of_models, styles[name][0], marked.get(name, {}))
            ax.set_title(wrapped(name, 60), loc="left", fontweight="bold", pad=3)
            ax.set_yticks(range(len(models)), [wrapped(model) for model in models])
            ax.set_ylim(len(models) - 0.5, -0.5)
            ax.grid(axis="x", color="#dddddd", linewidth=0.8)
            ax.set_axisbelow(True)
            ax.tick_params(length=0)
        axes[-1].set_xlabel(label)
    return figure


def _strips(
    ax: Axes, of_models: Mapping[str, Mapping[str, float]], colour: str, marked: Mapping[str, set[str]]
) -> None:
    cases = sorted({case for of_model in of_models.values() for case in of_model})
    # the golden ratio's multiples spread evenly, and a case sits at the same height of every strip
    height = {case: ((i * 0.618) % 1 - 0.5) * 0.4 for i, case in enumerate(cases)}
    x = np.array([[of_model.get(case, math.nan) for case in cases] for of_model in of_models.values()], dtype=float)
    y = np.array([[i + height[case] for case in cases] for i in range(len(of_models))]).reshape(x.shape)
    ax.plot(x, y, color="#777777", linewidth=0.6, alpha=float(np.clip(15 / max(1, len(cases)), 0.1, 0.6)))
    for i, model in enumerate(of_models):
        cross = np.array([case in marked.get(model, ()) for case in cases], dtype=bool)
        finite = x[i][np.isfinite(x[i])]
        if not finite.size:
            ax.text(0.5, i, "nothing defined", ha="center", va="center", transform=ax.get_yaxis_transform())
            continue
        low, middle, high = np.percentile(finite, (25, 50, 75))
        ax.barh(i, high - low, left=low, height=0.62, color=colour, alpha=0.3, linewidth=0)
        ax.plot([middle, middle], [i - 0.31, i + 0.31], color="black", linewidth=1.6, solid_capstyle="butt", zorder=4)
        ax.scatter(x[i][~cross], y[i][~cross], s=14, color=colour, edgecolor="#333333", linewidth=0.5, zorder=3)
        ax.scatter(x[i][cross], y[i][cross], s=26, color="#333333", marker="x", linewidth=1.2, zorder=3)


def bland_altman(rows: Mapping[str, Sequence[Mapping]], agreement: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Difference against mean of prediction and reference, a row per model: LV EF, and LV EDV and ESV beside it.

    Args:
        rows: model -> ``cardiac.indices``.
        agreement: model -> ``cardiac.agreement`` of them: bias and limits.
    """
    present = {row["index"]: row["unit"] for of_model in rows.values() for row in of_model}
    indices = [index for index in ("LV EF", "LV EDV", "LV ESV") if index in present] or list(present)[:3]
    with drawing():
        figure = Figure(figsize=(3.1 * len(indices) + 1.2, 2.7 * len(rows) + 0.3), layout="constrained")
        axes = figure.subplots(
            len(rows),
            len(indices),
            sharey="col",
            sharex="col",
            squeeze=False,
            width_ratios=[1.5, *[1] * (len(indices) - 1)],
        )
        for line, (model, of_model) in zip(axes, rows.items(), strict=True):
            summary = {row["index"]: row for row in agreement[model]}
            for ax, index in zip(line, indices, strict=True):
                _agreement(ax, [row for row in of_model if row["index"] == index], summary.get(index, {}))
                if ax in axes[0]:
                    ax.set_title(index, fontweight="bold")
                if ax in axes[-1]:
                    ax.set_xlabel(f"mean of both ({present[index]})")
            for ax, index in zip(line[1:], indices[1:], strict=True):
                ax.set_ylabel(present[index])
            line[0].set_ylabel(f"{wrapped(model, 24)}\nprediction − reference ({present[indices[0]]})")
    return figure


def _agreement(ax: Axes, rows: Sequence[Mapping], summary: Mapping) -> None:
    reference, prediction = (np.array([row[key] for row in rows], dtype=float) for key in ("reference", "prediction"))
    ax.axhline(0, color="#999999", linewidth=0.8)
    ax.scatter((reference + prediction) / 2, prediction - reference, s=18, color=COLOURS[-1], alpha=0.7, linewidth=0)
    for key, dashes in (("bias", "solid"), ("limits_low", "dashed"), ("limits_high", "dashed")):
        value = summary.get(key)
        if value is not None and math.isfinite(value):
            ax.axhline(value, color=COLOURS[5], linestyle=dashes, linewidth=1.2)
            ax.annotate(
                f"{value:+.1f}".replace("-", "−"),
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(2, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color="#994000",
            )
    ax.margins(0.1)
