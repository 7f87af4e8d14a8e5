"""The mechanism that makes a kind's variants over nnU-Net's own trainers."""

import importlib
import os

import nnunetv2.training.nnUNetTrainer as nnunets_folder
import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainerCosAnneal import nnUNetTrainerCosAnneal
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_shapekd.trainers import nnUNetTrainerShapeKD as file
from nnunet_shapekd.trainers_folder import trainers_folder
from nnunet_shapekd.training import variants
from nnunet_shapekd.training.student import ShapeKD

KINDS = [name[: -len(".py")] for name in sorted(os.listdir(trainers_folder())) if name.startswith("nnUNetTrainer")]
OWN_CLASS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunet_shapekd.training.student import ShapeKD


class nnUNetTrainerShapeKD_CosAnneal(ShapeKD, nnUNetTrainer):
    logit_weight = 0.5
"""


def test_hasattr_and_getattr_give_one_class_that_says_what_it_is():
    assert hasattr(file, "nnUNetTrainerShapeKD_CosAnneal")
    found = file.nnUNetTrainerShapeKD_CosAnneal
    assert found is file.nnUNetTrainerShapeKD_CosAnneal
    assert found.__bases__ == (ShapeKD, nnUNetTrainerCosAnneal)
    assert found.__name__ == found.__qualname__ == "nnUNetTrainerShapeKD_CosAnneal"
    assert found.__module__ == file.__name__
    assert found.__doc__ == f"{file.nnUNetTrainerShapeKD.__doc__} Over nnU-Net's nnUNetTrainerCosAnneal."


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainerShapeKD_2epochs",
        "nnUNetTrainerShapeKD_",
        "nnUNetTrainerShapeKD__5epochs",
        "nnUNetTrainerShapeKDMine",
    ],
)
def test_a_variant_that_nnunet_has_not_is_no_attribute(name):
    assert not hasattr(file, name)
    with pytest.raises(AttributeError, match=f"{file.__name__}.*{name}"):
        getattr(file, name)


@pytest.mark.parametrize(
    "name",
    ["__path__", "nnUNetTrainer_5epochs", "nnUNetTrainerMeanImage_5epochs", "nnUNetTrainerShapeKDFeatures_5epochs"],
)
def test_for_other_names_nnunets_folder_is_not_even_looked_into(monkeypatch, name):
    monkeypatch.setattr(variants, "nnunets_variants", lambda: pytest.fail("it was"))
    assert not hasattr(file, name)


def test_a_name_that_nnunet_does_not_know_gets_nnunets_own_error(nnunet_environment):
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerShapeKD_2epochs in"):
        recursive_find_trainer_class_by_name("nnUNetTrainerShapeKD_2epochs")


def test_every_trainer_of_nnunets_is_a_variant_but_those_without_a_unet():
    found, left = set(variants.nnunets_variants().values()), {nnUNetTrainer}
    while left:
        trainer = left.pop()
        left |= set(trainer.__subclasses__())
        if trainer is not nnUNetTrainer and trainer.__module__.startswith("nnunetv2."):
            assert (trainer in found) != ("Primus" in trainer.__name__), trainer
    assert len(found) == len(variants.nnunets_variants()) > 50


def test_a_module_of_nnunets_that_cannot_be_imported_hides_only_its_own_trainers(monkeypatch, tmp_path):
    """As where an optional dependency is missing, in an editable nnU-Net with trainers of the user's own."""
    trainer = (
        f"from {nnUNetTrainer.__module__} import nnUNetTrainer\nclass nnUNetTrainer_%s(nnUNetTrainer):\n    pass\n"
    )
    (tmp_path / "added_broken.py").write_text(f"import a_module_that_is_not_there\n{trainer % 'Broken'}")
    (tmp_path / "added_package").mkdir()
    (tmp_path / "added_package" / "__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "added_sound.py").write_text(trainer % "Sound")
    before = variants.nnunets_variants()
    monkeypatch.setattr(nnunets_folder, "__path__", [*nnunets_folder.__path__, str(tmp_path)])
    variants.nnunets_variants.cache_clear()
    try:
        assert variants.nnunets_variants().keys() - before.keys() == {"Sound"}
    finally:
        variants.nnunets_variants.cache_clear()


@pytest.mark.parametrize("own_is_first", [True, False])
def test_the_first_folder_that_has_a_name_wins(monkeypatch, tmp_path, own_is_first):
    (tmp_path / "a_users_own.py").write_text(OWN_CLASS)
    folders = [str(tmp_path), trainers_folder()]
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(folders if own_is_first else folders[::-1]))
    found = recursive_find_trainer_class_by_name("nnUNetTrainerShapeKD_CosAnneal")
    assert found.logit_weight == (0.5 if own_is_first else 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kinds_plain_class_adds_nothing_to_its_mixin_so_that_its_variants_are_the_same_kind(kind):
    plain = getattr(importlib.import_module(f"nnunet_shapekd.trainers.{kind}"), kind)
    assert plain.__bases__[-1] is nnUNetTrainer
    assert not [name for name in vars(plain) if not name.startswith("__")] and "__init__" not in vars(plain)
    assert plain.__doc__ and "\n" not in plain.__doc__


def test_the_listing_has_a_line_for_each_kind_and_each_variant():
    kinds, said, found = (lines := list(variants.listing()))[: len(KINDS)], lines[len(KINDS)], lines[len(KINDS) + 1 :]
    assert [line.split()[0] for line in kinds] == KINDS
    assert any(line.endswith(f"  {file.nnUNetTrainerShapeKD.__doc__}") for line in kinds)
    assert "NoMirroring" in said
    assert [line.split() for line in found] == [["_" + v, c.__name__] for v, c in variants.nnunets_variants().items()]
