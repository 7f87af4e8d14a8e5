"""Teacher and student in nnU-Net's multi-GPU training, on two processes of the CPU (see ddp_worker.py)."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DATASET, PLANS, ROOT
from ddp_worker import EPOCHS, STEPS, STUDENT, TEACHER, WORLD_SIZE

ROLES = ["teacher", "student"]
#: in epochs, of each run: the stopped one ends after the first, the student is that one continued
EPOCHS_RUN = {"teacher": EPOCHS, "stopped": 1, "student": EPOCHS - 1}
#: what every process of nnU-Net 2.8.1 writes, whatever its rank
OF_EVERY_RANK = {"plans.json", "dataset.json", "dataset_fingerprint.json"}


@pytest.fixture(scope="module")
def runs(planned, tmp_path_factory):
    """``runs(how)``, "eager" or "compiled": per run, what each rank saw; and the folders of both trainings."""

    @cache
    def work(how: str) -> SimpleNamespace:
        folder = tmp_path_factory.mktemp("ddp")
        results = folder / "results"
        results.mkdir()
        worker = ROOT / "tests" / "ddp_worker.py"
        compiles = "t" if how == "compiled" else "f"
        planned.run("python", str(worker), str(folder), nnUNet_results=str(results), nnUNet_compile=compiles)
        ranks = {
            run: [
                torch.load(folder / f"{run}_rank{rank}.pth", map_location="cpu", weights_only=False)
                for rank in range(WORLD_SIZE)
            ]
            for run in EPOCHS_RUN
        }
        folds = {
            role: results / DATASET / f"{trainer}__{PLANS}__2d" / "fold_0"
            for role, trainer in (("teacher", TEACHER), ("student", STUDENT))
        }
        return SimpleNamespace(**ranks, folds=folds, compiled=how == "compiled")

    return work


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def ran(runs, request):
    return runs(request.param)


def checkpoint_of(ran, role):
    return torch.load(ran.folds[role] / "checkpoint_final.pth", map_location="cpu", weights_only=False)


def assert_equal(first, second):
    assert first.keys() == second.keys() and first
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("run", EPOCHS_RUN)
def test_the_ranks_share_each_batch_of_four_and_see_different_data(ran, run):
    first, second = getattr(ran, run)
    assert len(first["data"]) == len(second["data"]) == EPOCHS_RUN[run] * STEPS
    for a, b in zip(first["data"], second["data"], strict=True):
        assert len(a) == len(b) == 2
        assert not torch.equal(a, b)


@pytest.mark.parametrize("run", EPOCHS_RUN)
def test_gradients_and_weights_are_equal_on_both_ranks(ran, run):
    first, second = getattr(ran, run)
    assert first["distributed"] and second["distributed"]
    assert_equal(first["gradients"], second["gradients"])
    assert_equal(first["weights"], second["weights"])
    unused = ".seg_layers.0." if ran.compiled else "none"  # of the scale without weight
    used = {name: gradient for name, gradient in first["gradients"].items() if unused not in name}
    assert all(gradient.abs().max() > 0 for gradient in used.values())


@pytest.mark.parametrize("role", ROLES)
def test_the_checkpoint_holds_the_weights_of_both_ranks_without_the_teacher(ran, role):
    assert_equal(checkpoint_of(ran, role)["network_weights"], getattr(ran, role)[1]["weights"])


def test_the_teachers_network_gets_class_mean_images_on_both_ranks_and_the_students_gets_the_images(ran):
    for rank in range(WORLD_SIZE):
        for data, network_input in zip(ran.teacher[rank]["data"], ran.teacher[rank]["input"], strict=True):
            for image, sample in zip(data, network_input, strict=True):
                assert len(sample.unique()) <= 4 < len(image.unique())
        for data, network_input in zip(ran.student[rank]["data"], ran.student[rank]["input"], strict=True):
            assert torch.equal(data, network_input)


@pytest.mark.parametrize("run", ["stopped", "student"])
def test_the_students_teacher_is_the_trained_one_on_each_ranks_device_outside_ddp_and_optimiser(ran, run):
    for rank, seen in enumerate(getattr(ran, run)):
        assert_equal(seen["teacher"], checkpoint_of(ran, "teacher")["network_weights"])
        assert seen["teacher_devices"] == [f"cpu:{rank}"]
        assert not seen["teacher_is_distributed"]
        assert not seen["teacher_requires_grad"] and not seen["teacher_trains"]
        assert not seen["teacher_in_network"] and not seen["teacher_in_optimiser"]


def test_the_distillation_weights_the_scales_as_nnunets_loss_does_under_ddp(ran):
    # the lowest scale counts 1e-6, not 0, where nothing is compiled: DDP wants every parameter used
    expected = [1.0, 0.0] if ran.compiled else [1 / (1 + 1e-6), 1e-6 / (1 + 1e-6)]
    for seen in ran.student:
        assert seen["segmentation_scale_weights"] == pytest.approx(expected)
        assert seen["distillation_scale_weights"] == pytest.approx(expected)


@pytest.mark.parametrize("run", EPOCHS_RUN)
def test_the_log_has_one_entry_an_epoch_on_every_rank(ran, run):
    epochs = 1 if run == "stopped" else EPOCHS
    for seen in getattr(ran, run):
        assert seen["epoch"] == epochs
        assert {key: len(values) for key, values in seen["logging"].items()} == dict.fromkeys(seen["logging"], epochs)
        assert ("distillation_losses" in seen["logging"]) == (run != "teacher")


LOGGED_OF_STUDENT = [("losses", "train_losses"), ("distillation_losses", "distillation_losses")]


def test_the_logged_losses_are_the_means_over_both_ranks(ran):
    runs = [("teacher", "losses", "train_losses", epoch) for epoch in range(EPOCHS)]
    runs += [("stopped", loss, log, 0) for loss, log in LOGGED_OF_STUDENT]
    runs += [("student", loss, log, 1) for loss, log in LOGGED_OF_STUDENT]
    for run, loss, log, epoch in runs:
        first_epoch = 1 if run == "student" else 0
        steps = slice((epoch - first_epoch) * STEPS, (epoch - first_epoch + 1) * STEPS)
        of_ranks = [np.mean(seen[loss][steps]) for seen in getattr(ran, run)]
        assert of_ranks[0] != of_ranks[1]
        for seen in getattr(ran, run):
            assert seen["logging"][log][epoch] == pytest.approx(np.mean(of_ranks), rel=1e-5), (run, log)


@pytest.mark.parametrize("run", EPOCHS_RUN)
def test_only_the_first_rank_writes_checkpoints_log_and_pictures(ran, run):
    first, second = getattr(ran, run)
    names = set(first["written"])
    assert {"checkpoint_best.pth", "progress.png"} <= names or run == "student"
    assert ("checkpoint_latest.pth" if run == "stopped" else "checkpoint_final.pth") in names
    assert any(name.startswith("training_log_") for name in names)
    assert ("progress_distillation.png" in names) == (run != "teacher")
    assert set(second["written"]) <= OF_EVERY_RANK


def test_a_stopped_student_continues_where_it_was(ran):
    before, after = ran.stopped[0]["logging"], ran.student[0]["logging"]
    for key, values in before.items():
        assert after[key][:1] == values, key
    assert checkpoint_of(ran, "student")["current_epoch"] == EPOCHS
    assert not (ran.folds["student"] / "checkpoint_latest.pth").exists()


@pytest.mark.parametrize("role", ROLES)
def test_the_final_validation_covers_the_cases_of_both_ranks(ran, planned, role):
    cases = json.loads((planned.root / "preprocessed" / DATASET / "splits_final.json").read_text())[0]["val"]
    validation = ran.folds[role] / "validation"
    summary = json.loads((validation / "summary.json").read_text())
    found = {Path(case["prediction_file"]).name for case in summary["metric_per_case"]}
    assert len(cases) == WORLD_SIZE and found == {f"{case}.nii.gz" for case in cases}


def test_the_files_say_which_of_them_is_whose(ran):
    teacher, student = (checkpoint_of(ran, role) for role in ROLES)
    assert teacher["shapekd"]["role"] == "teacher" and student["shapekd"]["role"] == "student"
    assert student["shapekd"]["teacher"]["trainer"] == TEACHER
    assert student["shapekd"]["teacher"]["training_cases"] == teacher["shapekd"]["training_cases"]


@pytest.mark.slow
def test_compiled_the_network_is_split_at_the_buckets_and_compiled_in_the_first_step_alone(runs):
    for run in EPOCHS_RUN:
        for seen in getattr(runs("compiled"), run):
            graphs, parts = zip(*seen["graphs"], strict=True)
            assert parts[0] > graphs[0] > 0
            assert set(graphs[:STEPS]) == set(graphs[:1]) and set(parts[:STEPS]) == set(parts[:1])
            assert len(set(graphs[STEPS:])) <= 1 and len(set(parts[STEPS:])) <= 1  # after the first validation


@pytest.mark.slow
@pytest.mark.parametrize("run", EPOCHS_RUN)
def test_compiled_the_losses_are_the_eager_ones(runs, run):
    for eager, compiled in zip(getattr(runs("eager"), run), getattr(runs("compiled"), run), strict=True):
        assert torch.equal(eager["data"][0], compiled["data"][0])
        for losses in ("losses", "distillation_losses"):
            assert compiled[losses] == pytest.approx(eager[losses], rel=5e-3, nan_ok=True)


OPEN = """
import sys, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
predictor = nnUNetPredictor(device=torch.device("cpu"))
predictor.initialize_from_trained_model_folder(sys.argv[1], (0,))
predictor.network.load_state_dict(predictor.list_of_parameters[0])
torch.save(predictor.network.state_dict(), sys.argv[2])
"""


@pytest.mark.slow
def test_the_checkpoint_of_a_compiled_and_resumed_student_opens_in_a_bare_nnunet(runs, bare, tmp_path):
    fold = runs("compiled").folds["student"]
    bare("python", "-c", OPEN, fold.parent, tmp_path / "weights.pth")
    found = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert_equal(found, runs("compiled").student[0]["weights"])
