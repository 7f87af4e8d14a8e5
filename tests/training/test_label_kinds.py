"""Regions, ignore label and the cascade's second stage, in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from conftest import DATASET, PLANS, STUDENT, TEACHER, batch_of, make, own
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_shapekd.method.class_mean import VoxelClasses, class_mean_image

PLAIN = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
REGIONS = {"background": 0, "heart": [1, 2, 3], "LV": [2, 3], "LVC": 3}


def dataset_of(labels: dict, ignore: bool = False) -> dict:
    dataset = {**make("nnUNetTrainer").dataset_json, "labels": labels | ({"ignore": 4} if ignore else {})}
    return dataset | ({"regions_class_order": [1, 2, 3]} if labels is REGIONS else {})


def as_nnunets_loaders_deliver(target: torch.Tensor, label_manager: LabelManager) -> torch.Tensor:
    """Labels ``(b, 1, ...)`` -> one-hot regions, by nnU-Net's own transform and arguments."""
    if not label_manager.has_regions:
        return target
    ignore = label_manager.ignore_label
    regions = [*label_manager.foreground_regions] + ([] if ignore is None else [ignore])
    convert = ConvertSegmentationToRegionsTransform(regions, channel_in_seg=0)
    return torch.stack([convert(segmentation=sample)["segmentation"] for sample in target])


def region_batch(trainer, ignored_half: bool) -> tuple[dict, list[torch.Tensor]]:
    """A batch as the loaders deliver it, and its labels."""
    batch = batch_of(trainer)
    labels = batch["target"]
    if ignored_half:
        for scale in labels:
            scale[..., : scale.shape[-1] // 2] = 4
    return {**batch, "target": [as_nnunets_loaders_deliver(t, trainer.label_manager) for t in labels]}, labels


def test_a_class_is_a_set_of_regions():
    manager = LabelManager(REGIONS, [1, 2, 3])
    classes = VoxelClasses.of_dataset(manager)
    labels = torch.tensor([0, 1, 2, 3, 3, -1]).reshape(1, 1, 2, 3)
    target = as_nnunets_loaders_deliver(labels.clamp_min(0), manager)
    assert target.shape == (1, 3, 2, 3)
    for found in (classes.of_target(target), classes.of_target(target.float()), classes.of_label_map(labels)):
        assert found.shape == (1, 1, 2, 3) and found.dtype == torch.int64
        a, b, c, d, e, outside = found.flatten().tolist()
        assert len({a, b, c, d}) == classes.number == 4 and d == e and outside == a
    assert classes.valid(target) is None


def test_labels_of_the_same_regions_are_one_class():
    manager = LabelManager({"background": 0, "whole": [1, 2, 3], "core": [2, 3]}, [1, 2])
    found = VoxelClasses.of_dataset(manager).of_label_map(torch.arange(4).reshape(1, 1, 2, 2)).flatten().tolist()
    assert found[2] == found[3] and len(set(found)) == 3


def test_the_ignore_label_is_a_class_of_its_own_beside_regions():
    manager = LabelManager({**REGIONS, "ignore": 4}, [1, 2, 3])
    classes = VoxelClasses.of_dataset(manager)
    labels = torch.arange(5).reshape(1, 1, 1, 5)
    target = as_nnunets_loaders_deliver(labels, manager)
    assert target.shape == (1, 4, 1, 5)
    assert len(set(classes.of_target(target).flatten().tolist())) == classes.number == 5
    assert torch.equal(classes.of_target(target), classes.of_label_map(labels))
    assert classes.valid(target).flatten().tolist() == [True] * 4 + [False]


def test_more_regions_than_bits_are_refused():
    labels = {"background": 0} | {f"r{i}": [i, i + 1] for i in range(1, 64)}
    with pytest.raises(NotImplementedError, match="62 regions.*has 63"):
        VoxelClasses.of_dataset(LabelManager(labels, list(range(1, 64))))


@pytest.mark.parametrize("ignore", [False, True], ids=["", "ignore"])
@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["plain", "regions"])
def test_the_teacher_sees_the_mean_of_each_class_and_of_the_ignored_as_one_region(nnunet_environment, labels, ignore):
    trainer = own(type(make(TEACHER)), dataset_of(labels, ignore))
    trainer.initialize()
    batch, label_maps = region_batch(trainer, ignore)
    seen = []
    trainer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert np.isfinite(trainer.train_step(batch)["loss"])
    torch.testing.assert_close(seen[0], class_mean_image(batch["data"], label_maps[0]))
    if ignore:
        half = seen[0].shape[-1] // 2
        for sample, image in zip(seen[0], batch["data"], strict=True):
            torch.testing.assert_close(sample[..., :half], image[..., :half].mean().expand_as(sample[..., :half]))


