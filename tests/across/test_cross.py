"""``shapekd cross``: only unseen cases are judged, and the same case in other files gets the same scores."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from matrix_datasets import DATASETS, TEST_CASE
from networks import PLAIN, STOCK, STUDENT, folders, plain_models, write_models

from nnunet_shapekd.across import predict
from nnunet_shapekd.across.cross import cross
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.across.unseen import held_out
from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.report.page import read_folders

root = pytest.fixture(scope="module")(folders)


@pytest.fixture(scope="module")
def models(root) -> dict[str, Path]:
    written = plain_models(root)
    # stock checkpoints record no cases: nnU-Net's final validation tells
    for fold, case in enumerate(("case_3", "case_2")):
        validation = written[STOCK] / f"fold_{fold}" / "validation"
        validation.mkdir()
        for name in ("summary.json", f"{case}.nii.gz"):
            (validation / name).touch()
    return written


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


def judge(model: Path, datasets: list, out: Path, **options) -> dict:
    return cross(model, datasets, out, CrossOptions(**{"device": "cpu", "folds": [0], **options}))


def test_the_same_case_in_other_values_and_files_gets_the_same_scores(models, elsewhere, tmp_path, capsys):
    arguments = [models[STUDENT], PLAIN.name, elsewhere, "--baseline", models[STOCK], "-o", tmp_path, "-f", 0]
    assert main(["cross", *map(str, arguments), "-device", "cpu"]) == 0
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


def test_validation_cases_are_predicted_by_the_fold_that_did_not_train_on_them(models, tmp_path):
    result = judge(models[STUDENT], [PLAIN.name], tmp_path, part="Tr", folds=None)
    record = json.loads((tmp_path / "predictions" / STUDENT / PLAIN.name / "Tr" / predict.RECORD).read_text())
    weights = read_model(models[STUDENT]).weights_sha256
    made = {case: entry["weights_sha256"] for case, entry in record.items()}
    assert made == {"case_3": [weights["0"]], "case_2": [weights["1"]]}
    *known, patients = result["datasets"][0]["remarks"]
    assert known == [
        "1 validation cases of fold 0, by the checkpoint's record",
        "1 validation cases of fold 1, by the checkpoint's record",
    ]
    assert patients.startswith("whose 2 of 2 cases are is not known")
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
        with pytest.raises(ValueError, match=r"fold 0.*nnUNetv2_train \.\.\. --val"):
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
        with pytest.raises(ValueError, match=f"{PLAIN.name}: labelsTs .*case_1"):
            judge(models[STOCK], [PLAIN.name], tmp_path / "out")
    finally:
        Path(copy).unlink()


def test_a_copy_of_the_training_data_under_another_name_is_remarked(models, root, tmp_path):
    folder = tmp_path / "Dataset912_Copy"
    for name in ("imagesTr", "labelsTr"):
        shutil.copytree(root / "raw" / PLAIN.name / name, folder / name)
    shutil.copy(root / "raw" / PLAIN.name / "dataset.json", folder)
    remark, _ = judge(models[STUDENT], [folder], tmp_path / "out")["datasets"][0]["remarks"]
    assert remark.startswith("2 of 3 cases are called like training cases of Dataset901_plain (case_1, case_2)")


def test_a_baseline_of_another_split_is_refused(models, tmp_path):
    validation = models[STOCK] / "fold_0" / "validation"
    (validation / "case_3.nii.gz").rename(validation / "case_1.nii.gz")
    try:
        with pytest.raises(ValueError, match="fold 0 of .*another split"):
            judge(models[STUDENT], [PLAIN.name], tmp_path / "out", baselines=[models[STOCK]], part="Tr")
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
        judge(models[STUDENT], [first, second], tmp_path / "out")
    message = str(error.value)
    for named in ("first: channels are bright, T2", "--ignore-channel-names", "first: does not annotate RV", "77"):
        assert named in message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def nothing_is_predicted(monkeypatch):
    def fail(*_):
        raise AssertionError("something was predicted")

    monkeypatch.setattr("nnunet_shapekd.across.cross.predict_cases", fail)


def changed(path: Path, change) -> None:
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(change(image) or image, str(path))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("labels", lambda image: image.SetOrigin((50, 0, 0)), "someone_ED.nrrd: origin .* differs from the image's"),
        ("labels", lambda image: image.SetSpacing((3, 3, 3)), "someone_ED.nrrd: spacing .* differs from the image's"),
        ("labels", lambda image: image[:, :, 1:], "someone_ED.nrrd: shape .* differs from the image's"),
        ("labels", lambda image: sitk.Cast(image, sitk.sitkFloat32) / 2, "someone_ED.nrrd: expected integer labels"),
        ("images", lambda image: image[:, :, 1:], "_0001.nrrd: shape .* differs from someone_ED_0000.nrrd's"),
        ("images", lambda image: sitk.Cast(image, sitk.sitkFloat64) * 1e300, "_0001.nrrd: has NaN or infinite"),
        ("images", lambda image: sitk.Compose(image, image), r"has 3 channel\(s\), the model 2"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_predicted(
    models, elsewhere, tmp_path, nothing_is_predicted, part, change, message
):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    name = "someone_ED.nrrd" if part == "labels" else "someone_ED_0001.nrrd"
    changed(folder / f"{part}Tr" / name, change)
    with pytest.raises(ValueError, match=message):
        judge(models[STUDENT], [folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_only_nibabel_reads_is_refused_where_the_plans_say_simpleitk(
    models, root, tmp_path, nothing_is_predicted
):
    folder = tmp_path / "data"
    for name in ("imagesTs", "labelsTs"):
        shutil.copytree(root / "raw" / PLAIN.name / name, folder / name)
    shutil.copy(root / "raw" / PLAIN.name / "dataset.json", folder)
    for path in (*folder.glob("images*/*"), *folder.glob("labels*/*")):
        image = nibabel.load(path)
        image.affine[0, 1] += 0.4
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine), path)
    with pytest.raises(ValueError, match="the model's SimpleITKIO cannot read it") as error:
        judge(models[STUDENT], [folder], tmp_path / "out")
    assert str(error.value).count("\n") == 2  # both channels, and the reference is in their space


@pytest.mark.parametrize(
    "stranger", ["references/Dataset911_Elsewhere", f"predictions/{STOCK}/Dataset911_Elsewhere/Tr"]
)
def test_a_foreign_folder_in_the_output_is_noticed_before_anything_is_predicted(
    models, elsewhere, tmp_path, nothing_is_predicted, stranger
):
    folder = tmp_path / stranger
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    (tmp_path / "predictions").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=f"{stranger} .*left as it is"):
        judge(models[STUDENT], [elsewhere], tmp_path, baselines=[models[STOCK]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "("}, "--pattern"),
        ({"pattern": "(?P<patient>x)"}, "--pattern .*someone_ED"),
        ({"prediction_processes": -1}, "-npp: expected 0 or more, got -1"),
        ({"tolerance": -1.0}, "--tolerance"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_predicted(
    models, elsewhere, tmp_path, nothing_is_predicted, options, message
):
    with pytest.raises(ValueError, match=message):
        judge(models[STUDENT], [elsewhere], tmp_path / "out", **options)


def test_two_cases_of_a_phase_and_a_table_without_a_patient_are_refused_before_anything_is_predicted(
    models, elsewhere, tmp_path, nothing_is_predicted
):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    for path in [*folder.glob("images*/*"), *folder.glob("labels*/*")]:
        shutil.copy(path, path.with_name(path.name.replace("someone", "another")))
    table = "case,patient,phase\nsomeone_ED,x,ED\nanother_ED,{},ED\n"
    for patient, message in (("x", "Patient x has two ED cases"), ("", "the patient of another_ED is empty")):
        (folder / "patients.csv").write_text(table.format(patient))
        with pytest.raises(ValueError, match=message):
            judge(models[STUDENT], [folder], tmp_path / "out")


def test_an_origin_that_differs_can_be_ignored(models, elsewhere, tmp_path):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    changed(folder / "labelsTr" / "someone_ED.nrrd", lambda image: image.SetOrigin((50, 0, 0)))
    result = judge(models[STUDENT], [folder], tmp_path / "out", ignore_origins=True)
    assert metrics(tmp_path / "out" / "data") == metrics_of(models, elsewhere, tmp_path) and result["rows"]


def metrics_of(models, dataset: Path, tmp_path: Path) -> list:
    judge(models[STUDENT], [dataset], tmp_path / "plain")
    return metrics(tmp_path / "plain" / dataset.name)


@pytest.fixture
def one_patient(root):
    """A table by which the test case and a training case are one patient's."""
    table = root / "raw" / PLAIN.name / "patients.csv"
    table.write_text(f"case,patient\ncase_1,x\ncase_2,y\ncase_3,x\n{TEST_CASE},x\n")
    yield
    table.unlink()


