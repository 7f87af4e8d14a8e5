"""Training curves nnU-Net's ``progress.png`` does not draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt


def plot_distillation(log: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw segmentation and distillation loss over the epochs.

    Args:
        log: nnU-Net's log with ``train_losses`` and ``val_losses`` (segmentation part) and ``distillation_losses``
            (what is added to it), one number an epoch each.
        path: the PNG to write.
    """
    # nnU-Net's own plot (seaborn, 2.8) has just changed matplotlib's settings for the whole process
    with plt.style.context("default"):
        fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
        right = ax.twinx()
        for key, axis, style, label in (
            ("train_losses", ax, "b-", "segmentation loss, training"),
            ("val_losses", ax, "r-", "segmentation loss, validation"),
            ("distillation_losses", right, "g-", "distillation loss, training (right)"),
        ):
            axis.plot(range(len(log[key])), log[key], style, label=label)
        ax.set_xlabel("epoch")
        ax.set_ylabel("segmentation loss")
        right.set_ylabel("distillation loss")
        right.set_ylim(bottom=0)
        fig.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
        fig.savefig(path, dpi=100)
        plt.close(fig)
