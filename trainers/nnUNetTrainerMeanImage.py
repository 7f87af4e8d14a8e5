"""nnUNetTrainerMeanImage and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.teacher import MeanImage
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerMeanImage(MeanImage, nnUNetTrainer):
    """The teacher: class-mean images in, the planned network without skip connections."""


__getattr__ = variants_of(nnUNetTrainerMeanImage)
