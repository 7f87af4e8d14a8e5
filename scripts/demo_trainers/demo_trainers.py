"""The demo's four networks at one small budget: stock baseline, teacher, student, and moves of intensities.

Also an example of how to put the method on a trainer of one's own: a mixin and a base, two lines.
"""

import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.training.moves import IntensityMoves
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


class nnUNetTrainer_Demo(nnUNetTrainerNoMirroring):
    def initialize(self):
        # few epochs of many steps: each ends with nnU-Net's drawing of the curves, which takes as long as ten steps
        self.num_epochs = 10
        self.num_iterations_per_epoch = 200
        self.num_val_iterations_per_epoch = 10
        self.save_every = 1
        # the demo trains side by side; nnU-Net would give every training all cores, for which they then wait
        torch.set_num_threads(1)
        super().initialize()


class nnUNetTrainerMeanImage_Demo(MeanImage, nnUNetTrainer_Demo):
    pass


class nnUNetTrainerShapeKD_Demo(ShapeKD, nnUNetTrainer_Demo):
    pass


class nnUNetTrainerIntensityMoves_Demo(IntensityMoves, nnUNetTrainer_Demo):
    pass
