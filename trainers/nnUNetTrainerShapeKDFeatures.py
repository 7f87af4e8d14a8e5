"""Students distilled by the last decoder stage's features, the term of the paper's own code."""

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

from nnunet_shapekd.training.student import ShapeKDFeatures


class nnUNetTrainerShapeKDFeatures(ShapeKDFeatures, nnUNetTrainer):
    pass


class nnUNetTrainerShapeKDFeatures_1epoch(ShapeKDFeatures, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerShapeKDFeatures_5epochs(ShapeKDFeatures, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerShapeKDFeatures_10epochs(ShapeKDFeatures, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerShapeKDFeatures_20epochs(ShapeKDFeatures, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerShapeKDFeatures_50epochs(ShapeKDFeatures, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerShapeKDFeatures_100epochs(ShapeKDFeatures, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerShapeKDFeatures_250epochs(ShapeKDFeatures, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerShapeKDFeatures_500epochs(ShapeKDFeatures, nnUNetTrainer_500epochs):
    pass
