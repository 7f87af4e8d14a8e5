"""A student's files in a stock nnU-Net: shared, ensembled and fine-tuned where this package is not installed."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import DATASET, PLANS, STUDENT, segmentations

STOCK = "nnUNetTrainer_1epoch"
# what `nnUNetv2_train 27 2d 0 -tr TRAINER -pretrained_weights FILE` does before the first epoch
LOAD_PRETRAINED = """
import sys, torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
trainer_name, plans, weights, out = sys.argv[1:]
trainer = get_trainer_from_args("27", "2d", 0, trainer_name, plans, device=torch.device("cpu"))
maybe_load_checkpoint(trainer, False, False, weights)
torch.save(trainer.network.state_dict(), out)
"""


@pytest.fixture(scope="module")
def elsewhere(bare, student, tmp_path_factory):
    """Another machine: nnU-Net's three folders, empty but for the student, exported here and installed there."""
    root = tmp_path_factory.mktemp("elsewhere")
    folders = {f"nnUNet_{name}": root / name for name in ("raw", "preprocessed", "results")}
    for folder in folders.values():
        folder.mkdir()
    bare(*f"nnUNetv2_export_model_to_zip -d 27 -c 2d -f 0 -tr {STUDENT} -p {PLANS} -o".split(), root / "student.zip")
    bare("nnUNetv2_install_pretrained_model_from_zip", root / "student.zip", **folders)
    return folders


@pytest.fixture(scope="module")
def predictions(bare, elsewhere, validation_images, tmp_path_factory):
    """The installed student's predictions of fold 0's validation cases, with probabilities."""
    out = tmp_path_factory.mktemp("predictions")
    model = f"-d 27 -c 2d -f 0 -tr {STUDENT} -p {PLANS} -device cpu -npp 0 -nps 0 --save_probabilities"
    bare("nnUNetv2_predict", "-i", validation_images, "-o", out, *model.split(), **elsewhere)
    return out


def probabilities(folder):
    return {path.stem: np.load(path)["probabilities"] for path in sorted(folder.glob("*.npz"))}


def test_the_exported_file_is_the_students(elsewhere, student):
    installed = elsewhere["nnUNet_results"] / DATASET / f"{STUDENT}__{PLANS}__2d" / "fold_0"
    assert (installed / "checkpoint_final.pth").read_bytes() == (student / "checkpoint_final.pth").read_bytes()


def test_an_installed_student_predicts_what_the_original_did(predictions, student):
    found, expected = segmentations(predictions), segmentations(student / "validation")
    assert found.keys() == expected.keys() and len(found) == 2
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name
    # one epoch does not always suffice to predict foreground, so the probabilities are compared, too
    found, expected = probabilities(predictions), probabilities(student / "validation")
    for case in expected:
        assert expected[case][1:].std() > 1e-3
        np.testing.assert_allclose(found[case], expected[case], atol=2e-3)


def test_the_students_probabilities_are_averaged_with_another_models(bare, predictions, student, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    expected = {}
    of_validation = probabilities(student / "validation")
    for seed, (case, own) in enumerate(probabilities(predictions).items()):
        of_other = np.random.default_rng(seed).random(own.shape, dtype=np.float32)
        of_other /= of_other.sum(0)
        np.savez(other / f"{case}.npz", probabilities=of_other)
        expected[f"{case}.nii.gz"] = (own + of_validation[case] + of_other).argmax(0)
    folders = predictions, student / "validation", other
    bare("nnUNetv2_ensemble", "-i", *folders, "-o", tmp_path / "ensemble", "-np", "1")
    found = segmentations(tmp_path / "ensemble")
    assert found.keys() == expected.keys()
    for name in expected:
        assert len(np.unique(expected[name])) == 4
        # voxels with two equally probable classes may go either way
        assert (found[name] == expected[name]).mean() > 0.999, name


def test_nnunet_finds_the_best_configuration_and_its_postprocessing_among_students(bare, student, tmp_path):
    results = tmp_path / DATASET
    shutil.copytree(student.parent, results / student.parent.name)
    options = f"27 -c 2d -p {PLANS} -f 0 -np 1 -tr {STUDENT}"
    bare("nnUNetv2_find_best_configuration", *options.split(), nnUNet_results=tmp_path)
    found = json.loads((results / "inference_information.json").read_text())
    dice = json.loads((student / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"]
    assert found["all_results"] == {student.parent.name: pytest.approx(dice)}
    best = found["best_model_or_ensemble"]
    assert [model["trainer"] for model in best["selected_model_or_models"]] == [STUDENT]
    assert best["result_on_crossval_post_pp"] >= best["result_on_crossval_pre_pp"] == pytest.approx(dice)
    assert f"-tr {STUDENT} " in (results / "inference_instructions.txt").read_text()


def test_a_stock_training_starts_from_the_students_weights(bare, student, tmp_path):
    path = student / "checkpoint_final.pth"
    bare("python", "-c", LOAD_PRETRAINED, STOCK, PLANS, path, tmp_path / "weights.pth", nnUNet_results=tmp_path)
    found = torch.load(tmp_path / "weights.pth", weights_only=True)
    expected = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    assert found.keys() == expected.keys()
    # nnU-Net (2.8.1) takes over all but the segmentation layers
    taken = [name for name in found if ".seg_layers." not in name]
    assert len(taken) > len(found) / 2
    assert all(torch.equal(found[name], expected[name]) for name in taken)
