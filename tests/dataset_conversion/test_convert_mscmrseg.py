"""The MSCMRseg conversion, on tiny fake downloads."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    contents,
    copied_download,
    dataset_in,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
    voxels,
    write_case,
    write_lists,
    write_volume,
)

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.dataset_conversion import writing
from nnunet_shapekd.dataset_conversion.mscmrseg import MscmrsegOptions, convert_mscmrseg

CHALLENGE = np.array([0, 500, 200, 600])


def make_mscmrseg(root: Path, values: np.ndarray = CHALLENGE) -> Path:
    """Twelve patients; LGE labels of 1 to 5, and of 6 to 8 in the folder published later; C0 and T2 of 1 to 6."""
    base = root / "C0LET2_nii45_for_challenge19"
    later = root / "C0LET2_gt_for_challenge19/LGE_manual_35_TestData"
    for n in range(1, 13):
        for sequence, folder, labelled in (("LGE", "lgegt", 5), ("C0", "c0gt", 6), ("T2", "t2gt", 6)):
            label = base / folder / f"patient{n}_{sequence}_manual.nii.gz" if n <= labelled else None
            if sequence == "LGE" and 6 <= n <= 8:
                label = later / f"patient{n}_LGE_manual.nii.gz"
            write_case(base / "c0t2lge" / f"patient{n}_{sequence}.nii.gz", label, values)
    (base / "c0gt/._patient1_C0_manual.nii.gz").write_bytes(b"junk")
    return root


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mscmrseg(tmp_path_factory.mktemp("mscmrseg"))


def convert(root: Path, sequence: str = "LGE", **options) -> Path:
    return convert_mscmrseg(root, MscmrsegOptions(sequence=sequence, **{"processes": 1, **options}))


def problems_of(root: Path, raw: Path, sequence: str = "LGE", **options) -> list[str]:
    return refused(raw, convert, root, sequence, **options)


def test_labels_become_acdcs_and_images_are_copied(
    pristine: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = convert(pristine)
    assert folder == raw / "Dataset029_MSCMRsegLGE"
    base = pristine / "C0LET2_nii45_for_challenge19"
    source, image = base / "c0t2lge/patient2_LGE.nii.gz", folder / "imagesTr/patient02_LGE_0000.nii.gz"
    assert filecmp.cmp(source, image, shallow=False)
    old, new = voxels(base / "lgegt/patient2_LGE_manual.nii.gz"), voxels(folder / "labelsTr/patient02_LGE.nii.gz")
    assert all(np.array_equal(old == before, new == after) for before, after in ((500, 3), (200, 2), (600, 1), (0, 0)))
    written = sitk.ReadImage(str(folder / "labelsTr/patient02_LGE.nii.gz"))
    assert written.GetPixelID() == sitk.sitkUInt8 and written.GetOrigin() == (3.0, -2.0, 5.0)
    dataset = dataset_in(folder)
    assert dataset["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    assert dataset["channel_names"] == {"0": "LGE"} and dataset["numTraining"] == 5
    printed = capsys.readouterr().out
    assert "4 LGE images have no label and were left out" in printed and "5 training cases, 3 test cases" in printed


def test_labels_published_later_are_the_test_set(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    names = sorted(path.name for path in (folder / "labelsTs").iterdir())
    assert names == [f"patient{n:02d}_LGE.nii.gz" for n in (6, 7, 8)]
    splits = splits_in(folder)
    assert len(splits) == 5 and sorted(case for s in splits for case in s["val"]) == [
        f"patient{n:02d}_LGE" for n in range(1, 6)
    ]
    assert all(not set(split["train"]) & set(split["val"]) and len(split["train"]) == 4 for split in splits)
    rows = rows_in(folder)
    assert rows[-1]["subset"] == "test" and rows[0]["source"].endswith("c0t2lge/patient1_LGE.nii.gz")


@pytest.mark.parametrize(("sequence", "dataset_id"), [("bSSFP", 30), ("T2", 31)])
def test_each_sequence_is_a_dataset(sequence: str, dataset_id: int, pristine: Path, raw: Path) -> None:
    folder = convert(pristine, sequence)
    assert folder.name == f"Dataset{dataset_id:03d}_MSCMRseg{sequence}"
    assert len(list((folder / "labelsTr").iterdir())) == 6 and not (folder / "imagesTs").exists()


def test_the_copy_with_labels_0_to_3_keeps_its_values(tmp_path: Path, raw: Path) -> None:
    for subset, first, last in (("train", 1, 3), ("val", 4, 8), ("test", 9, 10)):
        for n in range(first, last + 1):
            ending = "scribble" if subset == "train" else "manual"
            label = tmp_path / f"copy/{subset}/labels/subject{n}_DE_{ending}.nii.gz"
            write_case(tmp_path / f"copy/{subset}/images/subject{n}_DE.nii.gz", label, np.arange(4))
    folder = convert(tmp_path / "copy")
    assert len(list((folder / "labelsTr").iterdir())) == 5 and len(list((folder / "labelsTs").iterdir())) == 2
    source = tmp_path / "copy/val/labels/subject4_DE_manual.nii.gz"
    assert np.array_equal(voxels(folder / "labelsTr/patient04_LGE.nii.gz"), voxels(source))


def test_a_label_map_of_ones_own_merges_and_drops(pristine: Path, raw: Path) -> None:
    folder = convert(pristine, labels="500:1,200:1,600:0")
    assert dataset_in(folder)["labels"] == {"background": 0, "LVC_and_MLV": 1}
    old = voxels(pristine / "C0LET2_nii45_for_challenge19/lgegt/patient2_LGE_manual.nii.gz")
    new = voxels(folder / "labelsTr/patient02_LGE.nii.gz")
    assert np.array_equal(new == 1, (old == 500) | (old == 200)) and new.max() == 1


def test_values_that_are_not_mapped_are_refused_and_can_be_dropped(pristine: Path, raw: Path) -> None:
    problems = problems_of(pristine, raw, labels="500:2,200:1")
    assert len(problems) == 8 and all("unknown label value 600;" in problem for problem in problems)
    assert "--labels 500:2,200:1,600:0" in problems[0]
    assert convert(pristine, labels="500:2,200:1,600:0").is_dir()


def test_lists_of_patients_replace_folders_and_folds(
    pristine: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = write_lists(tmp_path, train=[1, "6", 3], val=[7], test=[2])
    folder = convert(pristine, **lists)
    (split,) = splits_in(folder)
    assert split == {"train": [f"patient{n:02d}_LGE" for n in (1, 3, 6)], "val": ["patient07_LGE"]}
    assert [path.name for path in (folder / "labelsTs").iterdir()] == ["patient02_LGE.nii.gz"]
    assert "3 patients are in no list and were left out" in capsys.readouterr().out
    (problem,) = problems_of(pristine, tmp_path / "none", train=lists["train"], raw_folder=tmp_path / "none")
    assert "--train and --val belong together" in problem


def test_all_problems_are_listed_together(download: Path, raw: Path) -> None:
    base = download / "C0LET2_nii45_for_challenge19"
    ones = np.full((3, 8, 6), 200, np.int16)
    write_volume(base / "lgegt/patient1_LGE_manual.nii.gz", ones + 21)
    write_volume(base / "lgegt/patient2_LGE_manual.nii.gz", ones * 0)
    write_volume(base / "lgegt/patient3_LGE_manual.nii.gz", ones[:2])
    write_volume(base / "lgegt/patient4_LGE_manual.nii.gz", ones, origin=(3.0, -2.0, 5.1))
    (base / "c0t2lge/patient5_LGE.nii.gz").write_bytes(b"no image")
    (base / "c0t2lge/patient6_LGE.nii.gz").unlink()
    shutil.copy(base / "c0t2lge/patient7_LGE.nii.gz", base / "lgegt/patient7_LGE.nii.gz")
    shutil.copy(base / "c0t2lge/patient7_LGE.nii.gz", base / "lge_of_patient7.nii.gz")
    expected = [
        "patient1_LGE_manual.nii.gz: unknown label value 221;",
        "patient2_LGE_manual.nii.gz: label is empty",
        "patient3_LGE_manual.nii.gz: shape (2, 8, 6) differs",
        "patient4_LGE_manual.nii.gz: origin (3, -2, 5.1) differs",
        "patient5_LGE.nii.gz: cannot be read",
        "patient6_LGE_manual.nii.gz: label without an image",
        "patient7_LGE.nii.gz: the same case as",
        "move away C0LET2_nii45_for_challenge19/lge_of_patient7.nii.gz",
    ]
    assert_listed(problems_of(download, raw), expected)


@pytest.mark.parametrize("compressed", [True, False])
def test_endings_in_upper_case_are_read(compressed: bool, pristine: Path, download: Path, raw: Path) -> None:
    base = download / "C0LET2_nii45_for_challenge19"
    for stem in ("c0t2lge/patient2_LGE", "lgegt/patient2_LGE_manual"):
        path = base / f"{stem}.nii.gz"
        if not compressed:
            sitk.WriteImage(sitk.ReadImage(str(path)), str(base / f"{stem}.nii"))
            path.unlink()
            path = base / f"{stem}.nii"
        path.rename(base / f"{stem}{'.NII.GZ' if compressed else '.NII'}")
    one, other = convert(pristine), convert(download, dataset_id=77)
    for name in ("imagesTr/patient02_LGE_0000.nii.gz", "labelsTr/patient02_LGE.nii.gz"):
        assert np.array_equal(voxels(one / name), voxels(other / name))


def test_an_ending_of_mixed_case_is_refused_with_the_name_to_give(download: Path, raw: Path) -> None:
    path = download / "C0LET2_nii45_for_challenge19/lgegt/patient2_LGE_manual.nii.gz"
    path.rename(path.with_suffix(".Gz"))
    (problem,) = problems_of(download, raw)
    assert "patient2_LGE_manual.nii.Gz: " in problem and "rename it to end in .nii.gz" in problem


def test_images_without_a_label_are_named(pristine: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(pristine)
    printed = capsys.readouterr().out
    assert "4 LGE images have no label and were left out: patient9, patient10, patient11, patient12." in printed


def test_no_images_of_a_sequence_say_what_was_expected(tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "root/patient1_C0.nii.gz", tmp_path / "root/patient1_C0_manual.nii.gz", CHALLENGE)
    problems = problems_of(tmp_path / "root", raw)
    assert any("no LGE images; expected patientN_SEQ.nii.gz" in problem for problem in problems)
    assert any("at least 5 training patients, got 0" in problem for problem in problems)
    (tmp_path / "empty/inner").mkdir(parents=True)
    (problem,) = problems_of(tmp_path / "empty", raw)
    assert "no NIfTI files found" in problem and "Found there: inner" in problem
    (problem,) = problems_of(tmp_path / "nowhere", raw)
    assert "no such folder" in problem
    (problem,) = problems_of(tmp_path / "root", raw, "cine")
    assert "--sequence: expected LGE, bSSFP, T2, got cine" in problem


def test_several_processes_write_what_one_writes(
    pristine: Path, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = convert(pristine, raw_folder=tmp_path / "one")
    monkeypatch.setattr(writing, "_CASES_PER_WORKER", 4)  # so that 8 cases do start two workers
    assert contents(one) == contents(convert(pristine, raw_folder=tmp_path / "two", processes=2))


def test_the_command_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    arguments = ("mscmrseg", str(pristine), "--sequence", "T2", "-d", "77")
    done = shapekd_convert(*arguments, "--name", "Mine", cwd=pristine)
    assert done.returncode == 0, done.stderr
    assert "Dataset077_Mine" in done.stdout and "plan_and_preprocess -d 77 -c 2d" in done.stdout
    assert main(["convert", *arguments, "--labels", "500"]) == 1
