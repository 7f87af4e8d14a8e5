"""The trainers of the GPU check: a few steps, a checkpoint after every epoch."""

import os

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


class nnUNetTrainer_GPUCheck(nnUNetTrainer):
    def initialize(self):
        self.num_epochs = 4
        self.num_iterations_per_epoch = 10
        self.num_val_iterations_per_epoch = 2
        self.seconds_between_saves = 0.0
        super().initialize()

    def _do_i_compile(self) -> bool:
        """nnU-Net never compiles on a CPU; here it is asked to, so that the same path runs without a GPU."""
        if self.device.type == "cpu":
            return os.environ.get("nnUNet_compile") == "t"
        return super()._do_i_compile()


class nnUNetTrainerMeanImage_GPUCheck(MeanImage, nnUNetTrainer_GPUCheck):
    pass


class nnUNetTrainerShapeKD_GPUCheck(ShapeKD, nnUNetTrainer_GPUCheck):
    pass
