"""The scripts of the experiments: smaller plans, trainers in pairs by seed, and the table over seeds."""

import csv
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from conftest import ROOT

from nnunet_shapekd.evaluation.record import Evaluation, columns
from nnunet_shapekd.evaluation.results import write_evaluation
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


def evaluation(name: str, folder: Path, dice: dict[str, float]) -> Evaluation:
    """One class; cases are PATIENT_NUMBER."""
    nothing = dict.fromkeys(columns(), math.nan)
    rows = [
        {**nothing, "case": case, "patient": case.split("_")[0], "phase": "", "class": "polyp", "dice": value}
        | {"hd95": 10 * value, "reference_size": 100.0, "prediction_size": 80.0, "empty": ""}
        | dict.fromkeys(("extra_components", "holes", "reference_extra_components", "reference_holes"), 0.0)
        for case, value in dice.items()
    ]
    ours = Evaluation(
        name=name, reference=folder, prediction=folder, file_ending=".png", classes={"polyp": (1,)}, ignore_label=None,
        left_out=(), cardiac={}, distance_unit="px", size_unit="px", tolerance=1.0, rows=rows, dataset_json=None,
    )  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_evaluation(ours, folder)
    return ours


def test_the_table_averages_seeds_within_a_patient_and_resamples_patients(monkeypatch, tmp_path, capsys):
    table = load("experiments/five_tasks_table.py")
    patients = [f"p{number}" for number in range(8)]
    gains = {0: 0.10, 1: 0.20}  # of the student, the same for all patients: then the interval has no width
    for seed, gain in gains.items():
        for model in ("stock", "student"):
            dice = {f"{patient}_{case}": 0.5 + (model == "student") * gain for patient in patients for case in "ab"}
            evaluation(model, tmp_path / f"judged/seed{seed}/polyp/Dataset063_Kvasir/{model}", dice)
    monkeypatch.setattr(
        sys, "argv", ["five_tasks_table.py", str(tmp_path), "--seeds", "0", "1", "--csv", str(tmp_path / "r.csv")]
    )
    table.main()
    cells = [cell.strip() for cell in capsys.readouterr().out.strip().strip("|").split("|")]
    assert cells[:3] == ["polyp", "Kvasir", "16 (8)"]
    assert cells[3:7] == ["50.0 (50.0, 50.0)", "65.0 (60.0, 70.0)", "+15.0 (+10.0, +20.0)", "+15.0 to +15.0"]
    assert cells[7:] == ["5.0 (5.0, 5.0) → 6.5 (6.0, 7.0) px", "0.80 → 0.80"]
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert len(rows) == 2 * 2 * 16 * 4 and {row["seed"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(("dataset", "patients"), [("Dataset061_Sunnybrook", 4), ("Dataset064_ColonDB", 8)])
def test_there_is_no_interval_of_few_patients_or_of_frames(tmp_path, dataset, patients):
    table = load("experiments/five_tasks_table.py")
    judged = {m: evaluation(m, tmp_path / m, {f"p{n}_a": 0.5 for n in range(patients)}) for m in table.MODELS}
    assert table.row("task", dataset, [judged]).split("|")[7].strip() == "–"


def test_a_structure_that_only_one_model_invented_leaves_both(tmp_path):
    table = load("experiments/five_tasks_table.py")
    stock = evaluation("stock", tmp_path / "stock", {"p1_a": 0.5, "p2_a": math.nan})
    student = evaluation("student", tmp_path / "student", {"p1_a": 0.7, "p2_a": 0.0})
    assert "1 (1) | 50.0 | 70.0 | +20.0" in table.row(
        "task", "Dataset063_Kvasir", [{"stock": stock, "student": student}]
    )


def test_the_development_patients_are_a_fifth_of_each_pathology_and_none_of_the_validation(tmp_path):
    groups = ("DCM", "HCM", "MINF", "NOR", "RV")
    group_of = {f"patient{number:03d}": groups[number % 5] for number in range(85)}
    cases = {side: [f"{p}_frame{n}" for p in patients for n in ("01", "12")]
             for side, patients in (("train", [*group_of][:70]), ("val", [*group_of][70:]))}  # fmt: skip
    (tmp_path / "splits_final.json").write_text(json.dumps([cases]))
    lines = ["patient,group", *(f"{patient},{group}" for patient, group in group_of.items())]
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n")
    preprocessed = tmp_path / "preprocessed"
    preprocessed.mkdir()
    load("experiments/evidence.py").add_folds(tmp_path, preprocessed)
    development, official, *few = json.loads((preprocessed / "splits_final.json").read_text())
    assert official == cases
    assert sorted(development["train"] + development["val"]) == sorted(cases["train"])
    held_out = {case.split("_")[0] for case in development["val"]}
    assert len(held_out) == 14 and not held_out & {case.split("_")[0] for case in development["train"]}
    assert {sum(group_of[p] == group for p in held_out) for group in groups} <= {2, 3}
    trained_on = [{case.split("_")[0] for case in fold["train"]} for fold in (*few, development)]
    assert list(map(len, trained_on)) == [5, 10, 20, 56]
    assert trained_on[0] < trained_on[1] < trained_on[2] < trained_on[3]
    assert len({group_of[patient] for patient in trained_on[0]}) == 5
    assert all(fold["val"] == development["val"] and len(fold["train"]) % 2 == 0 for fold in few)


def test_rows_of_a_run_take_the_place_of_its_earlier_ones(tmp_path):
    evidence = load("experiments/evidence.py")
    columns, path = ("run", "seed", "fold", "value"), tmp_path / "new" / "values.csv"
    evidence.put(path, columns, [("stock", 0, 0, 1.5), ("stock", 0, 0, 2.5)])
    evidence.put(path, columns, [("stock", 1, 0, 3.5)])
    evidence.put(path, columns, [("stock", 0, 0, 4.5)])
    assert path.read_text() == "run,seed,fold,value\nstock,1,0,3.5\nstock,0,0,4.5\n"


def test_every_student_has_its_teacher_among_the_runs_and_its_trainer_can_be_found():
    evidence, seeded = load("experiments/evidence.py"), load("experiments/trainers/seeded.py")
    for run in evidence.RUNS.values():
        assert hasattr(seeded, run.trainer)
        assert run.teacher is None or hasattr(getattr(seeded, evidence.RUNS[run.teacher].trainer), "teacher_input")


def test_labels_as_teacher_raise_the_weight_of_the_cross_entropy_and_blurred_ones_are_softer_at_edges_alone():
    seeded = load("experiments/trainers/seeded.py")
    trainer = object.__new__(seeded.nnUNetTrainerShapeKDLabels_Seeded)
    trainer.classes = SimpleNamespace(number=3)
    labels, student = torch.zeros(1, 1, 8, 8), torch.randn(1, 3, 8, 8)
    labels[..., 4:] = 2
    trainer.blur = 0
    cross_entropy = torch.nn.functional.cross_entropy(student, labels[:, 0].long())
    assert torch.isclose(LogitDistillation()(student, trainer._logits(labels)), cross_entropy, rtol=1e-4)
    trainer.blur = 1
    p = trainer._logits(labels).exp()
    assert torch.allclose(p[0, :, 3, 0], torch.tensor([1.0, 0, 0]), atol=1e-6)
    assert torch.allclose(p[0, :, 3, 3], torch.tensor([2 / 3, 0, 1 / 3]), atol=1e-6)


def test_augmentation_without_intensities_drops_these_alone():
    seeded = load("experiments/trainers/seeded.py")
    how = ((32, 32), (-0.5, 0.5), None, None, False, [False])
    stock = seeded.nnUNetTrainer_Seeded.get_training_transforms(*how).transforms
    kept = {type(one) for one in seeded.nnUNetTrainerSpatial_Seeded.get_training_transforms(*how).transforms}
    dropped = [type(one.transform).__name__ for one in stock if type(one) not in kept]
    assert len(kept) == len(stock) - len(dropped) and SpatialTransform in kept
    noise, blur, brightness, contrast, resolution, *gamma = dropped
    assert (noise, blur, brightness) == (
        "GaussianNoiseTransform",
        "GaussianBlurTransform",
        "MultiplicativeBrightnessTransform",
    )
    assert (contrast, resolution) == ("ContrastTransform", "SimulateLowResolutionTransform")
    assert gamma == ["GammaTransform"] * 2


def test_the_evidence_pairs_by_seed_and_case_and_resamples_patients(monkeypatch, tmp_path, capsys):
    table = load("experiments/evidence_table.py")
    lines = ["run,seed,fold,shift,severity,case,patient,class,metric,unit,value"]
    gains = {0: 0.10, 1: 0.20}
    for seed, gain in gains.items():
        for run, dice in (("stock", 0.5), ("student", 0.5 + gain)):
            for patient in range(8):
                # a patient with twice the cases counts once
                for case in range(2 if patient else 4):
                    of = f"{run},{seed},0,none,0,p{patient}_{case},p{patient},RV"
                    lines += [f"{of},dice,1,{dice + 0.08 * (patient == 0)}", f"{of},hd95,mm,{10 * dice}"]
                    lines += [f"{of},reference_size,ml,100", f"{of},prediction_size,ml,80"]
    (tmp_path / "values.csv").write_text("\n".join(lines) + "\n")
    arguments = ["evidence_table.py", "stock", "student", "--values", str(tmp_path / "values.csv")]
    monkeypatch.setattr(sys, "argv", arguments)
    table.main()
    out = capsys.readouterr().out
    assert "| `stock` | 51.0 (51.0, 51.0) | 5.0 (5.0, 5.0) | 0.80 |" in out
    assert "| `student` | 66.0 (61.0, 71.0) | 6.5 (6.0, 7.0) | 0.80 |" in out
    assert "| `student` | +15.0 (+10.0, +20.0); +15.0 to +15.0 | +1.5 (+1.0, +2.0); +1.5 to +1.5 |" in out
    assert "| `student` | 66.0, 0.80 |" in out and "| `student` | RV 66.0 |" in out


def test_the_dice_of_a_biased_prediction_and_of_nothing(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts/experiments")
    bias = load("experiments/evidence_bias.py")
    reference, predicted = np.zeros((4, 4, 1), bool), np.zeros((4, 4, 1), bool)
    reference[:2], predicted[1:] = True, True
    assert bias.dice_and_sizes(predicted, reference) == {"dice": 0.4, "prediction_size": 12, "reference_size": 8}
    nothing = np.zeros_like(reference)
    assert bias.dice_and_sizes(nothing, nothing)["dice"] is None
    assert (bias.name_of("stock", 1.0), bias.name_of("stock", -0.5)) == ("stock-bias+1", "stock-bias-0.5")


def test_distillation_in_place_of_the_cross_entropy_leaves_the_dice_loss(monkeypatch):
    seeded = load("experiments/trainers/seeded.py")
    own = SimpleNamespace(weight_ce=1, weight_dice=1)
    loss = SimpleNamespace(segmentation=SimpleNamespace(loss=own))
    monkeypatch.setattr(seeded.ShapeKD, "_build_loss", lambda self: loss)
    trainer = object.__new__(seeded.nnUNetTrainerShapeKDInstead_Seeded)
    assert trainer._build_loss() is loss and (own.weight_ce, own.weight_dice) == (0, 1)


def test_moved_means_change_structures_alone_and_draw_nothing_that_others_draw(monkeypatch):
    monkeypatch.setenv("EXPERIMENT_JITTER", "2")
    monkeypatch.setenv("EXPERIMENT_SHARE", "0.5")
    seeded = load("experiments/trainers/seeded.py")
    seen = []

    class Base:
        device, seed, current_epoch = torch.device("cpu"), 0, 0
        label_manager = SimpleNamespace(all_labels=[0, 1, 2])

        def on_train_epoch_start(self):
            pass

        def train_step(self, batch):
            seen.append(batch["data"])

    class Trainer(seeded._VariedClassMeans, Base):
        pass

    data, labels = torch.randn(16, 1, 24, 24), torch.zeros(16, 1, 24, 24)
    labels[..., 12:], labels[:, :, :12, 12:] = 1, 2
    trainer, before = Trainer(), torch.get_rng_state()
    trainer.on_train_epoch_start()
    trainer.train_step({"data": data, "target": [labels]})
    moved = seen[0] - data
    assert torch.equal(before, torch.get_rng_state())
    assert moved[..., :8].abs().max() == 0  # background, but for the soft border
    inner = moved[:, 0, 16:, 16:]
    assert torch.allclose(inner, inner[:, :1, :1].expand_as(inner), atol=1e-5) and inner.abs().max() <= 2
    assert 0 < (inner[:, 0, 0] != 0).sum() < 16


def test_a_teacher_heard_where_the_image_moved_says_nothing_of_the_other_samples():
    seeded = load("experiments/trainers/seeded.py")
    trainer = SimpleNamespace(settings=SimpleNamespace(temperature=1.0), moved=torch.tensor([False, True, False]))
    loss = seeded._OfMovedSamples(trainer)
    student, teacher = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 4, 4)
    value = loss(student, teacher, None)
    value.backward()
    torch.testing.assert_close(value, LogitDistillation()(student[1:2], teacher[1:2]) / 3)
    assert not student.grad[::2].any() and student.grad[1].any()
    trainer.moved[:] = False
    assert loss(student, teacher, None) == 0


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
        trainer.settings = SimpleNamespace(ramp=0)
        trainer.on_train_epoch_start()
        return float(torch.rand((), generator=trainer.jitter_generator))

    alone, taught = seeded.nnUNetTrainerMeanJitter_Seeded, seeded.nnUNetTrainerShapeKDMeanJitter_Seeded
    before = torch.get_rng_state()
    assert drawn(alone, 4) == drawn(taught, 4) != drawn(alone, 5)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.15), (23, 0.15), (24, 0), (29, 0)])
