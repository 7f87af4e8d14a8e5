"""Training steps and validation, in this process, on the planned phantom."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PLANS, STUDENT, TEACHER, batch_of, make, own
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_shapekd.method.class_mean import VoxelClasses, class_mean_image
from nnunet_shapekd.method.distillation import DistilledLoss, FeatureDistillation, LogitDistillation
from nnunet_shapekd.training.student import TERMS, ShapeKD
from nnunet_shapekd.training.teacher import MeanImage, _teacher_input_dataset


def test_the_teacher_is_frozen_on_the_side_and_a_step_changes_only_the_student(ready):
    assert not ready.teacher.training
    assert not [p for p in ready.teacher.parameters() if p.requires_grad]
    optimised = {id(p) for group in ready.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in ready.teacher.parameters()}
    assert not [name for name in ready.network.state_dict() if "teacher" in name]

    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (ready.teacher, ready.network)]
    ready.train_step(batch_of(ready))
    assert all(torch.equal(v, before[0][k]) for k, v in ready.teacher.state_dict().items())
    assert any(not torch.equal(v, before[1][k]) for k, v in ready.network.state_dict().items())
    assert not ready.teacher.training
    assert all(p.grad is None for p in ready.teacher.parameters())


def test_the_teacher_sees_the_class_mean_of_the_same_sample(ready):
    batch, seen = batch_of(ready), []
    ready.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ready.train_step(batch)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], class_mean_image(batch["data"], batch["target"][0]))


def test_the_step_is_nnunets_own_and_leaves_the_batch_as_it_was(ready, monkeypatch):
    calls, stock_step = [], nnUNetTrainer.train_step
    monkeypatch.setattr(nnUNetTrainer, "train_step", lambda self, batch: calls.append(batch) or stock_step(self, batch))
    batch, twin = batch_of(ready), batch_of(ready)
    result = ready.train_step(batch)
    assert len(calls) == 1 and calls[0] is not batch
    assert batch.keys() == twin.keys() and torch.equal(batch["data"], twin["data"])
    assert all(torch.equal(a, b) for a, b in zip(batch["target"], twin["target"], strict=True))
    assert result["loss"].shape == result["distillation_loss"].shape == ()


def test_the_logged_training_loss_is_the_segmentation_part(ready):
    batch = batch_of(ready)
    with torch.no_grad():
        expected = ready.loss.segmentation(ready.network(batch["data"]), batch["target"]).item()
    assert ready.train_step(batch)["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_validation_loss_is_stock_and_asks_no_teacher(ready):
    batch = batch_of(ready)
    ready.network.eval()
    with torch.no_grad():
        expected = ready.loss.segmentation(ready.network(batch["data"]), batch["target"]).item()
        ready.teacher = None
        assert ready.validation_step(batch)["loss"] == pytest.approx(expected, rel=1e-5)


def test_with_weight_0_a_step_is_stock_nnunets_step(ready, monkeypatch):
    stock = make("nnUNetTrainer_1epoch")
    stock.initialize()
    stock.network.load_state_dict(ready.network.state_dict())
    stock.network.train()
    ready.loss.terms = []
    for trainer in (ready, stock):
        for seed in range(2):
            trainer.train_step(batch_of(trainer, seed))
    for name, value in stock.network.state_dict().items():
        torch.testing.assert_close(ready.network.state_dict()[name], value)


def test_the_teachers_steps_see_class_mean_images(nnunet_environment, monkeypatch):
    trainer = make(TEACHER)
    trainer.initialize()
    batch, seen = batch_of(trainer), []
    trainer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    trainer.train_step(batch)
    with torch.no_grad():
        trainer.validation_step(batch)
    expected = class_mean_image(batch["data"], batch["target"][0])
    assert len(seen) == 2 and all(torch.equal(x, expected) for x in seen)
    assert torch.equal(batch["data"], batch_of(trainer)["data"])


def test_the_teachers_final_validation_sees_the_mean_of_each_slice(nnunet_environment, teacher, monkeypatch):
    trainer = make(TEACHER)
    trainer.initialize()
    stock, seen = trainer.dataset_class, {}

    def record(self, save_probabilities=False):
        _, val_keys = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, val_keys)
        seen.update({key: dataset.load_case(key) for key in val_keys})

    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", record)
    trainer.perform_actual_validation()
    assert trainer.dataset_class is stock and len(seen) == 2
    for key, (image, labels, _, _) in seen.items():
        original = stock(trainer.preprocessed_dataset_folder, [key]).load_case(key)[0][:]
        assert image.shape == original.shape and image.dtype == original.dtype
        for z in range(image.shape[1]):
            for label in (0, 1, 2, 3):
                region = labels[0, z].clip(0) == label
                if region.any():
                    assert image[0, z][region] == pytest.approx(original[0, z][region].mean(), abs=1e-4)


def test_in_3d_the_teachers_final_validation_sees_means_over_the_volume():
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = np.zeros((1, 3, 4, 5), dtype=np.int16)
    labels[0, :, 1:3, 1:3] = 1

    class Cases:
        def load_case(self, identifier):
            return image, labels, None, {}

    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=[2, 4, 4]),
        teacher_input=class_mean_image,
        classes=SimpleNamespace(of_label_map=lambda labels: labels, number=2),
    )
    result = _teacher_input_dataset(Cases, trainer)().load_case("case")[0]
    for channel in range(2):
        for label in (0, 1):
            region = labels[0] == label
            assert result[channel][region] == pytest.approx(image[channel][region].mean(), abs=1e-6)


def test_a_fold_the_split_file_does_not_have_is_refused(nnunet_environment, loaders_must_not_start):
    for name, fold in ((TEACHER, 5), (STUDENT, 5), (STUDENT, -1)):
        with pytest.raises(ValueError, match=rf"fold {fold} .*splits_final.json"):
            make(name, fold=fold).run_training()


def test_the_teachers_input_is_one_method_that_a_control_replaces(ready):
    class OrdinaryImages(MeanImage):
        @classmethod
        def teacher_input(cls, image, classes, num_classes):
            return image

    ready.teacher_class = OrdinaryImages
    batch, seen = batch_of(ready), []
    ready.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ready.train_step(batch)
    assert torch.equal(seen[0], batch["data"])


def test_a_student_asks_its_teachers_trainer_what_the_teacher_sees(ready):
    assert issubclass(ready.teacher_class, MeanImage) and ready.teacher_class.__name__ == TEACHER


def test_a_student_that_defines_what_its_teacher_sees_is_refused(nnunet_environment):
    trainer = own(type(make(STUDENT)), teacher_input=classmethod(lambda cls, image, classes, number: image))
    with pytest.raises(ValueError, match="teacher_input"):
        trainer.initialize()


def test_deep_supervision_without_nnunets_wrapper_is_refused_at_start(nnunet_environment, monkeypatch):
    build = nnUNetTrainer._build_loss
    monkeypatch.setattr(nnUNetTrainer, "_build_loss", lambda self: build(self).loss)
    with pytest.raises(NotImplementedError, match="DeepSupervisionWrapper.* is a DC_and_CE_loss"):
        make(STUDENT).initialize()


def test_folds_of_a_users_own_are_the_users_business(nnunet_environment):
    class OwnFolds(nnUNetTrainer):
        def do_split(self):
            return ["a"], ["b"]

    class Student(ShapeKD, OwnFolds):
        pass

    trainer = own(Student)
    trainer.fold = 17
    assert trainer.do_split() == (["a"], ["b"])


def test_a_row_in_the_list_of_terms_is_a_setting_and_a_part_of_the_loss(nnunet_environment, teacher, monkeypatch):
    class Louder(torch.nn.Module):
        compares = "logits"

        def forward(self, student, teacher, voxel_weights=None):
            return student.mean() * 0 + 1

    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setitem(TERMS, "louder_weight", lambda settings, classes: Louder())
    monkeypatch.setenv("SHAPEKD_LOUDER_WEIGHT", "5")
    trainer = own(type(make(STUDENT)), logit_weight=0.0, ramp=0.0, teacher_trainer=TEACHER)
    trainer.on_train_start()
    trainer.network.train()
    # the weights of the deep-supervision scales sum to 1
    assert trainer.train_step(batch_of(trainer))["distillation_loss"] == pytest.approx(5.0)
    assert trainer.provenance["settings"]["louder_weight"] == 5.0


def test_a_ramp_raises_the_weights_over_the_first_epochs(nnunet_environment, teacher, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make(STUDENT)), ramp=0.4, teacher_trainer=TEACHER)
    trainer.num_epochs = 10
    trainer.on_train_start()
    losses = []
    for trainer.current_epoch in range(6):
        trainer.on_train_epoch_start()
        for group in trainer.optimizer.param_groups:
            group["lr"] = 0.0  # so that the steps differ by their weights only
        losses.append(trainer.train_step(batch_of(trainer))["distillation_loss"])
    assert [float(loss / losses[3]) for loss in losses] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], rel=1e-4)


def test_features_are_compared_as_the_papers_code_does(nnunet_environment, teacher, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make("nnUNetTrainerShapeKDFeatures_1epoch")), teacher_trainer=TEACHER)
    trainer.on_train_start()
    trainer.network.train()
    batch = batch_of(trainer)

    def last_stage(network, x):
        skips = network.encoder(x)
        features = []
        handle = network.decoder.stages[-1].register_forward_hook(lambda m, i, output: features.append(output))
        network.decoder(skips)
        handle.remove()
        return features[0]

    with torch.no_grad():
        student_features = last_stage(trainer.network, batch["data"])
        teacher_features = last_stage(trainer.teacher, class_mean_image(batch["data"], batch["target"][0]))
        expected = 2.0 * torch.nn.MSELoss()(student_features, teacher_features)
        trainer.loss.recorded_features.clear()
    assert trainer.train_step(batch)["distillation_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert not trainer.loss.recorded_features  # nothing is kept alive
    trainer.network.eval()
    with torch.no_grad():
        trainer.validation_step(batch)
    assert not trainer.loss.recorded_features


@pytest.mark.parametrize("name", [STUDENT, "nnUNetTrainerShapeKDLogitsFeatures_1epoch"])
def test_compiled_a_step_is_the_same_as_uncompiled(nnunet_environment, teacher, monkeypatch, name):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    torch._dynamo.reset()  # it would take over what it compiled of another network without our hook
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiled(module, backend="aot_eager"))
    results, weights = [], None
    for compiles in (False, True):
        monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self, compiles=compiles: compiles)
        trainer = own(type(make(name)), teacher_trainer=TEACHER)
        trainer.on_train_start()
        for network in (trainer.network, trainer.teacher):
            assert isinstance(network, torch._dynamo.OptimizedModule) == compiles
        if weights:
            trainer._plain_network().load_state_dict(weights)
        weights = {key: value.clone() for key, value in trainer._plain_network().state_dict().items()}
        trainer.network.train()
        results.append([trainer.train_step(batch_of(trainer, seed)) for seed in range(2)])
    for plain, optimised in zip(*results, strict=True):
        for key in ("loss", "distillation_loss"):
            assert optimised[key] == pytest.approx(plain[key], rel=1e-3)


class Float64Watch(TorchDispatchMode):
    """Notes what makes a float64 tensor, as MPS has none; nor would a GPU's speed forgive it."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.made.append(func)
        return result


