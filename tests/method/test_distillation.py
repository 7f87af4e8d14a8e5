import math

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.method.distillation import DistilledLoss, FeatureDistillation, LogitDistillation, voxel_weights

LABELS = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
CLASSES = VoxelClasses.of_dataset(LabelManager(LABELS, None))
WITH_IGNORE = VoxelClasses.of_dataset(LabelManager({**LABELS, "ignore": 4}, None))


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


def test_voxels_without_weight_do_not_count():
    teacher, student = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    weights = torch.zeros(1, 1, 4, 4)
    weights[..., :2] = 1 / 8
    for term in (LogitDistillation(), LogitDistillation(regions=True), FeatureDistillation()):
        torch.testing.assert_close(term(student, teacher, weights), term(student[..., :2], teacher[..., :2]))
        assert term(student, teacher, torch.zeros_like(weights)).item() == 0


def test_kl_of_overlapping_regions_by_hand():
    # one voxel, two regions: Bernoulli 0.5 against 0.25, and 0.9 against 0.9
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    teacher = torch.tensor([logit(0.5), logit(0.9)]).reshape(1, 2, 1, 1)
    student = torch.tensor([logit(0.25), logit(0.9)]).reshape(1, 2, 1, 1)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert LogitDistillation(regions=True)(student, teacher).item() == pytest.approx((first + 0) / 2, rel=1e-5)


def test_a_region_is_a_softmax_of_two_classes():
    # an independent way to the same number: sigmoid(x) is the softmax of (x, 0)
    student, teacher = torch.randn(2, 1, 5, 5), torch.randn(2, 1, 5, 5)
    two = [torch.cat((x, torch.zeros_like(x)), dim=1) for x in (student, teacher)]
    torch.testing.assert_close(LogitDistillation(1.7, regions=True)(student, teacher), LogitDistillation(1.7)(*two))


def test_features_are_torchs_mean_squared_error():
    student, teacher = torch.randn(2, 6, 5, 5, requires_grad=True), torch.randn(2, 6, 5, 5, requires_grad=True)
    loss = FeatureDistillation()(student, teacher)
    torch.testing.assert_close(loss, nn.MSELoss()(student, teacher))
    loss.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_half_precision_features_do_not_overflow():
    loss = FeatureDistillation()(torch.full((1, 1, 2, 2), 6e4).half(), torch.full((1, 1, 2, 2), -6e4).half())
    assert loss.item() == pytest.approx(1.2e5**2, rel=1e-3)


def test_balance_gives_every_class_that_is_present_the_same_share():
    target = torch.zeros(2, 1, 4, 4, dtype=torch.int16)
    target[0, 0, 0, 0] = 3  # 31 voxels of background, one of the cavity, none of the others
    weights = voxel_weights(CLASSES, target, balanced=True)
    assert weights[0, 0, 0, 0].item() == pytest.approx(1 / 2)
    assert weights[1, 0, 3, 3].item() == pytest.approx(1 / 2 / 31)
    assert weights.sum().item() == pytest.approx(1)


def test_balance_leaves_out_what_is_ignored():
    target = torch.tensor([0, 0, 1, 4]).reshape(1, 1, 2, 2)
    assert voxel_weights(WITH_IGNORE, target, balanced=True).flatten().tolist() == [0.25, 0.25, 0.5, 0]
    assert voxel_weights(WITH_IGNORE, target, balanced=False).flatten().tolist() == pytest.approx([1 / 3] * 3 + [0])
    assert voxel_weights(CLASSES, target, balanced=False) is None
    assert voxel_weights(WITH_IGNORE, torch.full_like(target, 4), balanced=True).flatten().tolist() == [0] * 4


def test_balance_over_regions_counts_sets_of_regions():
    classes = VoxelClasses.of_dataset(LabelManager({"background": 0, "heart": [1, 2], "LV": 2}, [1, 2]))
    heart, lv = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 0, 1])
    target = torch.stack((heart, lv)).reshape(1, 2, 2, 2).bool()
    expected = pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 3])
    assert voxel_weights(classes, target, balanced=True).flatten().tolist() == expected


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_stay_finite_in_value_and_gradient(dtype, regions):
    student = torch.tensor([1e4, -1e4, 0.0]).to(dtype).reshape(1, 3, 1, 1).requires_grad_()
    loss = LogitDistillation(1.0, regions)(student, torch.tensor([-1e4, 1e4, 0.0]).to(dtype).reshape(1, 3, 1, 1))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert loss.dtype == torch.float32


