"""A data set is one module: what the layout is and what the labels are; CONTRIBUTING.md points here."""

import argparse
import re
from pathlib import Path

import numpy as np
from conversions import dataset_in, splits_in, voxels, write_case

from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet

LAYOUT = "scan_1.nii.gz and mask_1.nii.gz"
_NIFTI = re.compile(r"(scan|mask)_(\d+)\.nii\.gz")
KIDNEYS = VolumeSet(
    name="Kidneys",
    dataset_id=61,
    channel="MRI",
    labels={"background": 0, "kidney": 1},
    label_map={0: 0, 7: 1},  # the download's values -> nnU-Net's
    title="Kidneys of nobody",
    reference="https://example.org/",
    citation="nobody, 2026",
    terms="kidneys'",
)


def find_cases(root: Path, options: VolumeOptions) -> Found:
    found = Found(root)

    def place(match: re.Match[str], path: Path) -> tuple[str, int]:
        return {"scan": "image", "mask": "label"}[match[1]], int(match[2])

    for number, (image, label) in found.pairs(LAYOUT, _NIFTI, place).items():
        found.add(number, f"case{number}", image, label)
    return found


def convert_kidneys(root: Path, options: VolumeOptions) -> Path:
    return KIDNEYS.convert(root, options, find_cases)


COMMAND = Command(convert_kidneys, VolumeOptions, LAYOUT, dataset_id=61, name="Kidneys")


def test_a_set_is_a_layout_and_labels_and_gets_checks_folds_and_arguments(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    for number in range(1, 7):
        write_case(tmp_path / f"scan_{number}.nii.gz", tmp_path / f"mask_{number}.nii.gz", np.array([0, 7]))
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    assert COMMAND.run(parser.parse_args([str(tmp_path), "-d", "62"])) == 0
    folder = tmp_path / "raw" / "Dataset062_Kidneys"
    assert dataset_in(folder)["numTraining"] == 6 and len(splits_in(folder)) == 5
    assert set(np.unique(voxels(folder / "labelsTr" / "case1.nii.gz"))) == {0, 1}

    (tmp_path / "mask_3.nii.gz").rename(tmp_path / "mask_9.nii.gz")
    assert COMMAND.run(parser.parse_args([str(tmp_path), "-d", "63"])) == 1
    said = capsys.readouterr().err
    assert "scan_3.nii.gz" in said and "mask_9.nii.gz" in said
    assert not (tmp_path / "raw" / "Dataset063_Kidneys").exists()
