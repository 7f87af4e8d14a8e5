"""The ACDC conversion, on tiny fake downloads and, where it is there, on the real one."""

from __future__ import annotations

import csv
import filecmp
import gzip
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    contents,
    copied_download,
    dataset_in,
    disk_full,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
    write_lists,
    write_volume,
)

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.dataset_conversion import writing
from nnunet_shapekd.dataset_conversion.acdc import convert_acdc
from nnunet_shapekd.dataset_conversion.folds import folds_by_patient
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions
from nnunet_shapekd.files import images

GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
# a folder with training/ as in the ACDC download, and split/train.json and val.json
REAL_DATA = Path(os.environ.get("ACDC_FOLDER", Path(__file__).parents[3] / "shared/data/acdc"))


def make_patient(parent: Path, number: int, ending: str = ".nii.gz", info: bool = True, label: bool = True) -> Path:
    folder = parent / f"patient{number:03d}"
    folder.mkdir(parents=True)
    random = np.random.RandomState(number)
    es = 7 + number % 5
    for frame in (1, es):
        stem = folder / f"{folder.name}_frame{frame:02d}"
        write_volume(Path(f"{stem}{ending}"), random.randint(0, 900, (3, 8, 6)).astype(np.int16))
        if label:
            values = np.zeros((3, 8, 6), np.uint8)
            values[1, 2:6, 1:5] = random.randint(1, 4, (4, 4))
            write_volume(Path(f"{stem}_gt{ending}"), values)
    sitk.WriteImage(sitk.Image([4, 4, 2, 5], sitk.sitkInt16), str(folder / f"{folder.name}_4d.nii.gz"))
    if info:
        lines = [
            "ED: 1",
            f"ES: {es}",
            f"Group: {GROUPS[number % 5]}",
            "Height: 170.5",
            "NbFrame: 30",
            "",
            "Weight: 70.0",
        ]
        (folder / "Info.cfg").write_bytes("\r\n".join(lines).encode())
    return folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download with 12 training and 2 labelled test patients, junk of macOS included; to be left as it is."""
    root = tmp_path_factory.mktemp("acdc")
    for number in range(1, 13):
        make_patient(root / "training", number)
    for number in (101, 102):
        make_patient(root / "testing", number)
    (root / "training/patient001/._patient001_frame01.nii.gz").write_bytes(b"junk")
    (root / "training/.DS_Store").write_bytes(b"junk")
    (root / "__MACOSX/training/patient001").mkdir(parents=True)
    return root


def convert(root: Path, **options) -> Path:
    return convert_acdc(root, VolumeOptions(**{"processes": 1, **options}))


def problems_of(root: Path, raw: Path, **options) -> list[str]:
    return refused(raw, convert, root, **options)


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_dataset_has_upstreams_names_and_the_downloads_bytes(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    assert folder == raw / "Dataset027_ACDC" and [path.name for path in raw.iterdir()] == ["Dataset027_ACDC"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json", "imagesTr", "imagesTs", "labelsTr", "labelsTs", "patients.csv", "splits_final.json",
    ]  # fmt: skip
    counts = {sub: len(list((folder / sub).iterdir())) for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")}
    assert counts == {"imagesTr": 24, "labelsTr": 24, "imagesTs": 4, "labelsTs": 4}
    source = pristine / "training/patient001/patient001_frame08"
    assert filecmp.cmp(f"{source}.nii.gz", folder / "imagesTr/patient001_frame08_0000.nii.gz", shallow=False)
    assert filecmp.cmp(f"{source}_gt.nii.gz", folder / "labelsTr/patient001_frame08.nii.gz", shallow=False)
    dataset = dataset_in(folder)
    assert dataset["channel_names"] == {"0": "cineMRI"}
    assert dataset["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    assert dataset["numTraining"] == 24 and dataset["file_ending"] == ".nii.gz"


def test_the_values_of_every_image_and_label_are_read_once(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    stock = images.read_nifti
    monkeypatch.setattr(images, "read_nifti", lambda path, *given: read.append(path) or stock(path, *given))
    convert(pristine)
    files = [path for folder in ("training", "testing") for path in (pristine / folder).glob("*/patient*_frame*")]
    assert len(files) == 56 and sorted(read) == sorted(files)


def test_the_csv_keeps_the_metadata_without_absolute_paths(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    rows = rows_in(folder)
    assert len(rows) == 14
    assert rows[0] == {
        "patient": "patient001", "subset": "train", "group": "HCM", "ed_frame": "1", "es_frame": "8",
        "n_frames": "30", "height_cm": "170.5", "weight_kg": "70.0", "source_folder": "training/patient001",
    }  # fmt: skip
    assert rows[-1]["subset"] == "test" and rows[-1]["source_folder"] == "testing/patient102"


def test_all_layouts_give_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    (tmp_path / "above/database").symlink_to(pristine)
    (tmp_path / "training_only").mkdir()
    (tmp_path / "training_only/training").symlink_to(pristine / "training")
    results = {}
    for name, root in {
        "plain": pristine, "above": tmp_path / "above",
        "training only": tmp_path / "training_only", "patients": pristine / "training",
    }.items():  # fmt: skip
        folder = convert(root, raw_folder=tmp_path / name)
        results[name] = contents(folder)
        rows = list(csv.DictReader(results[name].pop("patients.csv").decode().splitlines()))
        # Only where a patient lay differs.
        results[name]["rows"] = [{**row, "source_folder": Path(row["source_folder"]).name} for row in rows]
    assert results["plain"] == results["above"]
    assert results["training only"] == results["patients"]
    training = {name: content for name, content in results["plain"].items() if "Ts/" not in name and name != "rows"}
    assert training == {name: content for name, content in results["patients"].items() if name != "rows"}


def test_uncompressed_input_gives_the_same_voxels_and_headers(tmp_path: Path) -> None:
    for ending in (".nii", ".nii.gz"):
        for number in range(1, 6):
            make_patient(tmp_path / ending / "training", number, ending)
    plain, packed = (convert(tmp_path / e, raw_folder=tmp_path / f"raw{e}") for e in (".nii", ".nii.gz"))
    for file in [*packed.glob("imagesTr/*"), *packed.glob("labelsTr/*")]:
        twin = plain / file.relative_to(packed)
        assert gzip.decompress(file.read_bytes()) == gzip.decompress(twin.read_bytes())
    again = convert(tmp_path / ".nii", raw_folder=tmp_path / "again")
    assert contents(again) == contents(plain)


def test_several_processes_write_what_one_writes(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = convert(pristine, raw_folder=tmp_path / "one")
    monkeypatch.setattr(writing, "_CASES_PER_WORKER", 10)  # so that 28 cases do start two workers
    two = convert(pristine, raw_folder=tmp_path / "two", processes=2)
    assert contents(one) == contents(two)


def test_info_cfg_may_be_absent(tmp_path: Path, raw: Path) -> None:
    for number in range(1, 6):
        make_patient(tmp_path / "root", number, info=False)
    folder = convert(tmp_path / "root")
    assert len(splits_in(folder)) == 5
    assert rows_in(folder)[0]["group"] == ""


def test_unlabelled_test_patients_make_no_labels_folder(tmp_path: Path, raw: Path) -> None:
    for number in range(1, 6):
        make_patient(tmp_path / "root/training", number)
    make_patient(tmp_path / "root/testing", 101, label=False)
    folder = convert(tmp_path / "root")
    assert len(list((folder / "imagesTs").iterdir())) == 2 and not (folder / "labelsTs").exists()


def test_float_labels_with_whole_values_are_accepted(download: Path, raw: Path) -> None:
    path = download / "training/patient002/patient002_frame01_gt.nii.gz"
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32), str(path))
    assert filecmp.cmp(path, convert(download) / "labelsTr/patient002_frame01.nii.gz", shallow=False)


# --- splits ------------------------------------------------------------------------------------------------------


def patients_in(cases: list[str]) -> set[str]:
    return {case.split("_")[0] for case in cases}


def test_no_patient_is_on_both_sides_and_each_validates_once(pristine: Path, raw: Path) -> None:
    splits = splits_in(convert(pristine))
    everyone = {f"patient{number:03d}" for number in range(1, 13)}
    assert len(splits) == 5
    for split in splits:
        train, val = patients_in(split["train"]), patients_in(split["val"])
        assert not train & val and train | val == everyone
        assert len(split["train"]) == 2 * len(train) and len(split["val"]) == 2 * len(val)
    assert sorted(patient for split in splits for patient in patients_in(split["val"])) == sorted(everyone)


def test_folds_and_strata_differ_by_at_most_one() -> None:
    group_of = {f"patient{number:03d}": GROUPS[number % 7 % 5] for number in range(1, 73)}
    folds = folds_by_patient(group_of, seed=1)
    assert sorted(len(fold) for fold in folds) == [14, 14, 14, 15, 15]
    for group in GROUPS:
        counts = [sum(group_of[patient] == group for patient in fold) for fold in folds]
        assert max(counts) - min(counts) <= 1


def test_the_seed_decides_the_folds() -> None:
    group_of = {f"patient{number:03d}": GROUPS[number % 5] for number in range(1, 41)}
    backwards = dict(reversed(group_of.items()))
    assert folds_by_patient(group_of, seed=3) == folds_by_patient(backwards, seed=3)
    assert folds_by_patient(group_of, seed=3) != folds_by_patient(group_of, seed=4)


def test_fewer_than_five_training_patients_are_refused(tmp_path: Path, raw: Path) -> None:
    for number in range(1, 5):
        make_patient(tmp_path / "root", number)
    (problem,) = problems_of(tmp_path / "root", raw)
    assert "at least 5 training patients, got 4" in problem and "--train" in problem


def test_the_users_lists_decide_wherever_patients_lie(
    pristine: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = convert(
        pristine,
        **write_lists(tmp_path, train=["001", 2, "101"], val=["012"], test=["005", "102"]),
    )
    (split,) = splits_in(folder)
    assert patients_in(split["train"]) == {"patient001", "patient002", "patient101"}
    assert patients_in(split["val"]) == {"patient012"}
    test = {path.name for path in (folder / "labelsTs").iterdir()}
    assert patients_in(list(test)) == {"patient005", "patient102"} and len(test) == 4
    assert len(list((folder / "imagesTr").iterdir())) == 8
    printed = capsys.readouterr().out
    assert "8 patients are in no list and were left out" in printed and "Train fold 0 only" in printed


def test_wrong_lists_are_refused_with_all_their_problems(pristine: Path, raw: Path, tmp_path: Path) -> None:
    problems = problems_of(
        pristine,
        raw,
        **write_lists(tmp_path, train=["001", "077", "001", True], val=[1, "002"], test=[]),
    )
    expected = [
        "077 is not in the",
        "001 is listed twice",
        "got True",
        "patient 1 is in --train, too",
        "expected a list",
    ]
    assert len(problems) == 5
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


@pytest.mark.parametrize("given", [["train"], ["val"], ["test"], ["train", "test"]])
def test_train_and_val_lists_belong_together(given: list[str], pristine: Path, raw: Path, tmp_path: Path) -> None:
    lists = {role: [number + 1] for number, role in enumerate(given)}
    (problem,) = problems_of(pristine, raw, **write_lists(tmp_path, **lists))
    assert "--train and --val belong together" in problem


def test_a_value_of_info_cfg_is_no_formula_in_patients_csv(download: Path, raw: Path) -> None:
    info = download / "training/patient003/Info.cfg"
    info.write_text(info.read_text().replace("NOR", "=HYPERLINK(1)"))
    row = next(row for row in rows_in(convert(download)) if row["patient"] == "patient003")
    assert row["group"] == "'=HYPERLINK(1)"


def again(download: Path, source: str, target: str) -> None:
    """The images of the source's patient become the target's, too."""
    shutil.rmtree(download / target)
    shutil.copytree(download / source, download / target)
    for path in sorted((download / target).glob("*.nii.gz")):
        path.rename(path.with_name(path.name.replace(Path(source).name, Path(target).name)))


def test_patients_of_the_same_images_stay_in_one_fold_and_nobody_else_moves(
    download: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again(download, "training/patient003", "training/patient007")
    whose = [{case[:10] for case in split["val"]} for split in splits_in(convert(download))]
    assert "The same images twice, kept on one side: patient007 and patient003." in capsys.readouterr().out
    assert any({"patient003", "patient007"} <= fold for fold in whose)
    assert sorted(patient for fold in whose for patient in fold) == [f"patient{n:03d}" for n in range(1, 13)]


@pytest.mark.parametrize("lists", [False, True])
def test_patients_of_the_same_images_on_two_sides_are_a_warning_that_says_whom_to_leave_out(
    download: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lists: bool
) -> None:
    if lists:
        again(download, "training/patient003", "training/patient007")
        convert(download, **write_lists(tmp_path, train=[1, 2, 3], val=[7], test=[101]))
        whom = "patient007 (validation) has the images of patient003 (training)"
    else:
        again(download, "training/patient003", "testing/patient101")
        convert(download)
        whom = "patient101 (test) has the images of patient003 (training)"
    printed = capsys.readouterr().out
    assert f"WARNING: {whom}" in printed and f"leave out {whom[:10]}." in printed


# --- links, names in other cases, what is not used -----------------------------------------------------------------


def test_folders_and_files_behind_links_are_used_like_others(download: Path, raw: Path, tmp_path: Path) -> None:
    expected = contents(convert(download))
    shutil.rmtree(raw)
    shutil.move(download / "training/patient003", tmp_path / "store")
    (download / "training/patient003").symlink_to(tmp_path / "store")
    shutil.move(download / "testing", tmp_path / "testing")
    (download / "testing").symlink_to(tmp_path / "testing")
    file = download / "training/patient004/patient004_frame01.nii.gz"
    shutil.move(file, tmp_path / "annexed")
    file.symlink_to(tmp_path / "annexed")
    assert contents(convert(download)) == expected


def test_names_in_another_case_are_the_same_names(download: Path, raw: Path) -> None:
    expected = contents(convert(download))
    shutil.rmtree(raw)
    (download / "testing").rename(download / "Testing")
    (download / "training/patient003/Info.cfg").rename(download / "training/patient003/info.cfg")
    (download / "training/patient004").rename(download / "training/Patient004")
    found = contents(convert(download))
    assert found.keys() == expected.keys()
    assert {name for name in found if found[name] != expected[name]} == {"patients.csv"}  # its source folders


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../gone", "is a link to ../gone, which cannot be followed: nothing is there"),
        ("patient003", "is a link to itself"),
    ],
)
def test_a_patient_behind_a_broken_link_is_a_problem(target: str, words: str, download: Path, raw: Path) -> None:
    shutil.rmtree(download / "training/patient003")
    (download / "training/patient003").symlink_to(target)
    (problem,) = problems_of(download, raw)
    assert problem.startswith(f"{download}/training/patient003: ") and words in problem


def test_an_info_cfg_that_is_no_file_is_a_problem(download: Path, raw: Path) -> None:
    folders = [download / f"training/patient{number:03d}" for number in (1, 2, 3)]
    for folder in folders[:2]:
        (folder / "Info.cfg").unlink()
    os.mkfifo(folders[0] / "Info.cfg")
    (folders[1] / "Info.cfg").symlink_to("elsewhere")
    (folders[2] / "info.CFG").write_text("ED: 2\nES: 3\n")
    assert_listed(
        problems_of(download, raw),
        ["is no regular file but a named pipe", "is a link to elsewhere", "Info.cfg: stands beside info.CFG"],
    )


def test_what_is_not_used_is_named(download: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(download / "testing/patient101", download / "testing/testing/patient103")
    (download / "training/patient001/patient001_frame01.mha").write_bytes(b"?")
    convert(download)
    printed = capsys.readouterr().out
    assert "14 4D cines were left out" in printed
    assert (
        "Not used: 1 file ending in .mha (read are .nii, .nii.gz): training/patient001/patient001_frame01.mha"
        in printed
    )
    assert (
        "Not used: 5 files ending in .nii.gz (named or placed otherwise than it is read): testing/testing/" in printed
    )


# --- problems ----------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together(download: Path, raw: Path) -> None:
    frame = {n: download / f"training/patient{n:03d}/patient{n:03d}_frame01" for n in range(1, 13)}
    Path(f"{frame[1]}.nii.gz").write_bytes(b"no image")
    volume = np.ones((3, 8, 6), np.int16)
    write_volume(Path(f"{frame[2]}_gt.nii.gz"), 4 * volume)
    write_volume(Path(f"{frame[3]}_gt.nii.gz"), 0 * volume)
    write_volume(Path(f"{frame[4]}_gt.nii.gz"), volume[:2])
    write_volume(Path(f"{frame[5]}_gt.nii.gz"), volume, origin=(3.0, -2.0, 5.1))
    write_volume(Path(f"{frame[6]}_gt.nii.gz"), volume * np.float32(0.5))
    write_volume(Path(f"{frame[7]}.nii.gz"), np.full((3, 8, 6), np.nan, np.float32))
    sitk.WriteImage(sitk.Image([6, 8, 3, 2], sitk.sitkInt16), f"{frame[8]}.nii.gz")
    Path(f"{frame[9]}_gt.nii.gz").unlink()
    Path(f"{frame[10]}.nii.gz").unlink()
    Path(f"{frame[11]}.nii").write_bytes(gzip.decompress(Path(f"{frame[11]}.nii.gz").read_bytes()))
    (download / "training/patient012/Info.cfg").write_text("ED: 1\nES: twelve\nGroup DCM\n")
    (download / "testing/patient101/patient101_frame01_gt.nii.gz").unlink()
    shutil.copytree(download / "training/patient001", download / "testing/patient001")
    expected = [
        "patient001_frame01.nii.gz: cannot be read",
        "patient002_frame01_gt.nii.gz: unknown label value 4; known are 0, 1, 2, 3",
        "patient003_frame01_gt.nii.gz: label is empty",
        "patient004_frame01_gt.nii.gz: shape (2, 8, 6) differs from its image's (3, 8, 6)",
        "patient005_frame01_gt.nii.gz: origin (3, -2, 5.1) differs",
        "patient006_frame01_gt.nii.gz: expected integer labels",
        "patient007_frame01.nii.gz: has NaN",
        "patient008_frame01.nii.gz: expected one 3D volume, got 6x8x3 with 2 channel(s)",
        "patient009_frame01.nii.gz: training image without a label",
        "patient010_frame01_gt.nii.gz: label without an image",
        "patient011_frame01.nii.gz: the same frame as patient011_frame01.nii",
        "ES is no frame number: 'twelve'",
        "line 'Group DCM' is no",
        "patient101_frame01.nii.gz: test image without a label, while 3 of 4",
        "testing/patient001: the same patient as",
    ]
    problems = problems_of(download, raw)
    assert_listed(problems, expected)
    assert all(str(download) in problem for problem in problems)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("gt", ["", "_gt"])
def test_a_file_cut_short_is_a_problem(ending: str, gt: str, download: Path, raw: Path) -> None:
    # ITK itself reads such files without a word, and so would nnU-Net.
    packed = download / f"training/patient003/patient003_frame01{gt}.nii.gz"
    content = packed.read_bytes() if ending == ".nii.gz" else gzip.decompress(packed.read_bytes())
    packed.unlink()
    path = packed.with_name(f"patient003_frame01{gt}{ending}")
    path.write_bytes(content[:-30])
    (problem,) = problems_of(download, raw)
    assert "cannot be read" in problem and str(path) in problem


def test_frames_must_be_those_of_info_cfg(download: Path, raw: Path) -> None:
    folder = download / "training/patient004"
    for ending in (".nii.gz", "_gt.nii.gz"):
        (folder / f"patient004_frame11{ending}").rename(folder / f"patient004_frame12{ending}")
    (problem,) = problems_of(download, raw)
    assert "Info.cfg says frames ED 1 and ES 11, got 01, 12" in problem


def test_without_info_cfg_two_frames_are_expected(download: Path, raw: Path) -> None:
    folder = download / "training/patient004"
    (folder / "Info.cfg").unlink()
    for ending in (".nii.gz", "_gt.nii.gz"):
        (folder / f"patient004_frame11{ending}").unlink()
    (problem,) = problems_of(download, raw)
    assert "expected two frames" in problem and "got 01" in problem


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("ED: 1\nES: 1\n", "ED and ES are the same frame"),
        ("ED: 1\n", "ES is missing"),
        ("", "is empty"),
        ("\n", "ED is missing"),
        ("ED: 1\nES: 11\nNbFrame: 10\n", "lies beyond NbFrame 10"),
        ("ED: 1\nES: 11\nHeight: tall\n", "Height is no number: 'tall'"),
    ],
)
def test_a_malformed_info_cfg_is_a_problem(info: str, words: str, download: Path, raw: Path) -> None:
    (download / "training/patient004/Info.cfg").write_text(info)
    assert any(words in problem for problem in problems_of(download, raw))


def test_wrong_names_and_folders_named_like_files_are_problems(download: Path, raw: Path) -> None:
    folder = download / "training/patient004"
    shutil.copy(folder / "patient004_frame01.nii.gz", folder / "patient005_frame01.nii.gz")
    inner = folder / "patient004_frame11.nii"
    inner.mkdir()
    (folder / "patient004_frame11.nii.gz").rename(inner / "patient004_frame11.nii.gz")
    problems = problems_of(download, raw)
    assert any("patient005_frame01.nii.gz: expected a name like patient004_frame01" in problem for problem in problems)
    assert any("patient004_frame11.nii: is a folder, not a file" in problem for problem in problems)


def test_no_patients_names_the_layouts_and_what_was_found(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "root/ACDC").mkdir(parents=True)
    (problem,) = problems_of(tmp_path / "root", raw)
    assert "ROOT/database/training" in problem and "Found there: ACDC" in problem
    (problem,) = problems_of(tmp_path / "nowhere", raw)
    assert "no such folder" in problem


def test_unset_raw_folder_says_what_to_set(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(ConversionError, match="export nnUNet_raw="):
        convert(pristine)


@pytest.mark.parametrize("wrong", [{"dataset_id": 0}, {"name": "a/b"}, {"processes": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused_with_their_value(wrong: dict, pristine: Path, raw: Path) -> None:
    (problem,) = problems_of(pristine, raw, **wrong)
    assert str(next(iter(wrong.values()))) in problem


# --- what exists already, and runs that end early ------------------------------------------------------------------


def test_a_second_run_is_refused_and_the_first_dataset_untouched(pristine: Path, raw: Path) -> None:
    before = contents(convert(pristine))
    with pytest.raises(ConversionError, match="Dataset027_ACDC .*-d"):
        convert(pristine)
    with pytest.raises(ConversionError, match="Dataset027_ACDC .*-d"):
        convert(pristine, name="Other")
    assert contents(raw / "Dataset027_ACDC") == before and len(list(raw.iterdir())) == 1
    assert convert(pristine, dataset_id=28).name == "Dataset028_ACDC"


def test_different_splits_in_preprocessed_are_refused_equal_ones_are_fine(
    pristine: Path, raw: Path, tmp_path: Path
) -> None:
    splits = tmp_path / "preprocessed/Dataset027_ACDC/splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps([{"train": ["patient001_frame01"], "val": ["patient002_frame01"]}]))
    (problem,) = problems_of(pristine, raw)
    assert str(splits) in problem and "delete or rename it" in problem
    splits.unlink()
    folder = convert(pristine)
    shutil.copy(folder / "splits_final.json", splits)
    shutil.rmtree(folder)
    convert(pristine)


@pytest.mark.parametrize("other", ["preprocessed", "results"])
def test_an_id_with_another_name_elsewhere_is_refused(
    pristine: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / other / "Dataset027_Other").mkdir(parents=True)
    (problem,) = problems_of(pristine, raw)
    assert "Dataset027_Other has the same id" in problem


def test_a_run_that_fails_while_writing_leaves_nothing(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_json", disk_full)
        assert main(["convert", "acdc", str(pristine), "--processes", "1"]) == 1
        patch.setattr(writing, "write_json", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            convert(pristine)
        patch.setattr(writing, "write_json", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert main(["convert", "acdc", str(pristine), "--processes", "1"]) == 130
    assert not raw.exists()  # which it had made
    convert(pristine)


def test_a_killed_run_leaves_no_dataset_and_the_next_cleans_up(pristine: Path, raw: Path) -> None:
    code = (
        "import sys, time\nfrom nnunet_shapekd.dataset_conversion import acdc, volumes, writing\n"
        "writing.write_json = lambda *_: time.sleep(60)\n"
        "acdc.convert_acdc(sys.argv[1], volumes.VolumeOptions(processes=1))"
    )
    command = [sys.executable, "-c", code, str(pristine)]
    # Away from the checkout, whose nnunet_shapekd/ would hide the installed package.
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=pristine)
    deadline = time.monotonic() + 20
    while not list(raw.glob(".shapekd-partial-*/labelsTs/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    (leftover,) = raw.iterdir()
    assert leftover.name.startswith(".shapekd-partial-Dataset027_ACDC-")
    running = raw / f".shapekd-partial-Dataset027_ACDC-{platform.node()}-{os.getppid()}"
    running.mkdir()
    with pytest.raises(ConversionError, match=f"{running.name}: another conversion writes"):
        convert(pristine)
    assert running.exists()  # another run still at work keeps its folder
    running.rmdir()
    assert len(contents(convert(pristine))) == 59
    assert not leftover.exists()


def test_of_two_conversions_to_one_id_the_later_one_gives_way(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json = writing.write_json

    def overtaken(path: Path, content: object) -> None:
        if path.name == "splits_final.json":
            monkeypatch.setattr(writing, "write_json", write_json)
            shutil.copytree(pristine / "testing", raw / "Dataset027_Other")
        write_json(path, content)

    monkeypatch.setattr(writing, "write_json", overtaken)
    with pytest.raises(ConversionError, match="Dataset027_Other exists already and is left as it is"):
        convert(pristine)
    assert [path.name for path in raw.iterdir()] == ["Dataset027_Other"]


def test_only_one_of_two_conversions_to_one_id_gets_its_name_at_a_time(pristine: Path, raw: Path) -> None:
    code = (
        "import sys\nfrom nnunet_shapekd.dataset_conversion import acdc, volumes\n"
        "acdc.convert_acdc(sys.argv[1], volumes.VolumeOptions(name=sys.argv[2], processes=1))"
    )
    commands = [[sys.executable, "-c", code, str(pristine), name] for name in ("A", "B", "C")]
    started = [subprocess.Popen(one, stderr=subprocess.PIPE, encoding="utf-8", cwd=pristine) for one in commands]
    errors = [process.communicate()[1] for process in started]
    (written,) = raw.iterdir()
    assert sorted(process.returncode for process in started) == [0, 1, 1]
    assert len(contents(written)) == 59
    assert sum("ConversionError: " in error and "choose another" in error for error in errors) == 2


@pytest.mark.parametrize("full", [False, True])
def test_a_raw_folder_that_takes_nothing_is_noticed_before_a_file_is_read(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    if full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(images, "read_nifti", None)
    (problem,) = problems_of(pristine, raw)
    assert f"{raw}/Dataset027_ACDC cannot be made: " in problem and str(raw.parent) in problem


# --- command line ------------------------------------------------------------------------------------------------


def test_the_command_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    done = shapekd_convert("acdc", str(pristine), "-d", "27", "--processes", "1", cwd=pristine)
    assert done.returncode == 0, done.stderr
    assert "24 training cases of 12 patients, 4 test cases of 2 patients, 5 folds" in done.stdout
    assert "nnUNetv2_plan_and_preprocess -d 27 -c 2d" in done.stdout and "Train folds 0 to 4 only" in done.stdout
    assert "Checking cases" in done.stderr and "Checking cases" not in done.stdout
    again = shapekd_convert("acdc", str(pristine), "-d", "27", cwd=pristine)
    assert again.returncode == 1
    assert "exists already" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"{REAL_DATA} is not there")
def test_the_real_download_converts_with_its_own_lists(tmp_path: Path) -> None:
    split = REAL_DATA / "split"
    folder = convert(REAL_DATA, train=split / "train.json", val=split / "val.json", raw_folder=tmp_path)
    (fold,) = splits_in(folder)
    assert len(patients_in(fold["train"])) == 70 and len(patients_in(fold["val"])) == 15
    assert len(list((folder / "imagesTr").iterdir())) == len(list((folder / "labelsTr").iterdir())) == 170
