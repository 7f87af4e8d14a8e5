"""nnUNetTrainerMeanImageHalf and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.teacher import MeanImageHalf
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerMeanImageHalf(MeanImageHalf, nnUNetTrainer):
    """A teacher of half the planned width: a quarter of the computation, for logit distillation."""


__getattr__ = variants_of(nnUNetTrainerMeanImageHalf)
