"""Teachers of half the planned width: a quarter of the full-width teacher's computation, for logit distillation."""

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

from nnunet_shapekd.training.teacher import MeanImageHalf


class nnUNetTrainerMeanImageHalf(MeanImageHalf, nnUNetTrainer):
    pass


class nnUNetTrainerMeanImageHalf_1epoch(MeanImageHalf, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerMeanImageHalf_5epochs(MeanImageHalf, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerMeanImageHalf_10epochs(MeanImageHalf, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerMeanImageHalf_20epochs(MeanImageHalf, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerMeanImageHalf_50epochs(MeanImageHalf, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerMeanImageHalf_100epochs(MeanImageHalf, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerMeanImageHalf_250epochs(MeanImageHalf, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerMeanImageHalf_500epochs(MeanImageHalf, nnUNetTrainer_500epochs):
    pass
