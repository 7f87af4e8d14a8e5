"""The demo's three networks at one small budget: stock baseline, teacher, student.

Also an example of how to put the method on a trainer of one's own: two mixins, two lines.
"""

import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


class nnUNetTrainer_Demo(nnUNetTrainerNoMirroring):
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's own signature
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 16
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 5
        self.save_every = 5


class nnUNetTrainerMeanImage_Demo(MeanImage, nnUNetTrainer_Demo):
    pass


class nnUNetTrainerShapeKD_Demo(ShapeKD, nnUNetTrainer_Demo):
    pass
