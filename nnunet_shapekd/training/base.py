"""What this package's trainers share: voxels' classes, data that is safe to train on, the batch on its device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import join, load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.training.find_teacher import training_command
from nnunet_shapekd.training.resumable import ResumableTraining

#: image ``(b, c, x, y[, z])``, classes ``(b, 1, x, y[, z])`` int64, their number -> image of the same shape
ImageChange = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


class OnClassMeans(ResumableTraining):
    """What this package's trainers share: voxels' classes, the teacher's input, and data that is safe to train on."""

    def initialize(self) -> None:
        self.classes = VoxelClasses(self.label_manager)
        super().initialize()

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch < self.num_epochs:  # --c after the last epoch only validates
            split = self._split_it_began_with()
            if self.is_cascaded:
                self._refuse_missing_previous_stage(split)
            self._prepare_training(split)
        super().on_train_start()

    def _prepare_training(self, split: dict[str, list[str]]) -> None:
        """Check and record what the training rests on; errors end it before its data loaders start."""
        raise NotImplementedError

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
                    f"There is no fold {self.fold} in {self._splits_file()}, which holds {folds} fold(s), 0 to "
                    f"{folds - 1}. nnU-Net would make a random split by case, which can put images of one patient into "
                    "training and validation. Use one of those folds, or add yours to the file."
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
