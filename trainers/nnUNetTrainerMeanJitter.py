"""nnUNetTrainerMeanJitter and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.moves import MeanJitter
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerMeanJitter(MeanJitter, nnUNetTrainer):
    """A student without a teacher that sees structures' mean intensities move (not of the paper)."""


__getattr__ = variants_of(nnUNetTrainerMeanJitter)
