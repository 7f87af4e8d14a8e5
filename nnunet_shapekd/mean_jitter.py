"""Class-mean jitter: structures whose mean intensity moves, as it does between scanners and sequences.

Not of the paper. The class-mean image drops the texture and keeps each class's mean; the jitter is its complement: the
texture stays, and in some samples every structure gets another mean, so that a network has to tell structures by more
than their usual intensity. It needs no teacher. Class-wise shifts of intensity are known from Su et al., AAAI 2023
(location-scale augmentation, arXiv 2211.02805).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
import torch.nn.functional as F

from nnunet_shapekd import __version__
from nnunet_shapekd.training import OnClassMeans

#: how often the shifts are averaged over 3 neighbours along each axis, which leaves no sharp new edges
SMOOTHING = 3


def jitter_class_means(
    image: torch.Tensor,
    classes: torch.Tensor,
    num_classes: int,
    amount: float,
    share: float,
    smooth_axes: Sequence[bool] | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Move the mean intensities of the foreground classes in some samples.

    Args:
        image: ``(b, c, x, y[, z])`` float. Never modified.
        classes: ``(b, 1, x, y[, z])`` int64, 0 to ``num_classes - 1``; 0 is the background, which never moves: it is
            many tissues.
        num_classes: see ``classes``.
        amount: a mean moves by up to so many standard deviations of its own sample's channel, either way; classes and
            channels each on their own.
        share: probability, 0 to 1, that a sample is changed at all.
        smooth_axes: along which of the axes x, y[, z] borders are softened; by default all. Thick slices want False.
        generator: of the random numbers, on the image's device; by default torch's own.

    Returns:
        Shape, dtype and device of ``image``.
    """
    b, c, *spatial = image.shape
    random = torch.rand(b, c, num_classes, device=image.device, generator=generator)
    chosen = torch.rand(b, 1, 1, device=image.device, generator=generator) < share
    deviation = image.float().flatten(2).std(-1, keepdim=True)  # (b, c, 1)
    shifts = (2 * random - 1) * amount * chosen * deviation  # (b, c, classes)
    shifts[..., 0] = 0
    moved = shifts.gather(-1, classes.flatten(2).expand(-1, c, -1)).view(b, c, *spatial)
    size = [3 if smooth else 1 for smooth in smooth_axes or [True] * len(spatial)]
    average = F.avg_pool3d if len(spatial) == 3 else F.avg_pool2d
    for _ in range(SMOOTHING):
        moved = average(moved, size, stride=1, padding=[s // 2 for s in size], count_include_pad=False)
    return image + moved.to(image.dtype)


class MeanJitter(OnClassMeans):
    """Mixin that makes a trainer whose network sees class-mean jitter; the rest is nnU-Net's own, without a teacher.

    On held-out ACDC (docs/evidence.md; three seeds) it gains 33 Dice points where the LV cavity's contrast is inverted,
    which is of the kind that it trains with, and 1 where the myocardium's is, and loses 0.7 inside after 7,500 steps;
    after 1,500 steps it gains 14 with the cavity's and loses 4 with the myocardium's and 5 inside.

    Before ``ShapeKD`` in a class's bases it changes what the teacher sees, too; after it, the student's images alone.
    """

    #: a mean moves by up to so many standard deviations of the sample
    mean_jitter: float = 2.0
    #: of the samples, 0 to 1. The default follows from docs/evidence.md: half of the samples cost accuracy
    mean_jitter_share: float = 0.15
    #: of the random numbers, on the training device; ``None``: torch's own
    jitter_generator: torch.Generator | None = None

    def initialize(self) -> None:
        if not (0 <= self.mean_jitter < inf and 0 <= self.mean_jitter_share <= 1):
            raise ValueError(
                "mean_jitter must be a finite number of at least 0 and mean_jitter_share one from 0 to 1; got "
                f"{self.mean_jitter!r} and {self.mean_jitter_share!r}"
            )
        super().initialize()

    def _prepare_training(self, split: dict[str, list[str]]) -> None:
        settings = {"mean_jitter": self.mean_jitter, "mean_jitter_share": self.mean_jitter_share}
        if self.current_epoch > 0 and self.provenance["settings"] != settings:
            raise ValueError(
                f"This training began with other settings: {self.provenance['settings']} before, {settings} now. Bring "
                f"those back to continue {self.output_folder}, or move that folder away and start anew without --c."
            )
        self.provenance = {
            "role": "student without a teacher",
            "package_version": __version__,
            "trainer": type(self).__name__,
            "settings": settings,
            **split,
        }
        self.print_to_log_file(
            f"In a share of {self.mean_jitter_share} of the samples every structure's mean intensity moves by up to "
            f"{self.mean_jitter} standard deviations."
        )

    def train_step(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        return super().train_step({**batch, "data": self._jittered(data, finest), "target": target})

    def _jittered(self, data: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """``data`` with the image's class means moved; a cascade's previous stage passes through."""
        classes = self.classes.of_target(target)
        valid = self.classes.valid(target)
        if valid is not None:  # ignored voxels stay as they are, like the background
            classes = classes.where(valid, 0)
        spacing = self.configuration_manager.spacing[-(data.ndim - 2) :]
        n = self._n_image_channels
        image = jitter_class_means(
            data[:, :n],
            classes,
            self.classes.number,
            self.mean_jitter,
            self.mean_jitter_share,
            [step < 2 * min(spacing) for step in spacing],
            self.jitter_generator,
        )
        return torch.cat((image, data[:, n:]), dim=1) if self.is_cascaded else image
