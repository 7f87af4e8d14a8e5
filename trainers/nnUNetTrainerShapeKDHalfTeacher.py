"""nnUNetTrainerShapeKDHalfTeacher and its variants over nnU-Net's own trainers."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.student import ShapeKDHalfTeacher
from nnunet_shapekd.training.variants import variants_of


class nnUNetTrainerShapeKDHalfTeacher(ShapeKDHalfTeacher, nnUNetTrainer):
    """A student of the half-width MeanImageHalf teacher: a step costs little more than stock nnU-Net's."""


__getattr__ = variants_of(nnUNetTrainerShapeKDHalfTeacher)
