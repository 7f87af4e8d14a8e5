"""What a checkpoint says about where it comes from. Nothing in the file is run."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_shapekd.files.checkpoints import read_checkpoint, weights_sha256


def provenance_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint of nnU-Net's records about itself.

    Args:
        path: a teacher's, a student's or any other trainer's ``checkpoint_*.pth``.

    Returns:
        "file", "role" ("teacher", "student" or ``None`` for a file without this package's entry), "package_version",
        "trainer", "network_trainer" (the class nnU-Net rebuilds the network with), "dataset", "plans", "configuration",
        "fold", "epochs" (trained), "settings", "teacher", "training_cases", "validation_cases" and "weights_sha256" of
        the file's own network. ``None`` stands for what is not recorded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, unsafe, damaged, or no checkpoint of nnU-Net's.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(_folder_message(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on how a foreign file was pickled
        checkpoint = read_checkpoint(path)
    try:
        own_sha256 = weights_sha256(checkpoint["network_weights"])
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError):  # missing, or not names with plain tensors
        raise ValueError(
            f"{path} is no checkpoint of nnU-Net: it has no network_weights as nnU-Net saves them."
        ) from None
    init_args = _mapping(checkpoint.get("init_args"))
    plans = _mapping(init_args.get("plans"))
    entry = _mapping(checkpoint.get("shapekd"))
    network_trainer = checkpoint.get("trainer_name")
    return {
        "file": str(path.resolve()),
        "role": entry.get("role"),
        "package_version": entry.get("package_version"),
        # a student's file names nnU-Net's own trainer in trainer_name; version 0.1.0 did not record its own name
        "trainer": entry.get("trainer", None if entry.get("role") == "student" else network_trainer),
        "network_trainer": network_trainer,
        "dataset": plans.get("dataset_name"),
        "plans": plans.get("plans_name"),
        "configuration": init_args.get("configuration"),
        "fold": init_args.get("fold"),
        "epochs": checkpoint.get("current_epoch"),
        "settings": entry.get("settings"),
        "teacher": entry.get("teacher"),
        "training_cases": entry.get("training_cases"),
        "validation_cases": entry.get("validation_cases"),
        "weights_sha256": own_sha256,
    }


def label(name: str) -> str:
    """A recorded name for a reader."""
    return str(name).replace("_", " ").replace("sha256", "SHA-256")


def _mapping(value: Any) -> Mapping[str, Any]:
    """``value``, or nothing if a foreign file holds something else there."""
    return value if isinstance(value, Mapping) else {}


def _folder_message(folder: Path) -> str:
    found = sorted([*folder.glob("checkpoint_*.pth"), *folder.glob("fold_*/checkpoint_*.pth")])
    if not found:
        return f"{folder} is a folder without checkpoints. Give a checkpoint_*.pth of nnU-Net's."
    return f"{folder} is a folder. Give one of its files: {', '.join(str(path) for path in found)}"
