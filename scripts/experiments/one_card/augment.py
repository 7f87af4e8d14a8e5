"""nnU-Net's own training augmentation (2d, without mirroring), for many samples at once on one device.

The same transforms in the same order with nnU-Net's probabilities and ranges (``nnUNetTrainer.get_training_transforms``
of nnU-Net 2.8). Each sample has numbers of its own, and nothing waits for the host, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

#: uniform numbers that a sample needs
NUMBERS = 24


def spatial(
    canvas: torch.Tensor, labels: torch.Tensor, centre: torch.Tensor, size: int, u: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut patches, some of them turned (20 %, any angle) or scaled (20 %, 0.7 to 1.4).

    Args:
        canvas: ``(n, 1, h, w)`` float32.
        labels: ``(n, 1, h, w)`` int64.
        centre: ``(n, 2)`` of the patch, row and column in pixels.
        size: of the patch.
        u: ``(n, 4)``, uniform.

    Returns:
        ``(n, 1, size, size)`` float32 and int64.
    """
    n, _, height, width = canvas.shape
    angle = torch.where(u[:, 0] < 0.2, (2 * u[:, 1] - 1) * math.pi, 0.0)
    scale = torch.where(u[:, 2] < 0.2, 0.7 + 0.7 * u[:, 3], 1.0)
    line = torch.arange(size, device=canvas.device) - (size - 1) / 2
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    cos, sin = (angle.cos() * scale).view(n, 1, 1), (angle.sin() * scale).view(n, 1, 1)
    y = cos * rows - sin * columns + (centre[:, 0] - 0.5).view(n, 1, 1)
    x = sin * rows + cos * columns + (centre[:, 1] - 0.5).view(n, 1, 1)
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    image = F.grid_sample(canvas, grid, align_corners=False)
    # each label's share at a place, the largest wins; outside is background
    present = torch.stack([(labels[:, 0] == k).float() for k in range(1, 4)], 1)
    shares = F.grid_sample(present, grid, align_corners=False)
    most = 1 - shares.sum(1)
    label = torch.zeros_like(most, dtype=torch.long)
    for k, share in enumerate(shares.unbind(1), 1):
        label = torch.where(share > most, k, label)
        most = torch.maximum(share, most)
    return image, label[:, None]


def intensities(x: torch.Tensor, u: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Noise, blur, brightness, contrast, low resolution, gamma of the inverted image, gamma.

    Args: ``(n, 1, h, w)`` float32, uniform ``(n, 20)``, normal ``(n, 1, h, w)``. Returns: shaped like ``x``.
    """

    def chosen(i: int, probability: float) -> torch.Tensor:
        return (u[:, i] < probability).view(-1, 1, 1, 1)

    def about_1(i: int, low: float, high: float) -> torch.Tensor:
        """Half below 1 and half above."""
        v = (2 * u[:, i]).remainder(1)
        return torch.where(u[:, i] < 0.5, low + (1 - low) * v, 1 + (high - 1) * v).view(-1, 1, 1, 1)

    x = x + chosen(0, 0.1) * (0.1 * u[:, 1]).view(-1, 1, 1, 1) * noise
    x = torch.where(chosen(2, 0.1), _blurred(x, 0.5 + 0.5 * u[:, 3:5]), x)  # 20 % of samples, half of the channels
    x = torch.where(chosen(5, 0.15), x * about_1(6, 0.75, 1.25), x)
    mean, low, high = x.mean((2, 3), keepdim=True), x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    contrast = ((x - mean) * about_1(8, 0.75, 1.25) + mean).clamp(low, high)
    x = torch.where(chosen(7, 0.15), contrast, x)
    x = torch.where(chosen(9, 0.125), _low_resolution(x, 0.5 + 0.5 * u[:, 10]), x)
    x = torch.where(chosen(11, 0.1), -_gamma(-x, about_1(12, 0.7, 1.5)), x)
    return torch.where(chosen(13, 0.3), _gamma(x, about_1(14, 0.7, 1.5)), x)


def _blurred(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    taps = torch.arange(-2, 3, device=x.device)
    kernel = torch.exp(-0.5 * (taps / sigma[..., None]) ** 2)  # (n, 2, 5)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    height, width = x.shape[2:]
    padded = F.pad(x, (0, 0, 2, 2), mode="reflect")
    x = sum(kernel[:, 0, i].view(-1, 1, 1, 1) * padded[:, :, i : i + height] for i in range(5))
    padded = F.pad(x, (2, 2, 0, 0), mode="reflect")
    return sum(kernel[:, 1, i].view(-1, 1, 1, 1) * padded[..., i : i + width] for i in range(5))


def _low_resolution(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Nearest to a smaller size, linear back."""
    n, size = len(x), x.shape[-1]
    small = (size * scale).round().view(n, 1)
    at = ((torch.arange(size, device=x.device) + 0.5) * small / size - 0.5).clamp_min(0)  # (n, size), small pixels
    before = at.floor()
    share = at - before
    for axis in (2, 3):
        lines = [
            ((torch.minimum(place, small - 1) + 0.5) * size / small).floor().long().clamp(max=size - 1)
            for place in (before, before + 1)
        ]
        shape = [n, 1, 1, 1]
        shape[axis] = size
        first, second = (x.gather(axis, line.view(shape).expand_as(x)) for line in lines)
        x = first + share.view(shape) * (second - first)
    return x


def _gamma(x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """With the mean and standard deviation that ``x`` has."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    extent = high - low
    y = ((x - low) / extent.clamp_min(1e-7)).clamp_min(1e-7).pow(gamma) * extent + low
    mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)
    return (y - y.mean((2, 3), keepdim=True)) * deviation / y.std((2, 3), keepdim=True).clamp_min(1e-7) + mean
