"""Names from files are data in the tables of an evaluation."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.evaluation.evaluate import evaluate_folders
from nnunet_shapekd.evaluation.results import read_evaluation, write_evaluation


def write(folder, name):
    folder.mkdir(exist_ok=True)
    values = np.zeros((2, 4, 4), np.uint8)
    values[0, 1:3, 1:3] = 1
    dataset = {"labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}
    (folder.parent / "dataset.json").write_text(json.dumps(dataset))
    sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "one.nii.gz"))
    (folder / "one.nii.gz").rename(folder / f"{name}.nii.gz")


@pytest.mark.parametrize("name", ["=cmd()", "-a", "@SUM(1)", "plain", "-1"])
def test_a_cases_name_is_no_formula_in_metrics_csv_and_is_read_back(tmp_path, name):
    for folder in ("reference", "prediction"):
        write(tmp_path / folder, name)
    evaluation = evaluate_folders(tmp_path / "reference", tmp_path / "prediction")
    write_evaluation(evaluation, tmp_path / "out")
    with (tmp_path / "out/metrics.csv").open() as file:
        cells = {row["case"] for row in csv.DictReader(file)}
    assert cells == {name if name in ("plain", "-1") else f"'{name}"}
    assert {row["case"] for row in read_evaluation(tmp_path / "out").rows} == {name}


def test_a_file_that_gives_no_cases_name_is_an_error_that_can_be_printed(tmp_path):
    for folder in ("reference", "prediction"):
        write(tmp_path / folder, "a\x1b[2Jb")
    with pytest.raises(ValueError, match="characters that cannot be printed"):
        evaluate_folders(tmp_path / "reference", tmp_path / "prediction")
