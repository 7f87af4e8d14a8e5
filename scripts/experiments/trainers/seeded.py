"""Stock, teachers and student at one small budget, in pairs by seed.

The environment variables EXPERIMENT_SEED and EXPERIMENT_EPOCHS (of 50 steps, by default 15) say which. With
``nnUNet_n_proc_DA=0``, stock and student of one seed begin with the same weights, and all see the same patches with
the same augmentation in the same order.
"""

import os
import random

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.training import MeanImage, ShapeKD


def _seed_all(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


class nnUNetTrainer_Seeded(nnUNetTrainerNoMirroring):
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's own signature
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ.get("EXPERIMENT_EPOCHS", 15))
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 5
        self.seed = 1000 * int(os.environ["EXPERIMENT_SEED"])

    def initialize(self):
        _seed_all(self.seed)
        super().initialize()

    def on_train_epoch_start(self):
        # every epoch anew, so that a continued run is the run it would have been
        _seed_all(self.seed + self.current_epoch + 1)
        super().on_train_epoch_start()


class nnUNetTrainerMeanImage_Seeded(MeanImage, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerMeanImageHalf_Seeded(MeanImage, nnUNetTrainer_Seeded):
    width = 0.5


class nnUNetTrainerMeanImageQuarter_Seeded(MeanImage, nnUNetTrainer_Seeded):
    width = 0.25


class nnUNetTrainerShapeKD_Seeded(ShapeKD, nnUNetTrainer_Seeded):
    pass
