"""``shapekd stress``: every model sees the same shifted images, none is predicted twice, and the numbers are judged."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import segmentations
from matrix_datasets import DATASETS, TEST_CASE
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from skimage.io import imread
from test_cross import STOCK, STUDENT, TEACHER, write_models
from test_experiments import evaluation

pytest.importorskip("torchio")

from nnunet_shapekd.across import predict
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.stress import stress as stress_module
from nnunet_shapekd.stress.cases import drawn, find_subjects
from nnunet_shapekd.stress.shifts import SHIFTS
from nnunet_shapekd.stress.stress import MARK, in_training, lines, over_patients, plan, stress
from nnunet_shapekd.trainers_folder import trainers_folder

PLAIN = DATASETS["plain"]
STEPS = ("none_0", "noise_2", "noise_4", "ghosting_2", "ghosting_4")
QUICK = {"device": "cpu", "tta": False, "processes": 1, "pattern": "(?P<patient>.*)"}
QUICK |= {"shifts": ["noise", "ghosting"], "severities": [2, 4]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """nnU-Net's folders, in this process's environment."""
    root = tmp_path_factory.mktemp("stress")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_extTrainer", trainers_folder())
        patch.setenv("nnUNet_compile", "f")
        patch.setenv("nnUNet_def_n_proc", "1")
        yield root


@pytest.fixture(scope="module")
def models(root) -> dict[str, Path]:
    """Model folders with random weights, of which the student's records its validation cases."""
    folds = {0: ["case_3"], 1: ["case_2"]}
    folders = write_models(root, "plain", "2d", {STOCK: folds, STUDENT: folds, TEACHER: {0: ["case_3"]}})
    splits = [{"train": [c for c in PLAIN.training_cases if c not in val], "val": val} for val in folds.values()]
    (root / "preprocessed" / PLAIN.name / "splits_final.json").write_text(json.dumps(splits))
    return folders


@pytest.fixture(scope="module")
def raw(root, models) -> Path:
    return root / "raw" / PLAIN.name


@pytest.fixture(scope="module")
def done(models, raw, tmp_path_factory) -> Path:
    """A finished run on fold 0's validation case, by the command."""
    out = tmp_path_factory.mktemp("done") / "out"
    arguments = [models[STUDENT], raw / "imagesTr", raw / "labelsTr", "--baseline", models[STOCK], "-o", out, "-f", 0]
    arguments += ["--names", "stock", "student", "--shifts", "noise", "ghosting", "--severities", 2, 4]
    arguments += ["-device", "cpu", "--disable_tta", "-np", 1, "--pattern", QUICK["pattern"]]
    assert main(["stress", *map(str, arguments)]) == 0
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results" / "stress.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_model_shift_severity_case_and_class(done):
    rows = rows_of(done)
    assert {f"{row['shift']}_{row['severity']}" for row in rows} == set(STEPS)
    assert len(rows) == 2 * len(STEPS) * len(PLAIN.labels.keys() - {"background"})
    assert {(row["shift"], row["value"], row["in_training"]) for row in rows} == {
        ("none", "", "yes"),
        ("noise", "0.25", "no"),
        ("noise", "1", "no"),
        ("ghosting", "0.5", "no"),
        ("ghosting", "1", "no"),
    }
    assert sorted(path.name for path in done.iterdir()) == ["predictions", "results"]
    written = {path.name for path in (done / "results").iterdir() if not path.name.startswith(".")}
    assert written == {"stress.csv", "stress.json", "stress.md", "dice.png", "hd95.png", "examples.png"}
    assert all(imread(path).std() > 0 for path in (done / "results").glob("*.png"))


