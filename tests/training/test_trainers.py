"""The named trainers, and the mixins over nnU-Net's variants."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import STUDENT, TEACHER, batch_of, make, own
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerCELoss import nnUNetTrainerCELoss
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceLoss
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerTopkLoss import nnUNetTrainerTopk10Loss
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainerCosAnneal import nnUNetTrainerCosAnneal
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_shapekd.method.skipless_unet import SkiplessUNetDecoder
from nnunet_shapekd.training.resumable import network_builder_name
from nnunet_shapekd.training.student import ShapeKD, ShapeKDLogitsFeatures
from nnunet_shapekd.training.teacher import MeanImage, MeanImageHalf, with_width

LENGTHS = {"": 1000, "_1epoch": 1} | {f"_{n}epochs": n for n in (5, 10, 20, 50, 100, 250, 500)}
TEACHER_OF = dict.fromkeys(("ShapeKD", "ShapeKDFeatures", "ShapeKDLogitsFeatures"), "MeanImage")
TEACHER_OF["ShapeKDHalfTeacher"] = "MeanImageHalf"
KINDS = ("MeanImage", "MeanImageHalf", *TEACHER_OF)
VARIANTS = [
    nnUNetTrainerBN,
    nnUNetTrainerNoDeepSupervision,
    nnUNetTrainerCosAnneal,
    nnUNetTrainerAdam,
    nnUNetTrainerNoDA,
    nnUNetTrainerCELoss,
    nnUNetTrainerDiceLoss,
    nnUNetTrainerTopk10Loss,
]


def test_nnunets_own_look_up_finds_every_trainer_with_its_length(planned, tmp_path):
    names = [f"nnUNetTrainer{kind}{length}" for kind in KINDS for length in LENGTHS]
    names += [
        f"nnUNetTrainer{kind}{variant}" for kind in ("MeanImage", "ShapeKD") for variant in ("_NoMirroring", "_DA5")
    ]
    code = (
        "import contextlib, inspect, io, json, sys\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "from nnunet_shapekd.training.student import MeanImage, ShapeKD\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    found = {{name: find(name) for name in {names}}}\n"
        "print(json.dumps({n: [issubclass(c, MeanImage), issubclass(c, ShapeKD), list(inspect.signature(c).parameters)]"
        " for n, c in found.items()}))"
    )
    found = json.loads(planned.run("python", "-c", code).stdout.splitlines()[-1])
    for name, (is_teacher, is_student, parameters) in found.items():
        assert is_teacher == ("MeanImage" in name) and is_student == ("ShapeKD" in name)
        assert parameters == ["plans", "configuration", "fold", "dataset_json", "device"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "epochs"), LENGTHS.items())
def test_each_length_trains_that_many_epochs(nnunet_environment, kind, length, epochs):
    trainer = make(f"nnUNetTrainer{kind}{length}")
    assert trainer.num_epochs == epochs
    stock = make(f"nnUNetTrainer{length}")
    unchanged = {"num_epochs", "initial_lr", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "weight_decay"}
    assert all(getattr(trainer, name) == getattr(stock, name) for name in unchanged)


@pytest.mark.parametrize("variant", ["NoMirroring", "DA5"])
def test_the_variants_are_nnunets_own(nnunet_environment, variant):
    for kind in ("MeanImage", "ShapeKD"):
        trainer = make(f"nnUNetTrainer{kind}_{variant}")
        assert f"nnUNetTrainer{variant}" in [c.__name__ for c in type(trainer).__mro__]
    mirrored = make(f"nnUNetTrainerShapeKD_{variant}").configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3]
    assert (mirrored is None) == (variant == "NoMirroring")


def test_all_students_of_a_variant_share_its_teacher(nnunet_environment):
    for kind, teacher in TEACHER_OF.items():
        for length in LENGTHS:
            name = make(f"nnUNetTrainer{kind}{length}").teacher_trainer_name()
            assert name == f"nnUNetTrainer{teacher}{length}"
    assert make("nnUNetTrainerShapeKD_DA5").teacher_trainer_name() == "nnUNetTrainerMeanImage_DA5"


def test_the_features_trainers_have_the_papers_weight(nnunet_environment):
    weights = {
        kind: (make(f"nnUNetTrainer{kind}").logit_weight, make(f"nnUNetTrainer{kind}").feature_weight)
        for kind in TEACHER_OF
    }
    logits_alone = dict.fromkeys(("ShapeKD", "ShapeKDHalfTeacher"), (1, 0))
    assert weights == {**logits_alone, "ShapeKDFeatures": (0, 2), "ShapeKDLogitsFeatures": (1, 2)}


def test_a_student_whose_name_does_not_tell_its_teacher_says_so(nnunet_environment):
    found = type(make(STUDENT))
    with pytest.raises(ValueError, match="MyOwn does not say who its teacher is.*teacher_trainer"):
        type("MyOwn", (found,), {}).teacher_trainer_name()
    named = type("MyOwn", (found,), {"teacher_trainer": "MyTeacher"})
    assert named.teacher_trainer_name() == "MyTeacher"


def test_the_teachers_network_has_no_skips_and_the_students_is_nnunets_own(nnunet_environment):
    for name, has_skips in ((TEACHER, False), (STUDENT, True)):
        trainer = make(name)
        trainer.initialize()
        assert type(trainer.network) is PlainConvUNet
        assert isinstance(trainer.network.decoder, SkiplessUNetDecoder) != has_skips


@pytest.mark.parametrize("base", [nnUNetTrainer, nnUNetTrainerBN])
@pytest.mark.parametrize("architecture", ["unet.PlainConvUNet", "unet.ResidualEncoderUNet"])
def test_a_half_width_teacher_is_half_the_planned_network_and_leaves_the_plans_alone(
    nnunet_environment, base, architecture
):
    class Teacher(MeanImageHalf, base):
        pass

    trainer = make("nnUNetTrainer")
    plans, configuration = trainer.plans_manager, deepcopy(trainer.configuration_manager)
    network = configuration.configuration["architecture"]
    network["network_class_name"] = f"dynamic_network_architectures.architectures.{architecture}"
    if "Residual" in architecture:
        network["arch_kwargs"]["n_blocks_per_stage"] = network["arch_kwargs"].pop("n_conv_per_stage")
    before = deepcopy(configuration.configuration)
    teacher = Teacher.build_network_architecture(plans, configuration, 1, 4, True)
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


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda c: c.__name__)
def test_teacher_and_student_take_a_step_over_nnunets_variant(nnunet_environment, variant):
    class Teacher(MeanImage, variant):
        pass

    class Student(ShapeKDLogitsFeatures, variant):
        pass

    teacher, student = own(Teacher), own(Student)
    for trainer in (teacher, student):
        trainer.initialize()
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
