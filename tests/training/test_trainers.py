"""The named trainers, and the mixins over nnU-Net's variants."""

import importlib
import inspect
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import STUDENT, TEACHER, batch_of, make, own
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_shapekd.method.skipless_unet import SkiplessUNetDecoder
from nnunet_shapekd.training.resumable import network_builder_name
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage, with_width
from nnunet_shapekd.training.variants import nnunets_variants

TEACHER_OF = dict.fromkeys(("ShapeKD", "ShapeKDFeatures", "ShapeKDLogitsFeatures"), "MeanImage")
TEACHER_OF["ShapeKDHalfTeacher"] = "MeanImageHalf"
KINDS = ("MeanImage", "MeanImageHalf", "MeanJitter", *TEACHER_OF)


def name_of(kind: str, variant: str) -> str:
    return f"nnUNetTrainer{kind}_{variant}" if variant else f"nnUNetTrainer{kind}"


def trainer_class(kind: str, variant: str = "") -> type[nnUNetTrainer]:
    """The class as its file has it, without nnU-Net's look-up, which takes time."""
    return getattr(importlib.import_module(f"nnunet_shapekd.trainers.nnUNetTrainer{kind}"), name_of(kind, variant))


@pytest.mark.parametrize("kind", KINDS)
def test_nnunets_own_look_up_finds_every_kind_with_every_variant_that_nnunet_has(nnunet_environment, kind):
    for variant in ("", "NoMirroring", "50epochs", "CosAnneal", "onlyMirror01_DA5", "2000epochs_NoMirroring"):
        found = recursive_find_trainer_class_by_name(name_of(kind, variant))
        assert found.__name__ == name_of(kind, variant)
        assert found.__bases__ == trainer_class(kind, variant).__bases__
    for variant, stock in nnunets_variants().items():
        found = trainer_class(kind, variant)
        assert issubclass(found, stock)
        assert issubclass(found, MeanImage) == kind.startswith("MeanImage")
        assert issubclass(found, ShapeKD) == kind.startswith("ShapeKD")
        assert list(inspect.signature(found).parameters) == ["plans", "configuration", "fold", "dataset_json", "device"]


def test_all_students_of_a_variant_share_its_teacher():
    for variant in ("", *nnunets_variants()):
        for kind, teacher in TEACHER_OF.items():
            assert trainer_class(kind, variant).teacher_trainer_name() == name_of(teacher, variant)


@pytest.mark.parametrize("kind", ["MeanImage", "ShapeKD", "MeanJitter"])
def test_a_trainer_sets_what_nnunets_own_of_that_variant_sets(nnunet_environment, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # nnU-Net's benchmarks insist on it
    stock = make("nnUNetTrainer")
    for variant, stock_class in {"": nnUNetTrainer, **nnunets_variants()}.items():
        expected, found = (
            vars(
                c({**stock.plans_manager.plans, "continue_training": False}, "2d", 0, stock.dataset_json, stock.device)
            )
            for c in (stock_class, trainer_class(kind, variant))
        )
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, (bool, int, float)):
                assert found[name] == value, (variant, name)


def test_a_variants_own_methods_are_kept(nnunet_environment):
    for kind in KINDS:
        for variant, axes in (("NoMirroring", None), ("onlyMirror01", (0,)), ("DA5", (0, 1))):
            trainer = own(trainer_class(kind, variant))
            assert trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3] == axes


def test_the_features_trainers_have_the_papers_weight(nnunet_environment):
    weights = {
        kind: (make(f"nnUNetTrainer{kind}").logit_weight, make(f"nnUNetTrainer{kind}").feature_weight)
        for kind in TEACHER_OF
    }
    logits_alone = dict.fromkeys(("ShapeKD", "ShapeKDHalfTeacher"), (1, 0))
    assert weights == {**logits_alone, "ShapeKDFeatures": (0, 2), "ShapeKDLogitsFeatures": (1, 2)}


def test_a_student_whose_name_does_not_tell_its_teacher_says_so(nnunet_environment):
    found = type(make(STUDENT))
    with pytest.raises(ValueError, match="MyOwn .*teacher_trainer"):
        type("MyOwn", (found,), {}).teacher_trainer_name()
    named = type("MyOwn", (found,), {"teacher_trainer": "MyTeacher"})
    assert named.teacher_trainer_name() == "MyTeacher"


def test_the_teachers_network_has_no_skips_and_the_students_is_nnunets_own(nnunet_environment):
    for name, has_skips in ((TEACHER, False), (STUDENT, True)):
        trainer = make(name)
        trainer.initialize()
        assert type(trainer.network) is PlainConvUNet
        assert isinstance(trainer.network.decoder, SkiplessUNetDecoder) != has_skips


