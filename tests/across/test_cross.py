"""``shapekd cross``: classes found by name, only unseen cases, nnU-Net's own predictions, none made twice."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import edit, segmentations
from matrix_datasets import DATASETS, TEST_CASE, write_raw
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from test_figure import plans_of

from nnunet_shapekd.across import predict
from nnunet_shapekd.across.cross import cross, run
from nnunet_shapekd.across.datasets import match_classes
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.across.predict import find_images, predict_folder
from nnunet_shapekd.across.table import lines
from nnunet_shapekd.across.tasks import held_out
from nnunet_shapekd.report.page import read_folders
from nnunet_shapekd.trainers_folder import trainers_folder

STOCK, STUDENT, TEACHER = "nnUNetTrainer", "nnUNetTrainerShapeKD", "nnUNetTrainerMeanImage"
MODEL = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
PLAIN = DATASETS["plain"]


def classes(labels: dict) -> dict:
    return {"labels": labels}


@pytest.mark.parametrize(
    ("theirs", "leave_out", "pairs", "values"),
    [
        (MODEL, (), {"RV": "RV", "MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3}),
        (
            {"background": 0, "LV": 1, "MYO": 2, "RV": 3},
            (),
            {"LV": "LVC", "MYO": "MLV", "RV": "RV"},
            {0: 0, 1: 3, 2: 2, 3: 1},
        ),
        ({"background": 0, "mlv": 7, "Lvc": 9}, ["rv"], {"mlv": "MLV", "Lvc": "LVC"}, {0: 0, 7: 2, 9: 3}),
        (MODEL, ["RV"], {"MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3}),
        ({**MODEL, "scar": 4}, ["scar"], {"RV": "RV", "MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3, 4: 0}),
        ({"background": 0, "LV": 1, "MYO": 2, "RV": 3}, ["LVC"], {"MYO": "MLV", "RV": "RV"}, {0: 0, 1: 0, 2: 2, 3: 1}),
    ],
    ids=[
        "the same",
        "another order, other names",
        "RV not annotated",
        "RV not judged",
        "one class more",
        "left out of both",
    ],
)
def test_classes_are_found_by_name_and_values_follow(theirs, leave_out, pairs, values):
    matching = match_classes(classes(MODEL), classes(theirs), leave_out)
    assert (matching.classes, matching.values) == (pairs, values)


def test_regions_are_matched_by_the_classes_a_value_lies_in():
    ours = {"background": 0, "heart": [1, 2, 3], "LV": [2, 3], "LVC": 3}
    theirs = {"background": 0, "LVC": 1, "LV": [1, 2], "heart": [1, 2, 3]}
    assert match_classes(classes(ours), classes(theirs), ()).values == {0: 0, 1: 3, 2: 2, 3: 1}


def test_a_disc_without_its_cup_is_not_taken_for_the_region_of_both():
    ours, theirs = {"background": 0, "disc": [1, 2], "cup": 2}, {"background": 0, "disc": 1, "cup": 2}
    with pytest.raises(ValueError, match=r"its value 2 lies in cup, and no value of the model's lies in this alone"):
        match_classes(classes(ours), classes(theirs), ())
    assert match_classes(classes(ours), classes(theirs), ["disc"]).values == {0: 0, 1: 1, 2: 2}


def test_the_ignore_label_of_a_dataset_is_kept_where_the_model_has_none():
    matching = match_classes(classes(MODEL), classes({**MODEL, "ignore": 9}), ())
    assert matching.values[9] == 4 == matching.labels["ignore"]


@pytest.mark.parametrize(
    ("theirs", "leave_out", "message"),
    [
        ({"background": 0, "MYO": 2, "LV": 3}, (), r"does not annotate RV.*--leave-out RV"),
        (
            {**MODEL, "left atrium": 4},
            (),
            r"annotates left atrium, which the model does not.*--leave-out 'left atrium'",
        ),
        (MODEL, ["RV", "MLV", "LVC"], "nothing is left"),
    ],
)
def test_a_class_that_only_one_side_knows_is_named_with_what_to_do(theirs, leave_out, message):
    with pytest.raises(ValueError, match=message):
        match_classes(classes(MODEL), classes(theirs), leave_out)


def write_models(
    root: Path, kind: str, configuration: str, trainers: dict[str, dict[int, list[str]]]
) -> dict[str, Path]:
    """Model folders as their trainers save them, with random weights: trainer -> folder.

    Args:
        trainers: name -> fold -> the validation cases that a checkpoint of this package's records.
    """
    dataset = DATASETS[kind]
    dataset_json = json.loads((write_raw(dataset, root / "raw") / "dataset.json").read_text())
    preprocessed = root / "preprocessed" / dataset.name / f"nnUNetPlans_{configuration}"
    preprocessed.mkdir(parents=True)
    (preprocessed / "case_1.b2nd").touch()  # by which a trainer tells its kind of data
    folders = {}
    for name, folds in trainers.items():
        for fold, validation_cases in folds.items():
            torch.manual_seed(len(name) + fold)
            trainer_class = recursive_find_trainer_class_by_name(name)
            trainer = trainer_class(plans_of(dataset), configuration, fold, dataset_json, torch.device("cpu"))
            trainer.initialize()
            training_cases = [case for case in dataset.training_cases if case not in validation_cases]
            trainer.provenance = {
                "role": "teacher" if name == TEACHER else "student",
                "trainer": name,
                "training_cases": training_cases,
                "validation_cases": validation_cases,
            }
            folders[name] = Path(trainer.output_folder).parent
            trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        (folders[name] / "dataset.json").write_text(json.dumps(dataset_json))
        (folders[name] / "plans.json").write_text(json.dumps(plans_of(dataset)))
    return folders


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """nnU-Net's folders with a dataset and its models, in this process's environment."""
    root = tmp_path_factory.mktemp("cross")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_extTrainer", trainers_folder())
        patch.setenv("nnUNet_compile", "f")
        patch.setenv("nnUNet_def_n_proc", "1")
        yield root


@pytest.fixture(scope="module")
def models(root) -> dict[str, Path]:
    folds = {0: ["case_3"], 1: ["case_2"]}
    folders = write_models(root, "plain", "2d", {STOCK: folds, STUDENT: folds, TEACHER: {0: ["case_3"]}})
    for fold, cases in folds.items():  # stock checkpoints record no cases: nnU-Net's final validation tells
        validation = folders[STOCK] / f"fold_{fold}" / "validation"
        validation.mkdir()
        for name in ("summary.json", *(f"{case}.nii.gz" for case in cases)):
            (validation / name).touch()
    return folders


@pytest.fixture(scope="module")
def elsewhere(root, models) -> Path:
    """The test case again as another dataset: other file ending, class names, values and channel names' case."""
    raw, folder = root / "raw" / PLAIN.name, root / "raw" / "Dataset911_Elsewhere"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for channel in ("0000", "0001"):
        image = sitk.ReadImage(str(raw / "imagesTs" / f"{TEST_CASE}_{channel}.nii.gz"))
        sitk.WriteImage(image, str(folder / "imagesTr" / f"someone_ED_{channel}.nrrd"))
    reference = sitk.ReadImage(str(raw / "labelsTs" / f"{TEST_CASE}.nii.gz"))
    other = sitk.GetImageFromArray(np.array([0, 3, 2, 5], dtype=np.uint8)[sitk.GetArrayFromImage(reference)])
    other.CopyInformation(reference)
    sitk.WriteImage(other, str(folder / "labelsTr" / "someone_ED.nrrd"))
    labels = {"background": 0, "LV": 5, "LV myocardium": 2, "rv": 3}
    write_json(folder, {"0": "Bright", "1": "DARK"}, labels, ".nrrd")
    return folder


