"""Mixed precision with a gradient scaler, on the CPU: autocast where nnU-Net and the student have it on a GPU."""

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from steps import Balanced, Both, BothAndMoves, Data, Moves, Teacher
from torch.utils._pytree import tree_leaves

from nnunet_shapekd.training import student

SCALE = 1024.0
HALVES = [torch.float16, torch.bfloat16]
DATA = {"plain": Data(stages=4), "regions and ignore": Data(regions=True, ignore=True)}

every_half = pytest.mark.parametrize("half", HALVES, ids=["float16", "bfloat16"])
every_data = pytest.mark.parametrize("data", DATA.values(), ids=DATA)


@pytest.fixture
def ready(nnunet_environment, monkeypatch, half):
    """``ready(data, kind)``: a trainer just before its first step in that half precision."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    for module in (trainer_module, student):  # what they enter elsewhere than on a GPU
        monkeypatch.setattr(module, "dummy_context", lambda: torch.autocast("cpu", half))

    def make_ready(data: Data, kind: type, **attributes) -> nnUNetTrainer:
        torch.manual_seed(0)
        trainer = data.trainer(kind, **attributes)
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        trainer.on_train_start()
        trainer.network.train()
        return trainer

    return make_ready


def weights_of(trainer: nnUNetTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@every_half
@every_data
@pytest.mark.parametrize("kind", [Teacher, Both, Balanced, Moves, BothAndMoves])
def test_losses_are_finite_and_every_step_is_taken(ready, data, kind, half):
    trainer, outputs = ready(data, kind), []
    networks = [trainer.network, *([trainer.teacher] if hasattr(trainer, "teacher") else [])]
    for network in networks:
        network.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for seed in range(3):
        before = weights_of(trainer)
        result = trainer.train_step(data.batch(trainer, seed))
        assert all(np.isfinite(loss) for loss in result.values())
        assert weights_of(trainer).isfinite().all() and not torch.equal(weights_of(trainer), before)
    assert trainer.grad_scaler.get_scale() == SCALE
    assert {output.dtype for output in tree_leaves(outputs)} == {half}


@every_half
@every_data
@pytest.mark.parametrize("kind", [Both, Balanced])
def test_the_distillation_of_half_precision_outputs_is_computed_in_float32(ready, data, kind, half):
    trainer, seen = ready(data, kind, temperature=1.5), []
    for _, term in trainer.loss.terms:
        term.register_forward_hook(lambda term, inputs, output: seen.append((term, inputs, output)))
    trainer.train_step(data.batch(trainer))
    scales = sum(weight > 0 for weight in trainer.loss.scale_weights)
    assert len(seen) == scales + 1  # logits at each, features at the finest
    for term, (of_student, of_teacher, voxels), output in seen:
        assert of_student.dtype == of_teacher.dtype == half and output.dtype == torch.float32
        expected = term.forward(of_student.float(), of_teacher.float(), voxels)
        torch.testing.assert_close(output, expected, rtol=1e-6, atol=0)
    assert {part.dtype for part in trainer.loss.last_parts} == {torch.float32}


@every_half
@pytest.mark.parametrize("part", ["segmentation", "distillation"])
def test_a_step_of_infinite_loss_is_skipped_and_the_next_one_is_taken(ready, part, half):
    data = DATA["plain"]
    trainer = ready(data, Both)
    trainer.train_step(data.batch(trainer, 0))
    before = weights_of(trainer)
    module = trainer.loss.segmentation if part == "segmentation" else trainer.loss.terms[0][1]
    infinite = module.register_forward_hook(lambda module, inputs, output: output * float("inf"))
    result = trainer.train_step(data.batch(trainer, 1))
    infinite.remove()
    assert np.isinf(result["loss" if part == "segmentation" else "distillation_loss"])
    assert torch.equal(weights_of(trainer), before) and trainer.grad_scaler.get_scale() == SCALE / 2
    assert trainer.loss.teacher_logits is None and not trainer.loss.recorded_features
    result = trainer.train_step(data.batch(trainer, 2))
    assert all(np.isfinite(loss) for loss in result.values())
    assert weights_of(trainer).isfinite().all() and not torch.equal(weights_of(trainer), before)
