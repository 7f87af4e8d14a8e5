"""M&Ms from its download to a table by vendor: converted, trained on A and B, judged on C and D."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from conftest import ROOT
from matrix_datasets import DATASETS, MatrixDataset
from networks import STOCK, STUDENT, TEACHER, folders, write_models

from nnunet_shapekd.across.cross import cross
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.across.predict import RECORD
from nnunet_shapekd.commands.cli import main

root = pytest.fixture(scope="module")(folders)
#: how many patients of each vendor there are
VENDORS = {"A": 5, "B": 5, "C": 6, "D": 2}


@pytest.fixture(scope="module")
def converted(root) -> Path:
    """The replica of the conversion's tests with more patients of C and D, as ``shapekd convert`` brings it in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(ROOT / "tests" / "dataset_conversion")])
        import test_convert_mnms as replica

        patch.delenv("nnUNet_results")
        parts = {"A": "Training/Labeled", "B": "Training/Labeled", "C": "Validation", "D": "Testing"}
        patients = {f"{v}{i}X": (parts[v], v, "ABCD".index(v) + 1, 0, 3) for v, n in VENDORS.items() for i in range(n)}
        patch.setattr(replica, "PATIENTS", patients)
        download = root / "download"
        for code in patients:
            replica.make_patient(download, code)
        replica.write_table(download)
        (download / "Training/Unlabeled").mkdir()
        arguments = ["convert", "mnms", str(download), "-d", "28", "--processes", "1"]
        assert main([*arguments, "--train-vendors", "A", "B", "--test-vendors", "C", "D"]) == 0
    return root / "raw" / "Dataset028_MNMs"


@pytest.fixture(scope="module")
def predictions(converted) -> tuple[Path, Path]:
    """Of a baseline that sees of C's hearts nothing but the left ventricle, and of a model that is always right."""
    out = converted.parents[1] / "baseline", converted.parents[1] / "model"
    for folder in out:
        shutil.copytree(converted / "labelsTs", folder)
        shutil.copy(converted / "dataset.json", folder)
    for path in out[0].glob("C*.nii.gz"):
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image * sitk.Cast(image == 3, image.GetPixelID()), str(path))
    return out


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_evaluate_sums_up_each_vendor(converted, predictions, tmp_path):
    arguments = [
        "evaluate",
        converted / "labelsTs",
        predictions[0],
        "-o",
        tmp_path / "out",
        "--by",
        "vendor",
        "-np",
        "1",
    ]
    assert main([*map(str, arguments)]) == 0
    dice = {
        (one["value"], one["class"]): (one["n_cases"], one["n_patients"], one["mean"])
        for one in table_of(tmp_path / "out" / "by.csv")
        if one["metric"] == "dice"
    }
    assert {value: dice[value, "LVC"] for value in "CD"} == {"C": ("12", "6", "1"), "D": ("4", "2", "1")}
    assert {value: dice[value, "RV"][2] for value in "CD"} == {"C": "0", "D": "1"}
    assert {value: dice[value, "mean"][2] for value in "CD"} == {"C": "0.333333", "D": "1"}


def test_compare_tests_each_vendor_that_has_six_patients(converted, predictions, tmp_path, capsys):
    arguments = ["compare", converted / "labelsTs", *predictions, "-o", tmp_path / "out", "--by", "vendor", "-np", "1"]
    assert main([*map(str, arguments)]) == 0
    found = {
        (one["value"], one["class"]): one for one in table_of(tmp_path / "out" / "by.csv") if one["metric"] == "dice"
    }
    c, d = found["C", "RV"], found["D", "RV"]
    assert (c["n_patients"], c["difference"], c["low"], c["high"]) == ("6", "1", "1", "1")
    assert float(c["p"]) == 2 / 2**6
    assert (d["n_patients"], d["difference"], d["low"], d["p"]) == ("2", "0", "", "")
    assert "By vendor: Dice (%)" in capsys.readouterr().out


@pytest.fixture(scope="module")
def models(root) -> dict[str, Path]:
    """Random networks of one channel, in the folders of models trained on another dataset."""
    labels = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mri", MatrixDataset(906, "mri", labels, frozenset("123"), channel_names=("cineMRI",)))
        return write_models(root, "mri", "2d", {name: {0: ["case_3"]} for name in (STOCK, TEACHER, STUDENT)})


@pytest.fixture
def predicted(predictions, monkeypatch) -> None:
    """Prediction copies: the stock network's are the baseline's, the student's the other model's."""

    def copy(model, images, out, *_):
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORD).touch()
        for case in images:
            shutil.copy(predictions[model.folder.name.startswith(STUDENT)] / f"{case}.nii.gz", out)

    monkeypatch.setattr("nnunet_shapekd.across.cross.predict_cases", copy)