def test_a_test_case_of_a_patient_who_trained_is_refused(models, one_patient, tmp_path, nothing_is_predicted):
    with pytest.raises(ValueError, match=f"{PLAIN.name}: labelsTs holds patients who trained them: x"):
        judge(models[STUDENT], [PLAIN.name], tmp_path / "out")


def test_a_validation_case_of_a_patient_who_trained_is_remarked(models, one_patient, tmp_path):
    remarks = judge(models[STUDENT], [PLAIN.name], tmp_path / "out", part="Tr")["datasets"][0]["remarks"]
    assert any("1 patients of these have trained fold 0 by other cases (x)" in remark for remark in remarks)
    assert not any("not known" in remark for remark in remarks)


def test_channel_names_can_be_ignored_but_not_their_number(models, elsewhere, tmp_path):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    write_json(folder, {"0": "bright", "1": "T2"}, labels, ".nrrd")
    result = judge(models[STUDENT], [folder], tmp_path / "out", ignore_channel_names=True)
    assert result["datasets"][0]["remarks"] == ["channels are bright, T2, the model's bright, dark"]  # ED says whose
    write_json(folder, {"0": "bright"}, labels, ".nrrd")
    with pytest.raises(ValueError, match=r"1 channels \(bright\)"):
        judge(models[STUDENT], [folder], tmp_path / "out", ignore_channel_names=True)


