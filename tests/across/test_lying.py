"""A data set that lies otherwise than the one a model was trained on: `shapekd cross` and `doctor` say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matrix_datasets import _heart
from networks import PLAIN, STUDENT, folders, plain_models

from nnunet_shapekd.across.datasets import find_dataset
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.across.tasks import plan
from nnunet_shapekd.commands.doctor import _lie as doctors_findings
from nnunet_shapekd.files.orientation import turned_array

root = pytest.fixture(scope="module")(folders)


def write_heart(image: list[Path], label: Path, number: int, turn: str) -> None:
    values, labels, spacing_mm = _heart(number)
    for path, array in [*((path, values) for path in image), (label, labels)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        volume = sitk.GetImageFromArray(np.ascontiguousarray(turned_array(array, turn)))
        volume.SetSpacing(spacing_mm[::-1])
        sitk.WriteImage(volume, str(path))


def write_dataset(folder: Path, turn: str, names: tuple[str, str, str] = ("RV", "MLV", "LVC")) -> Path:
    """Six hearts in two channels."""
    for number in range(20, 26):
        images = [folder / f"imagesTr/heart{number}_000{channel}.nii.gz" for channel in (0, 1)]
        write_heart(images, folder / f"labelsTr/heart{number}.nii.gz", number, turn)
    labels = {"background": 0, **{name: value for value, name in enumerate(names, 1)}}
    channels = {"0": "bright", "1": "dark"}
    content = {"channel_names": channels, "labels": labels, "numTraining": 6, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def model(root):
    written = plain_models(root)[STUDENT]
    for number in range(1, 9):  # what nnU-Net keeps of the training set
        label = root / "preprocessed" / PLAIN.name / "gt_segmentations" / f"case_{number}.nii.gz"
        write_heart([], label, number, "none")
    return read_model(written)


@pytest.mark.parametrize(("turn", "back"), [("none", None), ("180", "180"), ("90", "270")])
def test_cross_warns_of_a_set_that_lies_otherwise_and_names_the_option(turn, back, root, model):
    number = {"none": 1, "180": 2, "90": 3, "upside-down": 4}[turn]
    names = ("rv", "LV myocardium", "LV")  # the same classes by other names
    folder = write_dataset(root / "raw" / f"Dataset93{number}_Turned", turn, names)
    remarks = plan(find_dataset(folder), [model], CrossOptions(device="cpu", folds=[0])).remarks
    said = [remark for remark in remarks if "lies otherwise" in remark]
    assert len(said) == (back is not None)
    assert all(f"than {PLAIN.name}" in remark and f"--turn {back}" in remark for remark in said)


def test_the_doctor_says_how_a_set_lies_and_which_others_lie_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    write_dataset(tmp_path / "Dataset001_One", "none")
    write_dataset(tmp_path / "Dataset002_Alike", "none", ("right ventricle", "myocardium", "LV"))
    write_dataset(tmp_path / "Dataset003_Turned", "left-right")
    (tmp_path / "Dataset004_Broken").mkdir()
    findings = list(doctors_findings("Dataset001_One"))
    assert (
        findings[0].text.startswith("how Dataset001_One lies in its grid: ") and "in 6 of 6 cases" in findings[0].text
    )
    (warning,) = findings[1:]
    assert warning.ok and warning.text.startswith("warning: Dataset003_Turned lies otherwise")
    assert warning.remedy == "convert it again with --turn left-right"
    assert list(doctors_findings("Dataset009_None")) == []
