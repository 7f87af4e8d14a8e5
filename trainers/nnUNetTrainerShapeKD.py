"""nnUNetTrainerShapeKD and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerShapeKD(ShapeKD, nnUNetTrainer):
    """The student: stock nnU-Net plus logit distillation from the MeanImage teacher of the same variant and fold."""


__getattr__ = variants_of(nnUNetTrainerShapeKD)
