"""Quirks of sets as they are downloaded: folders, headers, labels and how a set lies, each on a tiny replica."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conversions import dataset_in, raw_folder, refused, rows_in, voxels, write_volume  # noqa: F401 (fixtures)

from nnunet_shapekd.dataset_conversion.acdc import convert_acdc
from nnunet_shapekd.dataset_conversion.mmwhs import MmwhsOptions, convert_mmwhs
from nnunet_shapekd.dataset_conversion.mnms import MnmsOptions, convert_mnms
from nnunet_shapekd.dataset_conversion.mscmrseg import MscmrsegOptions, convert_mscmrseg
from nnunet_shapekd.dataset_conversion.synapse import SynapseOptions, convert_synapse
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions
from nnunet_shapekd.files.label_maps import read_label_map
from nnunet_shapekd.files.orientation import lie_of, turn_between

HEART = {"RV": (1,), "MLV": (2,), "LVC": (3,)}
ACDC = (0, 1, 2, 3)  # RV, myocardium, LV
MYO_FIRST = (0, 3, 1, 2)  # what some copies of MSCMRseg have instead


def heart(seed: int, values: tuple[int, ...] = ACDC) -> np.ndarray:
    """A short axis in ACDC's labels, (3, 40, 32): the crescent to the left of the ring."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:40, :32] - np.array(random.uniform(15, 19, 2))[:, None, None]
    distance = np.hypot(x, y)
    crescent = np.hypot(x + 7, y - 2) < 7
    slice_ = np.select([distance < 4, distance < 7, crescent], [3, 2, 1], 0)
    return np.array(values)[np.stack([slice_] * 3)].astype(np.int16)


def write_heart(image: Path, label: Path | None, seed: int, values: tuple[int, ...] = ACDC, **header) -> None:
    random = np.random.RandomState(seed)
    write_volume(image, (100 * heart(seed) + random.randint(0, 99, (3, 40, 32))).astype(np.int16))
    if label:
        write_volume(label, heart(seed, values), **header)


# --- MM-WHS ------------------------------------------------------------------------------------------------------


def test_mmwhs_421_is_left_atrium(tmp_path: Path, raw: Path) -> None:
    values = np.array([0, 205, 420, 500, 550, 600, 820, 850])
    for n in range(1006, 1011):
        stem = tmp_path / f"download/mr_train/mr_train_{n}"
        own = np.where(values == 420, 421, values) if n == 1010 else values
        write_volume(Path(f"{stem}_image.nii.gz"), np.random.RandomState(n).randint(0, 9, (3, 8, 6)).astype(np.int16))
        write_volume(Path(f"{stem}_label.nii.gz"), own[np.arange(144).reshape(3, 8, 6) % 8].astype(np.int16))
    folder = convert_mmwhs(tmp_path / "download", MmwhsOptions(modality="mr", processes=1))
    new = voxels(folder / "labelsTr/mr_train_1010.nii.gz")
    assert np.array_equal(new == 2, voxels(tmp_path / "download/mr_train/mr_train_1010_label.nii.gz") == 421)
    assert list(dataset_in(folder)["labels"])[2] == "LA" and len(dataset_in(folder)["labels"]) == 8
    acdc = MmwhsOptions(modality="mr", processes=1, labels="600:1,205:2,500:3,420:0,550:0,820:0,850:0", dataset_id=9)
    assert voxels(convert_mmwhs(tmp_path / "download", acdc) / "labelsTr/mr_train_1010.nii.gz").max() == 3


# --- MSCMRseg ----------------------------------------------------------------------------------------------------


def make_copy(root: Path, values: tuple[int, ...] = ACDC, lost: int | None = None) -> Path:
    """images and labels of the same names, and below TestSet; one label may have lost its origin."""
    for n in range(1, 9):
        part = root / "TestSet" if n > 6 else root
        header = {"origin": (0.0, 0.0, 0.0)} if n == lost else {}
        names = (part / "images" / f"subject{n}_DE.nii.gz", part / "labels" / f"subject{n}_DE.nii.gz")
        write_heart(*names, seed=n, values=values, **header)
    return root


def mscmrseg(root: Path, **options) -> Path:
    return convert_mscmrseg(root, MscmrsegOptions(**{"sequence": "LGE", "processes": 1, **options}))


def test_mscmrsegs_copy_with_images_labels_and_testset(tmp_path: Path, raw: Path) -> None:
    folder = mscmrseg(make_copy(tmp_path / "copy"))
    assert len(list((folder / "labelsTr").iterdir())) == 6
    assert sorted(path.name for path in (folder / "labelsTs").iterdir()) == [
        f"patient{n:02d}_LGE.nii.gz" for n in (7, 8)
    ]


