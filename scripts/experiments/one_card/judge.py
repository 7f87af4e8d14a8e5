"""Dice of many networks on whole stacks, on the stacks' own grids, as nnU-Net predicts them (without mirroring)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from data import Judged, Stacks
from ensemble import Ensemble


@torch.no_grad()
def dice(ensemble: Ensemble, stacks: Stacks, of: Judged, patch: int, autocast: torch.autocast) -> torch.Tensor:
    """Tiles half over one another weighted by a Gaussian, logits resampled linearly, the largest wins.

    Returns:
        ``(networks, 3)`` float32, of RV, MYO and LV; not a number where a structure is neither there nor predicted.
    """
    canvas, z = stacks.image.shape[-1], of.slices
    values = stacks.values(torch.arange(of.first, of.first + z, device=stacks.device))
    line = torch.arange(patch, device=stacks.device) - (patch - 1) / 2
    bell = torch.exp(-0.5 * (line / (patch / 8)) ** 2)
    bell = (bell[:, None] * bell).clamp_min(1e-4)
    size = [min(s, canvas) for s in of.shape]
    starts = [
        [(canvas - s) // 2, (canvas - s) // 2 + s - patch] if s > patch else [(canvas - patch) // 2] for s in size
    ]
    logits = torch.zeros(ensemble.n, z, 4, canvas, canvas, device=stacks.device)
    weight = torch.zeros(canvas, canvas, device=stacks.device)
    for y in starts[0]:
        for x in starts[1]:
            tile = values[..., y : y + patch, x : x + patch]
            with autocast:
                (finest, *_), _ = ensemble(tile.expand(ensemble.n, -1, -1, -1, -1))
            logits[..., y : y + patch, x : x + patch] += bell * finest.float()
            weight[y : y + patch, x : x + patch] += bell
    logits /= weight.clamp_min(1e-8)
    # from the canvas to the image; off the canvas is background
    whole = logits.new_zeros(ensemble.n, z, 4, *of.shape)
    whole[:, :, 0] = 10
    inside, source = [], []
    for full, part in zip(of.shape, size, strict=True):
        inside.append(slice((full - part) // 2, (full - part) // 2 + part))
        source.append(slice((canvas - part) // 2, (canvas - part) // 2 + part))
    whole[..., inside[0], inside[1]] = logits[..., source[0], source[1]]
    _, rows, columns = of.box
    grid = rows.stop - rows.start, columns.stop - columns.start
    predicted = of.original.new_zeros((ensemble.n, *of.original.shape))
    resampled = F.interpolate(whole.flatten(0, 1), grid, mode="bilinear").argmax(1).to(torch.uint8)
    predicted[(slice(None), *of.box)] = resampled.unflatten(0, (ensemble.n, z))
    axes = (1, 2, 3)
    return torch.stack(
        [
            2.0
            * ((predicted == k) & (of.original == k)).sum(axes)
            / ((predicted == k).sum(axes) + (of.original == k).sum())
            for k in (1, 2, 3)
        ],
        1,
    )
