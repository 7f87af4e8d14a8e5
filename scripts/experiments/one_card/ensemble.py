"""Many networks of one kind as one: each of its convolutions has a group for each network.

A small network leaves most of a card idle, and the time of its step goes into starting kernels. N of them side by side,
channels beside channels, take the kernels of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

#: of the plan that evidence.py has, too
PATCH, CLASSES = 96, 4
FEATURES = (12, 24, 48, 96, 128)


def build(features: Sequence[int]) -> nn.Module:
    """The planned network, with as many stages as there are numbers of features, initialised as nnU-Net does."""
    n = len(features)
    strides, convolutions = [1] + [2] * (n - 1), [2] * (n - 1)
    norm, slope = {"eps": 1e-5, "affine": True}, {"inplace": True}
    network = PlainConvUNet(
        1, n, list(features), nn.Conv2d, 3, strides, 2, CLASSES, convolutions, True,
        nn.InstanceNorm2d, norm, None, None, nn.LeakyReLU, slope, True,
    )  # fmt: skip
    network.apply(InitWeights_He(1e-2))
    return network


class Ensemble(nn.Module):
    """Networks of nnU-Net's U-Net kind (plain or skip-less, two axes), each with weights of its own.

    Args:
        build: makes one, freshly initialised.
        seeds: one for each network.
    """

    def __init__(self, build: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        super().__init__()
        self.n = len(seeds)
        singles = []
        for seed in seeds:
            torch.manual_seed(seed)
            singles.append(build())
        self.net = _grouped(build(), self.n)
        self.load([single.state_dict() for single in singles])
        if self.n == 1:  # a CPU convolves few channels much faster so
            self.net.to(memory_format=torch.channels_last)

    def load(self, states: Sequence[dict[str, torch.Tensor]]) -> None:
        self.net.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})

    def states(self) -> list[dict[str, torch.Tensor]]:
        """Each network's weights, by the names of a single one."""
        parts = {name: tensor.chunk(self.n) for name, tensor in self.net.state_dict().items()}
        return [{name: part[i].clone() for name, part in parts.items()} for i in range(self.n)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """``(n, b, c, h, w)`` -> logits ``(n, b, k, h, w)`` of each scale, finest first."""
        return self.decoded(self.encoded(x))

    def encoded(self, x: torch.Tensor) -> list[torch.Tensor]:
        """``(n, b, c, h, w)`` -> features ``(b, n·c, h, w)`` of each of the encoder's stages, finest first."""
        return self.net.encoder(x.transpose(0, 1).flatten(1, 2))

    def decoded(self, skips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What ``encoded`` returns -> logits ``(n, b, k, h, w)`` of each scale, finest first."""
        decoder = self.net.decoder
        with_skips = decoder.stages[0].convs[0].conv.in_channels > decoder.transpconvs[0].out_channels
        x, outputs = skips[-1], []
        for i, (up, stage, head) in enumerate(
            zip(decoder.transpconvs, decoder.stages, decoder.seg_layers, strict=True)
        ):
            x = up(x)
            if with_skips:
                x = self._beside(x, skips[-2 - i])
            x = stage(x)
            outputs.append(self._apart(head(x)).transpose(0, 1))
        return outputs[::-1]

    def _beside(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        if self.n == 1:
            return torch.cat((x, skip), 1)
        return torch.cat((self._apart(x), self._apart(skip)), 2).flatten(1, 2)

    def _apart(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.n, -1))


def _grouped(network: nn.Module, n: int) -> nn.Module:
    """The same network with n groups in each of its layers, in place."""
    seen: dict[int, nn.Module] = {}
    for module in list(network.modules()):
        for name, child in list(module._modules.items()):
            if id(child) not in seen:
                seen[id(child)] = _of_groups(child, n)
            module._modules[name] = seen[id(child)]
    return network


def _of_groups(layer: nn.Module, n: int) -> nn.Module:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        how = {"stride": layer.stride, "padding": layer.padding, "bias": layer.bias is not None, "groups": n}
        return type(layer)(n * layer.in_channels, n * layer.out_channels, layer.kernel_size, **how)
    if isinstance(layer, (nn.InstanceNorm2d, nn.BatchNorm2d)):
        return type(layer)(n * layer.num_features, eps=layer.eps, affine=layer.affine)
    return layer


class Descent:
    """nnU-Net's optimiser: gradients clipped to norm 12 by network, Nesterov momentum 0.99, weight decay 3e-5.

    Args:
        ensemble: whose weights it changes.
        rate: of learning, a scalar tensor that may be refilled.
    """

    def __init__(self, ensemble: Ensemble, rate: torch.Tensor) -> None:
        self.n, self.rate = ensemble.n, rate
        self.all = list(ensemble.parameters())
        self.velocity_of = {weight: torch.zeros_like(weight) for weight in self.all}

    @torch.no_grad()
    def step(self) -> None:
        weights = [weight for weight in self.all if weight.grad is not None]  # no scale without a weight has one
        velocity = [self.velocity_of[weight] for weight in weights]
        gradients = [weight.grad.unflatten(0, (self.n, -1)) for weight in weights]
        norm = sum(g.float().square().flatten(1).sum(1) for g in gradients).sqrt()  # (n,)
        factor = (12 / (norm + 1e-6)).clamp(max=1)
        gradients = [(g * factor.view(-1, *[1] * (g.dim() - 1))).flatten(0, 1) for g in gradients]
        torch._foreach_add_(gradients, weights, alpha=3e-5)
        torch._foreach_mul_(velocity, 0.99)
        torch._foreach_add_(velocity, gradients)
        torch._foreach_add_(gradients, velocity, alpha=0.99)
        torch._foreach_mul_(gradients, -self.rate)
        torch._foreach_add_(weights, gradients)
        for weight in weights:
            weight.grad = None
