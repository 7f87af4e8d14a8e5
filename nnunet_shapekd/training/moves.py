"""The mixin without a teacher: the trained network sees the structures' intensities move."""

from __future__ import annotations

import torch

from nnunet_shapekd.method.intensity_moves import MoveRanges, apply_moves, draw_moves
from nnunet_shapekd.training.base import OnClassMeans
from nnunet_shapekd.training.settings import SHARE, WEIGHT, Setting


class MeanJitter(OnClassMeans):
    """Mixin that makes a trainer whose network sees class-mean jitter; the rest is nnU-Net's own.

    Before or after ``ShapeKD`` in a class's bases it changes what the student sees; the teacher is asked about the
    sample as it was. What it gains and costs is in docs/evidence.md.
    """

    #: a mean moves by up to so many standard deviations of the sample
    mean_jitter: float = 2.0
    #: of the samples, 0 to 1
    mean_jitter_share: float = 0.15
    #: of the random numbers, on the training device; ``None``: torch's own
    jitter_generator: torch.Generator | None = None

    @classmethod
    def known_settings(cls) -> dict[str, Setting]:
        return {**super().known_settings(), "mean_jitter": WEIGHT, "mean_jitter_share": SHARE}

    def student_input(self, image: torch.Tensor, classes: torch.Tensor, num_classes: int) -> torch.Tensor:
        image = super().student_input(image, classes, num_classes)
        if self.classes.ignored is not None:  # ignored voxels stay as they are, like the background
            classes = classes.where(classes != self.classes.ignored, 0)
        spacing = self.configuration_manager.spacing[-(image.ndim - 2) :]
        ranges = MoveRanges(
            share=self.settings["mean_jitter_share"],
            location=self.settings["mean_jitter"],
            texture=0.0,
            own=1.0,
            background=0.0,
        )
        moves = draw_moves(image.shape, num_classes, ranges, image.device, self.jitter_generator)
        return apply_moves(image, classes, num_classes, moves, [step < 2 * min(spacing) for step in spacing])
