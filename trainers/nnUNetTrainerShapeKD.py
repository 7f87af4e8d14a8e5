"""Students: stock nnU-Net plus logit distillation from the MeanImage teacher of the same variant and fold."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
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

from nnunet_shapekd.training.student import ShapeKD


class nnUNetTrainerShapeKD(ShapeKD, nnUNetTrainer):
    pass


class nnUNetTrainerShapeKD_1epoch(ShapeKD, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerShapeKD_5epochs(ShapeKD, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerShapeKD_10epochs(ShapeKD, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerShapeKD_20epochs(ShapeKD, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerShapeKD_50epochs(ShapeKD, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerShapeKD_100epochs(ShapeKD, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerShapeKD_250epochs(ShapeKD, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerShapeKD_500epochs(ShapeKD, nnUNetTrainer_500epochs):
    pass


class nnUNetTrainerShapeKD_NoMirroring(ShapeKD, nnUNetTrainerNoMirroring):
    pass


class nnUNetTrainerShapeKD_DA5(ShapeKD, nnUNetTrainerDA5):
    pass
