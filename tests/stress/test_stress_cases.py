"""Which cases are judged: never known training cases unasked."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from networks import PLAIN, STOCK, STUDENT, folders, models_with_split, plain_raw
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

pytest.importorskip("torchio")

from nnunet_shapekd.across.checks import Subject
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.stress.cases import drawn, find_subjects, shift_files
from nnunet_shapekd.stress.options import StressOptions

root = pytest.fixture(scope="module")(folders)
models = pytest.fixture(scope="module")(models_with_split)
raw = pytest.fixture(scope="module")(plain_raw)


def test_of_the_models_own_cases_validation_cases_are_judged_by_their_own_fold(models, raw):
    both = [read_model(models[name]) for name in (STOCK, STUDENT)]
    subjects, folds, remarks, problems = find_subjects(raw / "imagesTr", raw / "labelsTr", both, all_cases=False)
    assert folds == {"case_2": ("1",), "case_3": ("0",)} and problems == []
    assert [one.case for one in subjects] == ["case_2", "case_3"]
    assert "Judged are the 2 validation cases among the 3" in remarks[-1]
    _, folds, (remark,), _ = find_subjects(raw / "imagesTr", raw / "labelsTr", both, all_cases=True)
    assert folds == dict.fromkeys(PLAIN.training_cases, ("0", "1"))
    assert "called like training cases" in remark


def test_training_cases_are_known_in_a_folder_of_any_name(models, raw, tmp_path):
    for case in ("case_1", "case_3"):
        for path in (raw / "imagesTr").glob(f"{case}_*"):
            shutil.copy(path, tmp_path)
    for name in (STOCK, STUDENT):  # a stock checkpoint has no record, but there is a split
        subjects, *_ = find_subjects(tmp_path, raw / "labelsTr", [read_model(models[name], [0])], all_cases=False)
        assert [one.case for one in subjects] == ["case_3"]
    for path in tmp_path.glob("case_3_*"):
        path.unlink()
    with pytest.raises(ValueError, match="--all-cases"):
        find_subjects(tmp_path, raw / "labelsTr", [read_model(models[STUDENT], [0])], all_cases=False)


@pytest.mark.parametrize("case", ["case_1", "case_2"])
@pytest.mark.parametrize("known_by", ["splits_final.json", "labelsTr", "gt_segmentations"])
def test_a_stock_models_training_cases_are_refused_without_their_validation_cases(
    case, known_by, models, raw, tmp_path, monkeypatch
):
    images = tmp_path / "images"
    images.mkdir()
    for path in (raw / "imagesTr").glob(f"{case}_*"):
        shutil.copy(path, images)
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    model = [read_model(models[STOCK], [0])]
    _, _, remarks, _ = find_subjects(images, raw / "labelsTr", model, all_cases=False)
    assert "recognised" in remarks[0]
    if known_by == "splits_final.json":
        shutil.copytree(raw.parents[1] / "preprocessed" / PLAIN.name, tmp_path / "preprocessed" / PLAIN.name)
    else:
        parent = tmp_path / ("raw" if known_by == "labelsTr" else "preprocessed") / PLAIN.name
        shutil.copytree(raw / "labelsTr", parent / known_by)
    with pytest.raises(ValueError, match="--all-cases|--val"):
        find_subjects(images, raw / "labelsTr", model, all_cases=False)


def test_cases_that_no_model_knows_are_predicted_by_all_folds(models, raw):
    subjects, folds, remarks, _ = find_subjects(
        raw / "imagesTs", raw / "labelsTs", [read_model(models[STUDENT])], all_cases=False
    )
    assert folds == {subjects[0].case: ("0", "1")} and remarks == []


def test_patients_are_drawn_whole_and_by_the_seed(models, tmp_path):
    model = read_model(models[STUDENT])
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for patient in range(6):
        for phase in ("ED", "ES"):
            for channel in range(len(model.channels)):
                (images / f"p{patient}_{phase}_{channel:04d}.nii.gz").touch()
            (labels / f"p{patient}_{phase}.nii.gz").touch()
    subjects, *_ = find_subjects(images, labels, [model], all_cases=False)
    assert len(subjects) == 12
    seeds = (0, 0, 1, 2, 3)
    patients = find_patients([one.case for one in subjects])
    chosen = [[one.case for one in drawn(subjects, patients, StressOptions(cases=3, seed=seed))] for seed in seeds]
    assert all(len(cases) == 4 and len({case[:2] for case in cases}) == 2 for cases in chosen)
    assert chosen[0] == chosen[1] and len(set(map(tuple, chosen))) > 1
    assert drawn(subjects, patients, StressOptions()) == subjects


def test_volumes_in_tiff_are_shifted_as_volumes_and_keep_their_spacing(tmp_path):
    volume = np.random.default_rng(0).integers(0, 200, (3, 8, 9)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a_0000.tif", volume)
    (tmp_path / "a.json").write_text('{"spacing": [5, 1, 1]}')
    subject = Subject("a", (tmp_path / "a_0000.tif",), tmp_path / "a.tif")
    for severity in (0, 4):
        folder = tmp_path / str(severity)
        folder.mkdir()
        shift_files(subject, folder, "noise", severity, 0, {}, "Tiff3DIO")
        (values,), properties = Tiff3DIO().read_images([str(folder / "a_0000.tif")])
        assert properties["spacing"] == [5, 1, 1] and values.shape == volume.shape
        assert np.array_equal(values, volume) == (severity == 0)
