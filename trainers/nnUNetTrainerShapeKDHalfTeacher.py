"""Students of the half-width MeanImageHalf teacher: a step costs little more than stock nnU-Net's."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import (
    nnUNetTrainer_1epoch,
    nnUNetTrainer_5epochs,
    nnUNetTrainer_10epochs,
    nnUNetTrainer_20epochs,
    nnUNetTrainer_50epochs,
    nnUNetTrainer_100epochs,
    nnUNetTrainer_250epochs,
    nnUNetTrainer_500epochs,
)

from nnunet_shapekd.training.student import ShapeKDHalfTeacher


class nnUNetTrainerShapeKDHalfTeacher(ShapeKDHalfTeacher, nnUNetTrainer):
    pass


class nnUNetTrainerShapeKDHalfTeacher_1epoch(ShapeKDHalfTeacher, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerShapeKDHalfTeacher_5epochs(ShapeKDHalfTeacher, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_10epochs(ShapeKDHalfTeacher, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_20epochs(ShapeKDHalfTeacher, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_50epochs(ShapeKDHalfTeacher, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_100epochs(ShapeKDHalfTeacher, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_250epochs(ShapeKDHalfTeacher, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerShapeKDHalfTeacher_500epochs(ShapeKDHalfTeacher, nnUNetTrainer_500epochs):
    pass
