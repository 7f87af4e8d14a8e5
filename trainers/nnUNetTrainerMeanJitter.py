"""Students without a teacher that see structures' mean intensities move: not of the paper, see docs/evidence.md."""

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

from nnunet_shapekd.training.moves import MeanJitter


class nnUNetTrainerMeanJitter(MeanJitter, nnUNetTrainer):
    pass


class nnUNetTrainerMeanJitter_1epoch(MeanJitter, nnUNetTrainer_1epoch):
    pass


class nnUNetTrainerMeanJitter_5epochs(MeanJitter, nnUNetTrainer_5epochs):
    pass


class nnUNetTrainerMeanJitter_10epochs(MeanJitter, nnUNetTrainer_10epochs):
    pass


class nnUNetTrainerMeanJitter_20epochs(MeanJitter, nnUNetTrainer_20epochs):
    pass


class nnUNetTrainerMeanJitter_50epochs(MeanJitter, nnUNetTrainer_50epochs):
    pass


class nnUNetTrainerMeanJitter_100epochs(MeanJitter, nnUNetTrainer_100epochs):
    pass


class nnUNetTrainerMeanJitter_250epochs(MeanJitter, nnUNetTrainer_250epochs):
    pass


class nnUNetTrainerMeanJitter_500epochs(MeanJitter, nnUNetTrainer_500epochs):
    pass