def test_mscmrsegs_patients_are_called_the_same_in_every_sequence(tmp_path: Path, raw: Path) -> None:
    for n in range(1, 7):
        for sequence in ("LGE", "C0"):
            stem = tmp_path / f"copy/patient{n}_{sequence}"
            write_heart(Path(f"{stem}.nii.gz"), Path(f"{stem}_manual.nii.gz"), seed=n)
    folders = [mscmrseg(tmp_path / "copy", sequence=sequence) for sequence in ("LGE", "bSSFP")]
    patients = [{row["patient"] for row in rows_in(folder)} for folder in folders]
    assert patients[0] == patients[1] == {f"patient{n:02d}" for n in range(1, 7)}


def test_a_label_that_has_lost_its_place_may_take_its_images(tmp_path: Path, raw: Path) -> None:
    root = make_copy(tmp_path / "copy", lost=3)
    (problem,) = refused(raw, mscmrseg, root)
    assert "labels/subject3_DE.nii.gz: origin (0, 0, 0) differs" in problem and "--label-header image" in problem
    folder = mscmrseg(root, label_header="image")
    for n in (2, 3):
        image, label = (
            sitk.ReadImage(str(folder / name))
            for name in (f"imagesTr/patient{n:02d}_LGE_0000.nii.gz", f"labelsTr/patient{n:02d}_LGE.nii.gz")
        )
        assert label.GetOrigin() == image.GetOrigin() and label.GetDirection() == image.GetDirection()
        assert np.array_equal(sitk.GetArrayFromImage(label), heart(n))


def test_a_label_of_another_size_cannot_take_its_images_place(tmp_path: Path, raw: Path) -> None:
    root = make_copy(tmp_path / "copy")
    write_volume(root / "labels/subject3_DE.nii.gz", heart(3)[:2])
    (problem,) = refused(raw, mscmrseg, root, label_header="image")
    assert "shape (2, 40, 32) differs" in problem and "--label-header" not in problem


def test_labels_in_another_order_are_noticed_by_their_rings(tmp_path: Path, raw: Path) -> None:
    root = make_copy(tmp_path / "copy", MYO_FIRST)
    (problem,) = refused(raw, mscmrseg, root)
    assert "MLV encloses LVC in 0 of 18 slices" in problem
    assert "the value 1 nearly always encloses the value 2" in problem
    assert "--labels 1:2,2:3,3:1 --names RV,MLV,LVC" in problem
    folder = mscmrseg(root, labels="1:2,2:3,3:1", names="RV,MLV,LVC")
    assert np.array_equal(voxels(folder / "labelsTr/patient02_LGE.nii.gz"), heart(2))


def test_acdcs_labels_in_another_order_are_no_case_for_a_map(tmp_path: Path, raw: Path) -> None:
    root = make_acdc(tmp_path / "ACDC")
    for path in root.rglob("*_gt.nii.gz"):
        write_volume(path, np.array(MYO_FIRST)[voxels(path)].astype(np.int16))
    (problem,) = refused(raw, acdc, root)
    assert "not what they are called" in problem and "--labels" not in problem


# --- ACDC, Synapse -----------------------------------------------------------------------------------------------


