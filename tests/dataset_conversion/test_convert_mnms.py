"""The M&Ms conversion, on tiny fake downloads."""

from __future__ import annotations

import csv
import json
import shutil
import zlib
from collections import Counter
from pathlib import Path

import nibabel
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
)

from nnunet_shapekd.dataset_conversion import mnms
from nnunet_shapekd.dataset_conversion.cine import read_cine
from nnunet_shapekd.dataset_conversion.mnms import MnmsOptions, convert_mnms
from nnunet_shapekd.files.whose import find_patients

TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
N_FRAMES = 6
#: code -> folder, vendor, centre, ED, ES
PATIENTS = {
    **{f"A{n}S": ("Training/Labeled", "A", 1, n % 2, 3 + n % 3) for n in range(7)},
    **{f"B{n}S": ("Training/Labeled", "B", 2 + n % 2, 0, 2) for n in range(5)},
    "C0V": ("Validation", "C", 4, 0, 4),
    "D0T": ("Testing", "D", 5, 5, 1),
}


def affine_of(shear: float = 0.0, spacing: tuple[float, float, float] = (1.5, 1.25, 10.0)) -> np.ndarray:
    """A short-axis orientation, of which the second axis leans towards the first by `shear`."""
    turn = np.array([[0.8, 0.0, -0.6], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = (3, -2, 5)
    return affine


def write_4d(path: Path, values: np.ndarray, affine: np.ndarray | None = None, qform: int = 1) -> None:
    """With qform 0 the header has no other orientation than the affine, its sform."""
    image = nibabel.Nifti1Image(values, affine_of() if affine is None else affine)
    image.header.set_zooms((1.5, 1.25, 10.0, 30.0)[: values.ndim])
    image.set_sform(image.affine, 1)
    image.set_qform(affine_of(), qform)
    nibabel.save(image, path)


def volumes_of(code: str, frames: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(zlib.crc32(code.encode()))
    image = random.randint(0, 900, (8, 6, 3, N_FRAMES)).astype(np.int16)
    label = np.zeros(image.shape, np.uint8)
    for frame in frames:
        label[2:6, 1:5, 1, frame] = random.randint(1, 4, (4, 4))
    return image, label


def make_patient(root: Path, code: str, **header) -> Path:
    folder, _, _, ed, es = PATIENTS[code]
    (root / folder / code).mkdir(parents=True)
    image, label = volumes_of(code, (ed, es))
    write_4d(root / folder / code / f"{code}_sa.nii.gz", image, **header)
    write_4d(root / folder / code / f"{code}_sa_gt.nii.gz", label, **header)
    return root / folder / code


def write_table(root: Path, changed: dict[str, dict[str, str]] | None = None) -> None:
    """M&Ms' table with its leading column of row numbers, and rows of patients that are not there."""
    columns = ["", "External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Pathology", "Sex"]
    rows = [
        {"External code": code, "VendorName": f"Maker {vendor}", "Vendor": vendor, "Centre": centre, "ED": ed, "ES": es,
         "Pathology": "HCM", "Age": "50", "Sex": "F", **(changed or {}).get(code, {})}
        for code, (_, vendor, centre, ed, es) in {**PATIENTS, "E0U": ("", "C", 4, 0, 1)}.items()
    ]  # fmt: skip
    with (root / TABLE).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number, row in enumerate(rows):
            if row["ED"] != "gone":
                writer.writerow({"": number, **row})


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mnms")
    for code in PATIENTS:
        make_patient(root, code)
    write_table(root)
    (root / "Training/Unlabeled/E0U").mkdir(parents=True)
    write_4d(root / "Training/Unlabeled/E0U/E0U_sa.nii.gz", volumes_of("E0U", ())[0])
    (root / "Testing/D0T/._D0T_sa.nii.gz").write_bytes(b"junk")
    return root


def convert(root: Path, **options) -> Path:
    return convert_mnms(root, MnmsOptions(**{"processes": 1, **options}))


def problems_of(root: Path, raw: Path, **options) -> list[str]:
    return refused(raw, convert, root, **options)


# --- what is written ---------------------------------------------------------------------------------------------


def test_ed_and_es_become_cases_with_acdcs_labels(pristine: Path, raw: Path, capsys: pytest.CaptureFixture) -> None:
    folder = convert(pristine)
    counts = {sub: len(list((folder / sub).iterdir())) for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")}
    assert counts == {"imagesTr": 24, "labelsTr": 24, "imagesTs": 4, "labelsTs": 4}
    for code, subset in (("A3S", "Tr"), ("D0T", "Ts")):
        _, _, _, ed, es = PATIENTS[code]
        image, label = volumes_of(code, (ed, es))
        for phase, frame in (("ED", ed), ("ES", es)):
            written = sitk.ReadImage(str(folder / f"images{subset}/{code}_{phase}_0000.nii.gz"))
            assert np.array_equal(sitk.GetArrayFromImage(written).T, image[..., frame])
            assert written.GetPixelID() == sitk.sitkInt16 and written.GetDimension() == 3
            new = sitk.ReadImage(str(folder / f"labels{subset}/{code}_{phase}.nii.gz"))
            expected = np.array([0, 3, 2, 1])[label[..., frame]]  # LV 1, MYO 2, RV 3 become LVC 3, MLV 2, RV 1
            assert np.array_equal(sitk.GetArrayFromImage(new).T, expected)
            assert new.GetDirection() == written.GetDirection() and new.GetSpacing() == written.GetSpacing()
    dataset = dataset_in(folder)
    assert dataset["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3} and dataset["numTraining"] == 24
    assert dataset["channel_names"] == {"0": "cineMRI"}
    printed = capsys.readouterr().out
    assert "The 1 patients of Training/Unlabeled have no labels and were left out" in printed
    assert "A 7 + 0, B 5 + 0, C 0 + 1, D 0 + 1" in printed and "plan_and_preprocess -d 28 -c 2d" in printed


def test_spacing_origin_and_orientation_are_those_of_the_cine(pristine: Path, raw: Path) -> None:
    written = nibabel.load(convert(pristine) / "imagesTr/A0S_ED_0000.nii.gz")
    assert np.allclose(written.affine, affine_of(), atol=1e-4)


def test_the_table_and_the_vendors_lists_name_every_case(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    rows = {row["case"]: row for row in rows_in(folder)}
    assert len(rows) == 28
    assert rows["D0T_ES"] == {
        "case": "D0T_ES", "patient": "D0T", "phase": "ES", "subset": "test", "vendor": "D", "centre": "5", "frame": "1",
        "n_frames": "6", "repair_deg": "0.000", "vendor_name": "Maker D", "pathology": "HCM", "age": "50", "sex": "F",
        "height": "", "weight": "",
    }  # fmt: skip
    vendors = json.loads((folder / "vendors.json").read_text())
    assert {vendor: len(found) for vendor, found in vendors.items()} == {"A": 14, "B": 10, "C": 2, "D": 2}
    assert sorted(case for found in vendors.values() for case in found) == sorted(rows)


def test_the_evaluation_reads_patients_and_phases_from_the_table(pristine: Path, raw: Path) -> None:
    folder = convert(pristine)
    found = find_patients(["A1S_ES"], table=folder / "patients.csv")
    assert (found.of["A1S_ES"], found.phase["A1S_ES"]) == ("A1S", "ES")


def test_several_processes_write_what_one_writes(
    pristine: Path, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = convert(pristine, raw_folder=tmp_path / "one")
    monkeypatch.setattr(mnms, "_CASES_PER_WORKER", 7)  # so that 14 patients do start two workers
    assert contents(one) == contents(convert(pristine, raw_folder=tmp_path / "two", processes=2))


# --- splits and subsets ------------------------------------------------------------------------------------------


def test_folds_keep_patients_together_and_divide_every_vendor(pristine: Path, raw: Path) -> None:
    splits = splits_in(convert(pristine))
    everyone = {code for code, (folder, *_) in PATIENTS.items() if folder == "Training/Labeled"}
    assert len(splits) == 5
    for split in splits:
        train, val = ({case[:3] for case in split[key]} for key in ("train", "val"))
        assert not train & val and train | val == everyone
        vendors = Counter(code[0] for code in val)
        assert vendors["A"] in (1, 2) and vendors["B"] == 1
    assert sorted(case for split in splits for case in split["val"]) == sorted(
        f"{code}_{phase}" for code in everyone for phase in ("ED", "ES")
    )


def test_training_vendors_leave_the_others_to_the_test_set(pristine: Path, raw: Path) -> None:
    (problem,) = problems_of(pristine, raw, train_vendors=["A", "X"])
    assert "--train-vendors X: no such vendor; there are A, B, C, D" in problem
    (problem,) = problems_of(pristine, raw, train_vendors=["C"])
    assert "at least 5 training patients, got 0" in problem and "--train-vendors" in problem
    folder = convert(pristine, train_vendors=["A"])
    assert {path.name[0] for path in (folder / "labelsTr").iterdir()} == {"A"}
    assert {path.name[0] for path in (folder / "labelsTs").iterdir()} == {"B", "C", "D"}


def test_the_folders_of_training_and_test_can_be_chosen(pristine: Path, raw: Path) -> None:
    folder = convert(pristine, train_from=["Training/Labeled", "Validation"], test_from=[])
    assert len(list((folder / "labelsTr").iterdir())) == 26 and not (folder / "imagesTs").exists()


# --- headers ITK refuses -----------------------------------------------------------------------------------------


def test_axes_that_are_not_perpendicular_become_the_nearest_rotation(
    download: Path, raw: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.rmtree(download / "Testing/D0T")
    patient = make_patient(download, "D0T", affine=affine_of(0.01), qform=0)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(patient / "D0T_sa.nii.gz"))
    folder = convert(download)
    written = sitk.ReadImage(str(folder / "imagesTs/D0T_ED_0000.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(written).T, volumes_of("D0T", ())[0][..., 5])
    # only the second axis leans, by atan(0.01): each of the two turns by half of it
    half = np.arctan(0.01) / 2
    turn = np.array([[np.cos(half), np.sin(half), 0], [-np.sin(half), np.cos(half), 0], [0, 0, 1]])
    expected = np.diag([-1, -1, 1]) @ (affine_of()[:3, :3] / (1.5, 1.25, 10.0)) @ turn
    assert np.allclose(np.reshape(written.GetDirection(), (3, 3)), expected, atol=1e-5)
    assert np.allclose(written.GetSpacing(), (1.5, 1.25, 10.0)) and np.allclose(written.GetOrigin(), (-3, 2, 5))
    rows = {row["case"]: row for row in rows_in(folder)}
    assert float(rows["D0T_ED"]["repair_deg"]) == pytest.approx(np.degrees(half), abs=1e-3)
    assert "D0T (0.286)" in capsys.readouterr().out
    assert rows["C0V_ED"]["repair_deg"] == "0.000"


def test_axes_too_far_from_perpendicular_are_refused_with_the_files_name(download: Path, raw: Path) -> None:
    shutil.rmtree(download / "Testing/D0T")
    make_patient(download, "D0T", affine=affine_of(0.1), qform=0)
    image, label = problems_of(download, raw)
    assert "D0T_sa.nii.gz: its axes are not perpendicular" in image and "--max-repair" in image
    assert "D0T_sa_gt.nii.gz: its axes" in label
    assert convert(download, max_repair_deg=5).is_dir()


def test_a_qform_is_used_instead_as_itk_does(tmp_path: Path) -> None:
    write_4d(tmp_path / "a_sa.nii.gz", volumes_of("a", ())[0], affine_of(0.01), qform=1)
    image, angle = read_cine(tmp_path / "a_sa.nii.gz", 0)
    axes = np.diag([-1, -1, 1]) @ affine_of()[:3, :3] / (1.5, 1.25, 10.0)
    assert angle == 0 and np.allclose(np.reshape(image.GetDirection(), (4, 4))[:3, :3], axes, atol=1e-5)


# --- problems ----------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together(download: Path, raw: Path) -> None:
    train = download / "Training/Labeled"
    write_table(
        download,
        {
            "A0S": {"ES": "6"}, "A1S": {"ED": "5"}, "A2S": {"ES": "0"}, "A3S": {"ED": "gone"}, "A4S": {"ES": "x"},
            "A5S": {"Vendor": ""},
        },
    )  # fmt: skip
    image, label = volumes_of("B0S", (0, 2))
    write_4d(train / "B0S/B0S_sa_gt.nii.gz", label * 2)
    write_4d(train / "B1S/B1S_sa_gt.nii.gz", label[..., :4])
    write_4d(train / "B2S/B2S_sa_gt.nii.gz", np.where(np.arange(N_FRAMES) == 2, 0, label).astype(np.uint8))
    write_4d(train / "B3S/B3S_sa_gt.nii.gz", label * np.float32(0.5))
    (train / "B4S/B4S_sa_gt.nii.gz").unlink()
    write_4d(download / "Validation/C0V/C0V_sa.nii.gz", image[..., 0])
    (download / "Testing/D0T/D0T_sa.nii.gz").write_bytes(b"no image")
    expected = [
        "A0S_sa.nii.gz: has frames 0 to 5, the table says ES 6",
        "A1S_sa_gt.nii.gz: no label in the frame ED 5 of the table (counted from 0), labelled are 1, 4",
        "A2S: ED and ES are the same frame, 0",
        "has no row of A3S",
        "A4S: ES is no frame index: 'x'",
        "A5S: Vendor is empty",
        "B0S_sa_gt.nii.gz: unknown label values 4, 6; known are 0, 1, 2, 3",
        "B1S_sa_gt.nii.gz: size (8, 6, 3, 4) differs from its image's (8, 6, 3, 6)",
        "B2S_sa_gt.nii.gz: no label in the frame ES 2 of the table (counted from 0), labelled are 0",
        "B3S_sa_gt.nii.gz: expected integer labels",
        "B4S_sa.nii.gz: training image without a label",
        "C0V_sa.nii.gz: expected a 4D cine, got 8x6x3",
        "D0T_sa.nii.gz: cannot be read",
    ]
    assert_listed(problems_of(download, raw), expected)


def test_labels_elsewhere_than_their_images_are_problems(download: Path, raw: Path) -> None:
    path = download / "Testing/D0T/D0T_sa_gt.nii.gz"
    image = nibabel.load(path)
    affine = affine_of(spacing=(1.5, 1.3, 10.0))
    image.set_qform(affine)
    image.set_sform(affine)
    nibabel.save(image, path)
    (problem,) = problems_of(download, raw)
    assert "D0T_sa_gt.nii.gz: spacing (10, 1.3, 1.5) differs from its image's (10, 1.25, 1.5)" in problem


def test_a_patient_in_two_folders_is_a_problem(download: Path, raw: Path) -> None:
    shutil.copytree(download / "Testing/D0T", download / "Validation/D0T")
    (problem,) = problems_of(download, raw)
    assert "the same patient as" in problem


def test_a_missing_folder_or_table_says_what_was_expected(download: Path, raw: Path) -> None:
    (download / "Validation").rename(download / "validation_set")
    (problem,) = problems_of(download, raw)
    assert "Validation: no such folder" in problem and "validation_set" in problem
    (download / TABLE).rename(download / "table.txt")
    (problem,) = problems_of(download, raw)
    assert "expected M&Ms' table (CSV) there or above; name it with --csv" in problem
    (download / "table.csv").write_text("ED,ES\n1,2\n")
    (problem,) = problems_of(download, raw)
    assert "table.csv: expected the columns" in problem and "External code, Vendor, Centre missing" in problem


def respell(folder: Path, old: str, new: str) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(path.name.replace(old, new)))


@pytest.mark.parametrize(("old", "new"), [(".nii.gz", ".NII.GZ"), ("_sa", "_SA"), ("_sa_gt.nii.gz", "_sa_GT.NII.GZ")])
def test_names_in_upper_case_are_read(old: str, new: str, pristine: Path, download: Path, raw: Path) -> None:
    for code in ("Training/Labeled/A2S", "Testing/D0T"):
        respell(download / code, old, new)
    assert contents(convert(download, raw_folder=raw / "upper")) == contents(convert(pristine))


def test_an_ending_of_mixed_case_is_refused_with_the_name_to_give(download: Path, raw: Path) -> None:
    respell(download / "Training/Labeled/A2S", "_sa.nii.gz", "_sa.nii.GZ")
    (problem,) = problems_of(download, raw)
    assert "A2S_sa.nii.GZ: " in problem and "rename it to end in .nii.gz" in problem


def test_folders_may_be_nested(download: Path, raw: Path) -> None:
    train = download / "Training/Labeled"
    (train / "A2S").rename(train / "tmp")
    (train / "A2S").mkdir()
    (train / "tmp").rename(train / "A2S/A2S")
    assert len(list((convert(download) / "labelsTr").iterdir())) == 24


def test_no_patient_of_the_folders_is_lost_silently(download: Path, raw: Path) -> None:
    train = download / "Training/Labeled"
    (train / "A0S/A0S_sa.nii.gz").unlink()
    (train / "A1S/A1S_sa_gt.nii.gz").rename(train / "A1S/A9S_sa_gt.nii.gz")
    for path in (train / "A2S").iterdir():
        path.unlink()
    (train / "A3S/A3S_sa.nii.gz").rename(train / "A3S/A3S.nii.gz")
    (train / "A3S/A3S_sa_gt.nii.gz").unlink()
    (train / "notes").mkdir()
    shutil.copy(train / "A4S/A4S_sa_gt.nii.gz", train / "A4S/A4S_SA_gt.nii.gz")
    shutil.rmtree(download / "Testing/D0T")
    (download / "Testing/D0T").mkdir()
    expected = [
        "A0S_sa_gt.nii.gz: label without an image; restore A0S_sa.nii.gz",
        "A9S_sa_gt.nii.gz: label without an image",
        "A1S_sa.nii.gz: training image without a label",
        "A2S: has no A2S_sa.nii.gz",
        "A3S: has no A3S_sa.nii.gz",
        "A4S_sa_gt.nii.gz: the same label as",
        "notes: has no CODE_sa.nii.gz",
        "Testing: no file named CODE_sa.nii.gz",
    ]
    assert_listed(problems_of(download, raw), expected)


def test_patients_of_the_table_that_are_nowhere_are_named(
    download: Path, raw: Path, capsys: pytest.CaptureFixture
) -> None:
    convert(download, test_from=["Testing"])  # C0V is in another folder, E0U among the unlabelled
    assert "of the table" not in capsys.readouterr().out
    shutil.rmtree(download / "Training/Labeled/A2S")
    shutil.rmtree(download / "Training/Unlabeled")
    convert(download, dataset_id=40)
    assert f"2 patients of the table are not in {download}: A2S, E0U\n" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"dataset_id": 0}, {"processes": 0}, {"seed": -1}, {"max_repair_deg": 11}])
def test_arguments_out_of_range_are_refused_with_their_value(wrong: dict, pristine: Path, raw: Path) -> None:
    (problem,) = problems_of(pristine, raw, **wrong)
    assert str(next(iter(wrong.values()))) in problem


def test_different_splits_in_preprocessed_are_refused(pristine: Path, raw: Path, tmp_path: Path) -> None:
    splits = tmp_path / "preprocessed/Dataset028_MNMs/splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps([{"train": ["A0S_ED"], "val": ["A1S_ED"]}]))
    (problem,) = problems_of(pristine, raw)
    assert str(splits) in problem


# --- command line ------------------------------------------------------------------------------------------------


def test_the_command_runs_and_imports_no_torch(pristine: Path, raw: Path) -> None:
    done = shapekd_convert(
        "mnms", str(pristine), "-d", "40", "--name", "Mine", "--train-vendors", "A", "B", cwd=pristine
    )
    assert done.returncode == 0, done.stderr
    assert "Wrote" in done.stdout and "Dataset040_Mine" in done.stdout and "Checking patients" in done.stderr
