"""Teachers: skip-less planned networks on class-mean images, over nnU-Net's own trainers of the same name."""

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

from nnunet_shapekd.training.teacher import MeanImage


class nnUNetTrainerMeanImage(MeanImage, nnUNetTrainer):
    pass


class nnUNetTrainerMeanImage_1epoch(MeanImage, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerMeanImage_5epochs(MeanImage, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerMeanImage_10epochs(MeanImage, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerMeanImage_20epochs(MeanImage, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerMeanImage_50epochs(MeanImage, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerMeanImage_100epochs(MeanImage, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerMeanImage_250epochs(MeanImage, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerMeanImage_500epochs(MeanImage, nnUNetTrainer_500epochs):
    pass


class nnUNetTrainerMeanImage_NoMirroring(MeanImage, nnUNetTrainerNoMirroring):
    pass


class nnUNetTrainerMeanImage_DA5(MeanImage, nnUNetTrainerDA5):
    pass
