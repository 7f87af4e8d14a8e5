"""The conversions of AMOS22, CHAOS and CURVAS, on tiny replicas."""

from __future__ import annotations

import locale
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
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
    write_volume,
)
from PIL import Image

from nnunet_shapekd.dataset_conversion import synapse
from nnunet_shapekd.dataset_conversion.amos import ORGANS, AmosOptions, convert_amos
from nnunet_shapekd.dataset_conversion.chaos import convert_chaos
from nnunet_shapekd.dataset_conversion.curvas import CurvasOptions, convert_curvas
from nnunet_shapekd.dataset_conversion.dicom import read_series, same_locale
from nnunet_shapekd.dataset_conversion.organs import CHAOS_ORGANS
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions

# --- AMOS22 ------------------------------------------------------------------------------------------------------


def write_amos(root: Path, part: str, number: int) -> None:
    random, name = np.random.RandomState(number), f"amos_{number:04d}.nii.gz"
    write_volume(root / f"images{part}" / name, random.randint(-900, 900, (3, 8, 6)).astype(np.int16))
    if part != "Ts":
        write_volume(root / f"labels{part}" / name, random.randint(0, 16, (3, 8, 6)).astype(np.uint8))


def make_amos(root: Path) -> Path:
    """CT up to 500 and MRI above, official validation cases, and test images without labels."""
    numbers = {"Tr": (1, 4, 5, 6, 7, 507, 508, 509, 510, 511), "Va": (8, 540), "Ts": (9, 600)}
    for part, of_part in numbers.items():
        for number in of_part:
            write_amos(root, part, number)
    return root


def amos(root: Path, modality: str = "ct", **options) -> Path:
    return convert_amos(root, AmosOptions(modality=modality, **{"processes": 1, **options}))


@pytest.mark.parametrize(("modality", "channel", "n_test"), [("ct", "CT", 8), ("mr", "MRI", 540)])
def test_amos_modality_is_told_by_number(modality: str, channel: str, n_test: int, tmp_path: Path, raw: Path) -> None:
    folder = amos(make_amos(tmp_path / "amos22"), modality)
    assert dataset_in(folder)["channel_names"] == {"0": channel} and dataset_in(folder)["numTraining"] == 5
    assert [path.name for path in (folder / "labelsTs").iterdir()] == [f"amos_{n_test:04d}.nii.gz"]
    assert list(dataset_in(folder)["labels"]) == ["background", *ORGANS]


def test_amos_organs_are_called_as_in_synapse(tmp_path: Path, raw: Path) -> None:
    assert set(synapse.ORGANS) - set(ORGANS) == {"portal_and_splenic_veins"}
    folder = amos(make_amos(tmp_path / "amos22"), organs=4)
    assert list(dataset_in(folder)["labels"]) == ["background", *CHAOS_ORGANS]
    old, new = (voxels(path / "labelsTr/amos_0004.nii.gz") for path in (tmp_path / "amos22", folder))
    for value, before in ((1, 6), (2, 2), (3, 3), (4, 1)):  # liver, right and left kidney, spleen
        assert np.array_equal(new == value, old == before)


# --- CHAOS -------------------------------------------------------------------------------------------------------

GREY = {0: 0, 1: 63, 2: 126, 3: 189, 4: 252}
ROWS, COLUMNS, SLICES = 6, 8, 5


