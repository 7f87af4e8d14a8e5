"""The knobs: class attributes, SHAPEKD_* variables, bounds, and what is done with them."""

import shutil
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import STUDENT, TEACHER, Malicious, edit, make

from nnunet_shapekd.training.settings import read_settings
from nnunet_shapekd.training.student import ShapeKD

DEFAULTS = {
    "logit_weight": 1.0,
    "feature_weight": 0.0,
    "temperature": 1.0,
    "balanced": False,
    "ramp": 0.5,
    "teacher_path": None,
}


def test_without_variables_the_class_attributes_count():
    settings, overridden = read_settings(ShapeKD, {"HOME": "/root"})
    assert settings == DEFAULTS and overridden == {}


def test_variables_override_attributes():
    environment = {
        "SHAPEKD_LOGIT_WEIGHT": "0.5",
        "SHAPEKD_FEATURE_WEIGHT": "2",
        "SHAPEKD_TEMPERATURE": " 4 ",
        "SHAPEKD_BALANCED": "True",
        "SHAPEKD_RAMP": "0.25",
        "SHAPEKD_TEACHER_PATH": "/somewhere",
    }
    settings, overridden = read_settings(ShapeKD, environment)
    assert settings == dict(zip(DEFAULTS, (0.5, 2.0, 4.0, True, 0.25, "/somewhere"), strict=True))
    assert overridden["temperature"] == "SHAPEKD_TEMPERATURE" and len(overridden) == 6


def test_an_empty_variable_is_not_set():
    settings, overridden = read_settings(ShapeKD, {"SHAPEKD_TEMPERATURE": "", "SHAPEKD_OF_ANOTHER_TRAINER": ""})
    assert settings["temperature"] == 1.0 and not overridden


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logit_weight", "-1"),
        ("logit_weight", "nan"),
        ("logit_weight", "a lot"),
        ("feature_weight", "inf"),
        ("feature_weight", "-0.1"),
        ("temperature", "0"),
        ("temperature", "-2"),
        ("balanced", "perhaps"),
        ("ramp", "-0.1"),
        ("ramp", "1.5"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name, value):
    variable = f"SHAPEKD_{name.upper()}"
    with pytest.raises(ValueError, match=f"{variable}.* must be .*; got"):
        read_settings(ShapeKD, {variable: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("logit_weight", -1.0), ("temperature", 0), ("temperature", "2"), ("balanced", 1), ("ramp", 15)],
)
def test_an_attribute_out_of_bounds_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} .*must be .*; got {value!r}"):
        read_settings(type("Mine", (ShapeKD,), {name: value}), {})


def test_a_path_object_is_a_path():
    settings, _ = read_settings(type("Mine", (ShapeKD,), {"teacher_path": Path("/somewhere")}), {})
    assert settings["teacher_path"] == "/somewhere"


def test_a_mistyped_variable_is_refused_with_what_was_meant():
    with pytest.raises(ValueError, match="SHAPEKD_TEMPERTURE .*SHAPEKD_TEMPERATURE"):
        read_settings(ShapeKD, {"SHAPEKD_TEMPERTURE": "2"})


def test_a_bad_setting_ends_the_training_before_it_starts(nnunet_environment, monkeypatch, loaders_must_not_start):
    monkeypatch.setenv("SHAPEKD_TEMPERATURE", "0")
    with pytest.raises(ValueError, match="SHAPEKD_TEMPERATURE.* above 0; got 0"):
        make(STUDENT).run_training()


