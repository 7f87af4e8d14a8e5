"""Model folders, and those that cannot be judged."""

from __future__ import annotations

import shutil

import pytest
from conftest import edit
from networks import STUDENT, TEACHER, folders, plain_models

from nnunet_shapekd.across.model import read_model

root = pytest.fixture(scope="module")(folders)
models = pytest.fixture(scope="module")(plain_models)


@pytest.mark.parametrize(
    ("folds", "checkpoint", "message"),
    [
        ([4], "checkpoint_final.pth", "fold 4; .* fold_0/checkpoint_final.pth"),
        (None, "checkpoint_best.pth", "checkpoint_best.pth of fold 0; .* fold_0/checkpoint_final.pth"),
    ],
)
def test_a_missing_checkpoint_is_said_with_what_there_is(models, folds, checkpoint, message):
    with pytest.raises(FileNotFoundError, match=message):
        read_model(models[STUDENT], folds, checkpoint)


def test_a_teacher_is_refused(models):
    with pytest.raises(ValueError, match="checkpoint_final.pth is a teacher's"):
        read_model(models[TEACHER])


def test_a_cascades_second_stage_is_refused(models, tmp_path):
    folder = shutil.copytree(models[STUDENT], tmp_path / "model")

    def to_cascade(checkpoint):
        checkpoint["init_args"]["configuration"] = "3d_cascade_fullres"

    edit(folder / "fold_0" / "checkpoint_final.pth", to_cascade)
    with pytest.raises(ValueError, match="cascade.*3d_lowres"):
        read_model(folder, [0])
