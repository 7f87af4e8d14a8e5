"""Moves of intensities as one of nnU-Net's training transforms, on one sample in a worker of the data loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform

from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.method.intensity_moves import MoveRanges, Moves, apply_moves, draw_moves


class MoveIntensities(BasicTransform):
    """Moves the intensities of a sample.

    Args:
        classes: of the dataset.
        ranges: how far they may go; ``share`` is multiplied by ``grown``.
        grown: scalar tensor, 0 to 1, in memory that the training process shares with the data loader's workers.
        smooth_axes: see :func:`~nnunet_shapekd.method.intensity_moves.apply_moves`.
        keep: also pass on the image as it was, in as many channels more, for those who are asked about it.
    """

    def __init__(
        self,
        classes: VoxelClasses,
        ranges: MoveRanges,
        grown: torch.Tensor,
        smooth_axes: Sequence[bool],
        keep: bool,
    ) -> None:
        super().__init__()
        self.classes, self.ranges, self.grown = classes, ranges, grown
        self.smooth_axes, self.keep = smooth_axes, keep

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        # numpy's: nnU-Net's workers are forked with the same state of torch's random numbers in each
        if np.random.uniform() >= self.ranges.share * float(self.grown):
            return {"moves": None}
        generator = torch.Generator().manual_seed(int(np.random.randint(2**62)))
        shape = (1, *data_dict["image"].shape)
        return {"moves": draw_moves(shape, self.classes.number, replace(self.ranges, share=1.0), generator=generator)}

    def apply(self, data_dict: dict[str, Any], moves: Moves | None) -> dict[str, Any]:
        image = data_dict["image"]  # (c, x, y[, z])
        moved = image
        if moves is not None:
            # (1 or, in a cascade, 2, x, y[, z]): labels, -1 outside, and the previous stage's
            classes = self.classes.of_label_map(data_dict["segmentation"][None, :1])
            classes = self.classes.ignored_as_background(classes)  # and move as it does
            moved = apply_moves(image[None], classes, self.classes.number, moves, self.smooth_axes)[0]
        return {**data_dict, "image": torch.cat((moved, image)) if self.keep else moved}


def insert_moves(transforms: ComposeTransforms, moves: MoveIntensities, channels: int) -> ComposeTransforms:
    """Add moves to nnU-Net's training transforms, in place: after what moves voxels, before what belongs to a scan.

    Args:
        transforms: of a trainer, nnU-Net's own or a variant's.
        moves: to add.
        channels: of an image.
    """
    steps = transforms.transforms
    geometric = [i for i, step in enumerate(steps) if isinstance(step, (SpatialTransform, Convert2DTo3DTransform))]
    steps.insert(geometric[-1] + 1 if geometric else 0, moves)
    if moves.keep:
        for step in steps:
            if isinstance(step, MaskImageTransform):  # what lies outside is 0, in the image as it was, too
                step.apply_to_channels = [i + n for n in (0, channels) for i in step.apply_to_channels]
    return transforms
