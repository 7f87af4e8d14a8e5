"""nnUNetTrainerShapeKDLogitsFeatures and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.student import ShapeKDLogitsFeatures
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerShapeKDLogitsFeatures(ShapeKDLogitsFeatures, nnUNetTrainer):
    """A student distilled by logits and features."""


__getattr__ = variants_of(nnUNetTrainerShapeKDLogitsFeatures)