@pytest.mark.parametrize("variant", ["", "BN"])
@pytest.mark.parametrize("architecture", ["unet.PlainConvUNet", "unet.ResidualEncoderUNet"])
def test_a_half_width_teacher_is_half_the_planned_network_and_leaves_the_plans_alone(
    nnunet_environment, variant, architecture
):
    trainer = make("nnUNetTrainer")
    plans, configuration = trainer.plans_manager, deepcopy(trainer.configuration_manager)
    network = configuration.configuration["architecture"]
    network["network_class_name"] = f"dynamic_network_architectures.architectures.{architecture}"
    if "Residual" in architecture:
        network["arch_kwargs"]["n_blocks_per_stage"] = network["arch_kwargs"].pop("n_conv_per_stage")
    before = deepcopy(configuration.configuration)
    arguments = plans, configuration, 1, 4, True
    teacher = trainer_class("MeanImageHalf", variant).build_network_architecture(*arguments)
    assert configuration.configuration == before
    features = before["architecture"]["arch_kwargs"]["features_per_stage"]
    assert teacher.encoder.output_channels == [f // 2 for f in features]
    outputs = teacher(torch.zeros(1, 1, *configuration.patch_size))
    assert [out.shape[1] for out in outputs] == [4] * (len(features) - 1)


def test_no_stage_of_a_narrow_teacher_is_empty():
    plan = {"architecture": {"arch_kwargs": {"features_per_stage": [1, 2, 32]}}}
    narrower = with_width(ConfigurationManager(plan), 0.25)
    assert narrower.configuration["architecture"]["arch_kwargs"]["features_per_stage"] == [1, 1, 8]


@pytest.mark.parametrize("width", [0, -1, float("nan")])
def test_a_width_must_be_above_0(width):
    with pytest.raises(ValueError, match="above 0"):
        with_width(ConfigurationManager({"architecture": {"arch_kwargs": {"features_per_stage": [8]}}}), width)


def test_an_architecture_without_a_list_of_widths_is_named():
    plan = {"architecture": {"network_class_name": "some.Transformer", "arch_kwargs": {"features_per_stage": 32}}}
    with pytest.raises(NotImplementedError, match="some.Transformer has none"):
        with_width(ConfigurationManager(plan), 0.5)


def test_the_mixins_work_over_nnunets_variants_with_an_architecture_of_their_own(nnunet_environment):
    class Teacher(MeanImage, nnUNetTrainerBN):
        pass

    class Student(ShapeKD, nnUNetTrainerBN):
        pass

    trainer = make("nnUNetTrainer")
    arguments = trainer.plans_manager, trainer.configuration_manager, 1, 4, False
    network = Teacher.build_network_architecture(*arguments)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.decoder.modules())
    assert isinstance(network.decoder, SkiplessUNetDecoder)
    assert network_builder_name(Student) == "nnUNetTrainerBN"


def test_a_student_over_a_users_own_architecture_keeps_its_name_in_the_checkpoint():
    class Own(nnUNetTrainer):
        @staticmethod
        def build_network_architecture(*args, **kwargs):
            raise NotImplementedError

    class OwnStudent(ShapeKD, Own):
        pass

    assert network_builder_name(OwnStudent) == "OwnStudent"
    assert network_builder_name(type("S", (ShapeKD, nnUNetTrainer), {})) == "nnUNetTrainer"


@pytest.mark.parametrize(
    "variant",
    ["BN", "NoDeepSupervision", "CosAnneal", "warmup", "Adam", "CELoss", "DiceLoss", "Topk10Loss", "DiceTopK10Loss"],
)
def test_teacher_and_student_take_a_step_over_nnunets_variant(nnunet_environment, variant):
    teacher, student = (own(trainer_class(kind, variant)) for kind in ("MeanImage", "ShapeKDLogitsFeatures"))
    for trainer in (teacher, student):
        trainer.initialize()
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()  # of a warm-up: at an epoch's start
        trainer.network.train()
    batch = batch_of(make("nnUNetTrainer"))
    if not teacher.enable_deep_supervision:
        batch["target"] = batch["target"][0]
    assert np.isfinite(teacher.train_step(batch)["loss"])

    student.teacher = teacher.network.eval()
    features = student.loss.recorded_features
    student.teacher.decoder.stages[-1].register_forward_hook(lambda m, i, output: features.update(teacher=output))
    result = student.train_step(batch)
    assert np.isfinite(result["loss"]) and result["distillation_loss"] > 0
    assert not features
