"""Moves of intensities in a training: what the network sees of them, what the teacher, and what is recorded."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER, batch_of, make, own
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_shapekd.files.provenance import provenance_of
from nnunet_shapekd.method.class_mean import VoxelClasses, class_mean_image
from nnunet_shapekd.method.intensity_moves import SMOOTHING
from nnunet_shapekd.training.base import OnClassMeans
from nnunet_shapekd.training.moves import MeanJitter
from nnunet_shapekd.training.settings import WEIGHT
from nnunet_shapekd.training.student import ShapeKD

JITTER = "nnUNetTrainerMeanJitter_1epoch"


@pytest.fixture
def jittering(nnunet_environment, monkeypatch, tmp_path):
    """A trainer just before its first step, which changes every sample."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make(JITTER)), mean_jitter_share=1.0)
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def seen_by(network) -> list[torch.Tensor]:
    """What a network is given from now on."""
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def test_the_network_sees_moved_structures_and_the_batch_stays_as_it_was(jittering):
    seen, batch, twin = seen_by(jittering.network), batch_of(jittering), batch_of(jittering)
    result = jittering.train_step(batch)
    assert torch.equal(batch["data"], twin["data"]) and result["loss"].shape == ()
    changed = seen[0] != batch["data"]
    near = F.max_pool2d((batch["target"][0] > 0).float(), 2 * SMOOTHING + 1, stride=1, padding=SMOOTHING) > 0
    assert changed[near].float().mean() > 0.9 and not changed[~near].any()


def test_validation_sees_the_images_as_they_are(jittering):
    seen, batch = seen_by(jittering.network), batch_of(jittering)
    jittering.validation_step(batch)
    assert torch.equal(seen[0], batch["data"])


@pytest.fixture(params=[(ShapeKD, MeanJitter), (MeanJitter, ShapeKD)], ids=["ShapeKD first", "MeanJitter first"])
def both(request, ready):
    """A student of a teacher whose own images move, made of the two mixins in either order; not started."""
    mixed = type("Both", (*request.param, type(make("nnUNetTrainer_1epoch"))), {})
    return partial(own, mixed, teacher_trainer=TEACHER)


def test_with_both_mixins_the_student_sees_moves_and_the_teacher_the_sample_as_it_was(both):
    trainer = both(mean_jitter_share=1.0)
    trainer.on_train_start()
    of_teacher, of_student, batch = seen_by(trainer.teacher), seen_by(trainer.network), batch_of(trainer)
    trainer.train_step(batch)
    torch.testing.assert_close(of_teacher[0], class_mean_image(batch["data"], batch["target"][0]))
    assert not torch.equal(of_student[0], batch["data"])


def test_with_both_mixins_all_settings_are_recorded_and_a_continuation_with_others_is_refused(both, tmp_path):
    trainer = both()
    trainer.on_train_start()
    trainer.current_epoch = 1
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    record = trainer.provenance
    assert record["role"] == "student" and record["teacher"]["trainer"] == TEACHER
    assert record["settings"]["logit_weight"] == 1.0 and record["settings"]["mean_jitter"] == 2.0
    for other in ({"mean_jitter_share": 0.5}, {"temperature": 2.0}):
        trainer = both(**other)
        trainer.load_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
        trainer.num_epochs = 3
        with pytest.raises(ValueError, match=next(iter(other))):
            trainer.on_train_start()


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_voxels_do_not_move(jittering, monkeypatch, regions):
    labels = {"background": 0, "a": [1, 2] if regions else 1, "b": 2, "ignore": 3}
    manager = LabelManager(labels, regions_class_order=(1, 2) if regions else None)
    monkeypatch.setattr(jittering, "classes", VoxelClasses.of_dataset(manager))
    data = batch_of(jittering)["data"]
    map_ = torch.zeros(data.shape[0], 1, *data.shape[2:])
    map_[..., 10:20], map_[..., 20:30], map_[..., 30:] = 1, 2, 3
    target = torch.cat([(map_ == 1) | (map_ == 2), map_ == 2, map_ == 3], 1) if regions else map_
    moved = jittering._with_image(jittering.student_input, data, target) - data
    assert moved[..., 30 + SMOOTHING :].abs().max() == 0 == moved[..., : 10 - SMOOTHING].abs().max()
    assert (moved[..., 14] != 0).all() and (moved[..., 25] != 0).all()


def test_the_checkpoint_opens_in_a_bare_nnunet_and_is_continued_with_the_same_settings_alone(jittering, tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    jittering.current_epoch = 1
    jittering.save_checkpoint(str(path))
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["shapekd"]["trainer"] == JITTER
    assert checkpoint["shapekd"]["settings"] == {"mean_jitter": 2.0, "mean_jitter_share": 1.0}
    assert provenance_of(path)["role"] == "student without a teacher"
    for share, refused in ((1.0, False), (0.5, True)):
        trainer = own(type(make(JITTER)), mean_jitter_share=share, num_epochs=3)
        trainer.load_checkpoint(str(path))
        trainer.num_epochs = 3
        with pytest.raises(ValueError, match="mean_jitter_share.* 1.0 before, 0.5 now") if refused else nullcontext():
            trainer.on_train_start()


class Darker(OnClassMeans):
    """A move of one's own is a mixin like this one."""

    darker: float = 1.0

    @classmethod
    def known_settings(cls):
        return {**super().known_settings(), "darker": WEIGHT}

    def student_input(self, image, classes, num_classes):
        return super().student_input(image, classes, num_classes) - self.settings["darker"] * (classes > 0)


def test_a_move_of_ones_own_is_one_mixin_that_adds_to_its_neighbours(ready, monkeypatch):
    monkeypatch.setenv("SHAPEKD_DARKER", "3")
    trainer = own(type("Mine", (Darker, ShapeKD, type(make("nnUNetTrainer_1epoch"))), {}), teacher_trainer=TEACHER)
    trainer.on_train_start()
    seen, batch = seen_by(trainer.network), batch_of(trainer)
    trainer.train_step(batch)
    torch.testing.assert_close(seen[0], batch["data"] - 3 * (batch["target"][0] > 0))
    assert trainer.provenance["settings"]["darker"] == 3 and trainer.provenance["role"] == "student"


@pytest.mark.parametrize("wrong", [{"mean_jitter": -1.0}, {"mean_jitter_share": 1.5}, {"mean_jitter": float("nan")}])
def test_settings_out_of_bounds_end_the_training_before_it_starts(nnunet_environment, loaders_must_not_start, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        own(type(make(JITTER)), **wrong).run_training()
