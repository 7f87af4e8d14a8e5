"""Trainers of any kind just before their first step; a student's teacher has random weights, so nothing is trained."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from conftest import DATASET, PLANS, batch_of, make
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from test_label_kinds import PLAIN, REGIONS, dataset_of, region_batch

from nnunet_shapekd.training.moves import MeanJitter
from nnunet_shapekd.training.student import ShapeKD, ShapeKDFeatures, ShapeKDLogitsFeatures
from nnunet_shapekd.training.teacher import MeanImage


class Logits(ShapeKD, nnUNetTrainer):
    pass


class Features(ShapeKDFeatures, nnUNetTrainer):
    pass


class Both(ShapeKDLogitsFeatures, nnUNetTrainer):
    pass


class Balanced(ShapeKDLogitsFeatures, nnUNetTrainer):
    balanced = True


class Moves(MeanJitter, nnUNetTrainer):
    mean_jitter_share = 1.0


class BothAndMoves(MeanJitter, ShapeKDLogitsFeatures, nnUNetTrainer):
    mean_jitter_share = 1.0


class Teacher(MeanImage, nnUNetTrainer):
    pass


@dataclass(frozen=True)
class Data:
    """What kind of data the trainers of the planned phantom are told it is."""

    regions: bool = False
    ignore: bool = False
    #: the second stage of a cascade
    cascade: bool = False
    #: deep supervision has one scale less, the coarsest of which has no weight
    stages: int = 3

    def trainer(self, trainer_class: type, **attributes) -> nnUNetTrainer:
        """A trainer of such data that is not initialised, with a folder of its own, and a student with a teacher."""
        folder = Path(os.environ["nnUNet_preprocessed"], DATASET)
        plans = {**json.loads((folder / f"{PLANS}.json").read_text()), "continue_training": False}
        two_d = plans["configurations"]["2d"]
        network, n = two_d["architecture"]["arch_kwargs"], self.stages
        network |= {"n_stages": n, "features_per_stage": [8, 16, 24, 24, 24][:n], "kernel_sizes": [[3, 3]] * n}
        network |= {"strides": [[1, 1]] + [[2, 2]] * (n - 1), "n_conv_per_stage": [2] * n}
        network["n_conv_per_stage_decoder"] = [2] * (n - 1)
        if self.cascade:
            plans["configurations"]["2d_before"] = {"inherits_from": "2d", "next_stage": "2d"}
            two_d["previous_stage"] = "2d_before"
        dataset_json = dataset_of(REGIONS if self.regions else PLAIN, self.ignore)
        if issubclass(trainer_class, ShapeKD):
            teacher = type(make("nnUNetTrainerMeanImage"))
            attributes = {
                "teacher_path": self._teacher_file(teacher),
                "teacher_trainer": teacher.__name__,
                **attributes,
            }
        trainer_class = type(trainer_class.__name__, (trainer_class,), attributes)
        trainer = trainer_class(plans, "2d", 0, dataset_json, torch.device("cpu"))
        trainer.output_folder = tempfile.mkdtemp(dir=os.environ["nnUNet_results"])  # not that of a trained one
        return trainer

    def _teacher_file(self, trainer_class: type) -> str:
        """The checkpoint of a teacher of random weights, whose logits are far from uniform."""
        teacher = self.trainer(trainer_class)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            teacher.initialize()
        for layer in teacher.network.decoder.seg_layers:
            layer.weight.data *= 4
        teacher.provenance = {"role": "teacher", "deep_supervision": True, "training_cases": []}
        path = str(Path(teacher.output_folder, "checkpoint_final.pth"))
        teacher.save_checkpoint(path)
        return path

    def batch(self, trainer: nnUNetTrainer, seed: int = 0) -> dict:
        """As nnU-Net's loaders deliver it, on the CPU."""
        batch = region_batch(trainer, self.ignore)[0] if self.regions or self.ignore else batch_of(trainer, seed)
        if self.cascade:
            data, n_classes = batch["data"], len(trainer.label_manager.foreground_labels)
            previous = torch.randint(0, 2, (len(data), n_classes, *data.shape[2:])).float()
            batch["data"] = torch.cat((data, previous), dim=1)
        return batch
