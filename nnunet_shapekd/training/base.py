"""What this package's trainers share: voxels' classes, data that is safe to train on, the batch on its device."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import torch
from batchgenerators.utilities.file_and_folder_operations import join, load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd import __version__
from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.training.find_teacher import training_command
from nnunet_shapekd.training.resumable import ResumableTraining
from nnunet_shapekd.training.settings import Setting, different_settings, read_settings

#: image ``(b, c, x, y[, z])``, classes ``(b, 1, x, y[, z])`` int64, their number -> image of the same shape
ImageChange = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


class OnClassMeans(ResumableTraining):
    """What this package's trainers share, as a mixin for any ``nnUNetTrainer``.

    Mixins derived from it add to what their neighbours do, in any order: each method below calls, or is called with,
    ``super()``.
    """

    #: in the record that every checkpoint carries
    role: str = "student without a teacher"
    #: whether a training step needs each sample as it was, too, before its intensities moved
    asks_about_the_sample_as_it_was: bool = False

    @classmethod
    def known_settings(cls) -> dict[str, Setting]:
        """Name -> what it may be, of every attribute that is a setting: recorded, and compared on a continuation."""
        return {}

    def student_input(self, image: torch.Tensor, classes: torch.Tensor, num_classes: int) -> torch.Tensor:
        """What the trained network sees of a training sample; a hook for moves of intensities.

        It runs on the training device, after nnU-Net's own augmentation. Validation sees the images as they are, and a
        student's teacher is asked about the sample as it was.

        Args:
            image: ``(b, c, x, y[, z])`` float, the image channels. Not to be modified.
            classes: ``(b, 1, x, y[, z])`` int64 on the same grid, see
                :class:`~nnunet_shapekd.method.class_mean.VoxelClasses`.
            num_classes: classes are 0 to ``num_classes - 1``.

        Returns:
            Shaped like ``image``.
        """
        return image

    def initialize(self) -> None:
        self.classes = VoxelClasses.of_dataset(self.label_manager)
        self.settings, self._overridden = read_settings(self, os.environ)
        super().initialize()

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch > 0:  # after the last epoch, too: the settings would be taken for this run's
            self._refuse_other_settings()
        if self.current_epoch < self.num_epochs:  # --c after the last epoch only validates
            split = self._split_it_began_with()
            if self.is_cascaded:
                self._refuse_missing_previous_stage(split)
            record = {**self.prepared(split), **split}
            if self.current_epoch == 0 and self.settings:
                for checkpoint in self._checkpoints_in_the_way():
                    self._refuse_to_overwrite(checkpoint.get("shapekd", {}), record)
            self.provenance = record
            if self.settings:
                self.print_to_log_file(f"Settings: {self._settings_text()}")
        super().on_train_start()

    def prepared(self, split: dict[str, list[str]]) -> dict[str, Any]:
        """Check and load what the training rests on; errors end it before its data loaders start.

        Args:
            split: "training_cases" and "validation_cases".

        Returns:
            The training's record, which each mixin adds its own part to.
        """
        record = {"role": self.role, "package_version": __version__, "trainer": type(self).__name__}
        return {**record, "settings": dict(self.settings)} if self.settings else record

    def train_step(self, batch: dict) -> dict:
        if type(self).student_input is not OnClassMeans.student_input:
            data, target, finest = self._on_device(batch)
            # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
            batch = {**batch, "data": self._with_image(self.student_input, data, finest), "target": target}
        return super().train_step(batch)

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        # mixed precision may skip a single step whose loss is no number; weights that are none stay so
        if isnan(self.logger.get_value("train_losses", step=-1)) and not all(
            bool(weight.isfinite().all()) for weight in self.network.parameters()
        ):
            raise RuntimeError(
                f"The training of {type(self).__name__} diverged: loss and weights are not numbers any more, and no "
                "checkpoint of this epoch was written. Look for infinite or constant images, and at the learning rate "
                f"({self.initial_lr}); --c goes on from the last checkpoint in {self.output_folder}."
            )

    def _grown(self, ramp: float) -> float:
        """How far what grows over a share ``ramp`` of the epochs has come in this one, above 0 to 1; at once with 0."""
        return min(1.0, (self.current_epoch + 1) / (ramp * self.num_epochs)) if ramp else 1.0

    def _as_it_was(self, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A training batch's data for the trained network, and the data of the samples as they were; here the same."""
        return data, data

    def _with_image(self, change: ImageChange, data: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """``data`` with ``change(image, classes, number)`` as its image; a cascade's previous stage passes through."""
        n_image = self._n_image_channels
        image = change(data[:, :n_image], self.classes.of_target(target), self.classes.number)
        return torch.cat((image, data[:, n_image:]), dim=1) if self.is_cascaded else image

    @property
    def _n_image_channels(self) -> int:
        """Without those of a cascade's previous stage."""
        return self.num_input_channels - self.is_cascaded * len(self.label_manager.foreground_labels)

    def _on_device(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor], torch.Tensor]:
        """A batch's data, its target, and the target on the data's own grid, on the training device."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        if isinstance(target, list):
            target = [t.to(self.device, non_blocking=True) for t in target]
            return data, target, target[0]
        target = target.to(self.device, non_blocking=True)
        return data, target, target

    def _settings_text(self) -> str:
        return ", ".join(
            f"{name} {value}{f' ({self._overridden[name]})' if name in self._overridden else ''}"
            for name, value in self.settings.items()
        )

    def _refuse_other_settings(self) -> None:
        differences = different_settings(self.provenance.get("settings", {}), self.settings)
        if differences:
            raise ValueError(
                "This training began with other settings:\n    " + "\n    ".join(differences) + "\n"
                f"Bring those back to continue {self.output_folder}, or move that folder away and start anew "
                "without --c."
            )

    def _refuse_to_overwrite(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """A fresh start would overwrite the run of another record: nnU-Net names folders by the trainer's class."""
        differences = different_settings(before.get("settings", {}), self.settings)
        teachers = [run.get("teacher", {}).get("weights_sha256", "not recorded")[:12] for run in (before, now)]
        if teachers[0] != teachers[1]:
            differences.append(f"teacher's weights: {teachers[0]} before, {teachers[1]} now")
        if not differences:
            return
        own, bases = type(self).__name__, ", ".join(base.__name__ for base in type(self).__bases__)
        mine = re.sub("(ShapeKD[^_]*|$)", r"\1Mine", own, count=1)
        raise ValueError(
            f"{self.output_folder} holds a run of {own} that this one would overwrite, which differs:\n    "
            + "\n    ".join(differences)
            + "\nnnU-Net names result folders by the trainer's class. Move the old run away; or set nnUNet_results to "
            "another folder; or give these settings a class of their own, in a folder on nnUNet_extTrainer:\n"
            f"    class {mine}({bases}):\n        {self._body_of_a_class_like_this()}"
        )

    def _body_of_a_class_like_this(self) -> str:
        return "pass"

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split of this fold; refuses a fold the split file does not have.

        For such a fold nnU-Net falls back to a random split by case, which puts two images of one patient on both
        sides.
        """
        split = super().do_split()  # makes the file where there is none yet
        folds_are_nnunets = super().do_split.__func__ is nnUNetTrainer.do_split  # not a user's own
        if self.fold != "all" and folds_are_nnunets:
            folds = len(self._splits())
            if not 0 <= self.fold < folds:
                raise ValueError(
                    f"There is no fold {self.fold} in {self._splits_file()}, which holds {folds} fold(s), from 0 "
                    "on. nnU-Net would make a random split by case, which can put images of one patient into training "
                    "and validation. Use one of those folds, or add yours to the file."
                )
        return split

    def _splits_file(self) -> str:
        return join(self.preprocessed_dataset_folder_base, "splits_final.json")

    def _splits(self) -> list[dict[str, list[str]]]:
        return load_json(self._splits_file())

    def _split_it_began_with(self) -> dict[str, list[str]]:
        """This fold's cases, for the provenance; a training is not continued on others."""
        # str: nnU-Net's freshly made split holds numpy strings, which would not load without unpickling
        training_cases, validation_cases = (sorted(map(str, cases)) for cases in self.do_split())
        if self.current_epoch > 0 and self.provenance["training_cases"] != training_cases:
            raise ValueError(
                "This training began with another split of the cases. Bring that splits_final.json back to continue "
                f"{self.output_folder}, or move that folder away and start anew without --c."
            )
        return {"training_cases": training_cases, "validation_cases": validation_cases}

    def _refuse_missing_previous_stage(self, split: dict[str, list[str]]) -> None:
        """nnU-Net would stop in the middle of the training, with a data loader's traceback."""
        folder = Path(self.folder_with_segs_from_previous_stage)
        missing = {
            case
            for cases in split.values()
            for case in cases
            if not any((folder / f"{case}{ending}").is_file() for ending in (".b2nd", ".npz", ".npy"))
        }
        if not missing:
            return
        previous = self.configuration_manager.previous_stage_name
        folds = ["all"]
        if self.fold != "all":
            folds = [str(i) for i, split in enumerate(self._splits()) if missing & set(split["val"])] or ["all"]
        command = training_command(self, type(self).__name__, previous, "FOLD")
        raise FileNotFoundError(
            f"{self.configuration_name} needs the {previous} predictions of all its cases by the same trainer; "
            f"{len(missing)} of them are not in {folder}: {', '.join(sorted(missing))}.\n"
            f"They are made by the final validation of {previous}. Train (or with --val validate) it for FOLD in "
            f"{', '.join(folds)}:\n    {command}"
        )