def test_a_class_that_is_left_out_is_judged_in_no_dataset(models, elsewhere, tmp_path):
    folder = shutil.copytree(elsewhere, tmp_path / "data")
    write_json(folder, {"0": "bright", "1": "dark"}, {"background": 0, "LV": 5, "MYO": 2, "other": 3}, ".nrrd")
    datasets = [PLAIN.name, folder]
    result = judge(models[STUDENT], datasets, tmp_path / "out", leave_out=["rv", "other"])
    assert {(row["dataset"], row["class"]) for row in result["rows"]} == {
        (dataset, name) for dataset in (PLAIN.name, "data") for name in ("MLV", "LVC", "mean")
    }
    own, other = (metrics(tmp_path / "out" / name) for name in (PLAIN.name, "data"))
    assert own == other
    with pytest.raises(ValueError, match="--leave-out atrium: .*LV"):
        judge(models[STUDENT], datasets, tmp_path / "out", leave_out=["atrium"])


def test_colour_pictures_are_one_file_a_case_and_distances_are_pixels(root, tmp_path):
    model = write_models(root, "rgb", "2d", {STOCK: {0: []}})[STOCK]
    result = judge(model, [DATASETS["rgb"].name], tmp_path)
    assert {row["distance_unit"] for row in result["rows"]} == {"px"}
    assert result["datasets"][0]["n_cases"] == 1
