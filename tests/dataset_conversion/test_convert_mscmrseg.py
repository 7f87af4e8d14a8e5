"""Label maps, and the MSCMRseg and MM-WHS conversions on tiny fake downloads."""

from __future__ import annotations

import csv
import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion import common, label_maps
from nnunet_shapekd.dataset_conversion.common import ConversionError
from nnunet_shapekd.dataset_conversion.mmwhs import convert_mmwhs
from nnunet_shapekd.dataset_conversion.mscmrseg import convert_mscmrseg, main

MODULE = "nnunet_shapekd.dataset_conversion.mscmrseg"
CHALLENGE = np.array([0, 500, 200, 600])
WHOLE_HEART = np.array([0, 205, 420, 500, 550, 600, 820, 850])


def write_volume(path: Path, values: np.ndarray, origin: tuple[float, ...] = (3.0, -2.0, 5.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.5, 1.25, 10.0))
    image.SetOrigin(origin)
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(path))


def write_case(image: Path, label: Path | None, values: np.ndarray) -> None:
    """An image, and a label that has each of the values, in a spread that depends on the name."""
    random = np.random.RandomState(sum(map(ord, image.name)))
    write_volume(image, random.randint(0, 900, (3, 8, 6)).astype(np.int16))
    if label is not None:
        classes = random.randint(0, len(values), (3, 8, 6))
        classes[0, 0, : len(values) - 2] = np.arange(len(values) - 2)
        classes[0, 1, :2] = len(values) - 2, len(values) - 1
        write_volume(label, values[classes].astype(np.int16))


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


def make_mmwhs(root: Path) -> Path:
    for modality in ("ct", "mr"):
        for n in range(1001, 1007):
            stem = root / f"{modality}_train/{modality}_train_{n}"
            write_case(Path(f"{stem}_image.nii.gz"), Path(f"{stem}_label.nii.gz"), WHOLE_HEART)
        write_case(root / f"{modality}_test/{modality}_test_2001_image.nii.gz", None, WHOLE_HEART)
    return root


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mscmrseg(tmp_path_factory.mktemp("mscmrseg"))


@pytest.fixture
def download(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the pristine download that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "download"))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.delenv("nnUNet_results", raising=False)
    return tmp_path / "raw"


def convert(root: Path, sequence: str = "LGE", **kwargs) -> Path:
    return convert_mscmrseg(root, sequence, **{"processes": 1, **kwargs})


def problems_of(root: Path, raw: Path, sequence: str = "LGE", **kwargs) -> list[str]:
    with pytest.raises(ConversionError) as caught:
        convert(root, sequence, **kwargs)
    assert not raw.exists() or not any(raw.iterdir())
    return caught.value.problems


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- label maps --------------------------------------------------------------------------------------------------


def test_a_label_map_is_read_and_shown_again() -> None:
    assert label_maps.parse_label_map("500:3, 200:2,600:1,420:0") == {500: 3, 200: 2, 600: 1, 420: 0}
    assert label_maps.show_label_map({500: 3, 420: 0}) == "500:3,420:0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("500=3", "expected SOURCE:TARGET"),
        ("", "expected SOURCE:TARGET"),
        ("500:-1", "expected SOURCE:TARGET"),
        ("500:3,", "expected SOURCE:TARGET"),
        ("500:1,500:2", "500 is mapped 2 times"),
        ("500:1,200:3", "without gaps, got 1, 3"),
        ("500:0", "without gaps, got 0 only"),
        ("0:1", "0 is background and stays 0"),
        ("99999:1", "expected sources 1 to 65535"),
    ],
)
def test_a_wrong_label_map_is_refused_saying_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="--labels") as caught:
        label_maps.parse_label_map(text)
    assert words in str(caught.value)


def test_classes_are_named_after_their_sources_or_as_given() -> None:
    known = {500: "LVC", 200: "MLV", 3: "LVC"}
    assert label_maps.name_labels({500: 1, 200: 1, 3: 1, 7: 2}, known) == {
        "background": 0, "LVC_and_MLV": 1, "label7": 2,
    }  # fmt: skip
    assert label_maps.name_labels({500: 2, 200: 1}, known, "myo, lv") == {"background": 0, "myo": 1, "lv": 2}
    for names in ("one", "a,a", "a,background"):
        with pytest.raises(ValueError, match="--names"):
            label_maps.name_labels({500: 2, 200: 1}, known, names)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.int64])
def test_relabelling_maps_every_voxel_whatever_the_type(dtype: type) -> None:
    values = np.array([[0, 500], [200, 600]], dtype)
    new = label_maps.relabel(values, {500: 3, 200: 0, 600: 1})
    assert new.dtype == np.uint8 and new.tolist() == [[0, 3], [0, 1]]
    assert label_maps.values_in(values) == [0, 200, 500, 600]


@pytest.mark.parametrize("values", [[-1.0, 0.0], [0.0, 0.5], [0.0, 70000.0]])
def test_values_that_are_no_labels_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected integer labels"):
        label_maps.values_in(np.array(values, np.float32))


# --- MSCMRseg ----------------------------------------------------------------------------------------------------


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
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    assert dataset["channel_names"] == {"0": "LGE"} and dataset["numTraining"] == 5
    printed = capsys.readouterr().out
    assert "4 LGE images have no label and were left out" in printed and "5 training cases, 3 test cases" in printed


