"""One path through nnU-Net's own commands, each in a fresh process."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import DATASET, PLANS, STUDENT, TEACHER, segmentations


@pytest.fixture(scope="module")
def predictions(bare, planned, student, validation_images):
    """The student's predictions of fold 0's validation cases, made by a bare nnU-Net."""
    out = planned.root / "predictions"
    arguments = f"-i {validation_images} -o {out} -d 27 -c 2d -f 0 -tr {STUDENT} -p {PLANS} -device cpu -npp 1 -nps 1"
    bare("nnUNetv2_predict", *arguments.split(), "--save_probabilities")
    return out


def test_a_bare_nnunet_predicts_the_trainers_own_validation_result_voxel_for_voxel(student, predictions):
    expected = segmentations(student / "validation")
    found = segmentations(predictions)
    assert found.keys() == expected.keys() and len(found) == 2
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name
    # one epoch does not always suffice to predict foreground, so the probabilities are compared, too
    for path in predictions.glob("*.npz"):
        probabilities = np.load(path)["probabilities"]
        assert probabilities[1:].std() > 1e-3
        np.testing.assert_allclose(
            probabilities, np.load(student / "validation" / path.name)["probabilities"], atol=2e-3
        )
    assert len(list(predictions.glob("*.npz"))) == 2


def test_nnunet_evaluates_the_predictions_to_the_validations_dice(planned, student, predictions):
    labels = planned.root / "validation_labels"
    labels.mkdir()
    for name in segmentations(predictions):
        shutil.copy(planned.root / "raw" / DATASET / "labelsTr" / name, labels)
    files = f"-djfile {predictions / 'dataset.json'} -pfile {predictions / 'plans.json'} -np 1"
    planned.run("nnUNetv2_evaluate_folder", str(labels), str(predictions), *files.split())
    found = json.loads((predictions / "summary.json").read_text())["mean"]
    expected = json.loads((student / "validation" / "summary.json").read_text())["mean"]
    assert found.keys() == expected.keys() == {"1", "2", "3"}
    for label in found:
        assert found[label] == pytest.approx(expected[label], nan_ok=True)
        assert found[label]["n_ref"] > 0


def test_the_students_file_names_nnunets_own_trainer_and_where_it_comes_from(student, teacher):
    checkpoint = torch.load(student / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    entry = checkpoint["shapekd"]
    assert entry["role"] == "student"
    assert entry["settings"] == {
        "logit_weight": 1.0,
        "feature_weight": 0.0,
        "temperature": 1.0,
        "balanced": False,
        "ramp": 0.5,
        "teacher_path": None,
    }
    assert entry["trainer"] == STUDENT
    assert entry["teacher"]["trainer"] == TEACHER and entry["teacher"]["fold"] == 0 and entry["teacher"]["epoch"] == 1
    saved = torch.load(teacher / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert saved["trainer_name"] == TEACHER
    assert entry["teacher"]["training_cases"] == saved["shapekd"]["training_cases"]


def test_the_teacher_is_in_neither_the_students_weights_nor_its_optimiser(student, teacher):
    checkpoint = torch.load(student / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    saved = torch.load(teacher / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert not [name for name in checkpoint["network_weights"] if "teacher" in name]
    # the state dict names a parameter more than once; each has one storage
    n_parameters = len({weight.data_ptr() for weight in checkpoint["network_weights"].values()})
    assert sum(len(group["params"]) for group in checkpoint["optimizer_state"]["param_groups"]) == n_parameters
    wide = checkpoint["network_weights"]["decoder.stages.0.convs.0.conv.weight"].shape[1]
    narrow = saved["network_weights"]["decoder.stages.0.convs.0.conv.weight"].shape[1]
    assert wide == 2 * narrow  # the student has skips, its teacher has none


def test_the_distillation_loss_is_logged_once_an_epoch_and_drawn(student):
    log = torch.load(student / "checkpoint_final.pth", map_location="cpu", weights_only=False)["logging"]
    assert len(log["distillation_losses"]) == len(log["train_losses"]) == 1
    assert log["distillation_losses"][0] > 0
    line = f"distillation_loss {round(log['distillation_losses'][0], 4)}"
    assert any(line in path.read_text() for path in student.glob("training_log_*.txt"))
    assert (student / "progress_distillation.png").read_bytes().startswith(b"\x89PNG")


def test_training_leaves_plans_splits_and_dataset_as_planning_made_them(planned, student):
    names = {path.name for path in planned.planned_files}
    assert {f"{PLANS}.json", "nnUNetPlans.json", "splits_final.json", "dataset.json"} <= names
    for path, content in planned.planned_files.items():
        assert path.read_bytes() == content, path


def test_the_teachers_log_says_first_that_it_is_no_result(teacher):
    lines = min(teacher.glob("training_log_*.txt")).read_text().splitlines()  # the first of the folder's runs
    banner_end = max(i for i, line in enumerate(lines) if line.startswith("####"))
    first = next(line for line in lines[banner_end + 1 :] if line.strip())
    assert "TEACHER" in first and "no result" in first


def test_validation_alone_needs_no_teacher(planned, student, teacher, tmp_path):
    before = (student / "validation" / "summary.json").read_bytes()
    shutil.move(student / "validation", tmp_path)
    away = teacher.parent.with_name("away")
    teacher.parent.rename(away)
    try:
        planned.train(STUDENT, "--val")
        assert json.loads((student / "validation" / "summary.json").read_bytes()) == json.loads(before)
        planned.train(STUDENT, "--val", "--val_best")
        refused = planned.train(STUDENT, check=False)
    finally:
        away.rename(teacher.parent)
        shutil.rmtree(student / "validation")
        shutil.move(tmp_path / "validation", student)  # other tests want its probabilities
    assert refused.returncode != 0
    message = refused.stderr[-1000:]
    assert f"FileNotFoundError: No teacher for this student: {teacher / 'checkpoint_final.pth'} is missing" in message
    assert f"nnUNetv2_train 27 2d 0 -tr {TEACHER} -p {PLANS} -device cpu" in message
