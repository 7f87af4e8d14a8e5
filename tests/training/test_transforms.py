"""Moves of intensities among nnU-Net's transforms: their place, whom they move, how often, and what is passed on."""

from functools import partial

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from conftest import TEACHER, make, own

from nnunet_shapekd.method.class_mean import VoxelClasses, class_mean_image
from nnunet_shapekd.method.intensity_moves import MoveRanges
from nnunet_shapekd.training.moves import IntensityMoves
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.transforms import MoveIntensities, insert_moves

MOVES = "nnUNetTrainerIntensityMoves_1epoch"
WITH_TEACHER = "nnUNetTrainerShapeKDIntensityMoves_1epoch"


def transform(labels=(0, 1, 2), share=1.0, keep=False, **classes) -> MoveIntensities:
    grown = torch.ones(())
    return MoveIntensities(VoxelClasses(labels, **classes), MoveRanges(share=share), grown, [True, True], keep)


def sample(channels=1, seg_channels=1) -> dict[str, torch.Tensor]:
    image = torch.randn(channels, 24, 32, generator=torch.Generator().manual_seed(0))
    segmentation = torch.zeros(seg_channels, 24, 32, dtype=torch.int16)
    segmentation[0, :, 8:16], segmentation[0, :, 16:24], segmentation[0, :, 28:] = 1, 2, -1
    return {"image": image, "segmentation": segmentation}


def test_a_sample_is_moved_and_what_came_in_stays_as_it_was():
    before = sample(channels=2)
    data = {name: tensor.clone() for name, tensor in before.items()}
    after = transform()(**data)
    assert after["image"].shape == (2, 24, 32)
    for k in (0, 1, 2):
        assert (after["image"] != before["image"])[:, before["segmentation"][0] == k].float().mean() > 0.9
    assert all(torch.equal(data[name], before[name]) for name in before)
    assert torch.equal(after["segmentation"], before["segmentation"])


def test_the_image_as_it_was_comes_behind_the_moved_one():
    before = sample(channels=2)
    after = transform(keep=True)(**before)["image"]
    assert torch.equal(after[2:], before["image"]) and not torch.equal(after[:2], before["image"])
    after = transform(keep=True, share=0.0)(**before)["image"]
    assert torch.equal(after[:2], before["image"]) and torch.equal(after[2:], before["image"])


@pytest.mark.parametrize("kind", ["regions", "ignore", "cascade"])
def test_regions_ignored_voxels_and_a_cascades_previous_stage(kind):
    np.random.seed(0)
    before = sample(seg_channels=2 if kind == "cascade" else 1)
    how = {
        "regions": {"regions": [(1, 2), (2,)]},
        "ignore": {"labels": (0, 1), "ignore_label": 2},  # the third stripe is nobody's: it moves as the background
        "cascade": {},
    }
    after = transform(**how[kind])(**before)
    assert (after["image"] != before["image"]).float().mean() > 0.9 and after["image"].isfinite().all()
    assert torch.equal(after["segmentation"], before["segmentation"])


def test_the_share_is_met_and_grows_with_what_the_training_process_says():
    np.random.seed(0)
    moves, before = transform(share=0.5), sample()
    share = {}
    for grown in (1.0, 0.5, 0.0):
        moves.grown.fill_(grown)
        share[grown] = np.mean([not torch.equal(moves(**before)["image"], before["image"]) for _ in range(300)])
    assert 0.4 < share[1.0] < 0.6 and 0.17 < share[0.5] < 0.33 and share[0.0] == 0


def test_two_workers_forked_with_one_state_of_torchs_random_numbers_draw_different_moves():
    before, moved = sample(), []
    for worker in range(2):
        torch.manual_seed(0)  # as forking leaves it
        np.random.seed(worker)  # as nnU-Net seeds its workers
        moved.append(transform()(**before)["image"])
    assert not torch.equal(*moved)


def place_of_moves(trainer) -> tuple[list[str], int]:
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    steps = loader.data_loader.transforms.transforms
    return [type(step).__name__ for step in steps], next(
        i for i, step in enumerate(steps) if isinstance(step, MoveIntensities)
    )