def make_acdc(root: Path, training: str = "training", testing: str = "testing") -> Path:
    for n in (1, 2, 3, 4, 5, 101):
        folder = root / (testing if n > 100 else training) / f"patient{n:03d}"
        for frame in (1, 8):
            stem = folder / f"{folder.name}_frame{frame:02d}"
            write_heart(Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz"), seed=n + 10 * frame)
    return root


def acdc(root: Path, **options) -> Path:
    return convert_acdc(root, VolumeOptions(**{"processes": 1, **options}))


@pytest.mark.parametrize("training", ["training", "training/training"])
def test_acdcs_folder_in_a_folder_of_its_name(training: str, tmp_path: Path, raw: Path) -> None:
    folder = acdc(make_acdc(tmp_path / "ACDC", training, "testing/testing"))
    assert len(list((folder / "labelsTr").iterdir())) == 10 and len(list((folder / "labelsTs").iterdir())) == 2


def test_a_part_of_acdc_without_patients_is_not_passed_over(tmp_path: Path, raw: Path) -> None:
    (problem,) = refused(raw, acdc, make_acdc(tmp_path / "ACDC", testing="testing/elsewhere"))
    assert problem.startswith(f"{tmp_path / 'ACDC/testing'}: has no patient folders")


def test_synapse_with_imagestr_and_labelstr(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "Abdomen"
    for n in (5, 6, 7, 9, 10):
        random = np.random.RandomState(n)
        write_volume(root / f"imagesTr/img{n:04d}.nii.gz", random.randint(0, 9, (3, 8, 6)).astype(np.int16))
        write_volume(root / f"labelsTr/label{n:04d}.nii.gz", random.randint(0, 14, (3, 8, 6)).astype(np.uint8))
    write_volume(root / "imagesTs/img0061.nii.gz", np.zeros((3, 8, 6), np.int16))
    folder = convert_synapse(root, SynapseOptions(split="folds", organs=4, processes=1))
    assert len(list((folder / "labelsTr").iterdir())) == 5
    assert list(dataset_in(folder)["labels"]) == ["background", "liver", "right_kidney", "left_kidney", "spleen"]
    assert "images of imagesTs have no labels and were left out" in capsys.readouterr().out


# --- headers -----------------------------------------------------------------------------------------------------


def skew(path: Path, degrees: float) -> None:
    """Gives a file axes of which the second leans, and no other orientation."""
    values = np.asarray(nibabel.load(path).dataobj)
    lean = np.radians(degrees)
    axes = np.array([[1, np.sin(lean), 0], [0, np.cos(lean), 0], [0, 0, 1]]) * (1.5, 1.25, 10.0)
    affine = np.eye(4)
    affine[:3, :3] = axes
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nibabel.save(image, path)


def test_axes_that_are_not_perpendicular_are_repaired_in_every_set(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_acdc(tmp_path / "ACDC")
    stem = root / "training/patient002/patient002_frame01"
    for ending in (".nii.gz", "_gt.nii.gz"):
        skew(Path(f"{stem}{ending}"), 0.8)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(f"{stem}.nii.gz")
    folder = acdc(root)
    image, label = (
        sitk.ReadImage(str(folder / name))
        for name in ("imagesTr/patient002_frame01_0000.nii.gz", "labelsTr/patient002_frame01.nii.gz")
    )
    assert np.array_equal(sitk.GetArrayFromImage(label), heart(12)) and label.GetDirection() == image.GetDirection()
    assert "patient002_frame01 (0.400)" in capsys.readouterr().out  # each of the two axes turns by half of it
    problems = refused(tmp_path / "none", acdc, root, max_repair_deg=0.3, raw_folder=tmp_path / "none")
    assert len(problems) == 2 and all("--max-repair" in problem for problem in problems)


# --- how a set lies ----------------------------------------------------------------------------------------------


def lie(folder: Path):
    return lie_of(map(read_label_map, sorted((folder / "labelsTr").iterdir())), HEART)


def test_a_set_says_how_it_lies_and_is_turned_on_conversion(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_acdc(tmp_path / "ACDC")
    upright = acdc(root)
    assert "lies to the right of RV" in capsys.readouterr().out
    turned = acdc(root, turn="180", dataset_id=9)
    assert "lies to the left of RV" in capsys.readouterr().out
    assert turn_between(lie(upright), lie(turned)) == "180"
    names = ("imagesTr/patient001_frame01_0000.nii.gz", "labelsTr/patient001_frame01.nii.gz")
    for before, after in ((sitk.ReadImage(str(upright / name)), sitk.ReadImage(str(turned / name))) for name in names):
        assert np.array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before)[:, ::-1, ::-1])
        point = before.TransformIndexToPhysicalPoint((5, 7, 1))
        assert after[after.TransformPhysicalPointToIndex(point)] == before[5, 7, 1]


@pytest.mark.parametrize(("option", "value"), [("turn", "45"), ("label_header", "its own"), ("max_repair_deg", 90.0)])
def test_options_out_of_range_are_refused_with_their_value(
    option: str, value: object, tmp_path: Path, raw: Path
) -> None:
    (problem,) = refused(raw, acdc, make_acdc(tmp_path / "ACDC"), **{option: value})
    assert str(value) in problem


def test_mnms_vendors_of_the_test_set_and_a_turn(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_convert_mnms import PATIENTS, make_patient, write_table

    for code in PATIENTS:
        make_patient(tmp_path / "mnms", code)
    write_table(tmp_path / "mnms")
    common = {"train_vendors": ["A", "B"], "test_vendors": ["D"], "processes": 1}
    plain, turned = (
        convert_mnms(tmp_path / "mnms", MnmsOptions(**common, turn=turn, dataset_id=number))
        for number, turn in ((1, "none"), (2, "90"))
    )
    said = capsys.readouterr().out
    assert "patients of other vendors were left out (--test-vendors)" in said and "Not used" not in said
    assert sorted(path.name for path in (plain / "labelsTs").iterdir()) == ["D0T_ED.nii.gz", "D0T_ES.nii.gz"]
    assert len(list((plain / "labelsTr").iterdir())) == 24
    for name in ("imagesTs/D0T_ED_0000.nii.gz", "labelsTs/D0T_ED.nii.gz"):
        assert np.array_equal(voxels(turned / name), np.rot90(voxels(plain / name), axes=(1, 2)))
    shutil.rmtree(plain)
    with pytest.raises(ValueError, match="--test-vendors X: no such vendor; there are A, B, C, D"):
        convert_mnms(tmp_path / "mnms", MnmsOptions(**{**common, "test_vendors": ["X"]}))
