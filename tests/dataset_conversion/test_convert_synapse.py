"""The Synapse conversion, on tiny fake downloads."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    copied_download,
    dataset_in,
    disk_full,
    raw_folder,
    refused,
    shapekd_convert,
    splits_in,
    voxels,
    write_lists,
    write_volume,
)

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.dataset_conversion import writing
from nnunet_shapekd.dataset_conversion.synapse import (
    ORGANS,
    TRANSUNET_ORGANS,
    TRANSUNET_TEST,
    SynapseOptions,
    convert_synapse,
)

#: img0001 to img0010 and img0021 to img0040
NUMBERS = [*range(1, 11), *range(21, 41)]
TRAIN = [5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40]
#: what TransUNet's values 0 to 8 are in the download, by the names of the organs in both
OLD_VALUE = np.array([0, 8, 4, 3, 2, 6, 11, 1, 7])


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synapse")
    for n in NUMBERS:
        random = np.random.RandomState(n)
        training = root / "RawData/Training"
        write_volume(training / f"img/img{n:04d}.nii.gz", random.randint(-1000, 1000, (3, 8, 6)).astype(np.int16))
        write_volume(training / f"label/label{n:04d}.nii.gz", random.randint(0, 14, (3, 8, 6)).astype(np.uint8))
    for n in (61, 62):
        write_volume(root / f"RawData/Testing/img/img{n:04d}.nii.gz", np.zeros((3, 8, 6), np.int16))
    (root / "RawData/Training/img/._img0001.nii.gz").write_bytes(b"junk")
    return root


def convert(root: Path, **options) -> Path:
    return convert_synapse(root, SynapseOptions(**{"processes": 1, **options}))


def problems_of(root: Path, raw: Path, **options) -> list[str]:
    return refused(raw, convert, root, **options)


def cases_in(folder: Path) -> list[int]:
    return sorted(int(path.name[4:8]) for path in folder.iterdir())


# --- what is written ---------------------------------------------------------------------------------------------


def test_eight_organs_have_transunets_order(pristine: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = convert(pristine)
    assert folder == raw / "Dataset034_Synapse"
    dataset = dataset_in(folder)
    assert list(dataset["labels"]) == ["background", *TRANSUNET_ORGANS]
    assert list(dataset["labels"].values()) == list(range(9)) and dataset["channel_names"] == {"0": "CT"}
    assert [ORGANS[old - 1] for old in OLD_VALUE[1:]] == list(TRANSUNET_ORGANS)
    for number, subset in ((5, "Tr"), (38, "Ts")):
        old = voxels(pristine / f"RawData/Training/label/label{number:04d}.nii.gz")
        new = voxels(folder / f"labels{subset}/case{number:04d}.nii.gz")
        assert np.array_equal(OLD_VALUE[new], np.where(np.isin(old, OLD_VALUE), old, 0))
        image = folder / f"images{subset}/case{number:04d}_0000.nii.gz"
        assert filecmp.cmp(pristine / f"RawData/Training/img/img{number:04d}.nii.gz", image, shallow=False)
    printed = capsys.readouterr().out
    assert "18 training cases, 12 test cases, 5 folds" in printed
    assert "2 images of Testing have no labels and were left out" in printed


def test_transunets_twelve_are_the_test_set_and_its_eighteen_are_divided(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    assert cases_in(folder / "labelsTs") == cases_in(folder / "imagesTs") == sorted(TRANSUNET_TEST)
    assert cases_in(folder / "labelsTr") == TRAIN
    splits = splits_in(folder)
    assert sorted(len(split["val"]) for split in splits) == [3, 3, 4, 4, 4]
    assert sorted(case for split in splits for case in split["val"]) == [f"case{n:04d}" for n in TRAIN]
    assert all(not set(split["train"]) & set(split["val"]) for split in splits)


def test_thirteen_organs_are_the_downloads_bytes(pristine: Path, raw: Path) -> None:
    folder = convert(pristine, organs=13)
    assert list(dataset_in(folder)["labels"]) == ["background", *ORGANS]
    source = pristine / "RawData/Training/label/label0005.nii.gz"
    assert filecmp.cmp(source, folder / "labelsTr/case0005.nii.gz", shallow=False)


def test_the_split_folds_makes_all_labelled_cases_training_cases(pristine: Path, raw: Path) -> None:
    folder = convert(pristine, split="folds")
    assert cases_in(folder / "labelsTr") == NUMBERS and not (folder / "imagesTs").exists()


@pytest.mark.parametrize("inner", ["RawData", "RawData/Training"])
def test_root_may_lie_further_inside(inner: str, pristine: Path, raw: Path) -> None:
    assert cases_in(convert(pristine / inner) / "labelsTs") == sorted(TRANSUNET_TEST)


def test_lists_of_numbers_replace_the_split(pristine: Path, raw: Path, tmp_path: Path) -> None:
    folder = convert(pristine, **write_lists(tmp_path, train=[1, 2, "0005"], val=[38], test=[40]))
    (split,) = splits_in(folder)
    assert split == {"train": ["case0001", "case0002", "case0005"], "val": ["case0038"]}
    assert cases_in(folder / "labelsTs") == [40]


# --- problems ----------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together(download: Path, raw: Path) -> None:
    training = download / "RawData/Training"
    write_volume(training / "label/label0005.nii.gz", np.full((3, 8, 6), 14, np.uint8))
    write_volume(
        training / "label/label0006.nii.gz", np.full((3, 8, 6), 5, np.uint8)
    )  # oesophagus is none of the eight
    (training / "label/label0007.nii.gz").unlink()
    (training / "img/img0009.nii.gz").unlink()
    (training / "label/label0022.nii.gz").unlink()
    (training / "img/img0038.nii.gz").unlink()
    (training / "label/label0038.nii.gz").unlink()
    shutil.copy(training / "img/img0010.nii.gz", training / "label/img0010.nii.gz")
    expected = [
        "label0005.nii.gz: unknown label value 14;",
        "label0006.nii.gz: label is empty (background only, found 5)",
        "img0007.nii.gz: training image without a label",
        "label0009.nii.gz: label without an image",
        "img0022.nii.gz: test image without a label, while 10 of 11",
        "TransUNet's test cases img0038 are missing",
        "move away RawData/Training/label/img0010.nii.gz",
    ]
    assert_listed(problems_of(download, raw), expected)


def test_another_layout_is_refused_naming_the_one_expected(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "root/imagesTr").mkdir(parents=True)
    (problem,) = problems_of(tmp_path / "root", raw)
    assert "RawData/Training/img/img0001.nii.gz" in problem and "found: imagesTr" in problem
    (problem,) = problems_of(tmp_path / "nowhere", raw)
    assert "no such folder" in problem


@pytest.mark.parametrize("wrong", [{"organs": 9}, {"split": "all"}, {"dataset_id": 1000}, {"processes": 0}])
def test_arguments_out_of_range_are_refused_with_their_value(wrong: dict, pristine: Path, raw: Path) -> None:
    (problem,) = problems_of(pristine, raw, **wrong)
    assert str(next(iter(wrong.values()))) in problem


def test_endings_in_upper_case_are_read(pristine: Path, download: Path, raw: Path) -> None:
    for kind in ("img", "label"):
        path = download / f"RawData/Training/{kind}/{kind}0005.nii.gz"
        path.rename(path.with_name(f"{kind}0005.NII.GZ"))
    folder = convert(download)
    assert cases_in(folder / "labelsTr") == TRAIN
    source = pristine / "RawData/Training/img/img0005.nii.gz"
    assert filecmp.cmp(source, folder / "imagesTr/case0005_0000.nii.gz", shallow=False)


@pytest.mark.parametrize("split", ["transunet", "folds"])
def test_missing_training_cases_are_named(
    split: str, pristine: Path, download: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(pristine, split=split, dataset_id=41)
    assert "labelled cases" not in capsys.readouterr().out
    for number in (5, 40):
        for kind in ("img", "label"):
            (download / f"RawData/Training/{kind}/{kind}{number:04d}.nii.gz").unlink()
    convert(download, split=split)
    assert "2 of the 30 labelled cases are not there: img0005, img0040.\n" in capsys.readouterr().out


def test_a_full_disk_is_said_on_a_line_of_its_own(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "_write_nifti", disk_full)
    assert main(["convert", "synapse", str(pristine), "--processes", "1"]) == 1
    printed = capsys.readouterr().err
    where = f"'{raw}/Dataset034_Synapse' (nnUNet_raw is {raw}; no dataset was written)"
    expected = f"Error: [Errno 28] No space left on device: {where}"
    assert "Writing files" in printed and expected in printed.splitlines()
    assert not raw.exists()


def test_a_run_that_fails_while_writing_leaves_nothing(
    pristine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "write_json", disk_full)
    assert main(["convert", "synapse", str(pristine), "--processes", "1"]) == 1
    assert not raw.exists()


def test_the_command_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    done = shapekd_convert("synapse", str(pristine), "--organs", "13", "--processes", "1", cwd=pristine)
    assert done.returncode == 0, done.stderr
    assert "Dataset034_Synapse" in done.stdout and "nnUNetv2_plan_and_preprocess -d 34\n" in done.stdout
