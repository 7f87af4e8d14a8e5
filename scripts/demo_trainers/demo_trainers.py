"""The demo's three networks at one small budget: stock baseline, teacher, student.

Also an example of how to put the method on a trainer of one's own: two mixins, two lines.
"""

from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


class nnUNetTrainer_Demo(nnUNetTrainerNoMirroring):
    def initialize(self):
        self.num_epochs = 16
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 5
        self.save_every = 5
        super().initialize()


class nnUNetTrainerMeanImage_Demo(MeanImage, nnUNetTrainer_Demo):
    pass


class nnUNetTrainerShapeKD_Demo(ShapeKD, nnUNetTrainer_Demo):
    pass
