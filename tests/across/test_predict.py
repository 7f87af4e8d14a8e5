"""Predictions are nnU-Net's own, and none is made twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import segmentations
from matrix_datasets import TEST_CASE
from networks import PLAIN, STUDENT, folders, plain_models
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_shapekd.across import predict
from nnunet_shapekd.across.model import read_model
from nnunet_shapekd.across.options import Predicting
from nnunet_shapekd.across.predict import predict_cases
from nnunet_shapekd.files.raw_dataset import find_images

root = pytest.fixture(scope="module")(folders)
models = pytest.fixture(scope="module")(plain_models)


def predict_all(folder: Path, images: Path, out: Path, tta: bool = True, folds: tuple[int, ...] = (0,)) -> None:
    model = read_model(folder, folds)
    predict_cases(model, find_images(images, ".nii.gz"), out, Predicting(device="cpu", tta=tta))


def test_a_prediction_is_nnunets_own(models, root, tmp_path):
    images = root / "raw" / PLAIN.name / "imagesTs"
    predict_all(models[STUDENT], images, tmp_path / "ours", folds=(0, 1))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(models[STUDENT]), (0, 1))
    (tmp_path / "theirs").mkdir()
    files = [[str(path) for path in find_images(images, ".nii.gz")[TEST_CASE]]]
    predictor.predict_from_files_sequential(files, [str(tmp_path / "theirs" / TEST_CASE)])
    ours, theirs = (segmentations(tmp_path / name)[f"{TEST_CASE}.nii.gz"] for name in ("ours", "theirs"))
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 1


@pytest.fixture
def calls(monkeypatch):
    """The cases nnU-Net is asked to predict, in order."""
    asked, original = [], predict._run

    def record(predictor, images, out, processes):
        asked.extend(images)
        original(predictor, images, out, processes)

    monkeypatch.setattr(predict, "_run", record)
    return asked


@pytest.fixture
def images(root, models, tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for case in ("case_1", "case_2"):
        for path in (root / "raw" / PLAIN.name / "imagesTr").glob(f"{case}_*"):
            shutil.copy(path, folder)
    return folder


def test_a_case_is_predicted_again_only_when_image_weights_or_settings_changed(models, images, calls, tmp_path):
    def predict_again(**options):
        calls.clear()
        predict_all(models[STUDENT], images, tmp_path / "out", **options)
        return list(calls)

    assert predict_again() == ["case_1", "case_2"]
    assert predict_again() == []
    image = sitk.ReadImage(str(images / "case_2_0001.nii.gz"))
    sitk.WriteImage(image + 1, str(images / "case_2_0001.nii.gz"))
    assert predict_again() == ["case_2"]
    (tmp_path / "out" / "case_1.nii.gz").unlink()
    assert predict_again() == ["case_1"]
    assert predict_again(tta=False) == ["case_1", "case_2"]
    assert predict_again(tta=False, folds=(1,)) == ["case_1", "case_2"]
    for path in images.glob("case_1_*"):
        path.unlink()
    assert predict_again(tta=False, folds=(1,)) == []
    assert sorted(segmentations(tmp_path / "out")) == ["case_2.nii.gz"]


def test_a_smaller_run_keeps_the_predictions_of_a_larger_one(models, root, calls, tmp_path):
    model = read_model(models[STUDENT], [0])
    images = find_images(root / "raw" / PLAIN.name / "imagesTr", ".nii.gz")
    for cases in (["case_1", "case_2"], ["case_2"], ["case_1", "case_2"]):
        some = {case: images[case] for case in cases}
        predict_cases(model, some, tmp_path / "out", Predicting(device="cpu", tta=False))
        assert sorted(segmentations(tmp_path / "out")) == [f"{case}.nii.gz" for case in cases]
    assert calls == ["case_1", "case_2"]


def test_an_interrupted_run_goes_on_where_it_was(models, images, monkeypatch, tmp_path):
    original, out = predict._run, tmp_path / "out"

    def interrupted(predictor, cases, folder, processes):
        original(predictor, cases, folder, processes)
        if "case_2" in cases:
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_all(models[STUDENT], images, out)
    assert sorted(path.name for path in out.iterdir()) == ["case_1.nii.gz", "dataset.json", predict.RECORD]
    before = (out / "case_1.nii.gz").stat().st_mtime_ns
    monkeypatch.setattr(predict, "_run", original)
    predict_all(models[STUDENT], images, out)
    assert (out / "case_1.nii.gz").stat().st_mtime_ns == before
    assert (out / "case_2.nii.gz").is_file()


def test_a_folder_of_something_else_is_left_alone(models, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case_1.nii.gz").touch()
    with pytest.raises(ValueError, match=predict.RECORD):
        predict_all(models[STUDENT], images, tmp_path / "out")


def test_an_image_nnunet_cannot_read_is_named(models, images, tmp_path):
    (images / "case_2_0001.nii.gz").write_bytes(b"no image")
    with pytest.raises(ValueError, match="case_2"):
        predict_all(models[STUDENT], images, tmp_path / "out")


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", ".aside", ""])
def test_a_record_that_names_what_is_no_case_moves_nothing(models, root, tmp_path, name):
    out, victim = tmp_path / "out", tmp_path / "victim.nii.gz"
    out.mkdir()
    victim.write_text("not ours")
    (out / predict.RECORD).write_text(json.dumps({name: {}}))
    with pytest.raises(ValueError, match="predictions.json: expected a case's name, but "):
        predict_all(models[STUDENT], root / "raw" / PLAIN.name / "imagesTs", out)
    assert victim.read_text() == "not ours" and [path.name for path in out.iterdir()] == [predict.RECORD]


def test_the_spacing_of_a_volume_in_tiff_goes_with_its_prediction(models, images, monkeypatch, tmp_path):
    plain = read_model(models[STUDENT], [0])
    model = replace(plain, reader="Tiff3DIO", dataset_json={**plain.dataset_json, "file_ending": ".tif"})

    def write(predictor, cases, folder, processes):  # as nnU-Net's Tiff3DIO does
        for case in cases:
            (folder / f"{case}.tif").touch()
            (folder / f"{case}.json").touch()

    monkeypatch.setattr(predict, "_run", write)
    monkeypatch.setattr(predict, "_predictor", lambda *_: None)
    found = find_images(images, ".nii.gz")
    for cases in (["case_1", "case_2"], ["case_2"], ["case_1", "case_2"]):
        predict_cases(model, {case: found[case] for case in cases}, tmp_path / "out", Predicting(device="cpu"))
        there = {path.name for path in (tmp_path / "out").glob("case_*")}
        assert there == {f"{case}.{ending}" for case in cases for ending in ("tif", "json")}
