"""The scripts of the experiments: smaller plans, trainers in pairs by seed, and the table over seeds."""

import copy
import csv
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

from nnunet_shapekd.method.distillation import LogitDistillation

NETWORK = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 512, 512],
    "kernel_sizes": [[3, 3]] * 6,
    "strides": [[1, 1]] + [[2, 2]] * 5,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
}


def load(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / "scripts" / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def script(name: str) -> ModuleType:
    """One of scripts/experiments, which import each other from where they lie."""
    folder = str(ROOT / "scripts" / "experiments")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def small_plans(monkeypatch, folder: Path, *arguments: str) -> dict:
    """Writes plans as nnU-Net does, makes them smaller, and returns the 2d configuration."""
    configuration = {"data_identifier": "nnUNetPlans_2d", "spacing": [1.0, 1.0], "patch_size": [512, 512]}
    configuration |= {"batch_size": 12, "architecture": {"arch_kwargs": NETWORK}}
    dataset = folder / "Dataset027_Test"
    dataset.mkdir()
    (dataset / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": configuration}}))
    monkeypatch.setenv("nnUNet_preprocessed", str(folder))
    monkeypatch.setattr(sys, "argv", ["small_plans.py", "-d", "27", "--name", "smallPlans", *arguments])
    load("small_plans.py").main()
    plans = json.loads((dataset / "smallPlans.json").read_text())
    assert plans["plans_name"] == "smallPlans"
    return plans["configurations"]["2d"]


SIZES = ("--patch", "64", "64", "--batch", "4", "--features", "8", "16", "32")


def test_small_plans_shrink_patch_batch_and_network_and_keep_the_data(monkeypatch, tmp_path):
    configuration = small_plans(monkeypatch, tmp_path, *SIZES)
    network = configuration["architecture"]["arch_kwargs"]
    assert (configuration["patch_size"], configuration["batch_size"]) == ([64, 64], 4)
    assert network["features_per_stage"] == [8, 16, 32] and len(network["strides"]) == network["n_stages"] == 3
    assert len(network["n_conv_per_stage_decoder"]) == 2
    assert (configuration["data_identifier"], configuration["spacing"]) == ("nnUNetPlans_2d", [1.0, 1.0])


def test_another_spacing_has_preprocessed_data_of_its_own(monkeypatch, tmp_path):
    configuration = small_plans(monkeypatch, tmp_path, *SIZES, "--spacing", "4", "3.2")
    assert (configuration["data_identifier"], configuration["spacing"]) == ("smallPlans_2d", [4.0, 3.2])


def test_seeded_trainers_draw_the_same_numbers_in_the_same_epoch(monkeypatch):
    monkeypatch.setenv("EXPERIMENT_SEED", "3")
    seeded = load("experiments/trainers/seeded.py")

    def drawn(trainer_class: type, epoch: int) -> tuple[float, float]:
        trainer = object.__new__(trainer_class)
        trainer.seed, trainer.current_epoch = 3000, epoch
        monkeypatch.setattr(seeded.nnUNetTrainerNoMirroring, "on_train_epoch_start", lambda self: None)
        seeded.nnUNetTrainer_Seeded.on_train_epoch_start(trainer)
        return float(np.random.rand()), float(torch.rand(()))

    stock, student = seeded.nnUNetTrainer_Seeded, seeded.nnUNetTrainerShapeKD_Seeded
    assert drawn(stock, 4) == drawn(student, 4) != drawn(stock, 5)
    assert student.teacher_trainer_name() == "nnUNetTrainerMeanImage_Seeded"


def five_tasks(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    script = ROOT / "scripts/experiments/five_tasks.sh"
    return subprocess.run(["bash", script, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [(), ("rm", "out", "0"), ("train", "out"), ("prepare", "data")])
def test_what_is_no_command_shows_the_commands_and_does_nothing(arguments, tmp_path):
    done = five_tasks(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and "five_tasks.sh prepare DATA OUT" in done.stderr
    assert not any(tmp_path.iterdir())


def test_an_unknown_task_is_refused_before_anything_begins(tmp_path):
    done = five_tasks("train", "out", "0", "polyp", "cardiax", cwd=tmp_path)
    assert done.returncode == 1 and "unknown task cardiax; there are cardiac" in done.stderr
    assert not any(tmp_path.iterdir())


def test_judging_what_is_not_prepared_says_so(tmp_path):
    done = five_tasks("judge", "out", "0", "polyp", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.strip().endswith("run prepare first")


@pytest.mark.parametrize(
    ("model", "trainers"),
    [("student", ["MeanImage", "ShapeKD"]), ("moves", ["IntensityMoves"]), ("mean-jitter", ["MeanJitter"])],
)
def test_each_trainer_gets_only_settings_that_it_has(monkeypatch, tmp_path, model, trainers):
    (tmp_path / "out/raw/Dataset063_Kvasir").mkdir(parents=True)
    commands = {
        "python": "echo cpu",
        "shapekd": "echo trainers",
        "nnUNetv2_train": f'echo "$5 ${{SHAPEKD_RAMP-none}}" >> "{tmp_path}/trained"\n'
        'mkdir -p "$nnUNet_results/Dataset063_Kvasir/$5__smallPlans__2d/fold_0"',
    }
    (tmp_path / "bin").mkdir()
    for name, does in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EXPERIMENT_MODEL", model)
    monkeypatch.delenv("SHAPEKD_RAMP", raising=False)
    done = five_tasks("train", "out", "0", "polyp", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ramp = "0" if model == "student" else "none"
    expected = ["nnUNetTrainer_Seeded", *(f"nnUNetTrainer{name}_Seeded" for name in trainers)]
    assert (tmp_path / "trained").read_text().splitlines() == [f"{name} {ramp}" for name in expected]


def judged(folder: Path, dice: dict[str, float | str]) -> None:
    """What an evaluation leaves, of one class; cases are PATIENT_NUMBER, an undefined Dice is empty."""
    folder.mkdir(parents=True)
    rows = [
        (case, case.split("_")[0], "polyp", value, value and 10 * value, 100, 80, 0)  # HD95 in pixels
        for case, value in dice.items()
    ]
    columns = "case", "patient", "class", "dice", "hd95_px", "reference_px", "prediction_px", "holes"
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def five_tasks_table(monkeypatch, tmp_path, capsys):
    """What the table prints of the judged folders, and its rows."""
    table = script("five_tasks_table")

    def made(seeds: int) -> tuple[str, list[dict[str, str]]]:
        results = tmp_path / "results.csv"
        arguments = ["--judged", str(tmp_path), "--seeds", *map(str, range(seeds)), "--results", str(results)]
        monkeypatch.setattr(sys, "argv", ["five_tasks_table.py", *arguments])
        table.main()
        return capsys.readouterr().out, list(csv.DictReader(results.open()))

    return made


def test_the_table_averages_seeds_within_a_patient_and_resamples_patients(tmp_path, five_tasks_table):
    patients = [f"p{number}" for number in range(8)]
    gains = {0: 0.10, 1: 0.20}  # of the student, the same for all patients: then the interval has no width
    for seed, gain in gains.items():
        for model in ("stock", "student"):
            dice = {f"{patient}_{case}": 0.5 + (model == "student") * gain for patient in patients for case in "ab"}
            judged(tmp_path / f"judged/student/seed{seed}/polyp/Dataset063_Kvasir/{model}", dice)
    printed, rows = five_tasks_table(seeds=2)
    cells = [cell.strip() for cell in printed.strip().strip("|").split("|")]
    assert cells[:3] == ["polyp", "Kvasir", "16 (8)"]
    assert cells[3:7] == ["50.0 (50.0, 50.0)", "65.0 (60.0, 70.0)", "+15.0 (+10.0, +20.0)", "+15.0 to +15.0"]
    assert cells[7:] == ["5.0 (5.0, 5.0) → 6.5 (6.0, 7.0) px", "0.80 → 0.80"]
    assert len(rows) == 2 * 2 * 16 and {row["seed"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(("dataset", "patients"), [("Dataset061_Sunnybrook", 4), ("Dataset064_ColonDB", 8)])
def test_there_is_no_interval_of_few_patients_or_of_frames(tmp_path, five_tasks_table, dataset, patients):
    for model in ("stock", "student"):
        judged(tmp_path / f"judged/student/seed0/polyp/{dataset}/{model}", {f"p{n}_a": 0.5 for n in range(patients)})
    assert five_tasks_table(seeds=1)[0].split("|")[7].strip() == "–"


def test_a_structure_that_only_one_model_invented_leaves_both(tmp_path, five_tasks_table):
    folder = tmp_path / "judged/student/seed0/polyp/Dataset063_Kvasir"
    judged(folder / "stock", {"p1_a": 0.5, "p2_a": ""})
    judged(folder / "student", {"p1_a": 0.7, "p2_a": 0.0})
    printed, _ = five_tasks_table(seeds=1)
    assert "1 (1) | 50.0 | 70.0 | +20.0" in printed and "Dataset063_Kvasir: without 1 structures" in printed


def test_a_set_that_was_not_judged_with_each_seed_is_named(tmp_path, five_tasks_table, capsys):
    judged(tmp_path / "judged/student/seed0/polyp/Dataset063_Kvasir/stock", {"p1_a": 0.5})
    with pytest.raises(SystemExit):
        five_tasks_table(seeds=2)
    assert "polyp/Dataset063_Kvasir of seed 1" in capsys.readouterr().err and not (tmp_path / "results.csv").exists()


@pytest.mark.parametrize(
    ("results", "model"),
    [("student", "student"), ("moves", "moves"), ("mean-jitter", "mean-jitter"), ("moves-polyp", "moves")],
)
def test_the_page_of_the_tasks_says_what_its_files_say(monkeypatch, capsys, results, model):
    folder = ROOT / "docs/tasks"
    arguments = ["--model", model, "--results", str(folder / f"{results}.csv")]
    monkeypatch.setattr(sys, "argv", ["five_tasks_table.py", *arguments])
    script("five_tasks_table").main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    table = "\n".join(["|---" * 9 + "|", *rows, "", ""])
    assert rows and table in (folder / "README.md").read_text(encoding="utf-8")


def test_random_convolutions_keep_an_images_norm_and_place_and_draw_nothing_that_others_draw():
    seeded = load("experiments/trainers/seeded.py")
    trainer = object.__new__(seeded.nnUNetTrainerRandomConvolutions_Seeded)
    trainer.image_generator = torch.Generator().manual_seed(0)
    image, before = torch.randn(3, 20, 24), torch.get_rng_state()
    changed = [trainer._changed(image) for _ in range(4)]
    assert torch.equal(before, torch.get_rng_state())
    for new in changed:
        torch.testing.assert_close(new.norm(), image.norm())
        assert new.shape == image.shape and not torch.allclose(new, image)
    assert not torch.allclose(changed[0], changed[1])


def test_jitter_draws_the_same_in_the_same_epoch_and_nothing_that_others_draw(monkeypatch):
    seeded = load("experiments/trainers/seeded.py")
    monkeypatch.setattr(seeded.nnUNetTrainer_Seeded, "on_train_epoch_start", lambda self: None)

    def drawn(trainer_class: type, epoch: int) -> float:
        trainer = object.__new__(trainer_class)
        trainer.device, trainer.seed, trainer.current_epoch = torch.device("cpu"), 3000, epoch
        trainer.on_train_epoch_start()
        return float(torch.rand((), generator=trainer.jitter_generator))

    alone, taught = seeded.nnUNetTrainerMeanJitter_Seeded, seeded.nnUNetTrainerShapeKDMeanJitter_Seeded
    before = torch.get_rng_state()
    assert issubclass(taught, alone) and drawn(alone, 4) == drawn(alone, 4) != drawn(alone, 5)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("ramp", "epoch", "weight"), [(0, 0, 2), (0.5, 0, 1.1), (0.5, 4, 1.5), (0.5, 12, 2)])
def test_labels_in_the_teachers_place_raise_the_weight_of_the_cross_entropy_as_a_teacher_would(
    monkeypatch, ramp, epoch, weight
):
    seeded = load("experiments/trainers/seeded.py")
    monkeypatch.setattr(seeded.nnUNetTrainer_Seeded, "on_train_epoch_start", lambda self: None)
    monkeypatch.setenv("EXPERIMENT_RAMP", str(ramp))
    trainer = object.__new__(seeded.nnUNetTrainerLabels_Seeded)
    trainer.num_epochs, trainer.current_epoch = 20, epoch
    loss = DC_and_CE_loss({}, {})
    trainer.loss = SimpleNamespace(loss=loss)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 1, 8, 8)).float()
    before = loss(logits, labels)
    trainer.on_train_epoch_start()
    teacher = torch.nn.functional.one_hot(labels[:, 0].long(), 3).movedim(-1, 1).clamp_min(1e-7).log()
    torch.testing.assert_close(
        loss(logits, labels), before + (weight - 1) * LogitDistillation()(logits, teacher), rtol=1e-4, atol=1e-4
    )


def test_in_bfloat16_a_network_learns_what_it_learns_in_32_bits_and_answers_in_these(monkeypatch):
    seeded, threads = load("experiments/trainers/seeded.py"), []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.LeakyReLU(), torch.nn.Conv2d(4, 2, 3))
    other = copy.deepcopy(network)
    seeded._in_bfloat16(other)
    image = torch.randn(2, 1, 16, 16)
    expected, found = network(image), other(image)
    assert found.dtype == torch.float32 and threads == [1]
    assert 0 < (found - expected).abs().max() < 0.05
    for logits in (expected, found):
        logits.square().mean().backward()
    torch.testing.assert_close(other[0].weight.grad, network[0].weight.grad, rtol=0.1, atol=0.01)