@pytest.mark.parametrize("variant", ["1epoch", "NoMirroring", "DA5", "NoDA"])
def test_moves_come_after_what_moves_voxels_and_before_what_belongs_to_a_scan(nnunet_environment, variant):
    names, place = place_of_moves(own(type(make(f"nnUNetTrainerIntensityMoves_{variant}"))))
    assert names.count("MoveIntensities") == 1
    assert place == (names.index("SpatialTransform") + 1 if "SpatialTransform" in names else 0)
    assert "RandomTransform" not in names[:place] or variant == "DA5"


def test_what_lies_outside_is_masked_in_both_images():
    mask = MaskImageTransform(apply_to_channels=[0, 1])
    steps = ComposeTransforms([SpatialTransform((24, 32), 0, False), mask])
    insert_moves(steps, transform(keep=True), channels=2)
    assert mask.apply_to_channels == [0, 1, 2, 3] and isinstance(steps.transforms[1], MoveIntensities)
    image = steps.transforms[2](**steps.transforms[1](**sample(channels=2)))["image"]
    assert not image[:, :, 28:].any()


@pytest.fixture(params=[(ShapeKD, IntensityMoves), (IntensityMoves, ShapeKD)], ids=["ShapeKD first", "moves first"])
def both(request, ready):
    mixed = type("Both", (*request.param, type(make("nnUNetTrainer_1epoch"))), {})
    return partial(own, mixed, teacher_trainer=TEACHER)


def test_the_teacher_is_asked_about_the_sample_as_it_was(both):
    trainer = both(moves_share=1.0, moves_ramp=0.0)
    trainer.on_train_start()
    loader, _ = trainer.get_dataloaders()
    batch = next(loader)
    assert batch["data"].shape[1] == 2
    seen = {}
    for name in ("teacher", "network"):
        getattr(trainer, name).register_forward_pre_hook(partial(lambda name, _, x: seen.update({name: x[0]}), name))
    trainer.train_step(batch)
    moved, as_it_was = batch["data"].split(1, 1)
    torch.testing.assert_close(seen["network"], moved)
    torch.testing.assert_close(seen["teacher"], class_mean_image(as_it_was, batch["target"][0]))
    assert not torch.equal(moved, as_it_was)


def test_validation_sees_the_images_as_they_are(both):
    trainer = both()
    trainer.on_train_start()
    _, loader = trainer.get_dataloaders()
    batch = next(loader)
    assert batch["data"].shape[1] == 1
    assert np.isfinite(trainer.validation_step(batch)["loss"])


def test_the_share_grows_over_the_first_epochs(nnunet_environment):
    trainer = own(type(make(MOVES)), num_epochs=10)
    trainer.initialize()
    trainer.num_epochs = 10
    grown = []
    for epoch in (0, 2, 4, 9):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        grown.append(round(float(trainer.moves_grown), 3))
    assert grown == [0.2, 0.6, 1.0, 1.0]


@pytest.mark.parametrize("trainer", [MOVES, WITH_TEACHER])
def test_trained_by_nnunets_command_with_workers_and_recorded(planned, teacher, trainer):
    planned.train(trainer, nnUNet_n_proc_DA="2")
    checkpoint = torch.load(planned.fold(trainer) / "checkpoint_final.pth", weights_only=False)
    settings = checkpoint["shapekd"]["settings"]
    assert checkpoint["trainer_name"] == "nnUNetTrainer" and settings["moves_share"] == MoveRanges.share
    assert ("teacher" in checkpoint["shapekd"]) == (trainer == WITH_TEACHER)


@pytest.mark.parametrize("wrong", [{"moves_share": 1.5}, {"moves_location": -1.0}, {"moves_ramp": 2.0}])
def test_settings_out_of_bounds_end_the_training_before_it_starts(nnunet_environment, loaders_must_not_start, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        own(type(make(MOVES)), **wrong).run_training()
