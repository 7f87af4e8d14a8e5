"""Networks with random weights, in the folders where their trainers save them: quicker than any training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matrix_datasets import DATASETS, MatrixDataset, _heart, shrink, write_raw
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_shapekd.files.checkpoints import weights_sha256
from nnunet_shapekd.trainers_folder import trainers_folder

STOCK, STUDENT, TEACHER = "nnUNetTrainer", "nnUNetTrainerShapeKD", "nnUNetTrainerMeanImage"
PLAIN = DATASETS["plain"]


def folders(tmp_path_factory) -> Iterator[Path]:
    """For a fixture: nnU-Net's folders below one root, in this process's environment."""
    root = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_extTrainer", trainers_folder())
        patch.setenv("nnUNet_compile", "f")
        patch.setenv("nnUNet_def_n_proc", "1")
        patch.delenv("SHAPEKD_TEACHER_PATH", raising=False)
        yield root


def plain_models(root: Path) -> dict[str, Path]:
    """For a fixture: trainer -> model folder, two folds of stock and student, one of a teacher."""
    folds = {0: ["case_3"], 1: ["case_2"]}
    return write_models(root, "plain", "2d", {STOCK: folds, TEACHER: {0: ["case_3"]}, STUDENT: folds})


def models_with_split(root: Path) -> dict[str, Path]:
    """For a fixture: :func:`plain_models`, and the split they were trained on."""
    written = plain_models(root)
    splits = [{"train": [c for c in PLAIN.training_cases if c != val], "val": [val]} for val in ("case_3", "case_2")]
    (root / "preprocessed" / PLAIN.name / "splits_final.json").write_text(json.dumps(splits))
    return written


def plans_of(dataset: MatrixDataset) -> dict:
    """Small plans by hand: nnU-Net's planner takes longer than all of these tests."""
    natural = dataset.file_ending == ".png"
    channels = len(dataset.channel_names)
    spacing_mm = list(_heart(3)[2])  # case_3 is not resampled
    configurations = {}
    for name, spacing in (("2d", [1.0, 1.0] if natural else spacing_mm[1:]), ("3d_fullres", spacing_mm)):
        dim = len(spacing)
        resampling = {"order": 1, "order_z": 0, "force_separate_z": None}
        configurations[name] = {
            "data_identifier": f"nnUNetPlans_{name}",
            "preprocessor_name": "DefaultPreprocessor",
            "spacing": spacing,
            "normalization_schemes": ["ZScoreNormalization"] * channels,
            "use_mask_for_norm": [False] * channels,
            "batch_dice": True,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
                    "n_conv_per_stage": [2, 2, 2],
                    "n_conv_per_stage_decoder": [2, 2],
                    "conv_bias": True,
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
        for of in ("data", "seg", "probabilities"):
            configurations[name][f"resampling_fn_{of}"] = "resample_data_or_seg_to_shape"
            configurations[name][f"resampling_fn_{of}_kwargs"] = {**resampling, "is_seg": of == "seg"}
    shrink(configurations["2d"], [32, 32], strides=[[1, 1], [2, 2], [2, 2]])
    kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    shrink(configurations["3d_fullres"], [4, 48, 48], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], kernels)
    configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    return {
        "dataset_name": dataset.name,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NaturalImage2DIO" if natural else "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(channels)},
        "label_manager": "LabelManager",
        "continue_training": False,
    }


def write_models(
    root: Path, kind: str, configuration: str, trainers: dict[str, dict[int, list[str]]]
) -> dict[str, Path]:
    """Model folders as their trainers save them: trainer -> folder.

    Args:
        root: of :func:`folders`.
        kind: of the dataset, which is written, too.
        configuration: of all models.
        trainers: name -> fold -> the validation cases that a checkpoint of this package's records; a student learnt
            from the teacher before it.
    """
    dataset = DATASETS[kind]
    dataset_json = json.loads((write_raw(dataset, root / "raw") / "dataset.json").read_text())
    preprocessed = root / "preprocessed" / dataset.name / f"nnUNetPlans_{configuration}"
    preprocessed.mkdir(parents=True)
    (preprocessed / "case_1.b2nd").touch()  # by which a trainer tells its kind of data
    written, learnt_from = {}, {}
    for name, folds in trainers.items():
        for fold, validation_cases in folds.items():
            torch.manual_seed(len(name) + fold)
            trainer_class = recursive_find_trainer_class_by_name(name)
            trainer = trainer_class(plans_of(dataset), configuration, fold, dataset_json, torch.device("cpu"))
            trainer.initialize()
            trainer.provenance = {
                "role": "teacher" if name == TEACHER else "student",
                "trainer": name,
                "training_cases": [case for case in dataset.training_cases if case not in validation_cases],
                "validation_cases": validation_cases,
            }
            if name == TEACHER:
                trainer.provenance["deep_supervision"] = True
                sha256 = weights_sha256(trainer.network.state_dict())
                learnt_from = {"trainer": name, "fold": fold, "weights_sha256": sha256}
            elif name == STUDENT:
                trainer.provenance |= {"settings": {"teacher_path": None}, "teacher": learnt_from}
            written[name] = Path(trainer.output_folder).parent
            trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        (written[name] / "dataset.json").write_text(json.dumps(dataset_json))
        (written[name] / "plans.json").write_text(json.dumps(plans_of(dataset)))
    return written


def plain_raw(root: Path, models) -> Path:
    """The raw dataset of the plain models."""
    return root / "raw" / PLAIN.name
