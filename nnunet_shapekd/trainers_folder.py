"""Where this package's trainers lie, and the line that tells nnU-Net. Standard library alone."""

from __future__ import annotations

import importlib.util
import os
import shlex


def trainers_folder() -> str:
    """The installed folder of trainer classes, for the environment variable ``nnUNet_extTrainer``."""
    return os.path.dirname(importlib.util.find_spec("nnunet_shapekd.trainers").origin)


def export_line(shell: str, before: str | None) -> str:
    """The line that sets ``nnUNet_extTrainer`` in ``shell``.

    Args:
        shell: "bash" or "powershell".
        before: the variable's value so far; its folders are kept.
    """
    folders = [folder for folder in (before or "").split(os.pathsep) if folder and folder != trainers_folder()]
    value = os.pathsep.join([*folders, trainers_folder()])
    if shell == "powershell":
        quoted = value.replace("'", "''")
        return f"$env:nnUNet_extTrainer = '{quoted}'"
    return f"export nnUNet_extTrainer={shlex.quote(value)}"