def nnunets(model: Path, images: list[Path], out: Path, tta: bool) -> np.ndarray:
    """The segmentation nnU-Net makes by itself, with fold 0."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=tta, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    out.mkdir()
    predictor.predict_from_files_sequential([[str(path) for path in images]], [str(out / "case")])
    return segmentations(out)["case.nii.gz"]


def test_severity_0_is_the_image_itself(done, raw, models, tmp_path):
    folder = done / "predictions" / "stock" / "none_0"
    evaluation = evaluate_folders(raw / "labelsTr", folder, Judging(chill=True))
    ours = [row for row in rows_of(done) if row["model"] == "stock" and row["shift"] == "none"]
    assert [float(row["dice"]) for row in ours] == pytest.approx([row["dice"] for row in evaluation.rows], rel=1e-5)
    theirs = nnunets(models[STOCK], sorted((raw / "imagesTr").glob("case_3_*")), tmp_path / "theirs", tta=False)
    assert np.array_equal(segmentations(folder)["case_3.nii.gz"], theirs)


def test_severity_0_is_nnunets_own_prediction_with_mirroring_too(models, raw, tmp_path):
    mirroring = tmp_path / models[STUDENT].parent.name / models[STUDENT].name
    shutil.copytree(models[STUDENT], mirroring)
    path = mirroring / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    torch.save({**checkpoint, "inference_allowed_mirroring_axes": (0, 1)}, path)
    options = {**QUICK, "shifts": ["noise"], "severities": [1], "tta": True}
    stress(mirroring, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", folds=[0], **options)
    images = sorted((raw / "imagesTs").glob("*.nii.gz"))
    theirs = [nnunets(mirroring, images, tmp_path / f"theirs{tta}", tta=tta) for tta in (True, False)]
    ours = segmentations(tmp_path / "out" / "predictions" / STUDENT / "none_0")[f"{TEST_CASE}.nii.gz"]
    assert np.array_equal(ours, theirs[0]) and not np.array_equal(*theirs)


def test_all_models_predicted_the_same_files(done):
    records = [
        json.loads((done / "predictions" / name / step / "predictions.json").read_text())["case_3"]
        for step in STEPS
        for name in ("stock", "student")
    ]
    seen = [tuple(record["images_sha256"]) for record in records]
    assert seen[::2] == seen[1::2] and len(set(seen)) == len(STEPS)


def test_what_is_predicted_is_kept_and_the_result_the_same(done, models, raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(done, out)
    shutil.rmtree(out / "predictions" / "student" / "ghosting_4")  # as if the run had been killed
    shutil.rmtree(out / "results")
    (out / ".images-holiday").mkdir()
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    images = [out / "predictions" / f".images-{platform.node()}-{pid}" for pid in (killed.pid, os.getppid())]
    for folder in images:
        folder.mkdir()
    predicted, original = [], predict._run
    monkeypatch.setattr(predict, "_run", lambda p, images, out, n: (predicted.append(out), original(p, images, out, n)))
    options = {**QUICK, "baselines": [models[STOCK]], "names": ["stock", "student"], "folds": [0]}
    stress(models[STUDENT], raw / "imagesTr", raw / "labelsTr", out, **options)
    assert [path.parent.name for path in predicted] == ["ghosting_4"]
    assert sorted(path.name for path in out.iterdir()) == [".images-holiday", "predictions", "results"]
    assert [folder.exists() for folder in images] == [False, True]  # of a process that is no more, and of another one
    assert (out / "results" / "stress.csv").read_bytes() == (done / "results" / "stress.csv").read_bytes()


def test_the_printed_means_are_means_over_patients(done):
    result = json.loads((done / "results" / "stress.json").read_text())
    assert result["n_patients"] == 1 and result["cases"] == ["case_3"]
    text = list(lines(result))
    for metric, column, factor in (("dice", "dice", 100), ("hd95", "hd95_mm", 1)):
        of_class = [
            float(row[column])
            for row in rows_of(done)
            if (row["model"], row["shift"], row["severity"]) == ("student", "noise", "4") and row[column]
        ]
        found = [r for r in result["means"] if (r["model"], r["shift"], r["severity"]) == ("student", "noise", 4)]
        assert [row[metric] for row in found] == pytest.approx([np.mean(of_class)], rel=1e-5)
        cells = [line.split() for line in text if line.startswith("noise") and "student" in line]
        assert f"{factor * np.mean(of_class):.1f}" in [row[-1] for row in cells]
        assert {row[1] for row in cells} == {"*"}


def means_of(dice: dict[str, dict[str, float]], folder: Path) -> tuple[dict[str, float], dict]:
    """Mean Dice of models, and what was counted, where each has one Dice a case."""
    steps = {(name, "none", 0): evaluation(name, folder / name, of_case) for name, of_case in dice.items()}
    values, counts = over_patients(steps)
    return {name: found["dice"].mean() for (name, _, _), found in values.items()}, counts


def test_a_structure_that_one_model_invented_leaves_the_means_of_all(tmp_path):
    a = {"p1_a": 0.8, "p2_a": 0.6, "p3_a": math.nan, "p4_a": math.nan}
    means, counts = means_of({"a": a, "b": {**a, "p3_a": 0.0}}, tmp_path)
    assert means == pytest.approx({"a": 0.7, "b": 0.7})
    assert counts == {"n_cases": 2, "n_patients": 2, "n_invented": 1, "invented": {"a": 0, "b": 1}}


def test_a_structure_invented_at_one_severity_leaves_all_severities(tmp_path):
    images = evaluation("a", tmp_path / "0", {"p1_a": 0.8, "p2_a": math.nan})
    noisy = evaluation("a", tmp_path / "1", {"p1_a": 0.5, "p2_a": 0.0})
    values, counts = over_patients({("a", "none", 0): images, ("a", "noise", 1): noisy})
    assert [found["dice"].tolist() for found in values.values()] == [[0.8], [0.5]]
    assert counts["invented"] == {"a": 1}


def test_a_patient_of_many_cases_counts_as_much_as_one_of_a_single(tmp_path):
    means, counts = means_of({"a": {"p1_a": 0.8, "p2_a": 0.2, "p2_b": 0.4, "p2_c": 0.6}}, tmp_path)
    assert means == pytest.approx({"a": 0.6})
    assert (counts["n_cases"], counts["n_patients"]) == (4, 2)


def test_what_is_invented_is_said(done):
    result = json.loads((done / "results" / "stress.json").read_text())
    assert (result["n_invented"], result["invented"]) == (0, {"stock": 0, "student": 0})
    text = "\n".join(lines({**result, "n_invented": 3, "invented": {"stock": 1, "student": 3}}))
    assert "Without 3 structures that are not there" in text and "1 by stock, 3 by student" in text


def test_training_is_marked_only_where_models_normalise_by_the_images_own_mean_and_sd(models, raw, tmp_path, capsys):
    model = shutil.copytree(models[STUDENT], tmp_path / PLAIN.name / models[STUDENT].name)
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["ZScoreNormalization", "RescaleTo01Normalization"]
    (model / "plans.json").write_text(json.dumps(plans))
    options = {**QUICK, "shifts": ["noise", "ghosting"], "severities": [1]}
    result = stress(model, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", folds=[0], **options)
    assert "normalise with RescaleTo01Normalization, ZScoreNormalization" in capsys.readouterr().out
    assert {(row["shift"], row["in_training"]) for row in rows_of(tmp_path / "out")} == {
        ("none", "yes"),
        ("noise", ""),
        ("ghosting", "no"),
    }
    assert "*" not in "\n".join(lines(result))
    assert [in_training("noise", severity, True) for severity in (0, 1, 2)] == ["yes", "yes", "no"]


def test_a_smaller_run_keeps_the_predictions_of_a_larger_one(models, raw, tmp_path, monkeypatch):
    predicted, original = [], predict._run
    monkeypatch.setattr(
        predict, "_run", lambda p, images, *rest: (predicted.extend(images), original(p, images, *rest))
    )
    model = read_model(models[STUDENT], [0])
    images = predict.find_images(raw / "imagesTr", ".nii.gz")
    for cases in (["case_1", "case_2"], ["case_2"], ["case_1", "case_2"]):
        some = {case: images[case] for case in cases}
        predict.predict_cases(model, some, tmp_path / "out", device="cpu", tta=False)
        assert sorted(segmentations(tmp_path / "out")) == [f"{case}.nii.gz" for case in cases]
    assert predicted == ["case_1", "case_2"]


def test_of_the_models_own_cases_validation_cases_are_judged_by_their_own_fold(models, raw):
    both = [read_model(models[name]) for name in (STOCK, STUDENT)]
    subjects, folds, remarks, problems = find_subjects(raw / "imagesTr", raw / "labelsTr", both, all_cases=False)
    assert folds == {"case_2": ("1",), "case_3": ("0",)} and problems == []
    assert [one.case for one in subjects] == ["case_2", "case_3"]
    assert "Judged are the 2 validation cases among the 3" in remarks[-1]
    _, folds, (remark,), _ = find_subjects(raw / "imagesTr", raw / "labelsTr", both, all_cases=True)
    assert folds == dict.fromkeys(PLAIN.training_cases, ("0", "1"))
    assert "called like training cases" in remark


def test_training_cases_are_known_in_a_folder_of_any_name(models, raw, tmp_path):
    for case in ("case_1", "case_3"):
        for path in (raw / "imagesTr").glob(f"{case}_*"):
            shutil.copy(path, tmp_path)
    for name in (STOCK, STUDENT):  # a stock checkpoint has no record, but there is a split
        subjects, *_ = find_subjects(tmp_path, raw / "labelsTr", [read_model(models[name], [0])], all_cases=False)
        assert [one.case for one in subjects] == ["case_3"]
    for path in tmp_path.glob("case_3_*"):
        path.unlink()
    with pytest.raises(ValueError, match="none of their validation cases; --all-cases"):
        find_subjects(tmp_path, raw / "labelsTr", [read_model(models[STUDENT], [0])], all_cases=False)


@pytest.mark.parametrize("case", ["case_1", "case_2"])
@pytest.mark.parametrize("known_by", ["splits_final.json", "labelsTr", "gt_segmentations"])
def test_a_stock_models_training_cases_are_refused_without_their_validation_cases(
    case, known_by, models, raw, tmp_path, monkeypatch
):
    images = tmp_path / "images"
    images.mkdir()
    for path in (raw / "imagesTr").glob(f"{case}_*"):
        shutil.copy(path, images)
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    model = [read_model(models[STOCK], [0])]
    _, _, remarks, _ = find_subjects(images, raw / "labelsTr", model, all_cases=False)
    assert remarks[0].startswith("Training cases could not be recognised")
    if known_by == "splits_final.json":
        shutil.copytree(raw.parents[1] / "preprocessed" / PLAIN.name, tmp_path / "preprocessed" / PLAIN.name)
    else:
        parent = tmp_path / ("raw" if known_by == "labelsTr" else "preprocessed") / PLAIN.name
        shutil.copytree(raw / "labelsTr", parent / known_by)
    with pytest.raises(ValueError, match="none of their validation cases|is not known"):
        find_subjects(images, raw / "labelsTr", model, all_cases=False)


def test_cases_that_no_model_knows_are_predicted_by_all_folds(models, raw):
    subjects, folds, remarks, _ = find_subjects(
        raw / "imagesTs", raw / "labelsTs", [read_model(models[STUDENT])], all_cases=False
    )
    assert folds == {subjects[0].case: ("0", "1")} and remarks == []


def test_patients_are_drawn_whole_and_by_the_seed(models, tmp_path):
    model = read_model(models[STUDENT])
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for patient in range(6):
        for phase in ("ED", "ES"):
            for channel in range(len(model.channels)):
                (images / f"p{patient}_{phase}_{channel:04d}.nii.gz").touch()
            (labels / f"p{patient}_{phase}.nii.gz").touch()
    subjects, *_ = find_subjects(images, labels, [model], all_cases=False)
    assert len(subjects) == 12
    chosen = [[one.case for one in drawn(subjects, labels, 3, seed, None, None)] for seed in (0, 0, 1, 2, 3)]
    assert all(len(cases) == 4 and len({case[:2] for case in cases}) == 2 for cases in chosen)
    assert chosen[0] == chosen[1] and len(set(map(tuple, chosen))) > 1
    assert drawn(subjects, labels, None, 0, None, None) == subjects


def refused(capsys, tmp_path: Path, *arguments) -> str:
    """What the command says; it must end with 1 and write nothing."""
    out = tmp_path / "out"
    assert main(["stress", *map(str, arguments), "-o", str(out), "-device", "cpu"]) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_all_that_is_wrong_is_listed_and_nothing_is_written(models, raw, tmp_path, capsys):
    images, labels = (shutil.copytree(raw / name, tmp_path / name) for name in ("imagesTr", "labelsTr"))
    (labels / "case_1.nii.gz").unlink()
    (images / "case_2_0001.nii.gz").write_bytes(b"no image")
    reference = sitk.ReadImage(str(labels / "case_3.nii.gz"))
    reference[0, 0, 0] = 77
    sitk.WriteImage(reference, str(labels / "case_3.nii.gz"))
    arguments = ["--shifts", "rain", "--severities", 1, 5, "--invert", "spleen", "--cases", 0, "--all-cases"]
    said = refused(capsys, tmp_path, models[STUDENT], images, labels, *arguments)
    for problem in (
        "--shifts: expected some of gamma-dark, ",
        "got rain",
        "--severities: expected some of 1 to 4, got 1, 5",
        "--invert spleen: no such class; there are RV, MLV, LVC",
        "--cases: expected 1 or more, got 0",
        f"{labels / 'case_1.nii.gz'}: is missing",
        f"{images / 'case_2_0001.nii.gz'}: cannot be read",
        "unknown label value 77",
    ):
        assert problem in said
    assert said.count("\n  - ") == 8


def test_wrong_numbers_geometry_and_patterns_are_found_before_anything_is_predicted(models, raw, tmp_path, capsys):
    images, labels = (shutil.copytree(raw / name, tmp_path / name) for name in ("imagesTr", "labelsTr"))
    for path, change in (
        (labels / "case_1.nii.gz", lambda image: image.SetOrigin((50, 0, 0))),
        (labels / "case_2.nii.gz", lambda image: image.SetSpacing((3, 3, 3))),
        (labels / "case_3.nii.gz", lambda image: image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))),
        (images / "case_2_0001.nii.gz", lambda image: image.SetSpacing((9, 9, 9))),
    ):
        image = sitk.ReadImage(str(path))
        change(image)
        sitk.WriteImage(image, str(path))
    arguments = ["--tolerance", -1, "-np", 0, "-npp", -1, "--seed", -1, "--leave-out", "XX", "--pattern", "("]
    said = refused(capsys, tmp_path, models[STUDENT], images, labels, "--all-cases", *arguments)
    for problem in (
        "--tolerance: expected 0 or more, got -1",
        "-np: expected 1 or more, got 0",
        "-npp: expected 0 or more, got -1",
        "--seed: expected 0 or more, got -1",
        "--leave-out XX: no such class",
        "--pattern (: is no regular expression",
        f"{labels / 'case_1.nii.gz'}: origin (50, 0, 0) differs from the image's",
        f"{labels / 'case_2.nii.gz'}: spacing (3, 3, 3) differs from the image's",
        f"{labels / 'case_3.nii.gz'}: orientation",
        f"{images / 'case_2_0001.nii.gz'}: spacing (9, 9, 9) differs from case_2_0000.nii.gz's",
    ):
        assert problem in said
    assert said.count("\n  - ") == 10


def test_a_teacher_and_another_folder_are_refused(models, raw, tmp_path, capsys):
    said = refused(capsys, tmp_path, models[TEACHER], raw / "imagesTr", raw / "labelsTr")
    assert "is a teacher's: it sees the reference" in said
    (tmp_path / "mine").write_text("mine")
    for name in (".images-holiday", "predictions"):  # as of shapekd cross, or somebody's own
        with pytest.raises(ValueError, match=f"holds no {MARK} of an earlier run"):
            stress(models[STUDENT], raw / "imagesTr", raw / "labelsTr", tmp_path, device="cpu")
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".images-holiday", "mine", "predictions"]


def test_without_torchio_one_line_says_what_to_type(models, raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", raw / "labelsTr")
    assert "pip install 'torchio>=1.2,<2'" in said and said.count("\n") == 1


def test_an_old_torchio_is_refused(models, raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stress_module, "version", lambda name: "0.20.1")
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", raw / "labelsTr")
    assert "needs TorchIO (this is 0.20.1): pip install 'torchio>=1.2,<2'" in said


def test_references_of_other_values_or_sizes_are_refused(models, raw, tmp_path, capsys):
    labels = shutil.copytree(raw / "labelsTr", tmp_path / "labelsTr")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(labels / "case_3.nii.gz")))
    sitk.WriteImage(sitk.GetImageFromArray(array[:-1]), str(labels / "case_3.nii.gz"))
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", labels, "-f", 0)
    assert "case_3.nii.gz: shape (" in said and "differs from the image's (" in said
    content = json.loads((raw / "dataset.json").read_text())
    content["labels"] |= {"RV": 2, "MLV": 1}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", labels, "-f", 0)
    assert "other label values than the model's (value 1 becomes 2; value 2 becomes 1)" in said


def test_all_shifts_are_on_by_default_inversion_where_it_is_said_of_what():
    assert {shift for shift, _ in plan(None, None, "LVC")[0]} == {"none", *SHIFTS}
    assert {shift for shift, _ in plan(None, None, None)[0]} == {"none", *SHIFTS} - {"inversion"}
    assert plan(["blur"], [4, 1], None) == ([("none", 0), ("blur", 1), ("blur", 4)], [])
    assert "--invert" in plan(["inversion"], None, None)[1][0]
    assert "--invert LVC: is for the shift inversion" in plan(["blur"], None, "LVC")[1][0]


def test_a_class_is_inverted_and_another_left_out(models, raw, tmp_path):
    options = {**QUICK, "shifts": ["inversion"], "severities": [4], "invert": "LVC", "leave_out": ["RV"]}
    result = stress(models[STUDENT], raw / "imagesTs", raw / "labelsTs", tmp_path / "out", folds=[0], **options)
    assert result["classes"] == ["MLV", "LVC"] == list(dict.fromkeys(row["class"] for row in rows_of(tmp_path / "out")))


def test_colour_pictures_are_shifted_and_measured_in_pixels(root, tmp_path):
    model = write_models(root, "rgb", "2d", {STUDENT: {0: ["case_3"]}})[STUDENT]
    raw = root / "raw" / DATASETS["rgb"].name
    options = {"severities": [3], "invert": "cup"}
    result = stress(model, raw / "imagesTr", raw / "labelsTr", tmp_path / "out", **{**QUICK, "shifts": None, **options})
    assert result["cases"] == ["case_3"] and result["distance_unit"] == "px"
    assert len({row["shift"] for row in rows_of(tmp_path / "out")}) == 1 + len(SHIFTS)
