"""nnUNetTrainerShapeKDFeatures and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.student import ShapeKDFeatures
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerShapeKDFeatures(ShapeKDFeatures, nnUNetTrainer):
    """A student distilled by the last decoder stage's features, the term of the paper's own code."""


__getattr__ = variants_of(nnUNetTrainerShapeKDFeatures)
