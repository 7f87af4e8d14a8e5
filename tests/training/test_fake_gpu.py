"""Training steps on a GPU that is not there: every tensor is a fake that knows its shape, type and device, no values.

An operation on tensors of two devices raises an error, and autocast rules as on a GPU. What this cannot see: the
backward pass and the optimiser's step, which are nnU-Net's own; numbers; what makes the host wait; a number without
dimensions or an index left on the CPU, which torch allows; memory, kernels and ``torch.compile``.
"""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from steps import Balanced, Both, BothAndMoves, Data, Features, Logits, Moves, Teacher
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map_only

from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.training import student
from nnunet_shapekd.training.base import OnClassMeans
from nnunet_shapekd.training.student import ShapeKD

GPU = torch.device("cuda", 0)
KINDS = [Teacher, Logits, Features, Both, Balanced, Moves, BothAndMoves]
DATA = {
    "plain": Data(),
    "regions": Data(regions=True),
    "ignore": Data(ignore=True),
    "regions and ignore": Data(regions=True, ignore=True),
    "cascade": Data(cascade=True),
}


def for_real(function):
    """``function`` outside the mode: what reads files and values before the training starts."""

    def run(*args):
        with unset_fake_temporarily():
            return function(*args)

    return run


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """``module.to(device)``: torch's own (2.14) cannot move fakes in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
    return module


@pytest.fixture
def mode(nnunet_environment, monkeypatch):
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    of_dataset = VoxelClasses.of_dataset

    @for_real
    def fake_classes(label_manager):
        classes = of_dataset(label_manager)
        vars(classes).update(tree_map_only(torch.Tensor, mode.from_tensor, vars(classes)))
        return classes

    monkeypatch.setattr(VoxelClasses, "of_dataset", fake_classes)
    for name in ("read_teacher", "weights_sha256"):
        monkeypatch.setattr(student, name, for_real(getattr(student, name)))
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(OnClassMeans, "_refuse_missing_previous_stage", lambda self, split: None)
    # without a GPU torch switches autocast off, and its engine for the backward pass finds no driver
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    # a fake has no values: none for the log, and what asks for one gets a yes
    monkeypatch.setattr(FakeTensor, "numpy", lambda self: self, raising=False)
    monkeypatch.setattr(FakeTensor, "__bool__", lambda self: True, raising=False)
    return mode


def ready(mode: FakeTensorMode, data: Data, kind: type) -> tuple[nnUNetTrainer, dict]:
    """A trainer on the GPU just before its first step, and a batch on the CPU."""
    trainer = data.trainer(kind)
    trainer.device, trainer.grad_scaler = GPU, None
    with mode:
        trainer.on_train_start()
    trainer.network.train()
    return trainer, tree_map_only(torch.Tensor, mode.from_tensor, data.batch(trainer))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_no_tensor_of_a_step_is_left_on_the_cpu(mode, data, kind):
    trainer, batch = ready(mode, data, kind)
    seen, losses = {}, []
    networks = {"network": trainer.network, **({"teacher": trainer.teacher} if issubclass(kind, ShapeKD) else {})}
    for name, network in networks.items():
        network.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: (inputs, output)}))
    trainer.loss.register_forward_hook(lambda module, inputs, output: losses.append(output))
    with mode:
        trainer.train_step(batch)
    assert seen.keys() == networks.keys()
    for inputs, outputs in seen.values():
        assert all(isinstance(x, FakeTensor) and x.device == GPU for x in tree_leaves((inputs, outputs)))
        assert {x.dtype for x in inputs} == {torch.float32} and {x.dtype for x in outputs} == {torch.float16}
    if issubclass(kind, ShapeKD):
        losses += trainer.loss.last_parts
    assert {(x.device, x.dtype) for x in losses} == {(GPU, torch.float32)}
