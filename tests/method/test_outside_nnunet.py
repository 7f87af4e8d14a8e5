"""The method on plain tensors and masks, in a process that has no nnU-Net."""

import subprocess
import sys
import textwrap

CODE = """
import sys

sys.modules["nnunetv2"] = None  # importing it fails from now on

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_shapekd.method.class_mean import VoxelClasses, class_mean_image
from nnunet_shapekd.method.distillation import DistilledLoss, FeatureDistillation, LogitDistillation, last_decoder_stage
from nnunet_shapekd.method.intensity_moves import MoveRanges, apply_moves, draw_moves
from nnunet_shapekd.method.skipless_unet import without_skips

image, mask = torch.randn(2, 1, 16, 16), torch.randint(0, 3, (2, 1, 16, 16))
means = class_mean_image(image, mask)
assert len(means[0, 0][mask[0, 0] == 1].unique()) == 1
moves = draw_moves(image.shape, 3, MoveRanges(share=1.0))
assert apply_moves(image, mask, 3, moves).shape == image.shape


def unet():
    return PlainConvUNet(1, 2, (4, 8), nn.Conv2d, 3, (1, 2), 1, 3, 1, True, nn.InstanceNorm2d, {}, nonlin=nn.ReLU)


student, teacher = unet(), without_skips(unet()).eval().requires_grad_(False)
terms = [(1.0, LogitDistillation(2.0)), (2.0, FeatureDistillation())]
segmentation = lambda output, target: nn.functional.cross_entropy(output, target[:, 0])
loss = DistilledLoss(segmentation, VoxelClasses(range(3)), terms)
for name, network in (("student", student), ("teacher", teacher)):
    last_decoder_stage(network).register_forward_hook(
        lambda module, inputs, output, name=name: loss.recorded_features.update({name: output})
    )
loss.teacher_logits = teacher(means)
total = loss(student(image), mask)
total.backward()
assert total == sum(loss.last_parts) and loss.last_parts[1] > 0
assert all(p.grad is not None for p in student.parameters())
assert not any("nnunetv2" in name and module for name, module in sys.modules.items())
"""


def test_class_mean_teacher_distillation_and_moves_work_without_nnunet():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(CODE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
