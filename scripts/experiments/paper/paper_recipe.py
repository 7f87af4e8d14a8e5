"""The ingredients of the paper's own recipe, and nnU-Net's in their place: slices, network, terms.

They are those of the code published with the paper (arXiv 2409.17503), in small: docs/paper.md says what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from data import Stacks
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from ensemble import CLASSES
from torch import nn

from nnunet_shapekd.method.distillation import FeatureDistillation, LogitDistillation
from nnunet_shapekd.method.skipless_unet import without_skips


@dataclass(frozen=True)
class Ingredients:
    """Where the recipe is the paper's, and where nnU-Net's.

    Attributes:
        norm: "batch" (the paper's) or "instance".
        loss: "ce", at the finest scale alone (the paper's), or "dice+ce", nnU-Net's, at all scales.
        intensities: "percentiles", scaled to 0..1 and never changed (the paper's), or "z-scores", as nnU-Net normalises
            and augments them.
    """

    norm: str = "batch"
    loss: str = "ce"
    intensities: str = "percentiles"


INGREDIENTS = {
    "paper": Ingredients(),
    "instance-norm": Ingredients(norm="instance"),
    "dice": Ingredients(loss="dice+ce"),
    "intensities": Ingredients(intensities="z-scores"),
}
#: term and its weight, which is constant
TERMS = {"features": (FeatureDistillation(), 2.0), "logits": (LogitDistillation(), 1.0)}
KINDS = ("", "teacher", *TERMS)


class Slices(Stacks):
    """The stacks for training by slices: each that shows a structure is as likely as any other, wherever it is from.

    Args:
        path, device: see :class:`Stacks`.
        percentiles: scale each stack's 2nd to 98th percentile to 0..1 and clip, with 0 outside; else z-scores.
    """

    def __init__(self, path: Path, device: torch.device, percentiles: bool) -> None:
        super().__init__(path, device)
        if percentiles:
            for of in self.judged:
                place = slice(of.first, of.first + of.slices), *map(self._middle, of.shape)
                values = self.image[place].float()
                low, high = values.flatten().quantile(0.02), values.flatten().quantile(0.98)
                self.image[of.first : of.first + of.slices] = 0
                self.image[place] = (255 * ((values - low) / (high - low)).clamp(0, 1)).round().to(torch.uint8)
            self.scale = torch.tensor([0.0, 1.0], device=device).expand_as(self.scale)
        # for draw(), a stack is now a single slice, and no class's places are asked for
        self.shapes = self.shapes.repeat_interleave(self.slices, 0)
        self.first = torch.arange(len(self.image), device=device)
        self.slices = torch.ones_like(self.first)
        self.places = self.places[:1].expand(len(self.first), -1, -1, -1)

    def _middle(self, size: int) -> slice:
        """Where an axis of an image lies on the canvas."""
        start = max(0, (self.image.shape[-1] - size) // 2)
        return slice(start, start + min(size, self.image.shape[-1]))

    def training(self, data: str) -> list[int]:
        chosen = [self.judged[i] for i in super().training(data)]
        slices = [i for of in chosen for i in range(of.first, of.first + of.slices)]
        return [i for i in slices if self.label[i].any()]


class Network(nn.Module):
    """nnU-Net's U-Net with the paper's norm, and its last decoder stage's output beside the logits."""

    def __init__(self, ingredients: Ingredients, features: Sequence[int], skips: bool = True) -> None:
        super().__init__()
        n, instance = len(features), ingredients.norm == "instance"
        self.unet = PlainConvUNet(
            1, n, list(features), nn.Conv2d, 3, [1] + [2] * (n - 1), 2, CLASSES, [2] * (n - 1),
            conv_bias=True, norm_op=nn.InstanceNorm2d if instance else nn.BatchNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.ReLU, nonlin_kwargs={"inplace": True},
            deep_supervision=ingredients.loss == "dice+ce",
        )  # fmt: skip
        self.unet.apply(InitWeights_He(0.0))
        if not skips:
            without_skips(self.unet)
        self.unet.decoder.stages[-1].register_forward_hook(self._keep)

    def _keep(self, stage: nn.Module, args: tuple, output: torch.Tensor) -> None:
        self.features = output

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """``(b, 1, h, w)`` -> logits ``(b, 4, h, w)`` of each scale that the loss looks at, finest first."""
        logits = self.unet(x.contiguous(memory_format=torch.channels_last))
        return logits if isinstance(logits, list) else [logits]
