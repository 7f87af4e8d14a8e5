"""The M&Ms-2 conversion, on a tiny replica with the table's quirks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    copied_download,
    dataset_in,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
    voxels,
    write_case,
)

from nnunet_shapekd.dataset_conversion.mnms2 import Mnms2Options, convert_mnms2

VENDOR = {1: "SIEMENS", 2: "Philips", 3: "SIEMENS", 4: "GE", 5: "SIEMENS", 6: "Philips", 161: "SIEMENS", 162: "GE",
          201: "GE", 202: "SIEMENS"}  # fmt: skip


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients of all three parts; unpadded numbers in the table, and empty rows below and between the patients'."""
    root = tmp_path_factory.mktemp("mnms2") / "MnM2"
    for number in VENDOR:
        for view in ("SA", "LA"):
            for phase in ("ED", "ES"):
                stem = root / f"dataset/{number:03d}/{number:03d}_{view}_{phase}"
                write_case(Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz"), np.arange(4))
            (stem.parent / f"{number:03d}_{view}_CINE.nii.gz").write_bytes(b"4D, never opened")
    rows = [f"{number},HCM,{vendor},Symphony,1.5" for number, vendor in VENDOR.items()]
    padding = [",,,,"] * 2000
    header = "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD"
    (root / "dataset_information.csv").write_text("\n".join([header, *rows[:3], ",,,,", *rows[3:], *padding]) + "\n")
    return root


def convert(root: Path, **options) -> Path:
    return convert_mnms2(root, Mnms2Options(**{"processes": 1, **options}))


def names(folder: Path) -> list[str]:
    return sorted({path.name[:8] for path in folder.iterdir()})


def test_the_official_division_is_one_fold_and_a_test_set(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    assert folder == raw / "Dataset035_MNMs2SA"
    (split,) = splits_in(folder)
    assert split["val"] == [f"MnM2_{n}_SA_{phase}" for n in (161, 162) for phase in ("ED", "ES")]
    assert len(split["train"]) == 12 and names(folder / "labelsTs") == ["MnM2_201", "MnM2_202"]


def test_labels_become_acdcs_and_the_table_is_kept(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    old, new = voxels(pristine / "dataset/004/004_SA_ES_gt.nii.gz"), voxels(folder / "labelsTr/MnM2_004_SA_ES.nii.gz")
    assert all(np.array_equal(old == before, new == after) for before, after in ((1, 3), (2, 2), (3, 1), (0, 0)))
    assert dataset_in(folder)["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    row = next(row for row in rows_in(folder) if row["case"] == "MnM2_004_SA_ES")
    assert (row["patient"], row["vendor"], row["pathology"], row["phase"]) == ("MnM2_004", "GE", "HCM", "ES")


def test_five_folds_by_patient_and_the_long_axis(pristine: Path, raw: Path) -> None:
    folder = convert(pristine, split="folds", view="LA")
    assert folder.name == "Dataset035_MNMs2LA" and len(splits_in(folder)) == 5
    for split in splits_in(folder):
        assert not {case[:8] for case in split["train"]} & {case[:8] for case in split["val"]}


def test_vendors_are_trained_on_and_judged_apart(pristine: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = convert(pristine, train_vendors=["siemens"], test_vendors=["GE"])
    assert names(folder / "labelsTr") == ["MnM2_001", "MnM2_003", "MnM2_005", "MnM2_161"]
    assert names(folder / "labelsTs") == ["MnM2_004", "MnM2_162", "MnM2_201"]
    printed = capsys.readouterr().out
    assert "GE 0 + 3, SIEMENS 4 + 0" in printed and "3 patients of other vendors were left out" in printed


def test_a_fold_without_anybody_to_validate_is_refused(pristine: Path, raw: Path) -> None:
    (problem,) = refused(raw, convert, pristine, train_vendors=["Philips"])
    assert "nobody to validate" in problem


def test_all_problems_are_listed_together(download: Path, raw: Path) -> None:
    (download / "dataset/001/001_SA_ES.nii.gz").unlink()
    (download / "dataset/002/002_SA_ED_gt.nii.gz").unlink()
    (download / "dataset/003/notes.nii.gz").write_bytes(b"junk")
    for path in sorted((download / "dataset/004").iterdir()):
        path.rename(path.with_name(path.name.replace("004", "400")))
    expected = [
        "001: has no 001_SA_ES.nii.gz",
        "001_SA_ES_gt.nii.gz: label without an image",
        "002_SA_ED.nii.gz: training image without a label",
        "move away dataset/003/notes.nii.gz",
        "has no row of 400",
        "--test-vendors Canon: no such vendor; there are GE, Philips, SIEMENS",
    ]
    assert_listed(refused(raw, convert, download, test_vendors=["Canon"], split="folds"), expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SUBJECT_CODE,DISEASE\n1,HCM\n", "VENDOR, SCANNER, FIELD missing"),
        ("SUBJECT_CODE;DISEASE;VENDOR;SCANNER;FIELD\nA1;HCM;GE;S;1.5\n", "SUBJECT_CODE is no number: 'A1'"),
    ],
)
def test_a_table_of_another_kind_is_refused(text: str, words: str, download: Path, raw: Path) -> None:
    (download / "dataset_information.csv").write_text(text)
    (problem,) = refused(raw, convert, download)
    assert words in problem


def test_the_command_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    arguments = ("--test-vendors", "GE", "--train-vendors", "SIEMENS", "Philips", "--processes", "1")
    done = shapekd_convert("mnms2", str(pristine.parent), *arguments, cwd=pristine)
    assert done.returncode == 0, done.stderr
    assert "Dataset035_MNMs2SA" in done.stdout
