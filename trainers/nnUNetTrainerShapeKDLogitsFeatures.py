"""Students distilled by logits and features."""

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

from nnunet_shapekd.training.student import ShapeKDLogitsFeatures


class nnUNetTrainerShapeKDLogitsFeatures(ShapeKDLogitsFeatures, nnUNetTrainer):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_1epoch(ShapeKDLogitsFeatures, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_5epochs(ShapeKDLogitsFeatures, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_10epochs(ShapeKDLogitsFeatures, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_20epochs(ShapeKDLogitsFeatures, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_50epochs(ShapeKDLogitsFeatures, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_100epochs(ShapeKDLogitsFeatures, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_250epochs(ShapeKDLogitsFeatures, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerShapeKDLogitsFeatures_500epochs(ShapeKDLogitsFeatures, nnUNetTrainer_500epochs):
    pass
