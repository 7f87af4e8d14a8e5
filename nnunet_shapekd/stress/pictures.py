"""The pictures of ``shapekd stress``: a metric against severity, and what each shift does to an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_shapekd.across.checks import Subject
from nnunet_shapekd.drawing import COLOURS, LINE_STYLES, drawing, wrapped
from nnunet_shapekd.evaluation.plausibility import cut_axis
from nnunet_shapekd.stress.cases import Changed, reference_of, scene_of
from nnunet_shapekd.stress.image_files import read_image
from nnunet_shapekd.stress.shifts import SHIFTS, shifted, size_of

#: patients' values between which the band lies, in percent of the patients
BAND = (25, 75)
_COLUMNS = 4
# yellow is not seen on white
_LINES = tuple(colour for colour in COLOURS[::-1] if colour != "#F0E442")


def curves(
    values: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], label: str, n_patients: int, marked: bool
) -> Figure:
    """A small plot a shift: a metric against severity, a line a model.

    Args:
        values: shift -> model -> severity -> one value a patient.
        label: of the metric, with the unit.
        n_patients: said below.
        marked: draw how far nnU-Net's training goes, where it knows the shift.
    """
    models = list(next(iter(values.values())))
    columns = min(_COLUMNS, len(values))
    rows = math.ceil(len(values) / columns)
    with drawing():
        figure = Figure(figsize=(max(2.6 * columns, 7.8), 2.6 * rows + 0.9), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for ax in axes[len(values) :]:
            ax.axis("off")
        for ax, (name, of_models) in zip(axes, values.items(), strict=False):
            _curves(ax, name, of_models, marked)
        for ax in axes[: len(values) : columns]:
            ax.set_ylabel(label)
        handles = axes[0].get_legend_handles_labels()[0]
        names = [wrapped(model, 60) for model in models]
        figure.legend(handles, names, loc="outside upper center", ncols=min(3, len(models)))
        patients = f"{n_patients} patient{'s' * (n_patients != 1)}"
        said = f"severity, and below it the shift's size. Line: mean over {patients}; band: the middle half of them."
        if marked:
            said += (
                "\nGrey: as strong as nnU-Net trains with at most; a shift without grey is none of its augmentation."
            )
        figure.supxlabel(said, fontsize=8)
    return figure


def _curves(ax: Axes, shift: str, of_models: Mapping[str, Mapping[int, Sequence[float]]], marked: bool) -> None:
    kind = SHIFTS[shift]
    severities = sorted({severity for of_model in of_models.values() for severity in of_model})
    if marked and kind.trained is not None:
        ax.axvspan(-0.15, 1, color="#e8e8e8", linewidth=0, zorder=0)
    for i, (model, of_model) in enumerate(of_models.items()):
        colour, dashes = _LINES[i % len(_LINES)], LINE_STYLES[i % len(LINE_STYLES)]
        known = [severity for severity in severities if len(of_model.get(severity, ()))]
        low, high = np.array([np.percentile(of_model[s], BAND) for s in known]).reshape(-1, 2).T
        means = [np.mean(of_model[s]) for s in known]
        ax.fill_between(known, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(known, means, color=colour, linestyle=dashes, marker="o", markersize=4, linewidth=1.6, label=model)
    ax.set_title(f"{kind.title}\n({kind.parameter})", fontsize=9, loc="left")
    sizes = ["–" if s == 0 else f"{kind.values[s - 1]:g}" for s in severities]
    ax.set_xticks(severities, [f"{s}\n{size}" for s, size in zip(severities, sizes, strict=True)])
    ax.set_xlim(-0.15, max(severities) + 0.15)
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)


def examples(
    subject: Subject,
    steps: Sequence[tuple[str, int]],
    seed: int,
    changed: Changed,
    marked: bool,
    reader: str | None = None,
) -> Figure:
    """The slice with the most foreground, a row a shift, a column a severity.

    Args:
        subject: the case; its first image file is shown.
        steps: shift and severity, from 1.
        seed: of the patterns.
        changed: see :data:`~.cases.Changed`.
        marked: say which of them nnU-Net trains with.
        reader: nnU-Net's, of the models' plans.
    """
    image = read_image(subject.images[0], reader)
    reference = reference_of(subject, reader).reshape(image.values.shape[1:]) != 0
    picture, across = image.file.is_picture, cut_axis(image.values.shape[1:], image.spacing)
    within = tuple(axis for axis in range(3) if axis != across)
    number = int(reference.sum(within).argmax())
    low, high = np.percentile(image.values, (0.5, 99.5))

    def window(volume: np.ndarray) -> np.ndarray:
        """(channels, x, y, z) -> (rows, columns[, 3]) from 0 to 1."""
        cut = np.take(volume, number, axis=across + 1)  # (channels, first axis, second axis)
        cut = np.clip((cut - low) / max(float(high - low), 1e-6), 0, 1)
        cut = np.moveaxis(cut, 0, -1) if picture else cut.transpose(2, 1, 0)
        return cut[..., 0] if cut.shape[-1] == 1 else cut

    original = window(image.values.astype(np.float32))
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for shift, severity in steps:
        scene = scene_of(subject, image, shift, seed, 0, changed, reader)
        title = f"{severity}: {size_of(shift, severity):g}"
        if marked and severity == 1 and SHIFTS[shift].trained:
            title += " (as in training)"
        result = window(shifted(image.values, shift, severity, scene))
        rows.setdefault(shift, [("the image", original)]).append((title, result))

    aspect = 1.0 if picture else image.spacing[within[1]] / image.spacing[within[0]]  # a pixel's height over its width
    height, width = original.shape[:2]
    n_columns = max(map(len, rows.values()))
    panel = 1.7, float(np.clip(1.7 * aspect * height / width, 0.8, 3)) + 0.25
    with drawing():
        figure = Figure(figsize=(panel[0] * n_columns, panel[1] * len(rows) + 0.4), layout="constrained")
        for line, (shift, row) in zip(figure.subplots(len(rows), n_columns, squeeze=False), rows.items(), strict=True):
            for ax, (title, shown) in zip(line, row, strict=True):
                ax.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
                ax.set_title(title, fontsize=7.5, pad=2)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.spines[:].set_visible(False)
            line[0].set_ylabel(wrapped(SHIFTS[shift].title, 16), fontsize=8)
        caption = f"{subject.case}; severity and size; brightness as in the image itself, nnU-Net normalises each anew"
        figure.supxlabel(caption, fontsize=7.5)
    return figure