def write_json(folder: Path, channels: dict, labels: dict, file_ending: str = ".nii.gz") -> None:
    content = {"channel_names": channels, "labels": labels, "numTraining": 1, "file_ending": file_ending}
    (folder / "dataset.json").write_text(json.dumps(content))


def metrics(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return sorted((row["class"], row["dice"], row["hd95_mm"], row["reference_ml"]) for row in rows)


OPTIONS = {"device": "cpu", "folds": [0]}


def test_the_same_case_in_other_values_and_files_gets_the_same_scores(models, elsewhere, tmp_path, capsys):
    baselines = [models[STOCK]]
    assert run(str(models[STUDENT]), [PLAIN.name, str(elsewhere)], str(tmp_path), baselines=baselines, **OPTIONS) == 0
    for model in (STOCK, STUDENT):
        own, other = (metrics(tmp_path / name / model) for name in (PLAIN.name, elsewhere.name))
        assert own == other
        assert any(row[1] not in ("", "0") for row in own)

    printed = capsys.readouterr().out
    assert "Dataset911_Elsewhere (across): imagesTr, 1 cases; LV is LVC; LV myocardium is MLV; rv is RV" in printed
    for name, where in ((PLAIN.name, "within"), (elsewhere.name, "across")):
        evaluations, comparison = read_folders([tmp_path / name])  # as shapekd report reads it
        assert comparison["models"] == [STOCK, STUDENT] == [one.name for one in evaluations]
        dice = next(r for r in comparison["rows"] if (r["class"], r["metric"]) == ("mean", "dice"))
        line = next(line for line in printed.splitlines() if line.startswith(f"{name}  {where}"))
        assert f"{100 * dice['baseline_mean']:.2f}" in line
        assert f"{100 * dice['model_mean']:.2f}" in line
    with (tmp_path / "cross.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["dataset"], row["where"], row["part"]) for row in rows} == {
        (PLAIN.name, "within", "Ts"),
        (elsewhere.name, "across", "Tr"),
    }
    assert len(rows) == 2 * 6 * 4  # datasets, metrics, classes and their mean


def test_a_prediction_is_nnunets_own(models, root, tmp_path):
    images = root / "raw" / PLAIN.name / "imagesTs"
    predict_folder(models[STUDENT], images, tmp_path / "ours", folds=[0, 1], device="cpu")
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(models[STUDENT]), (0, 1))
    (tmp_path / "theirs").mkdir()
    files = [[str(path) for path in find_images(images, ".nii.gz")[TEST_CASE]]]
    predictor.predict_from_files_sequential(files, [str(tmp_path / "theirs" / TEST_CASE)])
    ours, theirs = (segmentations(tmp_path / name)[f"{TEST_CASE}.nii.gz"] for name in ("ours", "theirs"))
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 1


