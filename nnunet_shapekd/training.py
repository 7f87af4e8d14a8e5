"""The method as two mixins that turn any ``nnUNetTrainer`` into a teacher's or a student's trainer.

``class MyTeacher(MeanImage, AnyNnUNetTrainer)`` and ``class MyStudent(ShapeKD, AnyNnUNetTrainer)`` are complete
trainers. The training step stays nnU-Net's own: the mixins only change what goes into it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join, load_json
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.helpers import dummy_context
from torch import autocast, distributed, nn

from nnunet_shapekd import __version__
from nnunet_shapekd.class_mean import class_mean_image
from nnunet_shapekd.distillation import DistilledLoss, LogitDistillation
from nnunet_shapekd.report.curves import plot_distillation
from nnunet_shapekd.skipless_unet import without_skips
from nnunet_shapekd.teacher import (
    check_teacher_fits,
    freeze,
    network_builder_name,
    read_teacher_checkpoint,
    teacher_checkpoint_path,
    training_command,
    weights_sha256,
    write_atomically,
)


class _OnClassMeans:
    """What teacher and student share: the teacher's input, patient-safe folds, checkpoints with provenance."""

    #: kept in every checkpoint under "shapekd"; filled in by the mixins
    provenance: dict[str, Any]

    def initialize(self) -> None:
        if self.label_manager.has_regions:
            raise NotImplementedError(
                f"{type(self).__name__} cannot train region-based datasets yet: the class mean and the distillation "
                "are defined for plain labels only. List plain labels in dataset.json, or use a stock trainer."
            )
        if self.is_cascaded:
            raise NotImplementedError(
                f"{type(self).__name__} cannot train {self.configuration_name} yet: the previous stage's segmentation "
                "must not be averaged with the image. Use 2d, 3d_lowres or 3d_fullres."
            )
        super().initialize()

    def teacher_input(self, data: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What the teacher sees of a sample; override it for another prior.

        Args:
            data: ``(b, c, x, y[, z])`` images.
            target: ``(b, 1, x, y[, z])`` labels on the same grid.

        Returns:
            The teacher's input, shaped like ``data``: the class-mean image.
        """
        labels = [*self.label_manager.all_labels, self.label_manager.ignore_label or 0]
        return class_mean_image(data, target, num_labels=max(labels) + 1)

    def _on_device(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor], torch.Tensor]:
        """A batch's data, its target, and the target on the data's own grid, on the training device."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        if isinstance(target, list):
            target = [t.to(self.device, non_blocking=True) for t in target]
            return data, target, target[0]
        target = target.to(self.device, non_blocking=True)
        return data, target, target

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split of this fold; refuses a fold the split file does not have.

        For such a fold nnU-Net falls back to a random split by case, which puts two images of one patient on both
        sides.
        """
        split = super().do_split()  # makes the file where there is none yet
        if self.fold != "all":
            path = join(self.preprocessed_dataset_folder_base, "splits_final.json")
            folds = len(load_json(path))
            if not 0 <= self.fold < folds:
                raise ValueError(
                    f"There is no fold {self.fold} in {path}, which holds {folds} fold(s), 0 to {folds - 1}. nnU-Net "
                    "would make a random split by case, which can put images of one patient into training and "
                    "validation. Use one of those folds, or add yours to the file."
                )
        return split

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint plus the "shapekd" entry, written beside the old file and renamed over it."""
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        if buffer.tell() == 0:  # not the first rank, or checkpointing is disabled
            return
        buffer.seek(0)
        # our own bytes of a moment ago: safe to unpickle
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        checkpoint["shapekd"] = self.provenance
        checkpoint["trainer_name"] = self._trainer_name_for_prediction()
        write_atomically(checkpoint, filename)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        # mmap: of the file only this entry is read. nnU-Net itself unpickles it freely, too: a run's own files.
        checkpoint = torch.load(filename_or_checkpoint, map_location="cpu", weights_only=False, mmap=True)
        if "shapekd" not in checkpoint:
            raise ValueError(
                f"{filename_or_checkpoint} was not written by {type(self).__name__}. Move {self.output_folder} away "
                "and train anew without --c."
            )
        super().load_checkpoint(filename_or_checkpoint)
        self.provenance = checkpoint["shapekd"]

    def _trainer_name_for_prediction(self) -> str:
        return type(self).__name__


class MeanImage(_OnClassMeans):
    """Mixin that makes a teacher's trainer: class-mean images in, skip-less planned network.

    The teacher sees the reference labels through its input. Its validation Dice says how much of a shape survives the
    bottleneck; it is not a result.
    """

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        return without_skips(
            super().build_network_architecture(
                plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
            )
        )

    def initialize(self) -> None:
        self.print_to_log_file(
            "This is a TEACHER. It sees the reference labels in its input: its Dice is no result, predicting with it "
            "is meaningless, and nnUNetv2_find_best_configuration must not include it."
        )
        super().initialize()

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch < self.num_epochs:  # --c after the last epoch only validates: nothing new to record
            self._record_split()
        super().on_train_start()

    def _record_split(self) -> None:
        # str: nnU-Net's freshly made split holds numpy strings, which a student would not load
        training_cases, validation_cases = (sorted(map(str, cases)) for cases in self.do_split())
        if self.current_epoch > 0 and self.provenance["training_cases"] != training_cases:
            raise ValueError(
                "This teacher's training began with another split of the cases. Bring that splits_final.json back to "
                f"continue {self.output_folder}, or move that folder away and start anew without --c."
            )
        self.provenance = {
            "role": "teacher",
            "package_version": __version__,
            "deep_supervision": self.enable_deep_supervision,
            "training_cases": training_cases,
            "validation_cases": validation_cases,
        }

    def train_step(self, batch: dict) -> dict:
        return super().train_step(self._with_teacher_input(batch))

    def validation_step(self, batch: dict) -> dict:
        return super().validation_step(self._with_teacher_input(batch))

    def _with_teacher_input(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        return {**batch, "data": self.teacher_input(data, finest), "target": target}

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
            target = torch.from_numpy(np.array(seg[:1]))  # (1, z, x, y)
            if slice_by_slice:
                result = trainer.teacher_input(image.transpose(0, 1), target.transpose(0, 1)).transpose(0, 1)
            else:
                result = trainer.teacher_input(image[None], target[None])[0]
            return result.contiguous().numpy(), seg, seg_prev, properties

    return TeacherInputDataset


class ShapeKD(_OnClassMeans):
    """Mixin that makes a student's trainer: nnU-Net's own network, data and training step, and a frozen teacher.

    The loss is ``L_seg + distillation_weight * L_KD``, where ``L_KD`` compares the student on the image with the
    teacher on the class-mean image of the same augmented sample. Prediction needs neither teacher nor this package.

    Weight 1 and temperature 1 are provisional: they have not been chosen by an experiment yet.
    """

    #: factor of the distillation term, at least 0
    distillation_weight: float = 1.0
    #: softens both networks' class probabilities, above 0; 1 compares them as they are
    temperature: float = 1.0
    #: name of the teacher's trainer; ``None``: this trainer's name with MeanImage for ShapeKD
    teacher_trainer: str | None = None

    def initialize(self) -> None:
        super().initialize()
        self._prepare_log()

    def _build_loss(self) -> nn.Module:
        return DistilledLoss(
            super()._build_loss(),
            LogitDistillation(self.temperature),
            self.distillation_weight,
            self.label_manager.ignore_label,
        )

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch < self.num_epochs:  # --c after the last epoch only validates: no teacher needed
            self._load_teacher()
        super().on_train_start()

    def _load_teacher(self) -> None:
        split = self.do_split()
        trainer = self._teacher_trainer_name()
        command = training_command(self, trainer)
        path = teacher_checkpoint_path(
            self.plans_manager.dataset_name,
            trainer,
            self.plans_manager.plans_name,
            self.configuration_name,
            self.fold,
        )
        checkpoint = read_teacher_checkpoint(path, command)
        check_teacher_fits(checkpoint, path, self, split, command)
        with torch.random.fork_rng(devices=[]):  # the teacher's discarded initial weights draw no random numbers
            network = recursive_find_trainer_class_by_name(checkpoint["trainer_name"]).build_network_architecture(
                self.plans_manager,
                self.configuration_manager,
                self.num_input_channels,
                self.label_manager.num_segmentation_heads,
                self.enable_deep_supervision,
            )
        self.teacher = freeze(network, checkpoint["network_weights"], path, command).to(self.device)

        provenance = {
            "role": "student",
            "package_version": __version__,
            "settings": {"distillation_weight": self.distillation_weight, "temperature": self.temperature},
            "teacher": {
                "trainer": checkpoint["trainer_name"],
                "fold": checkpoint["init_args"]["fold"],
                "epoch": checkpoint["current_epoch"],
                "training_cases": checkpoint["shapekd"]["training_cases"],
                "weights_sha256": weights_sha256(checkpoint["network_weights"]),
            },
        }
        if self.current_epoch > 0:
            self._refuse_other_provenance(provenance)
        self.provenance = provenance
        self.print_to_log_file(
            f"Distilling from {path} (epoch {checkpoint['current_epoch']}, weights SHA-256 "
            f"{provenance['teacher']['weights_sha256'][:12]}…); distillation_weight {self.distillation_weight}, "
            f"temperature {self.temperature}"
        )

    def _refuse_other_provenance(self, now: dict[str, Any]) -> None:
        before = self.provenance
        differences = [
            f"{key}: {before[part][key]} before, {now[part][key]} now"
            for part, keys in (("settings", now["settings"]), ("teacher", ("trainer", "weights_sha256")))
            for key in keys
            if before[part][key] != now[part][key]
        ]
        if differences:
            raise ValueError(
                "This training began with another teacher or other settings:\n    " + "\n    ".join(differences) + "\n"
                f"Bring those back to continue {self.output_folder}, or move that folder away and start anew "
                "without --c."
            )

    def _teacher_trainer_name(self) -> str:
        own = type(self).__name__
        name = self.teacher_trainer or own.replace("ShapeKD", "MeanImage")
        if name == own:
            raise ValueError(
                f"{own} does not say who its teacher is: its name has no 'ShapeKD' to replace by 'MeanImage'. Set the "
                "class attribute teacher_trainer to the name of the teacher's trainer."
            )
        return name

    def train_step(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # no_grad, not inference_mode, whose tensors the loss could not save for its backward pass. nnU-Net autocasts
        # on CUDA only.
        with torch.no_grad(), autocast("cuda") if self.device.type == "cuda" else dummy_context():
            self.loss.teacher_logits = self.teacher(self.teacher_input(data, finest))
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        result = super().train_step({**batch, "data": data, "target": target})
        segmentation, distillation = (part.cpu().numpy() for part in self.loss.last_parts)
        return {**result, "loss": segmentation, "distillation_loss": distillation}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        losses = collate_outputs(train_outputs)["distillation_loss"]
        if self.is_ddp:
            of_all_ranks = [None] * distributed.get_world_size()
            distributed.all_gather_object(of_all_ranks, losses)
            losses = np.vstack(of_all_ranks)
        self.logger.log("distillation_losses", float(np.mean(losses)), self.current_epoch)

    def on_epoch_end(self) -> None:
        self.print_to_log_file("distillation_loss", round(self.logger.get_value("distillation_losses", step=-1), 4))
        super().on_epoch_end()
        if self.local_rank == 0:
            plot_distillation(self.logger.get_checkpoint(), Path(self.output_folder) / "progress_distillation.png")

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self._prepare_log()  # loading has replaced the log

    def _prepare_log(self) -> None:
        """nnU-Net's logger takes known keys only."""
        self.logger.local_logger.my_fantastic_logging.setdefault("distillation_losses", [])

    def _trainer_name_for_prediction(self) -> str:
        # the student's network is nnU-Net's own, so its file says so and opens where this package is not installed
        return network_builder_name(type(self))
