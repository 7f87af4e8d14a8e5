"""Stock, teachers, students and controls at one small budget, in pairs by seed.

The environment variables EXPERIMENT_SEED and EXPERIMENT_EPOCHS (of 50 steps; by default 15, five_tasks.sh's) say
which; EXPERIMENT_BFLOAT16=1 is for one core of a CPU, which it spares half of the time. With ``nnUNet_n_proc_DA=0``,
stock and student of one seed begin with the same weights and see the same patches with the same augmentation in the
same order.
"""

import os
import random
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.training.moves import IntensityMoves, MeanJitter
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


def _seed_all(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _in_bfloat16(network: torch.nn.Module) -> None:
    """As on a card, where nnU-Net computes in 16 bits and its loss in 32; nnU-Net gives each training all cores."""
    torch.set_num_threads(1)
    network.to(memory_format=torch.channels_last)
    in_32_bits = network.forward

    def forward(x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = in_32_bits(x)
        return [scale.float() for scale in logits] if isinstance(logits, list) else logits.float()

    network.forward = forward


class nnUNetTrainer_Seeded(nnUNetTrainerNoMirroring):
    def initialize(self):
        self.num_epochs = int(os.environ.get("EXPERIMENT_EPOCHS", 15))
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 5
        self.seed = 1000 * int(os.environ["EXPERIMENT_SEED"])
        _seed_all(self.seed)
        super().initialize()
        if os.environ.get("EXPERIMENT_BFLOAT16"):
            _in_bfloat16(self.network)

    def on_train_epoch_start(self):
        # every epoch anew, so that a continued run is the run it would have been
        _seed_all(self.seed + self.current_epoch + 1)
        super().on_train_epoch_start()


class nnUNetTrainerMeanImage_Seeded(MeanImage, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerMeanImageHalf_Seeded(MeanImage, nnUNetTrainer_Seeded):
    width = 0.5


class nnUNetTrainerShapeKD_Seeded(ShapeKD, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerIntensityMoves_Seeded(IntensityMoves, nnUNetTrainer_Seeded):
    """Moves draw from the numbers that the patches are drawn from: stock's begin alike, and go apart."""


class nnUNetTrainerLabels_Seeded(nnUNetTrainer_Seeded):
    """A control: the reference labels in the teacher's place, whose distillation at temperature 1 is the cross-entropy.

    So it counts twice, or, where EXPERIMENT_RAMP is a share of the epochs, up to twice over these.
    """

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        ramp = float(os.environ["EXPERIMENT_RAMP"]) * self.num_epochs
        weight = min(1.0, (self.current_epoch + 1) / ramp) if ramp else 1.0
        self.loss.loss.weight_ce = 1 + weight  # within nnU-Net's deep supervision


class nnUNetTrainerMeanJitter_Seeded(MeanJitter, nnUNetTrainer_Seeded):
    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        # of its own: all else draws what it draws without
        self.jitter_generator = torch.Generator(self.device).manual_seed(self.seed + self.current_epoch + 1)


class nnUNetTrainerShapeKDMeanJitter_Seeded(ShapeKD, nnUNetTrainerMeanJitter_Seeded):
    """The teacher sees the sample as it was."""


class nnUNetTrainerRandomConvolutions_Seeded(nnUNetTrainer_Seeded):
    """What needs no labels: in a share EXPERIMENT_SHARE of the samples, random intensities for the whole image.

    A random shallow network of convolutions makes another image, which is blended with the sample's own and has its
    norm (global intensity non-linear augmentation: Ouyang et al., IEEE TMI 42(4):1095, 2023).
    """

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        # of its own: all else draws what it draws without
        self.image_generator = torch.Generator().manual_seed(self.seed + self.current_epoch + 1)

    def train_step(self, batch: dict) -> dict:
        share = float(os.environ["EXPERIMENT_SHARE"])
        data = [self._changed(image) if self._random() < share else image for image in batch["data"]]
        return super().train_step({**batch, "data": torch.stack(data)})

    def _random(self) -> float:
        return torch.rand((), generator=self.image_generator).item()

    def _changed(self, image: torch.Tensor) -> torch.Tensor:
        """(c, x, y) to the same."""
        new = image[None]
        channels = (len(image), 2, 2, 2, len(image))
        for i, (c_in, c_out) in enumerate(pairwise(channels)):
            size = 1 if self._random() < 0.5 else 3
            weight = torch.randn(c_out, c_in, size, size, generator=self.image_generator)
            offset = torch.randn(1, c_out, 1, 1, generator=self.image_generator)
            new = F.conv2d(new, weight, padding=size // 2) + offset
            if i < len(channels) - 2:
                new = F.leaky_relu(new)
        blend = self._random()
        new = blend * new[0] + (1 - blend) * image
        return new * image.norm() / new.norm().clamp_min(1e-8)