def test_validation_cases_are_predicted_by_the_fold_that_did_not_train_on_them(models, tmp_path):
    result = cross(models[STUDENT], [PLAIN.name], tmp_path, part="Tr", device="cpu")
    record = json.loads((tmp_path / "predictions" / STUDENT / PLAIN.name / "Tr" / predict.RECORD).read_text())
    weights = read_model(models[STUDENT]).weights_sha256
    made = {case: entry["weights_sha256"] for case, entry in record.items()}
    assert made == {"case_3": [weights["0"]], "case_2": [weights["1"]]}
    assert result["datasets"][0]["remarks"] == [
        "1 validation cases of fold 0, by the checkpoint's record",
        "1 validation cases of fold 1, by the checkpoint's record",
    ]
    (evaluation,), comparison = read_folders([tmp_path / PLAIN.name])
    assert comparison is None
    assert {row["case"] for row in evaluation.rows} == {"case_2", "case_3"}


def test_stock_checkpoints_validation_cases_are_known_from_nnunets_validation(models, root):
    model = read_model(models[STOCK])
    assert held_out(model, "0") == (["case_3"], "nnU-Net's final validation")
    summary = models[STOCK] / "fold_0" / "validation" / "summary.json"
    summary.unlink()
    splits = root / "preprocessed" / PLAIN.name / "splits_final.json"
    try:
        with pytest.raises(ValueError, match=r"which cases of .* did not train fold 0 is not known"):
            held_out(model, "0")
        splits.write_text(json.dumps([{"train": [], "val": ["case_1"]}]))
        assert held_out(model, "0") == (["case_1"], str(splits))
    finally:
        summary.touch()
        splits.unlink(missing_ok=True)


def test_a_test_case_that_is_a_training_case_is_refused(models, root, tmp_path):
    raw = root / "raw" / PLAIN.name
    copy = shutil.copy(raw / "labelsTr" / "case_1.nii.gz", raw / "labelsTs")
    try:
        with pytest.raises(ValueError, match=f"{PLAIN.name}: labelsTs holds training cases .*: case_1"):
            cross(models[STOCK], [PLAIN.name], tmp_path / "out", **OPTIONS)
    finally:
        Path(copy).unlink()


def test_a_copy_of_the_training_data_under_another_name_is_remarked(models, root, tmp_path):
    folder = tmp_path / "Dataset912_Copy"
    for name in ("imagesTr", "labelsTr"):
        shutil.copytree(root / "raw" / PLAIN.name / name, folder / name)
    shutil.copy(root / "raw" / PLAIN.name / "dataset.json", folder)
    (remark,) = cross(models[STUDENT], [folder], tmp_path / "out", **OPTIONS)["datasets"][0]["remarks"]
    assert remark.startswith("2 of 3 cases are called like training cases of Dataset901_plain (case_1, case_2)")


