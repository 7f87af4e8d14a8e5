"""What `shapekd info` says of a checkpoint, and that it runs nothing in it."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from conftest import DATASET, PLANS, STUDENT, TEACHER, Malicious, edit

from nnunet_shapekd import __version__
from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.files.checkpoints import weights_sha256
from nnunet_shapekd.files.provenance import provenance_of


@pytest.fixture
def info(capsys):
    """`shapekd info ARGUMENTS` in this process -> exit code, output, error."""

    def run(*arguments):
        code = main(["info", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def changed(teacher, tmp_path):
    """A copy of the teacher's checkpoint after a change."""

    def write(change):
        path = tmp_path / "changed.pth"
        shutil.copy(teacher / "checkpoint_final.pth", path)
        edit(path, change)
        return path

    return write


def value(report, label):
    """What stands behind ``label`` in a report; fails if it is not there once."""
    found = re.findall(rf"^ *{re.escape(label)}: +(.+)$", report, re.MULTILINE)
    assert len(found) == 1, (label, report)
    return found[0]


def test_a_teachers_report_says_what_trained_it_on_what(info, planned, teacher):
    path = teacher / "checkpoint_final.pth"
    code, report, _ = info(path)
    assert code == 0
    split = json.loads((planned.root / "preprocessed" / DATASET / "splits_final.json").read_text())[0]
    expected = {
        "file": str(path),
        "role": "teacher",
        "package version": __version__,
        "trainer": TEACHER,
        "dataset": DATASET,
        "plans": PLANS,
        "configuration": "2d",
        "fold": "0",
        "epochs": "1",
        "training cases": f"{len(split['train'])} (--cases names them)",
        "validation cases": f"{len(split['val'])} (--cases names them)",
    }
    assert {label: value(report, label) for label in expected} == expected
    assert split["train"][0] not in report
    weights = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    assert value(report, "weights SHA-256") == weights_sha256(weights)


def test_a_students_report_names_its_trainer_settings_and_teacher(student, teacher):
    path = student / "checkpoint_final.pth"
    report = provenance_of(path)
    entry = torch.load(path, map_location="cpu", weights_only=False)["shapekd"]
    assert report["role"] == "student"
    assert report["trainer"] == STUDENT and report["network_trainer"] == "nnUNetTrainer"
    assert report["settings"] == entry["settings"] and report["settings"]["logit_weight"] == 1.0
    assert report["teacher"]["trainer"] == TEACHER
    assert report["teacher"]["fold"] == 0 and report["teacher"]["epoch"] == 1
    # the student's record of its teacher is what the teacher's own file shows
    of_teacher = provenance_of(teacher / "checkpoint_final.pth")
    assert report["teacher"]["weights_sha256"] == of_teacher["weights_sha256"] != report["weights_sha256"]
    assert report["teacher"]["training_cases"] == of_teacher["training_cases"]


def test_the_printed_report_of_a_student_holds_settings_and_teacher(info, student):
    _, report, _ = info(student / "checkpoint_final.pth")
    settings, teacher = report.split("settings:")[1].split("teacher:")
    assert value(settings, "logit_weight") == "1.0"
    assert value(teacher, "  trainer") == TEACHER
    assert value(teacher, "  training cases") == "8 (--cases names them)"
    assert value(report, "validation cases") == "2 (--cases names them)"


def test_json_is_the_whole_provenance(info, student):
    code, report, _ = info(student / "checkpoint_final.pth", "--json")
    assert code == 0 and json.loads(report) == provenance_of(student / "checkpoint_final.pth")


def test_cases_are_named_when_asked_for(info, planned, teacher):
    _, report, _ = info(teacher / "checkpoint_final.pth", "--cases")
    split = json.loads((planned.root / "preprocessed" / DATASET / "splits_final.json").read_text())[0]
    assert value(report, "training cases").split() == sorted(split["train"])


