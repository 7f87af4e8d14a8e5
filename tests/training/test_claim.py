"""What distillation is for: on one batch a student that is distilled comes to agree with its teacher."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from steps import Data, Logits

#: of three scales the coarsest has no weight
DATA, SCALES = Data(stages=4), 2
Change = Callable[[nnUNetTrainer], None]


def batch() -> dict:
    """Two samples of three nested rectangles, in which every class has an intensity of its own."""
    labels = torch.zeros(2, 1, 32, 32, dtype=torch.int16)
    for label, (rows, columns) in enumerate(((4, 24), (8, 20), (12, 16)), start=1):
        labels[0, :, rows:columns, rows : columns - 4] = label
        labels[1, :, rows + 6 : columns + 6, rows - 2 : columns - 6] = label
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
    data = torch.tensor([-0.5, 2.0, 0.5, 3.0])[labels.long()] + 0.1 * noise
    return {"data": data, "target": [labels[..., ::step, ::step] for step in (1, 2, 4)]}


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> float:
    """Mean over voxels of KL(teacher || student), by the formula."""
    p, q = teacher.double().softmax(1), student.double().softmax(1)
    return float((p * (p / q).log()).sum(1).mean())


@pytest.fixture
def disagreement(nnunet_environment, monkeypatch):
    """``disagreement(weight, change)``: after 40 steps on the one batch, a divergence for each scale that counts."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)

    def train(logit_weight: float, change: Change = lambda trainer: None) -> list[float]:
        torch.manual_seed(0)
        trainer = DATA.trainer(Logits, logit_weight=logit_weight, ramp=0.0)
        trainer.on_train_start()
        trainer.network.train()
        with torch.no_grad():
            image = trainer._with_image(trainer.teacher_class.teacher_input, batch()["data"], batch()["target"][0])
            teacher = trainer.teacher(image)
        change(trainer)
        for _ in range(40):
            trainer.train_step(batch())
        with torch.no_grad():
            student = trainer.network(batch()["data"])
        return [divergence(teacher[scale], student[scale]) for scale in range(SCALES)]

    return train


def test_at_the_default_weight_a_distilled_student_agrees_more_with_its_teacher(disagreement):
    for with_distillation, without in zip(disagreement(Logits.logit_weight), disagreement(0.0), strict=True):
        assert with_distillation < 0.5 * without


#: with a weight at which distillation rules; what is in MISTAKES leaves a student between 0.2 and 1 of it
LEFT = 1 / 6


def test_a_student_that_is_mostly_distilled_comes_to_say_what_its_teacher_says(disagreement):
    assert sum(disagreement(10.0)) < LEFT * sum(disagreement(0.0))


def of_the_term(change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Change:
    def apply(trainer: nnUNetTrainer) -> None:
        for _, term in trainer.loss.terms:
            term.register_forward_pre_hook(lambda term, inputs: (*change(*inputs[:2]), *inputs[2:]))

    return apply


def of_the_teacher(change: Callable[[list[torch.Tensor]], list[torch.Tensor]]) -> Change:
    return lambda trainer: trainer.teacher.register_forward_hook(lambda teacher, inputs, output: change(output))


MISTAKES: dict[str, Change] = {
    "detached": of_the_term(lambda student, teacher: (student.detach(), teacher)),
    "scaled by 0": lambda trainer: setattr(trainer.loss, "ramp", 0.0),
    "the next scale": of_the_teacher(lambda x: [F.interpolate(x[i + 1], x[i].shape[2:]) for i in (0, 1)] + x[2:]),
    "the coarsest scale alone": lambda trainer: setattr(trainer.loss, "scale_weights", (0.0, 0.0, 1.0)),
    "the finest scale alone": lambda trainer: setattr(trainer.loss, "scale_weights", (1.0, 0.0, 0.0)),
    "softened once more": of_the_teacher(lambda x: [logits / 4 for logits in x]),
    "the other sample": of_the_teacher(lambda x: [logits.flip(0) for logits in x]),
    "both alike": of_the_term(lambda student, teacher: (teacher, teacher)),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_distillation_with_a_mistake_would_be_noticed_by_that(disagreement, mistake):
    assert sum(disagreement(10.0, mistake)) > LEFT * sum(disagreement(0.0))
