"""The student's trainer: nnU-Net's own network, data and training step, and a frozen teacher beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.helpers import dummy_context
from torch import autocast, distributed, nn
from torch._dynamo import OptimizedModule

from nnunet_shapekd.files.checkpoints import weights_sha256
from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.method.distillation import (
    DistilledLoss,
    FeatureDistillation,
    LogitDistillation,
    last_decoder_stage,
)
from nnunet_shapekd.training.base import OnClassMeans
from nnunet_shapekd.training.curves import plot_distillation
from nnunet_shapekd.training.find_teacher import (
    Teacher,
    find_teacher,
    read_teacher,
    teacher_checkpoint_path,
    training_command,
)
from nnunet_shapekd.training.memory import explained_out_of_memory
from nnunet_shapekd.training.settings import ABOVE_0, PATH, SHARE, SWITCH, WEIGHT, Setting
from nnunet_shapekd.training.teacher import MeanImage

#: the weight of each distillation term, a setting -> how settings and classes make the term
TERMS: dict[str, Callable[[Mapping[str, Any], VoxelClasses], nn.Module]] = {
    "logit_weight": lambda settings, classes: LogitDistillation(settings["temperature"], classes.has_regions),
    "feature_weight": lambda settings, classes: FeatureDistillation(),
}


class ShapeKD(OnClassMeans):
    """Mixin that makes a student's trainer: nnU-Net's own network, data and training step, and a frozen teacher.

    The loss is ``L_seg + logit_weight * L_logits + feature_weight * L_features``, where the distillation terms compare
    the student on the image with the teacher on the class-mean image of the same augmented sample. Prediction needs
    neither teacher nor this package.

    The attributes below are settings; for one run, an environment variable ``SHAPEKD_<NAME>`` overrides each. Where the
    defaults come from is in docs/evidence.md.

    Attributes:
        logit_weight: factor of the logit term, at least 0.
        feature_weight: factor of the feature term, at least 0.
        temperature: softens both networks' probabilities in the logit term, above 0.
        balanced: whether every class gets the same share of a term, however few voxels it has.
        ramp: share of the epochs, 0 to 1, over which the weights grow linearly; 0 for full weights at once.
        teacher_path: a teacher's checkpoint, or a folder that holds one; ``None`` for the teacher that nnU-Net's own
            folders hold for this dataset, plans, configuration and fold.
    """

    role = "student"
    asks_about_the_sample_as_it_was = True

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
    def known_settings(cls) -> dict[str, Setting]:
        own = {"temperature": ABOVE_0, "balanced": SWITCH, "ramp": SHARE, "teacher_path": PATH}
        return {**super().known_settings(), **dict.fromkeys(TERMS, WEIGHT), **own}

    @classmethod
    def distillation_terms(cls, settings: Mapping[str, Any], classes: VoxelClasses) -> list[tuple[float, nn.Module]]:
        """The distillation's terms, each with its weight: those of TERMS; override it to add one of your own."""
        return [(settings[weight], make(settings, classes)) for weight, make in TERMS.items()]

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
        super().initialize()
        if self.loss.needs_features:
            features = self.loss.recorded_features
            last_decoder_stage(self._plain_network()).register_forward_hook(
                # not in validation and prediction, where nobody would consume it
                lambda module, _, output: features.update(student=output) if module.training else None
            )
        self._prepare_log()

    def _build_loss(self) -> nn.Module:
        segmentation = super()._build_loss()
        wrapped = isinstance(segmentation, DeepSupervisionWrapper)
        if self.enable_deep_supervision and not wrapped:
            raise NotImplementedError(
                "With deep supervision the distillation takes the scales' weights from nnU-Net's "
                f"DeepSupervisionWrapper; the loss of {type(self).__name__} is a {type(segmentation).__name__}. Wrap "
                "it in one, or switch enable_deep_supervision off."
            )
        loss = DistilledLoss(
            segmentation,
            self.classes,
            self.distillation_terms(self.settings, self.classes),
            segmentation.weight_factors if wrapped else (1.0,),
            self.settings["balanced"],
        )
        if self._do_i_compile():  # as nnU-Net its Dice: a term keeps less for the backward pass then
            for _, term in loss.terms:
                term.compile()
        return loss

    def _plain_network(self) -> nn.Module:
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def prepared(self, split: dict[str, list[str]]) -> dict[str, Any]:
        record = super().prepared(split)
        teacher = self._read_teacher()
        teacher.refuse_unfit(self)
        checkpoint = teacher.checkpoint
        cases = {*checkpoint["shapekd"]["training_cases"], *split["training_cases"], *split["validation_cases"]}
        patients = find_patients(sorted(cases), [Path(self.preprocessed_dataset_folder_base)])
        if remark := patients.remark():
            self.print_to_log_file(f"The teacher's training and this validation were compared by case: {remark}")
        self._refuse_leaks(teacher, teacher.leaked_cases(**split, patients=patients))
        self.teacher_class = teacher.trainer
        self.teacher = teacher.network(self).to(self.device)
        if self.loss.needs_features:
            features = self.loss.recorded_features
            stage = last_decoder_stage(self.teacher)
            stage.register_forward_hook(lambda module, _, output: features.update(teacher=output))
            widths = stage.output_channels, last_decoder_stage(self._plain_network()).output_channels
            if widths[0] != widths[1]:
                raise ValueError(
                    f"Feature distillation compares the last decoder stages, which must be equally wide; the teacher "
                    f"{teacher.path} has {widths[0]} features there, the student {widths[1]}. Distil logits alone "
                    f"(feature_weight 0). {teacher.advice}"
                )
        if self._do_i_compile():
            self.teacher = torch.compile(self.teacher)

        sha256 = weights_sha256(checkpoint["network_weights"])
        if self.current_epoch > 0 and self.provenance["teacher"]["weights_sha256"] != sha256:
            raise ValueError(f"{teacher.path} is another teacher than this training's. {teacher.advice}")
        self.print_to_log_file(
            f"Distilling from {teacher.path} (epoch {checkpoint['current_epoch']}, weights SHA-256 {sha256[:12]}…)"
        )
        record["teacher"] = {
            "trainer": checkpoint["trainer_name"],
            "fold": checkpoint["init_args"]["fold"],
            "epoch": checkpoint["current_epoch"],
            "training_cases": checkpoint["shapekd"]["training_cases"],
            "weights_sha256": sha256,
        }
        return record

    def _read_teacher(self) -> Teacher:
        """The teacher asked for by its path, or the one nnU-Net's folders hold, with what to do if it does not fit."""
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
        if self.settings["teacher_path"]:
            path = find_teacher(self.settings["teacher_path"], self.fold)
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
        return read_teacher(path, command, advice)

    def _refuse_leaks(self, teacher: Teacher, leaked: list[str]) -> None:
        if not leaked:
            return
        what = (
            f"The teacher {teacher.path} was trained on {len(leaked)} of the cases this student is validated on "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}), or on others of the same patients; their "
            "labels leak into the validation through it."
        )
        if not self.settings["teacher_path"]:
            raise ValueError(f"{what} Was splits_final.json changed since? {teacher.advice}")
        self.print_to_log_file(f"WARNING: {what} It was asked for by path: do not report this validation's result.")

    def _body_of_a_class_like_this(self) -> str:
        return f'teacher_trainer = "{self.teacher_trainer_name()}"'

    def train_step(self, batch: dict) -> dict:
        data, target, finest = self._on_device(batch)
        data, as_it_was = self._as_it_was(data)
        # no_grad, not inference_mode, whose tensors the loss could not save for its backward pass. nnU-Net autocasts
        # on CUDA only.
        with explained_out_of_memory(self, "the teacher's pass in a training step"), torch.no_grad():
            teacher_data = self._with_image(self.teacher_class.teacher_input, as_it_was, finest)
            with autocast("cuda") if self.device.type == "cuda" else dummy_context():
                self.loss.teacher_logits = self.teacher(teacher_data)
        # a new dict: nnU-Net's benchmark without data loading hands in the same batch again and again
        with explained_out_of_memory(self, "the student's own part of a training step"):
            result = super().train_step({**batch, "data": data, "target": target})
        segmentation, distillation = (part.cpu().numpy() for part in self.loss.last_parts)
        return {**result, "loss": segmentation, "distillation_loss": distillation}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.loss.ramp = self._grown(self.settings["ramp"])

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