def test_labels_published_later_are_the_test_set(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    names = sorted(path.name for path in (folder / "labelsTs").iterdir())
    assert names == [f"patient{n:02d}_LGE.nii.gz" for n in (6, 7, 8)]
    splits = json.loads((folder / "splits_final.json").read_text())
    assert len(splits) == 5 and sorted(case for s in splits for case in s["val"]) == [
        f"patient{n:02d}_LGE" for n in range(1, 6)
    ]
    assert all(not set(split["train"]) & set(split["val"]) and len(split["train"]) == 4 for split in splits)
    rows = list(csv.DictReader((folder / "patients.csv").open()))
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
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {"background": 0, "LVC_and_MLV": 1}
    old = voxels(pristine / "C0LET2_nii45_for_challenge19/lgegt/patient2_LGE_manual.nii.gz")
    new = voxels(folder / "labelsTr/patient02_LGE.nii.gz")
    assert np.array_equal(new == 1, (old == 500) | (old == 200)) and new.max() == 1


def test_values_that_are_not_mapped_are_refused_and_can_be_dropped(pristine: Path, raw: Path) -> None:
    problems = problems_of(pristine, raw, labels="500:2,200:1")
    assert len(problems) == 8 and all("not mapped: 600" in problem for problem in problems)
    assert "--labels 500:2,200:1,600:0 (0 drops them)" in problems[0]
    assert convert(pristine, labels="500:2,200:1,600:0").is_dir()


def test_lists_of_patients_replace_folders_and_folds(
    pristine: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for role, numbers in {"train": [1, "6", 3], "val": [7], "test": [2]}.items():
        (tmp_path / f"{role}.json").write_text(json.dumps(numbers))
    lists = {role: tmp_path / f"{role}.json" for role in ("train", "val", "test")}
    folder = convert(pristine, **lists)
    (split,) = json.loads((folder / "splits_final.json").read_text())
    assert split == {"train": [f"patient{n:02d}_LGE" for n in (1, 3, 6)], "val": ["patient07_LGE"]}
    assert [path.name for path in (folder / "labelsTs").iterdir()] == ["patient02_LGE.nii.gz"]
    assert "3 cases are in no list and were left out" in capsys.readouterr().out
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
        "patient1_LGE_manual.nii.gz: has label values that are not mapped: 221",
        "patient2_LGE_manual.nii.gz: label is empty",
        "patient3_LGE_manual.nii.gz: size (6, 8, 2) differs",
        "patient4_LGE_manual.nii.gz: origin (3.0, -2.0, 5.0999",
        "patient5_LGE.nii.gz: cannot be read",
        "patient6_LGE_manual.nii.gz: label without an image",
        "patient7_LGE.nii.gz: the same case as",
        "move away C0LET2_nii45_for_challenge19/lge_of_patient7.nii.gz",
    ]
    problems = problems_of(download, raw)
    assert [sum(words in problem for problem in problems) for words in expected] == [1] * len(expected)
    assert len(problems) == len(expected)


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
    monkeypatch.setattr(common, "_CASES_PER_WORKER", 4)  # so that 8 cases do start two workers
    assert contents(one) == contents(convert(pristine, raw_folder=tmp_path / "two", processes=2))


def test_the_module_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    code = (
        f"import sys\nfrom {MODULE} import main\nstatus = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules and 'nnunetv2' not in sys.modules\nsys.exit(status)"
    )
    command = [sys.executable, "-c", code, str(pristine), "--sequence", "T2", "-d", "77", "--name", "Mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=pristine)
    assert done.returncode == 0, done.stderr
    assert "Dataset077_Mine" in done.stdout and "plan_and_preprocess -d 77 -c 2d" in done.stdout
    assert main([str(pristine), "--sequence", "T2", "--labels", "500"]) == 1


# --- MM-WHS ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modality", "channel", "name"), [("ct", "CT", "032_MMWHSct"), ("mr", "MRI", "033_MMWHSmr")])
def test_mmwhs_has_seven_structures_and_an_unlabelled_test_set(
    modality: str, channel: str, name: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    folder = convert_mmwhs(root, modality, processes=1)
    assert folder == raw / f"Dataset{name}"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert list(dataset["labels"].items())[1:4] == [("MLV", 1), ("LA", 2), ("LVC", 3)]
    assert len(dataset["labels"]) == 8 and dataset["channel_names"] == {"0": channel}
    stem = f"{modality}_train_1003"
    old, new = voxels(root / f"{modality}_train/{stem}_label.nii.gz"), voxels(folder / f"labelsTr/{stem}.nii.gz")
    assert np.array_equal(WHOLE_HEART[new], old)
    assert len(list((folder / "labelsTr").iterdir())) == 6 and not (folder / "labelsTs").exists()
    assert [path.name for path in (folder / "imagesTs").iterdir()] == [f"{modality}_test_2001_0000.nii.gz"]
    assert "6 training cases, 1 test cases (without labels), 5 folds" in capsys.readouterr().out


def test_mmwhs_fits_acdc_by_a_label_map(tmp_path: Path, raw: Path) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    folder = convert_mmwhs(root, "mr", labels="600:1,205:2,500:3,420:0,550:0,820:0,850:0", processes=1)
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {
        "background": 0, "RV": 1, "MLV": 2, "LVC": 3,
    }  # fmt: skip


def test_mmwhs_refuses_a_value_it_does_not_know_with_the_map_to_type(tmp_path: Path, raw: Path) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    write_volume(root / "ct_train/ct_train_1002_label.nii.gz", np.full((3, 8, 6), 421, np.int16))
    with pytest.raises(ConversionError, match="not mapped: 421.*--labels 205:1,.*,850:7,421:0"):
        convert_mmwhs(root, "ct", processes=1)
    folder = convert_mmwhs(root, "ct", labels="205:1,420:2,421:2,500:3,550:4,600:5,820:6,850:7", processes=1)
    assert voxels(folder / "labelsTr/ct_train_1002.nii.gz").min() == 2