def write_slice(path: Path, values: np.ndarray, place: float) -> None:
    """A DICOM file of one slice, with a series number of its own, as anonymised sets have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values[None].astype(np.int16))
    image.SetSpacing((1.5, 1.25, 8.0))
    image.SetMetaData("0020|0032", f"-10\\-20\\{place}")
    image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
    image.SetMetaData("0018|0050", "5")  # thinner than the gap from slice to slice
    image.SetMetaData("0008|0060", "MR")
    image.SetMetaData("0020|000e", f"1.2.826.0.1.3680043.2.1125.{abs(hash(path.stem)) % 10**9}")
    with same_locale():
        sitk.WriteImage(image, str(path))


def patient_volume(number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(number)
    labels = random.randint(0, 5, (SLICES, ROWS, COLUMNS))
    labels[:, 0, :5] = np.arange(5)
    return random.randint(0, 900, (SLICES, ROWS, COLUMNS)), labels


def make_chaos(root: Path, patients: tuple[int, ...] = (1, 2, 3, 5, 8)) -> Path:
    """Names count downwards through the volume: they do not say where a slice lies."""
    for number in patients:
        base = root / f"Train_Sets/MR/{number}/T2SPIR"
        for z, (image, label) in enumerate(zip(*patient_volume(number), strict=True)):
            stem = f"IMG-0002-{SLICES - z:05d}"
            write_slice(base / f"DICOM_anon/{stem}.dcm", image, 30.0 + 8 * z)
            (base / "Ground").mkdir(exist_ok=True)
            Image.fromarray(np.vectorize(GREY.get)(label).astype(np.uint8)).save(base / f"Ground/{stem}.png")
    (root / "Train_Sets/MR/1/T1DUAL/Ground").mkdir(parents=True)
    write_slice(root / "Test_Sets/MR/4/T2SPIR/DICOM_anon/IMG-0002-00001.dcm", patient_volume(4)[0][0], 0.0)
    return root


@pytest.fixture(name="chaos", scope="session")
def chaos_download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chaos(tmp_path_factory.mktemp("chaos"))


def convert_t2(root: Path, **options) -> Path:
    return convert_chaos(root, VolumeOptions(**{"processes": 1, **options}))


def test_chaos_slices_become_volumes_by_where_they_lie(
    chaos: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = convert_t2(chaos)
    for number in (1, 8):
        image, label = patient_volume(number)
        written = sitk.ReadImage(str(folder / f"imagesTr/CHAOS{number:02d}_0000.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(written), image)
        assert np.array_equal(voxels(folder / f"labelsTr/CHAOS{number:02d}.nii.gz"), label)
        assert np.allclose(written.GetSpacing(), (1.5, 1.25, 8.0)) and np.allclose(written.GetOrigin(), (-10, -20, 30))
    assert dataset_in(folder)["labels"] == {
        "background": 0,
        "liver": 1,
        "right_kidney": 2,
        "left_kidney": 3,
        "spleen": 4,
    }
    assert set(CHAOS_ORGANS) <= set(synapse.ORGANS) and dataset_in(folder)["channel_names"] == {"0": "MRI"}
    assert rows_in(folder)[0]["source"] == "Train_Sets/MR/1/T2SPIR" and len(splits_in(folder)) == 5
    assert "1 patients have no masks and were left out" in capsys.readouterr().out


def test_all_of_chaos_problems_are_listed_together(chaos: Path, raw: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(chaos, tmp_path / "download"))
    patient = [root / f"Train_Sets/MR/{number}/T2SPIR" for number in (1, 2, 3, 5)]
    (patient[0] / "Ground/IMG-0002-00002.png").unlink()
    for kind, ending in (("DICOM_anon", "dcm"), ("Ground", "png")):
        (patient[1] / kind / f"IMG-0002-00003.{ending}").unlink()
    Image.fromarray(np.full((ROWS, COLUMNS), 100, np.uint8)).save(patient[2] / "Ground/IMG-0002-00001.png")
    (patient[3] / "DICOM_anon/IMG-0002-00004.dcm").write_bytes(b"no image")
    expected = [
        "IMG-0002-00002.dcm: has no mask",
        "IMG-0002-00004.dcm and IMG-0002-00002.dcm are 16.00 mm apart, the others 8.00 mm",
        "IMG-0002-00001.png: unknown label value 100",
        "IMG-0002-00004.dcm: cannot be read",
    ]
    assert_listed(refused(raw, convert_t2, root), expected)


def test_a_folder_without_masks_is_refused_naming_the_layout(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "CT").mkdir()
    (problem,) = refused(raw, convert_t2, tmp_path)
    assert "T2SPIR/DICOM_anon" in problem and "found: CT" in problem


# --- CURVAS ------------------------------------------------------------------------------------------------------


def make_curvas(root: Path) -> Path:
    """Three raters who do not agree; the header of one annotation of a test case has lost its place."""
    random = np.random.RandomState(0)
    for part, numbers in (("training_set", (1, 2, 5, 6)), ("validation_set", (20,)), ("testing_set", (3, 7))):
        for number in numbers:
            base = root / part / f"UKCHLL{number:03d}"
            write_case(base / "image.nii.gz", None, np.arange(4))
            for rater in (1, 2, 3):
                origin = (0.0, 0.0, 0.0) if (number, rater) == (7, 2) else (3.0, -2.0, 5.0)
                values = random.randint(0, 4, (3, 8, 6)).astype(np.uint8)
                write_volume(base / f"annotation_{rater}.nii.gz", values, origin=origin)
    return root


def curvas(root: Path, **options) -> Path:
    return convert_curvas(root, CurvasOptions(**{"processes": 1, **options}))


@pytest.mark.parametrize("rater", [1, 3])
def test_curvas_has_the_labels_of_the_rater_asked_for(rater: int, tmp_path: Path, raw: Path) -> None:
    folder = curvas(make_curvas(tmp_path / "download"), rater=rater)
    assert folder.name == f"Dataset042_CURVASrater{rater}"
    source = tmp_path / f"download/training_set/UKCHLL002/annotation_{rater}.nii.gz"
    assert (folder / "labelsTr/UKCHLL002.nii.gz").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in (folder / "labelsTs").iterdir()) == ["UKCHLL003.nii.gz", "UKCHLL007.nii.gz"]
    assert len(list((folder / "labelsTr").iterdir())) == 5 and len(splits_in(folder)) == 5


@pytest.mark.parametrize(
    ("name", "make", "arguments"),
    [("amos", make_amos, ("--modality", "mr")), ("chaos", make_chaos, ()), ("curvas", make_curvas, ("--rater", "3"))],
)
def test_the_commands_run_and_import_no_torch(name: str, make, arguments: tuple, tmp_path: Path, raw: Path) -> None:
    done = shapekd_convert(name, str(make(tmp_path / "download")), *arguments, "--processes", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_text_is_written_as_before_after_dicom_was_read(tmp_path):
    write_slice(tmp_path / "1.dcm", np.zeros((4, 4)), 0.0)
    write_slice(tmp_path / "2.dcm", np.zeros((4, 4)), 8.0)
    before = locale.setlocale(locale.LC_CTYPE)
    read_series([tmp_path / "1.dcm", tmp_path / "2.dcm"])
    assert locale.setlocale(locale.LC_CTYPE) == before