@pytest.mark.parametrize("balanced", [False, True], ids=["", "balanced"])
@pytest.mark.parametrize("regions", [False, True], ids=["plain", "regions"])
def test_no_part_of_a_step_makes_a_float64_tensor(nnunet_environment, regions, balanced):
    labels = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3, "ignore": 4}
    if regions:
        labels = {"background": 0, "heart": [1, 2, 3], "LV": [2, 3], "LVC": 3, "ignore": 4}
    manager = LabelManager(labels, [1, 2, 3])
    target = torch.randint(0, 5, (2, 1, 8, 8))
    if regions:
        target = torch.cat([torch.isin(target, torch.tensor(r)) for r in ([1, 2, 3], [2, 3], [3], [4])], dim=1)
    with Float64Watch() as watch:
        classes = VoxelClasses.of_dataset(manager)
        class_mean_image(torch.randn(2, 1, 8, 8), classes.of_target(target), classes.number)
        loss = DistilledLoss(
            lambda output, target: output.mean(),
            classes,
            [(1.0, LogitDistillation(1.5, regions)), (2.0, FeatureDistillation())],
            balanced=balanced,
        )
        loss.teacher_logits = torch.randn(2, 3 if regions else 4, 8, 8)
        loss.recorded_features.update(student=torch.randn(2, 6, 8, 8), teacher=torch.randn(2, 6, 8, 8))
        loss(torch.randn_like(loss.teacher_logits, requires_grad=True), target).backward()
    assert not watch.made
    with watch:
        torch.ones((), dtype=torch.float64)
    assert len(watch.made) == 1  # it does see them