def test_jitter_that_fades_leaves_the_last_fifth_of_the_epochs_alone(monkeypatch, epoch, share):
    seeded = load("experiments/trainers/seeded.py")
    monkeypatch.setattr(seeded.nnUNetTrainer_Seeded, "on_train_epoch_start", lambda self: None)
    trainer = object.__new__(seeded.nnUNetTrainerMeanJitterFades_Seeded)
    trainer.device, trainer.seed, trainer.num_epochs, trainer.current_epoch = torch.device("cpu"), 0, 30, epoch
    trainer.on_train_epoch_start()
    assert trainer.mean_jitter_share == share


def test_what_a_teacher_misses_invents_and_fills(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts/experiments")
    labels = torch.zeros(1, 2, 4, dtype=torch.long)
    labels[:, 0] = 1
    says = labels.clone()
    says[:, 0, 0], says[:, 1, :2] = 0, 1  # one of four missed, two of four invented
    logits = 50.0 * torch.stack([1 - says, says], dim=1)
    about = load("experiments/evidence_why.py").about_teacher(logits, labels)
    assert about == pytest.approx({"missed": 0.25, "false": 0.5, "volume": 1.25, "entropy": 0.0}, abs=1e-6)
    unsure = load("experiments/evidence_why.py").about_teacher(torch.zeros(1, 2, 2, 4), labels)
    assert (unsure["volume"], unsure["entropy"]) == pytest.approx((1.0, math.log(2)))


def test_the_figure_has_a_panel_for_each_run_and_shift_with_the_patients_mean(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts/experiments")
    figures = load("experiments/evidence_figure.py")
    of_classes = {"RV": np.array([1.0, 3.0]), "LVC": np.arange(-4.0, 4.0)}
    figure = figures.draw({"student": {"none": of_classes}, "jitter": {"none": of_classes}}, "stock", 3)
    assert [ax.get_ylabel() for ax in figure.axes] == ["student", "jitter"] and figure.axes[0].get_title() == "clean"
    assert [list(line.get_xdata()) for line in figure.axes[0].lines[:2]] == [[2.0, 2.0], [-0.5, -0.5]]
    assert len(figure.axes[0].patches) == 1  # no interval of two patients


def test_of_a_prediction_the_largest_component_of_the_foreground_stays(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts/experiments")
    largest = load("experiments/evidence_largest.py")
    label_map = np.zeros((1, 6, 8), np.uint8)
    label_map[:, 1:4, 1:3], label_map[:, 1:4, 3] = 1, 2  # they touch: one component
    expected = label_map.copy()
    label_map[:, 5, 6:] = 2
    (tmp_path / "to").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(label_map), str(tmp_path / "a.nii.gz"))
    largest.keep_largest(tmp_path, tmp_path / "to", [1, 2])
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "to" / "a.nii.gz")))
    assert np.array_equal(found, expected)
