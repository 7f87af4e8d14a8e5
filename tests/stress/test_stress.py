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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import segmentations
from matrix_datasets import DATASETS, TEST_CASE
from networks import PLAIN, STOCK, STUDENT, folders, models_with_split, plain_raw, write_models
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from skimage.io import imread

pytest.importorskip("torchio")

from nnunet_shapekd.across import predict
from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.record import Evaluation, columns
from nnunet_shapekd.evaluation.results import write_evaluation
from nnunet_shapekd.stress.options import StressOptions
from nnunet_shapekd.stress.shifts import SHIFTS
from nnunet_shapekd.stress.stress import MARK, over_patients, stress
from nnunet_shapekd.stress.tables import in_training, lines

STEPS = ("none_0", "noise_2", "noise_4", "ghosting_2", "ghosting_4")
QUICK = StressOptions(
    **{"device": "cpu", "tta": False, "processes": 1, "pattern": "(?P<patient>.*)"},
    **{"folds": [0], "shifts": ["noise", "ghosting"], "severities": [2, 4]},
)


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


root = pytest.fixture(scope="module")(folders)


models = pytest.fixture(scope="module")(models_with_split)
raw = pytest.fixture(scope="module")(plain_raw)


@pytest.fixture(scope="module")
def done(models, raw, tmp_path_factory) -> Path:
    """A finished run on fold 0's validation case, by the command."""
    out = tmp_path_factory.mktemp("done") / "out"
    arguments = [models[STUDENT], raw / "imagesTr", raw / "labelsTr", "--baseline", models[STOCK], "-o", out, "-f", 0]
    arguments += ["--names", "stock", "student", "--shifts", "noise", "ghosting", "--severities", 2, 4]
    arguments += ["-device", "cpu", "--disable_tta", "-np", 1, "--pattern", QUICK.pattern]
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
    options = replace(QUICK, shifts=["noise"], severities=[1], tta=True)
    stress(mirroring, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", options)
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
    options = replace(QUICK, baselines=[models[STOCK]], names=["stock", "student"])
    stress(models[STUDENT], raw / "imagesTr", raw / "labelsTr", out, options)
    assert [path.parent.name for path in predicted] == ["ghosting_4"]
    assert sorted(path.name for path in out.iterdir()) == [".images-holiday", "predictions", "results"]
    assert [folder.exists() for folder in images] == [False, True]  # of a process that is no more, and of another one
    assert (out / "results" / "stress.csv").read_bytes() == (done / "results" / "stress.csv").read_bytes()


def test_a_folder_of_something_else_is_left_alone(models, raw, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in (".images-holiday", "predictions"):  # as of shapekd cross, or somebody's own
        with pytest.raises(ValueError, match=MARK):
            stress(models[STUDENT], raw / "imagesTr", raw / "labelsTr", tmp_path, QUICK)
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".images-holiday", "mine", "predictions"]


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
    options = replace(QUICK, severities=[1])
    result = stress(model, raw / "imagesTs", raw / "labelsTs", tmp_path / "out", options)
    assert "normalise with RescaleTo01Normalization, ZScoreNormalization" in capsys.readouterr().out
    assert {(row["shift"], row["in_training"]) for row in rows_of(tmp_path / "out")} == {
        ("none", "yes"),
        ("noise", ""),
        ("ghosting", "no"),
    }
    assert "*" not in "\n".join(lines(result))
    assert [in_training("noise", severity, True) for severity in (0, 1, 2)] == ["yes", "yes", "no"]


def test_a_class_is_inverted_and_another_left_out(models, raw, tmp_path):
    options = replace(QUICK, shifts=["inversion"], severities=[4], invert="LVC", leave_out=["RV"])
    result = stress(models[STUDENT], raw / "imagesTs", raw / "labelsTs", tmp_path / "out", options)
    assert result["classes"] == ["MLV", "LVC"] == list(dict.fromkeys(row["class"] for row in rows_of(tmp_path / "out")))


def test_named_classes_are_changed_and_recorded(models, raw, tmp_path):
    options = replace(QUICK, shifts=["class-contrast", "noise"], severities=[4], classes=["LVC"])
    seen = {}
    for name, given in (("one", options), ("all", replace(options, classes=None))):
        result = stress(models[STUDENT], raw / "imagesTs", raw / "labelsTs", tmp_path / name, given)
        assert result["changed"] == {"class-contrast": [[3]] if name == "one" else [[1], [2], [3]]}
        for step in ("class-contrast_4", "noise_4"):
            record = tmp_path / name / "predictions" / STUDENT / step / "predictions.json"
            seen[name, step] = json.loads(record.read_text())[TEST_CASE]["images_sha256"]
    assert seen["one", "noise_4"] == seen["all", "noise_4"]
    assert seen["one", "class-contrast_4"] != seen["all", "class-contrast_4"]


def test_colour_pictures_are_shifted_and_measured_in_pixels(root, tmp_path):
    model = write_models(root, "rgb", "2d", {STUDENT: {0: ["case_3"]}})[STUDENT]
    raw = root / "raw" / DATASETS["rgb"].name
    options = replace(QUICK, shifts=None, severities=[3], invert="cup")
    result = stress(model, raw / "imagesTr", raw / "labelsTr", tmp_path / "out", options)
    assert result["cases"] == ["case_3"] and result["distance_unit"] == "px"
    assert len({row["shift"] for row in rows_of(tmp_path / "out")}) == 1 + len(SHIFTS)
