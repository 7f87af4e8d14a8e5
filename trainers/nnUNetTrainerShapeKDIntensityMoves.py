"""nnUNetTrainerShapeKDIntensityMoves and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.moves import IntensityMoves
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerShapeKDIntensityMoves(ShapeKD, IntensityMoves, nnUNetTrainer):
    """A student that sees intensities move; its teacher is asked about the samples as they were."""


__getattr__ = variants_of(nnUNetTrainerShapeKDIntensityMoves)
