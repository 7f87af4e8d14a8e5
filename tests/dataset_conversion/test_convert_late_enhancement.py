"""The conversions of EMIDEC and MyoPS 2020, on tiny replicas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    dataset_in,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
    voxels,
    write_case,
)

from nnunet_shapekd.dataset_conversion.emidec import convert_emidec
from nnunet_shapekd.dataset_conversion.myops import MyopsOptions, convert_myops
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions
from nnunet_shapekd.files.dataset_json import labels_of_dataset


def make_emidec(root: Path) -> Path:
    """Normal and pathological cases, one of them not compressed, and test cases without contours."""
    for name in ("Case_N006", "Case_N012", "Case_P001", "Case_P002", "Case_P003", "Case_P100"):
        ending = ".nii" if name == "Case_P100" else ".nii.gz"
        base = root / "emidec-dataset-1.0.1" / name
        write_case(base / f"Images/{name}{ending}", base / f"Contours/{name}{ending}", np.arange(5))
        base.with_name(f"{name}.txt").write_text("Age : 60")
    write_case(root / "emidec-segmentation-testset-1.0.0/Case_101/Images/Case_101.nii.gz", None, np.arange(5))
    return root


def emidec(root: Path, **options) -> Path:
    return convert_emidec(root, LabelOptions(**{"processes": 1, **options}))


def test_emidecs_infarction_and_no_reflow_are_myocardium_in_acdcs_values(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = emidec(make_emidec(tmp_path / "download"))
    old = voxels(tmp_path / "download/emidec-dataset-1.0.1/Case_P001/Contours/Case_P001.nii.gz")
    new = voxels(folder / "labelsTr/EMIDEC_P001.nii.gz")
    assert np.array_equal(new == 3, old == 1) and np.array_equal(new == 2, old >= 2) and not (new == 1).any()
    assert {row["patient"]: row["group"] for row in rows_in(folder)}["EMIDEC_N006"] == "normal"
    assert "1 images have no label and were left out: EMIDEC_101" in capsys.readouterr().out
    assert sorted(case for split in splits_in(folder) for case in split["val"])[0] == "EMIDEC_N006"


def test_emidecs_right_ventricle_has_a_value_and_is_not_judged(tmp_path: Path, raw: Path) -> None:
    dataset = dataset_in(emidec(make_emidec(tmp_path / "download")))
    assert dataset["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}  # without gaps, as nnU-Net wants them
    labels = labels_of_dataset(dataset)
    assert labels.classes == {"MLV": (2,), "LVC": (3,)} and labels.values == {0, 1, 2, 3}


def test_emidecs_labels_can_be_kept_apart(tmp_path: Path, raw: Path) -> None:
    folder = emidec(make_emidec(tmp_path / "download"), labels="1:1,2:2,3:3,4:3")
    assert dataset_in(folder)["labels"] == {"background": 0, "LVC": 1, "MLV": 2, "infarction_and_no_reflow": 3}


def test_all_of_emidecs_problems_are_listed_together(tmp_path: Path, raw: Path) -> None:
    base = make_emidec(tmp_path / "download") / "emidec-dataset-1.0.1"
    (base / "Case_N006/Images/Case_N006.nii.gz").unlink()
    (base / "Case_P002/Contours/Case_P002.nii.gz").rename(base / "Case_P002/Case_P002.nii.gz")
    write_case(tmp_path / "spare.nii.gz", base / "Case_P003/Contours/Case_P003.nii.gz", np.array([0, 1, 9]))
    expected = [
        "Case_N006.nii.gz: label without an image",
        "Case_P002/Case_P002.nii.gz: expected to lie as in Case_N006/Images",
        "Case_P003.nii.gz: unknown label value 9",
        "5 folds by patient need at least 5",
    ]
    assert_listed(refused(raw, emidec, tmp_path / "download"), expected)


def make_myops(root: Path) -> Path:
    """Six training patients in three sequences with one label map each, and a test patient without one."""
    values = np.array([0, 200, 500, 600, 1220, 2221])
    for number in range(101, 107):
        label = root / f"train25_myops_gd/myops_training_{number}_gd.nii.gz"
        for sequence in ("C0", "DE", "T2"):
            write_case(root / f"train25/myops_training_{number}_{sequence}.nii.gz", label, values)
    write_case(root / "test20/myops_test_201_DE.nii.gz", None, values)
    return root


def myops(root: Path, sequence: str = "LGE", **options) -> Path:
    return convert_myops(root, MyopsOptions(sequence=sequence, **{"processes": 1, **options}))


@pytest.mark.parametrize(("sequence", "called"), [("LGE", "DE"), ("bSSFP", "C0"), ("T2", "T2")])
def test_myops_edema_and_scar_are_myocardium(sequence: str, called: str, tmp_path: Path, raw: Path) -> None:
    folder = myops(make_myops(tmp_path / "download"), sequence)
    old = voxels(tmp_path / "download/train25_myops_gd/myops_training_103_gd.nii.gz")
    new = voxels(folder / f"labelsTr/MyoPS103_{sequence}.nii.gz")
    for after, before in ((1, [600]), (2, [200, 1220, 2221]), (3, [500])):
        assert np.array_equal(new == after, np.isin(old, before))
    image = tmp_path / f"download/train25/myops_training_103_{called}.nii.gz"
    assert (folder / f"imagesTr/MyoPS103_{sequence}_0000.nii.gz").read_bytes() == image.read_bytes()
    assert dataset_in(folder)["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    assert dataset_in(folder)["channel_names"] == {"0": sequence}  # as MSCMRseg's
    assert not (folder / "imagesTs").exists() and len(rows_in(folder)) == 6


def test_myops_patients_are_called_the_same_in_all_sequences(tmp_path: Path, raw: Path) -> None:
    make_myops(tmp_path / "download")
    of = [
        {row["patient"] for row in rows_in(myops(tmp_path / "download", sequence, dataset_id=number))}
        for number, sequence in enumerate(("LGE", "T2"), 1)
    ]
    assert of[0] == of[1] == {f"MyoPS{number}" for number in range(101, 107)}


def test_myops_labels_can_be_kept_apart(tmp_path: Path, raw: Path) -> None:
    folder = myops(make_myops(tmp_path / "download"), labels="500:1,200:2,600:0,1220:3,2221:4")
    assert list(dataset_in(folder)["labels"]) == ["background", "LVC", "MLV", "edema", "scar"]


def test_a_sequence_that_is_not_there_is_said(tmp_path: Path, raw: Path) -> None:
    for path in (make_myops(tmp_path / "download") / "train25").glob("*_T2.nii.gz"):
        path.unlink()
    problems = refused(raw, myops, tmp_path / "download", "T2")
    assert any("no T2 images" in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "make", "arguments"), [("emidec", make_emidec, ()), ("myops", make_myops, ("--sequence", "LGE"))]
)
def test_the_commands_run_and_import_no_torch(name: str, make, arguments: tuple, tmp_path: Path, raw: Path) -> None:
    done = shapekd_convert(name, str(make(tmp_path / "download")), *arguments, "--processes", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