@pytest.mark.parametrize("balanced", [False, True], ids=["", "balanced"])
@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["plain", "regions"])
def test_ignored_voxels_are_out_of_the_distillation(nnunet_environment, labels, balanced):
    trainer = own(type(make(STUDENT)), dataset_of(labels, ignore=True), balanced=balanced)
    trainer.initialize()
    trainer.network.train()
    batch, _ = region_batch(trainer, ignored_half=True)
    differs = slice(None)

    def teacher(x):
        """Agrees with the student but for some voxels, where its logits are wild."""
        with torch.no_grad():
            output = [y.clone() for y in trainer.network(batch["data"])]
        for y in output:
            y[:, 0, ..., differs if differs == slice(None) else slice(0, y.shape[-1] // 2)] = 1e4
        return output

    trainer.teacher = teacher
    assert trainer.train_step(batch)["distillation_loss"] > 0.1  # the disagreement counts where labels do
    differs = "ignored"
    assert trainer.train_step(batch)["distillation_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("balanced", [False, True], ids=["", "balanced"])
@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["plain", "regions"])
@pytest.mark.parametrize("content", [0, 4], ids=["no foreground", "all ignored"])
def test_batches_without_anything_to_learn_stay_finite(nnunet_environment, labels, content, balanced):
    trainer = own(type(make(STUDENT)), dataset_of(labels, ignore=True), balanced=balanced)
    trainer.initialize()
    trainer.network.train()
    heads = trainer.label_manager.num_segmentation_heads
    trainer.teacher = lambda x: [torch.randn(x.shape[0], heads, *t.shape[2:]) for t in batch_of(trainer)["target"]]
    for samples in (slice(0, 1), slice(None)):  # one sample, the whole batch
        batch = batch_of(trainer)
        for target in batch["target"]:
            target[samples] = content
        batch["target"] = [as_nnunets_loaders_deliver(t, trainer.label_manager) for t in batch["target"]]
        result = trainer.train_step(batch)
        assert np.isfinite(result["loss"]) and np.isfinite(result["distillation_loss"])
        assert all(p.isfinite().all() for p in trainer.network.parameters())
    assert (result["distillation_loss"] == 0) == (content == 4)


def cascade(nnunet_environment, trainer: str):
    """A trainer of a second stage: the 2d configuration with the previous stage "2d_before" of the same plans."""
    plans = json.loads((nnunet_environment.root / "preprocessed" / DATASET / f"{PLANS}.json").read_text())
    plans["configurations"]["2d_before"] = {"inherits_from": "2d", "next_stage": "2d"}
    plans["configurations"]["2d"]["previous_stage"] = "2d_before"
    stock = make("nnUNetTrainer")
    arguments = {**plans, "continue_training": False}, "2d", 0, stock.dataset_json, torch.device("cpu")
    return type(make(trainer))(*arguments)


def test_a_cascades_previous_stage_passes_through_the_class_mean(nnunet_environment):
    trainer = cascade(nnunet_environment, TEACHER)
    trainer.initialize()
    assert trainer.num_input_channels == 1 + 3
    batch, seen = batch_of(trainer), []
    previous = torch.randint(0, 2, (len(batch["data"]), 3, *batch["data"].shape[2:])).float()
    batch["data"] = torch.cat((batch["data"], previous), dim=1)
    trainer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    trainer.train_step(batch)
    torch.testing.assert_close(seen[0][:, :1], class_mean_image(batch["data"][:, :1], batch["target"][0]))
    assert torch.equal(seen[0][:, 1:], previous)


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_a_cascade_waits_for_every_cases_prediction(nnunet_environment, loaders_must_not_start, name):
    trainer = cascade(nnunet_environment, name)
    cases = sorted(case for part in trainer.do_split() for case in part)
    folder = Path(trainer.folder_with_segs_from_previous_stage)
    folder.mkdir(parents=True)
    for case in cases[2:]:
        (folder / f"{case}.b2nd").touch()
    with pytest.raises(FileNotFoundError) as error:
        trainer.run_training()
    message = str(error.value)
    assert f"2 of them are not in {folder}: {cases[0]}, {cases[1]}." in message
    assert f"nnUNetv2_train 27 2d_before FOLD -tr {name} -p {PLANS} -device cpu" in message
    folds = json.loads((nnunet_environment.root / "preprocessed" / DATASET / "splits_final.json").read_text())
    validating = [str(i) for i, fold in enumerate(folds) if set(cases[:2]) & set(fold["val"])]
    assert f"for FOLD in {', '.join(validating)}:" in message
