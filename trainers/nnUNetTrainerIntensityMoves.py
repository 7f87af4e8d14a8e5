"""nnUNetTrainerIntensityMoves and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.moves import IntensityMoves
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerIntensityMoves(IntensityMoves, nnUNetTrainer):
    """A student without a teacher that sees intensities move (not of the paper)."""


__getattr__ = variants_of(nnUNetTrainerIntensityMoves)
