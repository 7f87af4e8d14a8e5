"""The mixins without a teacher: the trained network sees intensities move."""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_shapekd.method.intensity_moves import MoveRanges, apply_moves, draw_moves
from nnunet_shapekd.training.base import OnClassMeans
from nnunet_shapekd.training.settings import SHARE, WEIGHT, Setting
from nnunet_shapekd.training.transforms import MoveIntensities, insert_moves


class IntensityMoves(OnClassMeans):
    """Mixin that makes a trainer whose network sees moved intensities; the rest is nnU-Net's own.

    In a share of the samples, every structure and the background get other intensities
    (:mod:`~nnunet_shapekd.method.intensity_moves`), before nnU-Net's noise, blur and low resolution, which belong to a
    scan. The share grows over the first epochs, in which structures are found. Before or after ``ShapeKD`` in a class's
    bases it changes what the student sees; the teacher is asked about the sample as it was. What it gains and costs is
    in docs/evidence.md.

    Attributes:
        moves_share: of the samples, 0 to 1.
        moves_ramp: share of the epochs, 0 to 1, over which ``moves_share`` grows from 0; 0 for all at once.
        moves_location, moves_texture, moves_own, moves_background: see
            :class:`~nnunet_shapekd.method.intensity_moves.MoveRanges`.
    """

    moves_share: float = MoveRanges.share
    moves_ramp: float = 0.5
    moves_location: float = MoveRanges.location
    moves_texture: float = MoveRanges.texture
    moves_own: float = MoveRanges.own
    moves_background: float = MoveRanges.background

    @classmethod
    def known_settings(cls) -> dict[str, Setting]:
        shares = dict.fromkeys(("moves_share", "moves_ramp", "moves_own", "moves_background"), SHARE)
        return {**super().known_settings(), **shares, "moves_location": WEIGHT, "moves_texture": WEIGHT}

    def initialize(self) -> None:
        super().initialize()
        #: how far the share has grown, 0 to 1; the data loader's workers read it, too
        self.moves_grown = torch.ones(()).share_memory_()

    def get_training_transforms(self, *args: Any, **more: Any) -> ComposeTransforms:
        ranges = {name: self.settings[f"moves_{name}"] for name in MoveRanges.__dataclass_fields__}
        moves = MoveIntensities(
            self.classes,
            MoveRanges(**ranges),
            self.moves_grown,
            in_plane(self.configuration_manager),
            keep=self.asks_about_the_sample_as_it_was,
        )
        return insert_moves(super().get_training_transforms(*args, **more), moves, self._n_image_channels)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.moves_grown.fill_(self._grown(self.settings["moves_ramp"]))

    def _as_it_was(self, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = self._n_image_channels
        if data.shape[1] == self.num_input_channels:  # of validation, or made without nnU-Net's transforms
            return super()._as_it_was(data)
        moved, image, previous_stage = data[:, :n], data[:, n : 2 * n], data[:, 2 * n :]
        return torch.cat((moved, previous_stage), 1), torch.cat((image, previous_stage), 1)


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
        ranges = MoveRanges(
            share=self.settings["mean_jitter_share"],
            location=self.settings["mean_jitter"],
            texture=0.0,
            own=1.0,
            background=0.0,
        )
        moves = draw_moves(image.shape, num_classes, ranges, image.device, self.jitter_generator)
        classes = self.classes.ignored_as_background(classes)  # which stays as it is
        return apply_moves(image, classes, num_classes, moves, in_plane(self.configuration_manager))


def in_plane(configuration: ConfigurationManager) -> list[bool]:
    """Of each axis that patches have: whether its voxels lie about as close as those of the finest axis."""
    spacing = configuration.spacing[-len(configuration.patch_size) :]
    return [step < 2 * min(spacing) for step in spacing]
