"""Other published changes of intensities, for comparison, each of a share of the samples."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F


def convolutions(image: torch.Tensor, classes: torch.Tensor, share: torch.Tensor, generator: torch.Generator):
    """A random shallow network's image, blended with the sample's own, with its norm; needs no labels.

    Global intensity non-linear augmentation: Ouyang et al., IEEE TMI 42(4):1095, 2023.
    """
    n = len(image)

    def rand(*size: int) -> torch.Tensor:
        return torch.rand(size, device=image.device, generator=generator)

    def randn(*size: int) -> torch.Tensor:
        return torch.randn(size, device=image.device, generator=generator)

    x = image.view(1, n, *image.shape[2:])
    channels = (1, 2, 2, 2, 1)
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        weight = randn(n * c_out, c_in, 3, 3)
        point = F.pad(torch.ones(1, 1, device=image.device), (1, 1, 1, 1))
        single = (rand(n, 1, 1, 1) < 0.5).repeat_interleave(c_out, 0)
        weight = torch.where(single, weight * point, weight)
        x = F.conv2d(x, weight, randn(n * c_out), padding=1, groups=n)
        if i < len(channels) - 2:
            x = F.leaky_relu(x)
    blend = rand(n, 1, 1, 1)
    x = blend * x.view_as(image) + (1 - blend) * image
    norm = (1, 2, 3)
    x = x * image.square().sum(norm, keepdim=True).sqrt() / x.square().sum(norm, keepdim=True).sqrt().clamp_min(1e-8)
    return torch.where(rand(n, 1, 1, 1) < share.view(-1, 1, 1, 1), x, image)


def curves(image: torch.Tensor, classes: torch.Tensor, share: torch.Tensor, generator: torch.Generator):
    """In the manner of SLAug (arXiv 2211.14805): a monotone curve, rising or falling, then another scale and location.

    Half of the changed samples get one for the whole image, half one for each class, the background's too.
    """
    n, knots, kinds = len(image), 6, 4

    def rand(*size: int) -> torch.Tensor:
        return torch.rand(size, device=image.device, generator=generator)

    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    extent = (high - low).clamp_min(1e-6)
    ends = F.pad(rand(n, kinds, knots - 1).square().cumsum(-1), (1, 0))
    rising = ends / ends[..., -1:].clamp_min(1e-6)
    curve = torch.where(rand(n, kinds, 1) < 0.5, rising, 1 - rising)
    scale = 1 + 0.1 * torch.randn((n, kinds, 1), device=image.device, generator=generator).clamp(-2, 2)
    location = 0.1 * torch.randn((n, kinds, 1), device=image.device, generator=generator).clamp(-2, 2)
    curve = curve * scale + location
    whole = rand(n, 1, 1, 1) < 0.5
    kind = torch.where(whole, torch.zeros_like(classes), classes)
    at = (image - low) / extent * (knots - 1)
    before = at.floor().clamp(max=knots - 2)
    index = (kind * knots + before.long()).flatten(1)
    table = curve.flatten(1)
    start, end = table.gather(1, index).view_as(image), table.gather(1, index + 1).view_as(image)
    x = (start + (at - before) * (end - start)) * extent + low
    return torch.where(rand(n, 1, 1, 1) < share.view(-1, 1, 1, 1), x, image)


CHANGES = {"convolutions": convolutions, "curves": curves}
