"""Training steps and validation, in this process, on the planned phantom."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import STUDENT, TEACHER, batch_of, make, own
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.class_mean import class_mean_image
from nnunet_shapekd.training import _teacher_input_dataset


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
    ready.loss.logit_weight = 0.0
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
        classes=SimpleNamespace(of_label_map=lambda labels: labels),
    )
    result = _teacher_input_dataset(Cases, trainer)().load_case("case")[0]
    for channel in range(2):
        for label in (0, 1):
            region = labels[0] == label
            assert result[channel][region] == pytest.approx(image[channel][region].mean(), abs=1e-6)


def test_a_fold_the_split_file_does_not_have_is_refused(nnunet_environment, loaders_must_not_start):
    for name, fold in ((TEACHER, 5), (STUDENT, 5), (STUDENT, -1)):
        with pytest.raises(
            ValueError, match=rf"no fold {fold} in .*splits_final.json, which holds 5 fold\(s\), 0 to 4"
        ):
            make(name, fold=fold).run_training()


def test_the_teachers_input_is_one_method_that_a_control_replaces(ready, monkeypatch):
    monkeypatch.setattr(type(ready), "teacher_input", lambda self, image, classes: image)
    batch, seen = batch_of(ready), []
    ready.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ready.train_step(batch)
    assert torch.equal(seen[0], batch["data"])


def test_a_ramp_raises_the_weights_over_the_first_epochs(nnunet_environment, teacher, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make(STUDENT)), ramp_epochs=4, teacher_trainer=TEACHER)
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
        assert isinstance(trainer.network, torch._dynamo.OptimizedModule) == compiles
        if weights:
            trainer._plain_network().load_state_dict(weights)
        weights = {key: value.clone() for key, value in trainer._plain_network().state_dict().items()}
        trainer.network.train()
        results.append([trainer.train_step(batch_of(trainer, seed)) for seed in range(2)])
    for plain, optimised in zip(*results, strict=True):
        for key in ("loss", "distillation_loss"):
            assert optimised[key] == pytest.approx(plain[key], rel=1e-3)


def test_no_step_makes_a_float64_tensor(ready, nnunet_environment):
    """MPS has none; nor would a GPU's speed forgive it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dtype == torch.float64 and result.ndim:
                made.append(func)
            return result

    teacher = make(TEACHER)
    teacher.initialize()
    for trainer in (ready, teacher):
        batch = batch_of(trainer)
        with Watch():
            trainer.train_step(batch)
        with Watch():
            torch.ones(1, dtype=torch.float64)
        assert made and made.count(made[0]) == len(made) == 1, made  # the watch sees, and saw only ours
        made.clear()


def test_under_autocast_means_and_losses_stay_float32(ready):
    batch = batch_of(ready)
    expected = class_mean_image(batch["data"], batch["target"][0])
    student = [torch.randn(4, 4, *t.shape[2:]).bfloat16() for t in batch["target"]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ready._teacher_data(batch["data"], batch["target"][0])
        assert found.dtype == torch.float32 and torch.equal(found, expected)
        ready.loss.teacher_logits = [torch.randn_like(s) * 1e4 for s in student]
        ready.loss(student, batch["target"])
        assert ready.loss.last_parts[1].dtype == torch.float32 and ready.loss.last_parts[1].isfinite()
