"""Stock, teachers, students and controls at one small budget, in pairs by seed.

The environment variables EXPERIMENT_SEED and EXPERIMENT_EPOCHS (of 50 steps; by default 15, five_tasks.sh's) say
which. With ``nnUNet_n_proc_DA=0``, stock and student of one seed begin with the same weights, and all but
``nnUNetTrainerOrdinary_Seeded`` see the same patches with the same augmentation in the same order.
"""

import os
import random
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_shapekd.method.distillation import LogitDistillation
from nnunet_shapekd.training.moves import MeanJitter
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


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


class nnUNetTrainerShapeKD_Seeded(ShapeKD, nnUNetTrainer_Seeded):
    pass


# Controls: what else could the gain come from?


class nnUNetTrainerMeanImageWithSkips_Seeded(MeanImage, nnUNetTrainer_Seeded):
    """A teacher on class-mean images that is the planned network."""

    build_network_architecture = staticmethod(nnUNetTrainer_Seeded.build_network_architecture)


class nnUNetTrainerSkipless_Seeded(MeanImage, nnUNetTrainer_Seeded):
    """A skip-less teacher on ordinary images."""

    @classmethod
    def teacher_input(cls, image: torch.Tensor, classes: torch.Tensor, num_classes: int) -> torch.Tensor:
        return image


class nnUNetTrainerOrdinary_Seeded(nnUNetTrainerMeanImageWithSkips_Seeded):
    """An ordinary teacher: the planned network on ordinary images, of another seed than its student."""

    def initialize(self):
        self.seed += 500
        super().initialize()

    @classmethod
    def teacher_input(cls, image: torch.Tensor, classes: torch.Tensor, num_classes: int) -> torch.Tensor:
        return image


class nnUNetTrainerLabelSmoothing_Seeded(nnUNetTrainer_Seeded):
    def _build_loss(self):
        loss = super()._build_loss()
        loss.loss.ce.label_smoothing = 0.1
        return loss


class nnUNetTrainerShapeKDLabels_Seeded(ShapeKD, nnUNetTrainer_Seeded):
    """No teacher but the reference labels, as they are (a raised weight of the cross-entropy) or blurred.

    EXPERIMENT_BLUR is how often they are averaged over 3×3 voxels, at every scale.
    """

    def _prepare_training(self, split):
        self.blur = int(os.environ["EXPERIMENT_BLUR"])
        self.provenance = {
            "role": "student",
            "trainer": type(self).__name__,
            "settings": asdict(self.settings),
            "teacher": {"trainer": f"labels, blurred {self.blur} times", "weights_sha256": ""},
            **split,
        }

    def train_step(self, batch: dict) -> dict:
        self.loss.teacher_logits = [self._logits(target.to(self.device)) for target in batch["target"]]
        result = super(ShapeKD, self).train_step(batch)
        segmentation, distillation = (part.cpu().numpy() for part in self.loss.last_parts)
        return {**result, "loss": segmentation, "distillation_loss": distillation}

    def _logits(self, labels: torch.Tensor) -> torch.Tensor:
        p = F.one_hot(labels[:, 0].long(), self.classes.number).movedim(-1, 1).float()  # (b, k, x, y)
        for _ in range(self.blur):
            p = F.avg_pool2d(p, 3, stride=1, padding=1, count_include_pad=False)
        return p.clamp_min(1e-7).log()


# Is it nnU-Net's augmentation that leaves no texture to drop? The same without its changes of intensity


class nnUNetTrainerSpatial_Seeded(nnUNetTrainer_Seeded):
    """nnU-Net's rotation and scaling, without noise, blur, brightness, contrast, low resolution and gamma."""

    @staticmethod
    def get_training_transforms(*args, **kwargs) -> ComposeTransforms:
        transforms = nnUNetTrainer_Seeded.get_training_transforms(*args, **kwargs).transforms
        return ComposeTransforms([one for one in transforms if not isinstance(one, RandomTransform)])


class nnUNetTrainerMeanImageSpatial_Seeded(MeanImage, nnUNetTrainerSpatial_Seeded):
    pass


class nnUNetTrainerShapeKDSpatial_Seeded(ShapeKD, nnUNetTrainerSpatial_Seeded):
    pass


