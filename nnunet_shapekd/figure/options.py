"""What ``shapekd figure`` is told besides case, dataset, configuration and fold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureOptions:
    """Which networks are shown, and what of the case.

    Attributes:
        trainer: the student's.
        plans: of all networks.
        baseline: the stock trainer to compare with.
        checkpoint: of student and baseline; the teacher's is the finished one that the student learned from.
        case_dataset: id or name of the dataset that holds the case, with the same channels and labels; by default the
            networks'.
        slice_number: from 1, in the preprocessed case, along the axis of the largest spacing; by default that of the
            slice with the most foreground, or the middle one.
        channel: of the image, from 0, to show; by default a picture of three colours in colour, else the first.
    """

    trainer: str = "nnUNetTrainerShapeKD"
    plans: str = "nnUNetPlans"
    baseline: str = "nnUNetTrainer"
    checkpoint: str = "checkpoint_final.pth"
    case_dataset: str | None = None
    slice_number: int | None = None
    channel: int | None = None
