from types import SimpleNamespace

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_shapekd.method.distillation import LogitDistillation
from nnunet_shapekd.training.cost import LiveBytes, PairCost, pair_cost, step_cost
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


class Teacher(MeanImage, nnUNetTrainer):
    pass


class Student(ShapeKD, nnUNetTrainer):
    pass


class FeatureStudent(ShapeKD, nnUNetTrainer):
    logit_weight = 0.0
    feature_weight = 2.0


def cost(student=Student, features=(2, 4), patch=(8, 8), batch=1, n_conv=1, foreground=1, step_batch=None) -> PairCost:
    """The cost of plans like those of nnU-Net's default planner: 3x3 kernels, stride 2 from the second stage on."""
    dim, stages = len(patch), len(features)
    network = {
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
        "kernel_sizes": [[3] * dim] * stages,
        "strides": [[1] * dim] + [[2] * dim] * (stages - 1),
        "n_conv_per_stage": [n_conv] * stages,
        "n_conv_per_stage_decoder": [n_conv] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "batch_size": batch,
        "patch_size": list(patch),
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    plans = PlansManager({"label_manager": "LabelManager", "configurations": {"any": configuration}})
    labels = {"background": 0, **{f"label {label}": label for label in range(1, foreground + 1)}}
    dataset_json = {"labels": labels, "channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"}
    return pair_cost(student, Teacher, plans, plans.get_configuration("any"), dataset_json, step_batch)


def two_convolutions() -> nn.Module:
    """1 → 8 → 3 channels with 1x1 kernels, on the meta device."""
    stages = [nn.Conv2d(1, 8, 1, bias=False, device="meta"), nn.Conv2d(8, 3, 1, bias=False, device="meta")]
    network = nn.Sequential(*stages)
    network.decoder = SimpleNamespace(stages=stages[:1])
    return network


def test_parameters_and_flops_are_those_counted_by_hand():
    # weights and biases of convolutions and norms: encoder 1→2 and 2→4, transposed 4→2, decoder, segmentation 2→2
    others = (2 * 9 + 2 + 4) + (2 * 4 * 9 + 4 + 8) + (4 * 2 * 4 + 2) + (2 * 2 + 2)
    # FLOPs, two a product: the encoder's convolutions at 8x8 and 4x4, the transposed one from 4x4 with 2x2 kernels, ...
    first = 2 * 64 * 1 * 2 * 9
    other_flops = first + 2 * 16 * 2 * 4 * 9 + 2 * 16 * 4 * 2 * 4 + 2 * 64 * 2 * 2
    student_decoder, teacher_decoder = 4 * 2 * 9, 2 * 2 * 9  # the skip brings two of the student's four channels
    tiny = cost()
    assert tiny.student_parameters == others + student_decoder + 2 + 4
    assert tiny.teacher_parameters == others + teacher_decoder + 2 + 4
    student_forward, teacher_forward = (other_flops + 2 * 64 * n for n in (student_decoder, teacher_decoder))
    # backward: once for the weights and once for the input, which is not needed for the images
    assert tiny.stock_step_flops == 3 * student_forward - first
    assert tiny.teacher_forward_flops == teacher_forward
    assert tiny.teacher_step_flops == 3 * teacher_forward - first


def test_flops_grow_with_the_batch_and_parameters_do_not():
    one, three = cost(), cost(batch=3)
    assert three.stock_step_flops == 3 * one.stock_step_flops
    assert three.student_parameters == one.student_parameters


def test_a_batch_size_of_its_own_counts_instead_of_the_plans():
    assert cost(batch=6, step_batch=2) == cost(batch=2)


def test_the_ratios_compare_with_a_stock_step():
    pair = PairCost(1, 1, 100, 126, 80, 1000, 1100)
    assert pair.teacher_forward_flops == 26
    assert (pair.step_ratio, pair.pair_ratio, pair.memory_ratio) == (1.26, 2.06, 1.1)


def test_a_student_of_the_default_2d_plans_for_acdc_computes_a_quarter_more_than_stock():
    acdc = cost(features=(32, 64, 128, 256, 512, 512), patch=(256, 224), batch=49, n_conv=2, foreground=3)
    assert acdc.step_ratio == (acdc.stock_step_flops + acdc.teacher_forward_flops) / acdc.stock_step_flops
    assert acdc.step_ratio == pytest.approx(1.26, abs=0.01)
    assert acdc.pair_ratio == pytest.approx(2.05, abs=0.01)
    assert 1 < acdc.memory_ratio < 1.05
    assert "1.26 x stock" in str(acdc) and "20.6 M" in str(acdc)


def test_large_3d_plans_need_no_memory_to_be_counted():
    large = cost(features=(32, 64, 128, 256, 320, 320), patch=(256, 256, 256), batch=2, n_conv=2)
    assert large.stock_peak_bytes > 50 * 2**30
    assert 1.2 < large.step_ratio < 1.3


def test_live_bytes_follow_making_views_and_end_of_tensors():
    start = torch.zeros(100, device="meta")
    with LiveBytes() as live:
        live.follow([start])
        a = start + 1  # 400 + 400 bytes
        view = a.reshape(10, 10)
        view += 1
        assert live.alive == live.peak == 800
        b = a * 2
        assert live.alive == 1200
        del a
        assert live.alive == 1200  # the view still holds it
        del view
        assert live.alive == 800
        c = b.double()  # 400 + 400 + 800
    assert c is not None and live.alive == live.peak == 1600


def test_the_peak_of_a_step_is_that_counted_by_hand():
    """One 1x1 convolution of 3 → 3 channels on 100 x 100 voxels as the network, no distillation."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False, device="meta"))
    network.decoder = SimpleNamespace(stages=network)
    _, peak = step_cost(network, torch.empty((1, 3, 100, 100), device="meta"))
    weights = 2 * 9 * 4  # and momentum
    images = logits = 3 * 10_000 * 4
    assert peak >= weights + images + logits + 2 * logits  # the softmax of Dice, the log-softmax of cross-entropy
    assert peak < 12 * logits
    # four times as many voxels: four times all but the weights
    _, larger = step_cost(network, torch.empty((1, 3, 200, 200), device="meta"))
    assert larger - weights == pytest.approx(4 * (peak - weights), rel=1e-3)


def test_the_teachers_weights_and_logits_stay_until_the_loss():
    network, teacher = two_convolutions(), two_convolutions()
    batch = torch.empty((2, 1, 64, 64), device="meta")
    (_, alone), (_, with_teacher) = step_cost(network, batch), step_cost(network, batch, teacher)
    weights, logits = (1 * 8 + 8 * 3) * 4, 2 * 3 * 64 * 64 * 4
    assert with_teacher == alone + weights + logits  # and none of its other activations, although it runs first
    _, distilled = step_cost(network, batch, teacher, [LogitDistillation()])
    assert distilled >= with_teacher


def test_distilling_features_keeps_the_teachers_last_features():
    plans = {"features": (8, 16), "patch": (64, 64), "batch": 2, "n_conv": 2}
    logits, features = cost(**plans), cost(FeatureStudent, **plans)
    assert features.stock_peak_bytes == logits.stock_peak_bytes
    assert features.student_peak_bytes >= features.stock_peak_bytes + 2 * 8 * 64 * 64 * 4


def test_the_settings_of_the_environment_count(monkeypatch):
    plans = {"features": (8, 16), "patch": (64, 64), "batch": 2, "n_conv": 2}
    monkeypatch.setenv("SHAPEKD_LOGIT_WEIGHT", "0")
    monkeypatch.setenv("SHAPEKD_FEATURE_WEIGHT", "2")
    assert cost(**plans) == cost(FeatureStudent, **plans)


def test_a_step_with_a_teacher_leaves_no_gradients():
    network, teacher = two_convolutions(), two_convolutions()
    step_cost(network, torch.empty((2, 1, 4, 4), device="meta"), teacher, [LogitDistillation()])
    assert all(weight.grad is None for weight in (*network.parameters(), *teacher.parameters()))