def test_settings_reach_the_loss_the_log_and_the_checkpoint(ready, nnunet_environment, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SHAPEKD_TEMPERATURE", "3")
    monkeypatch.setenv("SHAPEKD_BALANCED", "1")
    trainer = make(STUDENT)
    trainer.output_folder = str(tmp_path)  # an empty one
    trainer.on_train_start()
    assert trainer.loss.terms[0][1].temperature == 3 and trainer.loss.balanced
    said = [line for line in capsys.readouterr().out.splitlines() if "Settings:" in line]
    assert len(said) == 1 and "temperature 3.0 (SHAPEKD_TEMPERATURE), balanced True (SHAPEKD_BALANCED)" in said[0]
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    entry = torch.load(tmp_path / "checkpoint_latest.pth", weights_only=False)["shapekd"]
    assert entry["settings"]["temperature"] == 3 and entry["settings"]["logit_weight"] == 1


def test_a_fresh_start_over_a_run_with_other_settings_is_refused(ready, student, monkeypatch, tmp_path):
    before = {path.name: path.read_bytes() for path in student.glob("*.pth")}
    monkeypatch.setenv("SHAPEKD_TEMPERATURE", "2")
    with pytest.raises(ValueError) as error:
        make(STUDENT).run_training()
    message = str(error.value)
    assert f"{student} holds a run of {STUDENT} that this one would overwrite" in message
    assert "temperature (SHAPEKD_TEMPERATURE): 1.0 before, 2.0 now" in message
    assert "Move the old run away" in message and "nnUNet_results" in message
    assert {path.name: path.read_bytes() for path in student.glob("*.pth")} == before


def test_the_class_that_is_advised_for_other_settings_has_the_same_base_and_teacher(ready, student, monkeypatch):
    monkeypatch.setenv("SHAPEKD_TEMPERATURE", "2")
    with pytest.raises(ValueError) as error:
        make(STUDENT).run_training()
    advised = str(error.value).split("nnUNet_extTrainer:\n")[1]
    bases = type(make(STUDENT)).__bases__
    names = {base.__name__: base for base in bases}
    exec(textwrap.dedent(advised), names)
    mine = names["nnUNetTrainerShapeKDMine_1epoch"]
    assert mine.__bases__ == bases and mine.teacher_trainer_name() == TEACHER


def test_a_fresh_start_over_a_run_with_another_teacher_is_refused(ready, student, tmp_path):
    shutil.copytree(student, tmp_path / "fold_0")
    edit(
        tmp_path / "fold_0" / "checkpoint_final.pth", lambda c: c["shapekd"]["teacher"].update(weights_sha256="0" * 64)
    )
    trainer = make(STUDENT)
    trainer.output_folder = str(tmp_path / "fold_0")
    with pytest.raises(ValueError, match="000000000000 before"):
        trainer.on_train_start()


def test_a_fresh_start_with_the_same_settings_is_nnunets_own_business(ready, student):
    trainer = make(STUDENT)
    trainer.on_train_start()
    assert trainer.current_epoch == 0


def test_a_damaged_checkpoint_in_the_way_is_named_and_does_not_hide_the_others(ready, student, tmp_path, capsys):
    shutil.copytree(student, tmp_path / "fold_0")
    damaged = tmp_path / "fold_0" / "checkpoint_best.pth"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    edit(tmp_path / "fold_0" / "checkpoint_final.pth", lambda c: c["shapekd"]["settings"].update(balanced=True))
    trainer = make(STUDENT)
    trainer.output_folder = str(tmp_path / "fold_0")
    with pytest.raises(ValueError, match=r"balanced \(SHAPEKD_BALANCED\): True before, False now"):
        trainer.on_train_start()
    assert f"WARNING: {damaged} cannot be read" in capsys.readouterr().out


def test_a_checkpoint_in_the_way_that_would_run_code_is_not_run(ready, student, tmp_path):
    shutil.copytree(student, tmp_path / "fold_0")
    marker = tmp_path / "it_ran"

    edit(tmp_path / "fold_0" / "checkpoint_best.pth", lambda checkpoint: checkpoint.update(extra=Malicious(marker)))
    trainer = make(STUDENT)
    trainer.output_folder = str(tmp_path / "fold_0")
    with pytest.raises(ValueError, match="fold_0 away"):
        trainer.on_train_start()
    assert not marker.exists()