@pytest.fixture
def nothing_is_predicted(monkeypatch) -> None:
    monkeypatch.setattr("nnunet_shapekd.across.cross.predict_cases", lambda *_: pytest.fail("predicted"))


def judge(models, datasets: list, out: Path, **options) -> dict:
    return cross(models[STUDENT], datasets, out, CrossOptions(**{"device": "cpu", "processes": 1, **options}))


@pytest.mark.parametrize("with_baseline", [True, False])
def test_cross_has_rows_of_each_vendor_and_says_where_a_dataset_has_none(
    converted, models, predicted, tmp_path, capsys, with_baseline
):
    other = tmp_path / "Dataset907_Other"  # whose table knows no vendor
    for part in ("images", "labels"):
        (other / f"{part}Ts").mkdir(parents=True)
        for path in (converted / f"{part}Ts").glob("D0X_*"):
            shutil.copy(path, other / f"{part}Ts")
    shutil.copy(converted / "dataset.json", other)
    (other / "patients.csv").write_text("case,patient,phase\nD0X_ED,D0X,ED\nD0X_ES,D0X,ES\n")
    arguments = [models[STUDENT], converted, other, "-o", tmp_path / "out", "-device", "cpu", "-np", "1"]
    arguments += ["--baseline", models[STOCK]] if with_baseline else []
    assert main(["cross", *map(str, arguments), "--by", "vendor", "phase"]) == 0

    rows = table_of(tmp_path / "out" / "by.csv")
    n_patients = {(one["dataset"], one["column"], one["value"]): one["n_patients"] for one in rows}
    assert n_patients == {
        ("Dataset028_MNMs", "vendor", "C"): "6",
        ("Dataset028_MNMs", "vendor", "D"): "2",
        ("Dataset028_MNMs", "phase", "ED"): "8",
        ("Dataset028_MNMs", "phase", "ES"): "8",
        ("Dataset907_Other", "phase", "ED"): "1",
        ("Dataset907_Other", "phase", "ES"): "1",
    }
    result = json.loads((tmp_path / "out" / "cross.json").read_text())
    assert len(result["by"]) == len(rows) and len(table_of(tmp_path / "out" / "cross.csv")) == 2 * 6 * 4
    of_vendor = {one["value"]: one for one in rows if is_mean_dice(one, "vendor")}
    assert {one["model_mean"] for one in of_vendor.values()} == {"1"}
    differences = [of_vendor[vendor]["difference"] for vendor in "CD"]
    assert differences == (["0.666667", "0"] if with_baseline else ["", ""])
    assert [bool(of_vendor[vendor]["low"]) for vendor in "CD"] == [with_baseline, False]
    whole = next(one for one in result["rows"] if one["dataset"] == converted.name and is_mean_dice(one))
    assert whole["difference"] == (pytest.approx(6 / 8 * 2 / 3) if with_baseline else None)
    remarks = result["datasets"][1]["remarks"]
    assert any("patients.csv: the column vendor is not there; there are patient, phase" in one for one in remarks)
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith("Dataset028_MNMs  vendor")]
    assert [line[2:5] for line in lines] == [["C", "12", "6"], ["D", "4", "2"]] * 2  # Dice, HD95
    assert lines[0][5 + with_baseline] == "100.00"
    assert ("does not show that they differ" in " ".join(printed.split())) == with_baseline


def is_mean_dice(one, column: str | None = None) -> bool:
    return one["metric"] == "dice" and one["class"] == "mean" and (column is None or one["column"] == column)


def test_a_column_that_no_dataset_has_is_an_error_before_anything_is_predicted(
    converted, models, nothing_is_predicted, tmp_path
):
    with pytest.raises(ValueError, match="MNMs: --by: .*the column scanner is not there; .*vendor, centre"):
        judge(models, [converted], tmp_path / "out", by=["vendor", "scanner"])
    assert not (tmp_path / "out").exists()


def test_a_table_of_two_values_is_an_error_before_anything_is_predicted(
    converted, models, nothing_is_predicted, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(converted, folder)
    with (folder / "patients.csv").open("a") as file:
        file.write("D0X_ED,D0X,ED,test,E,5,0,6,0.000,,,,,,\n")
    with pytest.raises(ValueError, match="copy: .*two different values of vendor for one case: D0X_ED"):
        judge(models, [folder], tmp_path / "out", by=["vendor"])


def test_rows_of_an_earlier_run_are_gone_where_no_column_is_named(converted, models, predicted, tmp_path):
    for by in (["vendor"], []):
        result = judge(models, [converted], tmp_path, by=by)
        assert (tmp_path / "by.csv").exists() == bool(by) == ("by" in result)
        assert (tmp_path / converted.name / "by.csv").exists() == bool(by)