def test_no_training_step_makes_a_float64_tensor(ready, nnunet_environment):
    teacher = make(TEACHER)
    teacher.initialize()
    for trainer in (ready, teacher):
        batch = batch_of(trainer)
        with Float64Watch() as watch:
            trainer.train_step(batch)
        assert not watch.made


def test_under_autocast_means_and_losses_stay_float32(ready):
    batch = batch_of(ready)
    expected = class_mean_image(batch["data"], batch["target"][0])
    student = [torch.randn(4, 4, *t.shape[2:]).bfloat16() for t in batch["target"]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ready._with_image(MeanImage.teacher_input, batch["data"], batch["target"][0])
        assert found.dtype == torch.float32 and torch.equal(found, expected)
        ready.loss.teacher_logits = [torch.randn_like(s) * 1e4 for s in student]
        ready.loss(student, batch["target"])
        assert ready.loss.last_parts[1].dtype == torch.float32 and ready.loss.last_parts[1].isfinite()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("compiles", ["f", "t"], ids=["", "compiled"])
@pytest.mark.parametrize("name", [STUDENT, "nnUNetTrainerShapeKDLogitsFeatures_1epoch"])
def test_on_a_gpu_with_mixed_precision_steps_stay_finite(nnunet_environment, teacher, monkeypatch, name, compiles):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setenv("nnUNet_compile", compiles)
    trainer = get_trainer_from_args("27", "2d", 0, name, PLANS, device=torch.device("cuda"))
    monkeypatch.setattr(type(trainer), "teacher_trainer", TEACHER)
    trainer.output_folder += "_on_a_gpu"
    trainer.on_train_start()
    trainer.network.train()
    assert trainer.grad_scaler is not None
    before = [p.detach().clone() for p in trainer.network.parameters()]
    for seed in range(4):
        result = trainer.train_step(batch_of(trainer, seed))
        assert np.isfinite(result["loss"]) and result["distillation_loss"] > 0
    assert any(not torch.equal(p, q) for p, q in zip(trainer.network.parameters(), before, strict=True))
    with torch.no_grad():
        assert np.isfinite(trainer.validation_step(batch_of(trainer))["loss"])
