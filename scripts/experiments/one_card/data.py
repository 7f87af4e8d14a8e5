"""The packed stacks on a device, and patches drawn from them as nnU-Net's data loader draws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from runs import odd

#: places of a class's pixels that are kept for each stack
PLACES = 256


@dataclass
class Judged:
    """A stack to judge networks on."""

    place: str
    case: str
    first: int  # of its slices
    slices: int
    shape: tuple[int, int]  # before the canvas, rows and columns
    box: tuple[slice, slice, slice]  # of the original label map
    original: torch.Tensor  # (z, rows, columns) uint8


class Stacks:
    """All stacks of a packed file.

    Args:
        path: of the file.
        device: where images ``(slices, canvas, canvas)`` and labels are kept.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        packed = np.load(path)
        index = json.loads(packed["index"].tobytes())
        self.splits, self.device = index["splits"], device
        images, labels, scales, self.judged, places, first = [], [], [], [], [], 0
        chosen = np.random.default_rng(0)
        for i, (place, case) in enumerate(index["stacks"]):
            image, label = packed[f"{i:04d}/image"], packed[f"{i:04d}/labels"]
            rows, columns, y0, y1, x0, x1, z0, z1 = map(int, packed[f"{i:04d}/shape"])
            box = slice(z0, z1), slice(y0, y1), slice(x0, x1)
            original = torch.from_numpy(packed[f"{i:04d}/original"]).to(device)
            self.judged.append(Judged(place, case, first, len(image), (rows, columns), box, original))
            images.append(image)
            labels.append(label)
            scales += [packed[f"{i:04d}/scale"]] * len(image)
            table = np.zeros((3, PLACES, 3), np.int64)
            for k in (1, 2, 3):
                found = np.argwhere(label == k)
                if len(found):
                    table[k - 1] = found[chosen.integers(0, len(found), PLACES)] + [first, 0, 0]
            places.append(table)
            first += len(image)
        self.image = torch.from_numpy(np.concatenate(images)).to(device)
        self.label = torch.from_numpy(np.concatenate(labels)).to(device)
        self.scale = torch.from_numpy(np.array(scales)).to(device)  # (slices, 2)
        self.places = torch.from_numpy(np.stack(places)).to(device)  # (stacks, 3, PLACES, 3)
        self.first = torch.tensor([one.first for one in self.judged], device=device)
        self.slices = torch.tensor([one.slices for one in self.judged], device=device)
        self.shapes = torch.tensor([one.shape for one in self.judged], device=device)
        self.where = {(one.place, one.case): i for i, one in enumerate(self.judged)}

    def training(self, data: str) -> list[int]:
        """Stacks that a run is trained on, by the name of its data."""
        place, _, fold = data.partition("-")
        if fold:
            return [self.where[place, case] for case in self.splits[int(fold)]["train"]]
        return [i for i, one in enumerate(self.judged) if one.place == place and odd(one.case)]

    def values(self, slices: torch.Tensor) -> torch.Tensor:
        """``(n,)`` -> normalised intensities ``(n, 1, canvas, canvas)`` float32."""
        low, high = self.scale[slices].view(-1, 2, 1, 1, 1).unbind(1)
        return low + (high - low) / 255 * self.image[slices][:, None].float()

    def draw(self, pool: torch.Tensor, pool_size: torch.Tensor, u: torch.Tensor, patch: int, forced: torch.Tensor):
        """Where patches lie: a stack, then a slice and a place in it, anywhere or at a pixel of a class.

        Args:
            pool: ``(n, most)`` int64, stacks of each sample's training.
            pool_size: ``(n,)`` how many of them.
            u: ``(n, 4)`` uniform.
            patch: size in pixels.
            forced: ``(n,)`` bool, whether a class has to be there.

        Returns:
            Slices ``(n,)`` int64 and centres ``(n, 2)`` float, rows and columns on the canvas.
        """
        stack = pool.gather(1, (u[:, :1] * pool_size[:, None]).long())[:, 0]
        anywhere = self.first[stack] + (u[:, 1] * self.slices[stack]).long()
        size = self.shapes[stack].clamp(max=self.image.shape[-1]).float()  # (n, 2)
        start = (self.image.shape[-1] - size) / 2
        low = start + torch.minimum(size / 2, torch.full_like(size, patch / 2))
        centre = (low + u[:, 2:4] * (size - patch).clamp_min(0)).floor()
        kind, place = (u[:, 1] * 3).long(), (u[:, 2] * PLACES).long()
        at = self.places[stack, kind, place]  # (n, 3); all ACDC and MSCMRseg stacks hold all classes
        return (
            torch.where(forced, at[:, 0], anywhere),
            torch.where(forced[:, None], torch.maximum(at[:, 1:].float(), low.floor()), centre),
        )
