"""The teacher's trainer: class-mean images in, the planned network without skip connections."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_shapekd.method.class_mean import class_mean_image
from nnunet_shapekd.method.skipless_unet import without_skips
from nnunet_shapekd.training.base import OnClassMeans


class MeanImage(OnClassMeans):
    """Mixin that makes a teacher's trainer: class-mean images in, skip-less planned network.

    The teacher sees the reference labels through its input. Its validation Dice says how much of a shape survives the
    bottleneck; it is not a result.
    """

    role = "teacher"

    #: number of feature maps of each stage over that of the plans
    width: float = 1.0

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        if cls.width != 1:
            configuration_manager = with_width(configuration_manager, cls.width)
        return without_skips(
            super().build_network_architecture(
                plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
            )
        )

    @classmethod
    def teacher_input(cls, image: torch.Tensor, classes: torch.Tensor, num_classes: int) -> torch.Tensor:
        """What the teacher sees of a sample; override it for a control or another prior. Its students ask it, too.

        Args:
            image: ``(b, c, x, y[, z])``, the image channels.
            classes: ``(b, 1, x, y[, z])`` int64 on the same grid, see
                :class:`~nnunet_shapekd.method.class_mean.VoxelClasses`.
            num_classes: classes are 0 to ``num_classes - 1``.

        Returns:
            The teacher's input, shaped like ``image``: the class-mean image.
        """
        return class_mean_image(image, classes, num_classes)

    def initialize(self) -> None:
        self.print_to_log_file(
            "This is a TEACHER. It sees the reference labels in its input: its Dice is no result, predicting with it "
            "is meaningless, and nnUNetv2_find_best_configuration must not include it."
        )
        super().initialize()

    def prepared(self, split: dict[str, list[str]]) -> dict[str, Any]:
        return {**super().prepared(split), "deep_supervision": self.enable_deep_supervision}

    def train_step(self, batch: dict) -> dict:
        return super().train_step(self._with_teacher_data(batch))

    def validation_step(self, batch: dict) -> dict:
        return super().validation_step(self._with_teacher_data(batch))

    def _with_teacher_data(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        return {**batch, "data": self._with_image(self.teacher_input, data, finest), "target": target}

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's final validation, on class-mean images: means over a slice in 2d, over the volume in 3d."""
        images = self.dataset_class
        self.dataset_class = _teacher_input_dataset(images, self)
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.dataset_class = images


def _teacher_input_dataset(dataset_class: type, trainer: MeanImage) -> type:
    """``dataset_class``, with the teacher's input in place of each case's images."""
    slice_by_slice = len(trainer.configuration_manager.patch_size) == 2

    class TeacherInputDataset(dataset_class):
        def load_case(self, identifier):
            data, seg, seg_prev, properties = super().load_case(identifier)
            image = torch.from_numpy(np.array(data[:]))  # (c, z, x, y); 2d predicts slice by slice along z
            classes = trainer.classes.of_label_map(torch.from_numpy(np.array(seg[:1])))  # (1, z, x, y)
            number = trainer.classes.number
            if slice_by_slice:
                result = trainer.teacher_input(image.transpose(0, 1), classes.transpose(0, 1), number).transpose(0, 1)
            else:
                result = trainer.teacher_input(image[None], classes[None], number)[0]
            return result.contiguous().numpy(), seg, seg_prev, properties

    return TeacherInputDataset


class MeanImageHalf(MeanImage):
    """Teachers of half the planned width, so a quarter of the computation."""

    width = 0.5


def with_width(configuration: ConfigurationManager, width: float) -> ConfigurationManager:
    """A planned configuration whose network is narrower; the plans themselves stay what they are.

    Args:
        configuration: of plans whose architecture has ``features_per_stage``, as nnU-Net's U-Nets have.
        width: factor of the number of feature maps of each stage, above 0; at least one map is left.

    Raises:
        ValueError: if the width is not above 0.
        NotImplementedError: if the planned architecture has no such list.
    """
    if not width > 0:
        raise ValueError(f"A teacher's width must be above 0, 1 being that of the plans; got {width}")
    narrower = ConfigurationManager(deepcopy(configuration.configuration))
    network = narrower.configuration["architecture"]["arch_kwargs"]
    if not isinstance(network.get("features_per_stage"), (list, tuple)):
        raise NotImplementedError(
            "A teacher of another width needs plans that list features_per_stage, as those of nnU-Net's U-Nets do; "
            f"{configuration.network_arch_class_name} has none. Use the teacher's trainer of full width."
        )
    network["features_per_stage"] = [max(1, round(width * features)) for features in network["features_per_stage"]]
    return narrower