class nnUNetTrainerShapeKDLabelsSpatial_Seeded(nnUNetTrainerShapeKDLabels_Seeded, nnUNetTrainerSpatial_Seeded):
    pass


# Beyond the paper: what the controls suggest


class nnUNetTrainerShapeKDInstead_Seeded(ShapeKD, nnUNetTrainer_Seeded):
    """The distillation replaces nnU-Net's cross-entropy, whose weight beside the Dice loss it would else raise."""

    def _build_loss(self):
        loss = super()._build_loss()
        loss.segmentation.loss.weight_ce = 0
        return loss


class nnUNetTrainerMeanJitter_Seeded(MeanJitter, nnUNetTrainer_Seeded):
    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        # of its own: all else draws what it draws without
        self.jitter_generator = torch.Generator(self.device).manual_seed(self.seed + self.current_epoch + 1)


class nnUNetTrainerMeanJitterFades_Seeded(nnUNetTrainerMeanJitter_Seeded):
    """In the last fifth of the epochs the images are as they are."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if self.current_epoch >= 0.8 * self.num_epochs:
            self.mean_jitter_share = 0.0


class nnUNetTrainerShapeKDMeanJitter_Seeded(ShapeKD, nnUNetTrainerMeanJitter_Seeded):
    """The teacher sees the sample as it was."""


class _VariedClassMeans:
    """What ``MeanJitter`` was made of, kept for its rows: each structure's mean intensity moves in some samples.

    An image is its class mean plus texture; in a share EXPERIMENT_SHARE of the samples the mean of every foreground
    class moves by up to EXPERIMENT_JITTER (in standard deviations of the normalised image), its texture stays. Borders
    are as soft as three averages over 3×3 voxels make them. A teacher has seen the sample as it was.
    """

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        # of its own: all else draws what it draws without
        self.jitter_generator = torch.Generator().manual_seed(self.seed + self.current_epoch + 1)

    def train_step(self, batch: dict) -> dict:
        data, labels = batch["data"].to(self.device), batch["target"][0].to(self.device)
        b, c = data.shape[:2]
        classes = int(self.label_manager.all_labels[-1]) + 1
        shift = 2 * torch.rand(b, classes, c, generator=self.jitter_generator) - 1
        shift *= float(os.environ["EXPERIMENT_JITTER"])
        self.moved = torch.rand(b, generator=self.jitter_generator) < float(os.environ["EXPERIMENT_SHARE"])
        shift *= self.moved[:, None, None]
        shift[:, 0] = 0  # the background is many tissues
        weight = F.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float()  # (b, k, x, y)
        for _ in range(3):
            weight = F.avg_pool2d(weight, 3, stride=1, padding=1, count_include_pad=False)
        data = data + torch.einsum("bkxy,bkc->bcxy", weight, shift.to(self.device))
        return super().train_step({**batch, "data": data})


class nnUNetTrainerVariedMeans_Seeded(_VariedClassMeans, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerShapeKDVariedMeans_Seeded(ShapeKD, _VariedClassMeans, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerShapeKDWhereVaried_Seeded(nnUNetTrainerShapeKDVariedMeans_Seeded):
    """The teacher is heard only where the student's image was changed; elsewhere the loss is nnU-Net's own."""

    def _build_loss(self):
        loss = super()._build_loss()
        loss.logits = _OfMovedSamples(self)
        return loss


class _OfMovedSamples(LogitDistillation):
    def __init__(self, trainer: _VariedClassMeans):
        super().__init__(trainer.settings.temperature)
        self.trainer = trainer

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, voxel_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        moved = self.trainer.moved.to(student.device)
        if not moved.any():
            return student.new_zeros(())
        return super().forward(student[moved], teacher[moved]) * moved.float().mean()


class _RandomConvolutions:
    """What needs no labels: in a share EXPERIMENT_SHARE of the samples, random intensities for the whole image.

    A random shallow network of convolutions makes another image, which is blended with the sample's own and has its
    norm (global intensity non-linear augmentation: Ouyang et al., IEEE TMI 42(4):1095, 2023). A teacher has seen the
    sample as it was.
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


class nnUNetTrainerRandomConvolutions_Seeded(_RandomConvolutions, nnUNetTrainer_Seeded):
    pass


class nnUNetTrainerShapeKDRandomConvolutions_Seeded(ShapeKD, _RandomConvolutions, nnUNetTrainer_Seeded):
    pass