def test_the_table_names_models_where_there_are_several_and_shows_intervals():
    def row(dataset, where, model, **numbers):
        whose = {"dataset": dataset, "where": where, "model": model, "class": "mean", "distance_unit": "mm"}
        return {**whose, "n_cases": 16, "n_patients": 8, "p": 0.0078, "p_holm": 0.02, **numbers}

    dice = {
        "metric": "dice",
        "baseline_mean": 0.8,
        "model_mean": 0.75,
        "difference": -0.05,
        "low": -0.08,
        "high": -0.01,
    }
    hd95 = {"metric": "hd95", "baseline_mean": 9.0, "model_mean": 7.5, "difference": -1.5, "low": -3.0, "high": 0.25}
    rows = [row("There", "across", model, **numbers) for numbers in (dice, hd95) for model in ("B", "C")]
    models = [{"name": name, "dataset": "Here", "weights_sha256": {"0": "", "1": ""}} for name in "ABC"]
    text = "\n".join(lines({"models": models, "datasets": [], "confidence": 0.95, "rows": rows}))
    assert "Trained on Here, folds 0, 1; they predict together" in text
    found = [" ".join(line.split()) for line in text.splitlines() if line.startswith("There")]
    assert found[1] == "There across C 16 8 80.00 75.00 -5.00 -8.00 to -1.00 0.008 0.020"
    assert found[3] == "There across C 16 8 9.00 7.50 -1.50 -3.00 to +0.25 0.008 0.020"


