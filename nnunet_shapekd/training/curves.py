"""Training curves nnU-Net's ``progress.png`` does not draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from nnunet_shapekd.drawing import COLOURS, drawing, wrapped


def plot_distillation(log: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw segmentation and distillation loss over the epochs.

    Args:
        log: nnU-Net's log with ``train_losses`` and ``val_losses`` (segmentation part) and ``distillation_losses``
            (what is added to it), one number an epoch each.
        path: the PNG to write.
    """
    # nnU-Net's own plot (seaborn, 2.8) has just changed matplotlib's settings for the whole process
    with style.context("default"):
        fig = Figure(figsize=(8, 5), layout="constrained")
        ax = fig.subplots()
        right = ax.twinx()
        for key, axis, line, label in (
            ("train_losses", ax, "b-", "segmentation loss, training"),
            ("val_losses", ax, "r-", "segmentation loss, validation"),
            ("distillation_losses", right, "g-", "distillation loss, training (right)"),
        ):
            axis.plot(range(len(log[key])), log[key], line, label=label)
        ax.set(xlabel="epoch", ylabel="segmentation loss")
        right.set(ylabel="distillation loss")
        right.set_ylim(bottom=0)
        fig.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
        fig.savefig(path, dpi=100)


def training_curves(logs: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Losses and pseudo Dice of runs over the epochs: a column per run, the same axes in a row.

    Args:
        logs: model -> nnU-Net's log: ``train_losses`` and ``val_losses`` (segmentation), ``mean_fg_dice``,
            ``ema_fg_dice`` and, of a student, ``distillation_losses``; what is missing is left out,
            but one curve at least must be there.
    """
    panels = {
        "segmentation loss": {"train_losses": ("training", 0), "val_losses": ("validation", 5)},
        "distillation loss": {"distillation_losses": ("training", 3)},
        "pseudo Dice": {"mean_fg_dice": ("mean of the classes", 2), "ema_fg_dice": ("moving average", 6)},
    }
    panels = {
        name: lines
        for name, lines in panels.items()
        if any(len(log.get(k, ())) for log in logs.values() for k in lines)
    }
    with drawing():
        figure = Figure(figsize=(0.9 + 3.3 * len(logs), 0.6 + 2.1 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), len(logs), sharex=True, sharey="row", squeeze=False)
        for column, (model, log) in enumerate(logs.items()):
            axes[0][column].set_title(wrapped(model, 34), fontweight="bold")
            axes[-1][column].set_xlabel("epoch")
            for ax, (panel, lines) in zip(axes[:, column], panels.items(), strict=True):
                for key, (label, colour) in lines.items():
                    if len(log.get(key, ())):
                        ax.plot(range(len(log[key])), log[key], color=COLOURS[colour], label=label, linewidth=1.6)
                if ax.lines:
                    ax.legend(loc="best", fontsize=9)
                else:
                    ax.text(0.5, 0.5, "none", ha="center", va="center", color="#666666", transform=ax.transAxes)
                if column == 0:
                    ax.set_ylabel(panel)
                ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    return figure
