"""The method as two mixins that turn any ``nnUNetTrainer`` into a teacher's or a student's trainer.

``class MyTeacher(MeanImage, AnyNnUNetTrainer)`` and ``class MyStudent(ShapeKD, AnyNnUNetTrainer)`` are complete
trainers. The training step stays nnU-Net's own: the mixins only change what goes into it.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join, load_json
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.helpers import dummy_context
from torch import autocast, distributed, nn
from torch._dynamo import OptimizedModule

from nnunet_shapekd import __version__
from nnunet_shapekd.checkpoints import ResumableTraining, weights_sha256
from nnunet_shapekd.class_mean import VoxelClasses, class_mean_image
from nnunet_shapekd.distillation import DistilledLoss
from nnunet_shapekd.memory import explained_out_of_memory
from nnunet_shapekd.report.curves import plot_distillation
from nnunet_shapekd.settings import different_settings, read_settings
from nnunet_shapekd.skipless_unet import with_width, without_skips
from nnunet_shapekd.teacher import (
    build_teacher,
    check_teacher_fits,
    find_teacher,
    leaked_cases,
    read_teacher_checkpoint,
    teacher_checkpoint_path,
    teacher_trainer_class,
    training_command,
)


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

    def _teacher_data(self, teacher: type[MeanImage], data: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """``data`` with the teacher's input in place of the image; a cascade's previous stage passes through."""
        n_image = self._n_image_channels
        image = teacher.teacher_input(data[:, :n_image], self.classes.of_target(target), self.classes.number)
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


class MeanImage(OnClassMeans):
    """Mixin that makes a teacher's trainer: class-mean images in, skip-less planned network.

    The teacher sees the reference labels through its input. Its validation Dice says how much of a shape survives the
    bottleneck; it is not a result.
    """

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
            classes: ``(b, 1, x, y[, z])`` int64 on the same grid, see :class:`~nnunet_shapekd.class_mean.VoxelClasses`.
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

    def _prepare_training(self, split: dict[str, list[str]]) -> None:
        self.provenance = {
            "role": "teacher",
            "package_version": __version__,
            "trainer": type(self).__name__,
            "deep_supervision": self.enable_deep_supervision,
            **split,
        }

    def train_step(self, batch: dict) -> dict:
        return super().train_step(self._with_teacher_data(batch))

    def validation_step(self, batch: dict) -> dict:
        return super().validation_step(self._with_teacher_data(batch))

    def _with_teacher_data(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        return {**batch, "data": self._teacher_data(type(self), data, finest), "target": target}

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


class ShapeKD(OnClassMeans):
    """Mixin that makes a student's trainer: nnU-Net's own network, data and training step, and a frozen teacher.

    The loss is ``L_seg + logit_weight * L_logits + feature_weight * L_features``, where the distillation terms compare
    the student on the image with the teacher on the class-mean image of the same augmented sample. Prediction needs
    neither teacher nor this package.

    The attributes below are the settings, see :class:`~nnunet_shapekd.settings.Settings`; for one run, an environment
    variable ``SHAPEKD_<NAME>`` overrides each. The defaults, logits at temperature 1 with a weight that grows to 1
    over the first half of the training, come from a screening on ACDC at a small budget (docs/evidence.md): on its 14
    development patients they gained 1.8 Dice points (three seeds; 95 % interval over patients 0.3 to 3.4), weight 1
    from the start 0.1; a higher temperature, balance over classes and the feature term at the paper's weight each cost
    more than 11, a threefold weight 4 (one seed each, weight constant). On 15 held-out patients the defaults gained 0.4
    (three seeds; -0.2 to 1.0), an interval that includes 0, after five times as long 0.4 (two seeds; -0.2 to 0.9).
    """

    logit_weight: float = 1.0
    feature_weight: float = 0.0
    temperature: float = 1.0
    balanced: bool = False
    ramp: float = 0.5
    teacher_path: str | None = None

    #: name of the teacher's trainer; ``None``: this trainer's name with "ShapeKD…" up to the next "_" replaced by
    #: ``teacher_kind``, so that all students of one variant share a teacher
    teacher_trainer: str | None = None
    teacher_kind: str = "MeanImage"
    #: the teacher's trainer, which knows what the teacher sees
    teacher_class: type[MeanImage] = MeanImage

    @classmethod
    def teacher_trainer_name(cls) -> str:
        """Name of the teacher's trainer.

        Raises:
            ValueError: if neither ``teacher_trainer`` nor the own name tells it.
        """
        own = cls.__name__
        name = cls.teacher_trainer or re.sub(r"ShapeKD[^_]*", cls.teacher_kind, own, count=1)
        if name == own:
            raise ValueError(
                f"{own} does not say who its teacher is: its name has no 'ShapeKD' to replace by "
                f"'{cls.teacher_kind}'. Set the class attribute teacher_trainer to the name of the teacher's trainer."
            )
        return name

    def initialize(self) -> None:
        if hasattr(self, "teacher_input"):
            raise ValueError(
                f"{type(self).__name__} defines teacher_input, which belongs to its teacher's trainer: the student "
                "asks that one, so that both see the same. Define it there alone."
            )
        self.settings, self._overridden = read_settings(self, os.environ)
        super().initialize()
        if self.settings.feature_weight:
            features = self.loss.recorded_features
            last_decoder_stage(self._plain_network()).register_forward_hook(
                # not in validation and prediction, where nobody would consume it
                lambda module, _, output: features.update(student=output) if module.training else None
            )
        self._prepare_log()

    def _build_loss(self) -> nn.Module:
        segmentation = super()._build_loss()
        if self.enable_deep_supervision and not isinstance(segmentation, DeepSupervisionWrapper):
            raise NotImplementedError(
                "With deep supervision the distillation takes the scales' weights from nnU-Net's "
                f"DeepSupervisionWrapper; the loss of {type(self).__name__} is a {type(segmentation).__name__}. Wrap "
                "it in one, or switch enable_deep_supervision off."
            )
        return DistilledLoss(
            segmentation,
            self.classes,
            self.settings.logit_weight,
            self.settings.feature_weight,
            self.settings.temperature,
            self.settings.balanced,
        )

    def _plain_network(self) -> nn.Module:
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def on_train_start(self) -> None:
        if self.current_epoch > 0:  # after the last epoch, too: the settings would be taken for this run's
            self._refuse_other_settings()
        super().on_train_start()

    def _prepare_training(self, split: dict[str, list[str]]) -> None:
        trainer = self.teacher_trainer_name()
        command = training_command(self, trainer)
        path = teacher_checkpoint_path(
            self.plans_manager.dataset_name,
            trainer,
            self.plans_manager.plans_name,
            self.configuration_name,
            self.fold,
        )
        advice = f"This student's teacher is trained (after moving an unfit one away) by:\n    {command}"
        if self.settings.teacher_path:
            path = find_teacher(self.settings.teacher_path, self.fold)
            advice = (
                "Give another teacher_path (SHAPEKD_TEACHER_PATH), or none and train this student's own teacher:\n"
                f"    {command}"
            )
        if self.current_epoch > 0:
            before = self.provenance["teacher"]
            advice = (
                f"This training began with a teacher of {before['trainer']}, fold {before['fold']}, weights SHA-256 "
                f"{before['weights_sha256'][:12]}…, teacher_path {self.provenance['settings']['teacher_path']}. Bring "
                "it back, or set SHAPEKD_TEACHER_PATH to where it is now; a newly trained one will not do. Or move "
                f"{self.output_folder} away and start anew without --c."
            )
        checkpoint = read_teacher_checkpoint(path, command, advice)
        check_teacher_fits(checkpoint, path, self, advice)
        self._refuse_leaks(leaked_cases(checkpoint, **split), path, advice)
        self.teacher_class = teacher_trainer_class(checkpoint, path)
        self.teacher = build_teacher(self.teacher_class, checkpoint, path, self, advice).to(self.device)
        if self.settings.feature_weight:
            features = self.loss.recorded_features
            stage = last_decoder_stage(self.teacher)
            stage.register_forward_hook(lambda module, _, output: features.update(teacher=output))
            widths = stage.output_channels, last_decoder_stage(self._plain_network()).output_channels
            if widths[0] != widths[1]:
                raise ValueError(
                    f"Feature distillation compares the last decoder stages, which must be equally wide; the teacher "
                    f"{path} has {widths[0]} features there, the student {widths[1]}. Distil logits alone "
                    f"(feature_weight 0). {advice}"
                )
        if self._do_i_compile():
            self.teacher = torch.compile(self.teacher)

        provenance = {
            "role": "student",
            "package_version": __version__,
            "trainer": type(self).__name__,
            "settings": asdict(self.settings),
            "teacher": {
                "trainer": checkpoint["trainer_name"],
                "fold": checkpoint["init_args"]["fold"],
                "epoch": checkpoint["current_epoch"],
                "training_cases": checkpoint["shapekd"]["training_cases"],
                "weights_sha256": weights_sha256(checkpoint["network_weights"]),
            },
            **split,
        }
        if self.current_epoch > 0:
            if self.provenance["teacher"]["weights_sha256"] != provenance["teacher"]["weights_sha256"]:
                raise ValueError(f"{path} is another teacher than this training's. {advice}")
        else:
            for other in self._checkpoints_in_the_way():
                self._refuse_to_overwrite(other, provenance)
        self.provenance = provenance
        settings = ", ".join(
            f"{name} {value}{f' ({self._overridden[name]})' if name in self._overridden else ''}"
            for name, value in provenance["settings"].items()
        )
        self.print_to_log_file(
            f"Distilling from {path} (epoch {checkpoint['current_epoch']}, weights SHA-256 "
            f"{provenance['teacher']['weights_sha256'][:12]}…) with {settings}"
        )

    def _refuse_leaks(self, leaked: list[str], path: Path, advice: str) -> None:
        if not leaked:
            return
        what = (
            f"The teacher {path} was trained on {len(leaked)} of the cases this student is validated on "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}); their labels leak into the validation "
            "through it."
        )
        if not self.settings.teacher_path:
            raise ValueError(f"{what} Was splits_final.json changed since? {advice}")
        self.print_to_log_file(f"WARNING: {what} It was asked for by path: do not report this validation's result.")

    def _refuse_other_settings(self) -> None:
        differences = different_settings(self.provenance.get("settings", {}), self.settings)
        if differences:
            raise ValueError(
                "This training began with other settings:\n    " + "\n    ".join(differences) + "\n"
                f"Bring those back to continue {self.output_folder}, or move that folder away and start anew "
                "without --c."
            )

    def _refuse_to_overwrite(self, checkpoint: dict[str, Any], now: dict[str, Any]) -> None:
        before = checkpoint.get("shapekd", {})
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
            f"    class {mine}({bases}):\n"
            f'        teacher_trainer = "{self.teacher_trainer_name()}"'
        )

    def train_step(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        # no_grad, not inference_mode, whose tensors the loss could not save for its backward pass. nnU-Net autocasts
        # on CUDA only.
        with explained_out_of_memory(self, "the teacher's pass in a training step"), torch.no_grad():
            teacher_data = self._teacher_data(self.teacher_class, data, finest)
            with autocast("cuda") if self.device.type == "cuda" else dummy_context():
                self.loss.teacher_logits = self.teacher(teacher_data)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        with explained_out_of_memory(self, "the student's own part of a training step"):
            result = super().train_step({**batch, "data": data, "target": target})
        segmentation, distillation = (part.cpu().numpy() for part in self.loss.last_parts)
        return {**result, "loss": segmentation, "distillation_loss": distillation}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.settings.ramp:
            self.loss.ramp = min(1.0, (self.current_epoch + 1) / (self.settings.ramp * self.num_epochs))

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


class MeanImageHalf(MeanImage):
    """Teachers of half the planned width, so a quarter of the computation."""

    width = 0.5


class ShapeKDHalfTeacher(ShapeKD):
    """Students of such a teacher; their own network is the planned one."""

    teacher_kind = "MeanImageHalf"


class ShapeKDFeatures(ShapeKD):
    """Students distilled by features alone, with the weight of the paper's own code, from the first epoch as there."""

    logit_weight = 0.0
    feature_weight = 2.0
    ramp = 0.0


class ShapeKDLogitsFeatures(ShapeKD):
    """Students distilled by both terms."""

    feature_weight = 2.0


def last_decoder_stage(network: nn.Module) -> nn.Module:
    """The stage whose features feature distillation compares."""
    stages = getattr(getattr(network, "decoder", None), "stages", None)
    if not stages:
        raise NotImplementedError(
            f"Feature distillation needs a network with decoder.stages, as nnU-Net's U-Nets have; "
            f"{type(network).__name__} has none. Distil logits instead (feature_weight 0)."
        )
    return stages[-1]
