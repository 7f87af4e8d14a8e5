"""The devices there are, for whatever asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def find_device(device: str, purpose: str) -> torch.device:
    """The torch.device of that name.

    Args:
        device: "cpu", "cuda" or "mps".
        purpose: "train" or "predict", for the error message.

    Raises:
        ValueError: if there is no such device here.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        raise ValueError(
            f"-device {device}: PyTorch finds no such device here. {purpose.title()} on the CPU with -device cpu."
        )
    return torch.device(device)