def test_a_baseline_of_another_split_is_refused(models, tmp_path):
    validation = models[STOCK] / "fold_0" / "validation"
    (validation / "case_3.nii.gz").rename(validation / "case_1.nii.gz")
    try:
        with pytest.raises(ValueError, match=r"other validation cases .* trained on another split, it is no baseline"):
            cross(models[STUDENT], [PLAIN.name], tmp_path / "out", baselines=[models[STOCK]], part="Tr", **OPTIONS)
    finally:
        (validation / "case_1.nii.gz").rename(validation / "case_3.nii.gz")
    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_is_listed_before_anything_is_predicted(models, elsewhere, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(elsewhere, folder)
    labels = {"background": 0, "LV": 5, "LV myocardium": 2}
    write_json(first, {"0": "bright", "1": "T2"}, labels, ".nrrd")
    image = sitk.ReadImage(str(second / "labelsTr" / "someone_ED.nrrd"))
    image[0, 0, 0] = 77
    sitk.WriteImage(image, str(second / "labelsTr" / "someone_ED.nrrd"))
    with pytest.raises(ValueError) as error:
        cross(models[STUDENT], [first, second], tmp_path / "out", **OPTIONS)
    message = str(error.value)
    assert "first: channels are bright, T2, the model's bright, dark; if they are of the same kind" in message
    assert "first: does not annotate RV" in message
    assert "unknown label value 77" in message
    assert not (tmp_path / "out").exists()


def test_channel_names_can_be_ignored_but_not_their_number(models, elsewhere, tmp_path):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    write_json(folder, {"0": "bright", "1": "T2"}, labels, ".nrrd")
    result = cross(models[STUDENT], [folder], tmp_path / "out", ignore_channel_names=True, **OPTIONS)
    assert result["datasets"][0]["remarks"] == ["channels are bright, T2, the model's bright, dark"]
    write_json(folder, {"0": "bright"}, labels, ".nrrd")
    with pytest.raises(ValueError, match=r"has 1 channels \(bright\), the model 2"):
        cross(models[STUDENT], [folder], tmp_path / "out", ignore_channel_names=True, **OPTIONS)


def test_a_class_that_is_left_out_is_judged_in_no_dataset(models, elsewhere, tmp_path):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    write_json(folder, {"0": "bright", "1": "dark"}, {"background": 0, "LV": 5, "MYO": 2, "other": 3}, ".nrrd")
    datasets = [PLAIN.name, folder]
    result = cross(models[STUDENT], datasets, tmp_path / "out", leave_out=["rv", "other"], **OPTIONS)
    assert {(row["dataset"], row["class"]) for row in result["rows"]} == {
        (dataset, name) for dataset in (PLAIN.name, "data") for name in ("MLV", "LVC", "mean")
    }
    own, other = (metrics(tmp_path / "out" / name) for name in (PLAIN.name, "data"))
    assert own == other
    with pytest.raises(ValueError, match="--leave-out atrium: no such class; there are LV"):
        cross(models[STUDENT], datasets, tmp_path / "out", leave_out=["atrium"], **OPTIONS)


@pytest.fixture
def calls(monkeypatch):
    """The cases nnU-Net is asked to predict, in order."""
    asked, original = [], predict._run

    def record(predictor, images, out, processes):
        asked.extend(images)
        original(predictor, images, out, processes)

    monkeypatch.setattr(predict, "_run", record)
    return asked


@pytest.fixture
def images(root, models, tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for case in ("case_1", "case_2"):
        for path in (root / "raw" / PLAIN.name / "imagesTr").glob(f"{case}_*"):
            shutil.copy(path, folder)
    return folder


def test_a_case_is_predicted_again_only_when_image_weights_or_settings_changed(models, images, calls, tmp_path):
    def predict_again(**options):
        calls.clear()
        predict_folder(models[STUDENT], images, tmp_path / "out", device="cpu", **{"folds": [0], **options})
        return list(calls)

    assert predict_again() == ["case_1", "case_2"]
    assert predict_again() == []
    image = sitk.ReadImage(str(images / "case_2_0001.nii.gz"))
    sitk.WriteImage(image + 1, str(images / "case_2_0001.nii.gz"))
    assert predict_again() == ["case_2"]
    (tmp_path / "out" / "case_1.nii.gz").unlink()
    assert predict_again() == ["case_1"]
    assert predict_again(tta=False) == ["case_1", "case_2"]
    assert predict_again(tta=False, folds=[1]) == ["case_1", "case_2"]
    for path in images.glob("case_1_*"):
        path.unlink()
    assert predict_again(tta=False, folds=[1]) == []
    assert sorted(segmentations(tmp_path / "out")) == ["case_2.nii.gz"]


def test_an_interrupted_run_goes_on_where_it_was(models, images, monkeypatch, tmp_path):
    original, out = predict._run, tmp_path / "out"

    def interrupted(predictor, cases, folder, processes):
        original(predictor, cases, folder, processes)
        if "case_2" in cases:
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(models[STUDENT], images, out, folds=[0], device="cpu")
    assert sorted(path.name for path in out.iterdir()) == ["case_1.nii.gz", "dataset.json", predict.RECORD]
    before = (out / "case_1.nii.gz").stat().st_mtime_ns
    monkeypatch.setattr(predict, "_run", original)
    predict_folder(models[STUDENT], images, out, folds=[0], device="cpu")
    assert (out / "case_1.nii.gz").stat().st_mtime_ns == before
    assert (out / "case_2.nii.gz").is_file()


def test_a_folder_of_something_else_is_left_alone(models, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case_1.nii.gz").touch()
    with pytest.raises(ValueError, match="is left as it is"):
        predict_folder(models[STUDENT], images, tmp_path / "out", folds=[0], device="cpu")


def test_an_image_nnunet_cannot_read_is_named(models, images, tmp_path):
    (images / "case_2_0001.nii.gz").write_bytes(b"no image")
    with pytest.raises(ValueError, match="nnU-Net could not predict case_2"):
        predict_folder(models[STUDENT], images, tmp_path / "out", folds=[0], device="cpu")


@pytest.mark.parametrize(
    ("folds", "checkpoint", "message"),
    [
        ([4], "checkpoint_final.pth", r"no checkpoint_final.pth of fold 4; there is fold_0/checkpoint_final.pth"),
        (None, "checkpoint_best.pth", r"no checkpoint_best.pth of fold 0; there is fold_0/checkpoint_final.pth"),
    ],
)
def test_a_missing_checkpoint_is_said_with_what_there_is(models, folds, checkpoint, message):
    with pytest.raises(FileNotFoundError, match=message):
        read_model(models[STUDENT], folds, checkpoint)


def test_a_teacher_is_refused(models):
    with pytest.raises(ValueError, match="is a teacher's: it sees the reference"):
        read_model(models[TEACHER])


def test_a_cascades_second_stage_is_refused(models, tmp_path):
    folder = shutil.copytree(models[STUDENT], tmp_path / "model")

    def to_cascade(checkpoint):
        checkpoint["init_args"]["configuration"] = "3d_cascade_fullres"

    edit(folder / "fold_0" / "checkpoint_final.pth", to_cascade)
    with pytest.raises(ValueError, match="a cascade's second stage"):
        read_model(folder, [0])


def test_colour_pictures_are_one_file_a_case_and_distances_are_pixels(root, tmp_path):
    model = write_models(root, "rgb", "2d", {STOCK: {0: []}})[STOCK]
    result = cross(model, [DATASETS["rgb"].name], tmp_path, **OPTIONS)
    assert {row["distance_unit"] for row in result["rows"]} == {"px"}
    assert result["datasets"][0]["n_cases"] == 1