def test_a_resaved_file_has_the_same_hash_and_other_weights_another(changed, teacher):
    before = provenance_of(teacher / "checkpoint_final.pth")["weights_sha256"]
    assert provenance_of(changed(lambda checkpoint: checkpoint.update(current_epoch=7)))["weights_sha256"] == before

    def add_to_one_weight(checkpoint):
        next(iter(checkpoint["network_weights"].values())).view(-1)[0] += 1

    assert provenance_of(changed(add_to_one_weight))["weights_sha256"] != before


def test_a_stock_checkpoint_shows_what_is_known_and_that_provenance_is_missing(info, changed):
    def stock(checkpoint):
        del checkpoint["shapekd"]
        checkpoint["trainer_name"] = "nnUNetTrainer"

    code, report, _ = info(changed(stock))
    assert code == 0
    assert report.startswith("No shapekd provenance")
    assert value(report, "trainer") == "nnUNetTrainer" and value(report, "dataset") == DATASET
    assert value(report, "epochs") == "1" and re.fullmatch("[0-9a-f]{64}", value(report, "weights SHA-256"))
    assert "role" not in report and "settings" not in report


def test_a_checkpoint_with_weights_alone_is_enough(info, tmp_path):
    torch.save({"network_weights": {"w": torch.zeros(2)}, "init_args": 3, "shapekd": "?"}, tmp_path / "bare.pth")
    code, report, _ = info(tmp_path / "bare.pth")
    assert code == 0 and value(report, "weights SHA-256") == weights_sha256({"w": torch.zeros(2)})


def test_control_characters_in_a_foreign_file_do_not_reach_the_terminal(info, changed):
    _, report, _ = info(changed(lambda checkpoint: checkpoint["shapekd"].update(trainer="x\x1b[2J\ny")))
    assert value(report, "trainer") == "x?[2J?y"


def _bomb(path):
    torch.save({"network_weights": {}, "x": Malicious("it_ran")}, path)


def _pickled_bomb(path):
    path.write_bytes(
        pickle.dumps({"network_weights": {}, "x": Malicious("it_ran")}, protocol=2)
    )  # as torch wrote before 1.6


def _truncated(path):
    torch.save({"network_weights": {"w": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


def _zip_of_something_else(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "x")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, ""),
        (_truncated, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (_zip_of_something_else, "damaged"),
        (_bomb, "can run code"),
        (_pickled_bomb, "can run code"),
        (lambda path: torch.save([1], path), "no checkpoint"),
        (lambda path: torch.save({"state_dict": {}}, path), "no checkpoint"),
        (lambda path: torch.save({"network_weights": {"w": "x"}}, path), "no checkpoint"),
        (lambda path: torch.save({"network_weights": [torch.zeros(1)]}, path), "no checkpoint"),
        (lambda path: torch.save({"network_weights": {"w": torch.eye(2).to_sparse()}}, path), "no checkpoint"),
    ],
)
def test_what_is_no_readable_checkpoint_is_one_line_of_error_and_runs_nothing(
    info, tmp_path, monkeypatch, write, message
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint_final.pth"
    write(path)
    code, report, error = info(path)
    assert code == 1 and report == ""
    assert error.count("\n") == 1 and error.startswith("shapekd: ")
    assert str(path) in error and message in error
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("folder", ["fold_0", "model"])
def test_the_error_for_a_folder_names_the_checkpoints_in_it(info, student, folder):
    path = student if folder == "fold_0" else student.parent
    code, _, error = info(path)
    assert code == 1 and error.count("\n") == 1
    for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
        assert str(student / name) in error


def test_the_error_for_a_folder_without_checkpoints_says_so(info, tmp_path):
    code, _, error = info(tmp_path)
    assert code == 1 and error.count("\n") == 1 and str(tmp_path) in error and "checkpoint_*.pth" in error


def test_info_needs_no_nnunet_folders(student):
    # the three variables are not set on every machine that checkpoints are looked at on
    environment = {name: text for name, text in os.environ.items() if not name.startswith("nnUNet_")}
    command = [
        sys.executable,
        "-m",
        "nnunet_shapekd.commands.cli",
        "info",
        str(student / "checkpoint_final.pth"),
        "--json",
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["role"] == "student"