def test_only_scales_with_weight_count_each_with_its_weight():
    scales, weights = [(8, 8), (4, 4), (2, 2)], (0.75, 0.25, 0.0)
    student = [torch.randn(2, 4, *s) for s in scales]
    teacher = [torch.randn(2, 4, *s) for s in scales]
    target = [torch.randint(0, 4, (2, 1, *s)) for s in scales]
    teacher[2].fill_(float("nan"))  # must not be touched
    loss = DistilledLoss(nnunet_loss(weights), CLASSES, [(3.0, LogitDistillation())], weights)
    segmentation = loss(student, target)
    loss.teacher_logits = teacher
    kl = LogitDistillation()
    expected = segmentation + 3.0 * (0.75 * kl(student[0], teacher[0]) + 0.25 * kl(student[1], teacher[1]))
    torch.testing.assert_close(loss(student, target), expected)
    torch.testing.assert_close(loss.last_parts[0], segmentation)
    torch.testing.assert_close(loss.last_parts[0] + loss.last_parts[1], expected)


def test_without_deep_supervision_the_one_scale_counts_once():
    student, teacher, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 1, 8, 8))
    loss = DistilledLoss(nnunet_loss(None), CLASSES, [(1.0, LogitDistillation())])
    segmentation = loss(student, target)
    loss.teacher_logits = teacher
    torch.testing.assert_close(loss(student, target), segmentation + LogitDistillation()(student, teacher))


def test_the_teachers_logits_are_used_once_so_that_validation_is_stock():
    student, teacher, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 1, 8, 8))
    stock = nnunet_loss(None)
    loss = DistilledLoss(stock, CLASSES, [(1.0, LogitDistillation())])
    loss.teacher_logits = teacher
    assert loss(student, target) > stock(student, target)
    torch.testing.assert_close(loss(student, target), stock(student, target))


def test_ignored_voxels_are_out_of_the_distillation():
    student, teacher = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    target = torch.randint(0, 4, (1, 1, 8, 8))
    target[..., 4:] = 4
    loss = DistilledLoss(nnunet_loss(None, ignore_label=4), WITH_IGNORE, [(1.0, LogitDistillation())])
    loss.teacher_logits = teacher
    loss(student, target)
    torch.testing.assert_close(loss.last_parts[1], LogitDistillation()(student[..., :4], teacher[..., :4]))


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must .* got {temperature}"):
        LogitDistillation(temperature)


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_a_negative_or_endless_weight_is_refused_with_its_terms_name(weight):
    with pytest.raises(ValueError, match=f"FeatureDistillation .* got {weight}"):
        DistilledLoss(nnunet_loss(None), CLASSES, [(1.0, LogitDistillation()), (weight, FeatureDistillation())])


def test_a_term_that_does_not_say_what_it_compares_is_refused():
    with pytest.raises(ValueError, match='MSELoss .*"logits" or "features"'):
        DistilledLoss(nnunet_loss(None), CLASSES, [(1.0, nn.MSELoss())])


class CosineDistillation(nn.Module):
    """One minus the cosine between student's and teacher's features: a new term is this, and its row in a list."""

    compares = "features"

    def forward(self, student, teacher, voxel_weights=None):
        distance = 1 - nn.functional.cosine_similarity(student, teacher.detach(), dim=1)
        return distance.mean() if voxel_weights is None else (distance * voxel_weights[:, 0]).sum()


def test_a_term_of_ones_own_is_added_without_touching_anything_else():
    output, target = torch.randn(1, 4, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int16)
    loss = DistilledLoss(nnunet_loss(None), CLASSES, [(3.0, CosineDistillation())])
    assert loss.needs_features
    loss.teacher_logits = output
    features = torch.zeros(2, 1, 2, 2, 2)
    features[0, :, 0], features[1, :, 0], features[1, :, 1] = 1, 1, 1  # 45 degrees apart
    loss.recorded_features.update(student=features[0], teacher=features[1])
    loss(output, target)
    assert loss.last_parts[1].item() == pytest.approx(3 * (1 - math.sqrt(0.5)))


def test_both_terms_add_up_features_at_the_finest_scale_only():
    student, teacher = (
        [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)],
        [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)],
    )
    target = [torch.randint(0, 4, (2, 1, 8, 8)), torch.randint(0, 4, (2, 1, 4, 4))]
    features = {"student": torch.randn(2, 6, 8, 8), "teacher": torch.randn(2, 6, 8, 8)}
    loss = DistilledLoss(
        nnunet_loss((0.6, 0.4)), CLASSES, [(0.5, LogitDistillation()), (2.0, FeatureDistillation())], (0.6, 0.4)
    )
    loss.ramp = 0.1
    loss.teacher_logits = teacher
    loss.recorded_features.update(features)
    loss(student, target)
    kl = LogitDistillation()
    logits = 0.6 * kl(student[0], teacher[0]) + 0.4 * kl(student[1], teacher[1])
    expected = 0.1 * (0.5 * logits + 2.0 * nn.MSELoss()(features["student"], features["teacher"]))
    torch.testing.assert_close(loss.last_parts[1], expected)


@pytest.mark.parametrize("term", [LogitDistillation(), FeatureDistillation()])
def test_outputs_of_different_shapes_are_named(term):
    with pytest.raises(ValueError, match=r"student \(1, 4, 2, 2\) and teacher \(1, 3, 2, 2\)"):
        term(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2))
