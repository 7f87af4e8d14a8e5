import math

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_shapekd.distillation import DistilledLoss, LogitDistillation


def logits_of(*probabilities: list[float]) -> torch.Tensor:
    """Voxels' class probabilities -> logits (1, k, 1, voxels)."""
    return torch.tensor(probabilities).log().T[None, :, None, :].contiguous()


def nnunet_loss(weights: tuple[float, ...] | None, ignore_label: int | None = None) -> nn.Module:
    loss = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        ignore_label=ignore_label,
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    return loss if weights is None else DeepSupervisionWrapper(loss, weights)


def test_kl_of_two_voxels_by_hand():
    teacher = logits_of([0.5, 0.5], [0.9, 0.1])
    student = logits_of([0.25, 0.75], [0.9, 0.1])
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert LogitDistillation()(student, teacher).item() == pytest.approx((first + 0) / 2, rel=1e-5)


def test_temperature_softens_and_its_square_scales():
    # at T = 2, probabilities 0.8 and 0.2 become proportional to their square roots: 2/3 and 1/3
    teacher, student = logits_of([0.8, 0.2]), logits_of([0.5, 0.5])
    expected = 4 * (2 / 3 * math.log((2 / 3) / 0.5) + 1 / 3 * math.log((1 / 3) / 0.5))
    assert LogitDistillation(2.0)(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient():
    student = torch.randn(2, 4, 5, 6, requires_grad=True)
    loss = LogitDistillation(3.0)(student, student.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 4, requires_grad=True)
    LogitDistillation()(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_voxels_that_are_not_valid_do_not_count():
    teacher, student = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    valid = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    valid[..., :2] = True
    loss = LogitDistillation()
    torch.testing.assert_close(loss(student, teacher, valid), loss(student[..., :2], teacher[..., :2]))
    assert loss(student, teacher, torch.zeros_like(valid)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_stay_finite_in_value_and_gradient(dtype):
    student = torch.tensor([1e4, -1e4, 0.0]).to(dtype).reshape(1, 3, 1, 1).requires_grad_()
    loss = LogitDistillation()(student, torch.tensor([-1e4, 1e4, 0.0]).to(dtype).reshape(1, 3, 1, 1))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert loss.dtype == torch.float32


def test_only_scales_with_weight_count_each_with_its_weight():
    scales, weights = [(8, 8), (4, 4), (2, 2)], (0.75, 0.25, 0.0)
    student = [torch.randn(2, 4, *s) for s in scales]
    teacher = [torch.randn(2, 4, *s) for s in scales]
    target = [torch.randint(0, 4, (2, 1, *s)) for s in scales]
    teacher[2].fill_(float("nan"))  # must not be touched
    loss = DistilledLoss(nnunet_loss(weights), LogitDistillation(), weight=3.0)
    segmentation = loss(student, target)
    loss.teacher_logits = teacher
    kl = LogitDistillation()
    expected = segmentation + 3.0 * (0.75 * kl(student[0], teacher[0]) + 0.25 * kl(student[1], teacher[1]))
    torch.testing.assert_close(loss(student, target), expected)
    torch.testing.assert_close(loss.last_parts[0], segmentation)
    torch.testing.assert_close(loss.last_parts[0] + 3.0 * loss.last_parts[1], expected)


def test_without_deep_supervision_the_one_scale_counts_once():
    student, teacher, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 1, 8, 8))
    loss = DistilledLoss(nnunet_loss(None), LogitDistillation(), weight=1.0)
    segmentation = loss(student, target)
    loss.teacher_logits = teacher
    torch.testing.assert_close(loss(student, target), segmentation + LogitDistillation()(student, teacher))


def test_the_teachers_logits_are_used_once_so_that_validation_is_stock():
    student, teacher, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 1, 8, 8))
    stock = nnunet_loss(None)
    loss = DistilledLoss(stock, LogitDistillation(), weight=1.0)
    loss.teacher_logits = teacher
    assert loss(student, target) > stock(student, target)
    torch.testing.assert_close(loss(student, target), stock(student, target))


def test_ignored_voxels_are_out_of_the_distillation():
    student, teacher = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    target = torch.randint(0, 4, (1, 1, 8, 8))
    target[..., 4:] = 4
    loss = DistilledLoss(nnunet_loss(None, ignore_label=4), LogitDistillation(), weight=1.0, ignore_label=4)
    loss.teacher_logits = teacher
    loss(student, target)
    torch.testing.assert_close(loss.last_parts[1], LogitDistillation()(student[..., :4], teacher[..., :4]))


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must .* got {temperature}"):
        LogitDistillation(temperature)


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_a_negative_or_endless_weight_is_refused(weight):
    with pytest.raises(ValueError, match=f"weight must .* got {weight}"):
        DistilledLoss(nnunet_loss(None), LogitDistillation(), weight)


def test_logits_of_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"student \(1, 4, 2, 2\) and teacher \(1, 3, 2, 2\)"):
        LogitDistillation()(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2))
