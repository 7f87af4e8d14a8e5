"""Steps compiled by inductor, on the CPU: what nnU-Net compiles on a GPU, and this package beside it."""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from steps import Balanced, Both, Data, Logits, Moves, Teacher
from torch._dynamo import OptimizedModule
from torch._dynamo.utils import counters

from nnunet_shapekd.method.distillation import FeatureDistillation, LogitDistillation
from nnunet_shapekd.training.student import ShapeKD

pytestmark = pytest.mark.slow

#: four scales, three of which count
PLAIN, REGIONS_AND_IGNORE = Data(stages=5), Data(regions=True, ignore=True, stages=5)


@pytest.fixture
def ready(nnunet_environment, monkeypatch):
    """``ready(data, kind, compiles)``: a trainer just before its first step, of equal weights every time."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)

    def make_ready(data: Data, kind: type, compiles: bool) -> nnUNetTrainer:
        monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: compiles)
        torch._dynamo.reset()  # what another test compiled counts towards the limit, too
        counters.clear()
        torch.manual_seed(0)
        trainer = data.trainer(kind)
        trainer.on_train_start()
        for network in [trainer.network, *([trainer.teacher] if issubclass(kind, ShapeKD) else [])]:
            assert isinstance(network, OptimizedModule) == compiles
        return trainer

    return make_ready


def two_epochs(trainer: nnUNetTrainer, data: Data) -> tuple[list[dict], list[int]]:
    """What each of ten steps returned, and how many graphs had been compiled after it."""
    results, graphs = [], []
    for trainer.current_epoch in range(2):
        trainer.on_train_epoch_start()
        for seed in range(3):
            torch.manual_seed(seed)  # moves draw from it
            results.append(trainer.train_step(data.batch(trainer, seed)))
            graphs.append(counters["stats"]["unique_graphs"])
        trainer.on_validation_epoch_start()
        for seed in range(2):
            with torch.no_grad():
                results.append(trainer.validation_step(data.batch(trainer, seed)))
            graphs.append(counters["stats"]["unique_graphs"])
    return results, graphs


@pytest.mark.parametrize(
    ("data", "kind"),
    [(PLAIN, Teacher), (PLAIN, Both), (PLAIN, Moves), (REGIONS_AND_IGNORE, Logits), (REGIONS_AND_IGNORE, Balanced)],
)
def test_compiled_steps_are_the_eager_ones_and_nothing_is_compiled_after_the_second(ready, data, kind):
    eager, none = two_epochs(ready(data, kind, compiles=False), data)
    compiled, graphs = two_epochs(ready(data, kind, compiles=True), data)
    for step, (expected, found) in enumerate(zip(eager, compiled, strict=True)):
        for key in ("loss", "distillation_loss"):
            if key in expected:
                assert found[key] == pytest.approx(expected[key], rel=2e-3), f"{key} of step {step}"
    assert set(none) == {0} and graphs[0] > 0
    of_training, of_validation = graphs[2] - graphs[1], graphs[-1] - graphs[3]
    assert of_training == of_validation == 0, graphs


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize(
    ("kind", "arguments"), [(LogitDistillation, ()), (LogitDistillation, (1.5, True)), (FeatureDistillation, ())]
)
def test_a_compiled_term_keeps_little_more_than_its_inputs_for_the_backward_pass(kind, arguments, weighted):
    torch._dynamo.reset()
    term = kind(*arguments)
    student, teacher = (torch.randn(2, 4, 32, 32, dtype=torch.float16) for _ in range(2))
    student.requires_grad_()
    voxels = torch.full((2, 1, 32, 32), 1 / 2048) if weighted else None
    expected = term(student, teacher, voxels)
    (gradient,) = torch.autograd.grad(expected, student)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    term.compile()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = term(student, teacher, voxels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, student)[0], gradient)
    assert sum(kept.values()) < 1.5 * (student.nbytes + teacher.nbytes)  # eager: up to 6 times
