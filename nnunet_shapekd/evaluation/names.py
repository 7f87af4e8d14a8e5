"""Names of models, for tables and folders."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path


def check_names(names: Sequence[str]) -> None:
    """Names must differ and be good as folder names.

    Raises:
        ValueError: naming those that are not.
    """
    bad = [name for name in names if not re.fullmatch(r"[\w+()=,-][\w+()=, .-]*(?<![ .])", name)]
    bad += [name for name in names if name.casefold() in ("comparison.json", "comparison.csv", "by.csv")]
    if bad:
        raise ValueError(
            f"--names: {', '.join(map(repr, bad))} cannot name a model's folder; use letters, digits and _ + - = . only"
        )
    folded = [name.casefold() for name in names]  # some file systems do not tell A from a
    if twice := sorted({name for name in names if folded.count(name.casefold()) > 1}):
        raise ValueError(f"--names: every model needs a name of its own, got {', '.join(twice)} more than once")


def default_names(predictions: Sequence[Path]) -> list[str]:
    """Short names that tell prediction folders apart.

    For nnU-Net's ``.../TRAINER__PLANS__CONFIGURATION/fold_F/validation`` that is TRAINER, followed by whatever of the
    rest differs between models of one trainer; for other folders the last part of the path that differs.

    Args:
        predictions: folders, all different.
    """
    names, rests = [], []
    for path in predictions:
        parts = list(Path(os.path.abspath(path)).parts)
        training = next((i for i, part in reversed(list(enumerate(parts))) if len(part.split("__")) == 3), None)
        if training is None:
            names.append("")
            rests.append(parts[::-1])
        else:
            trainer, *plans_and_configuration = parts[training].split("__")
            names.append(trainer)
            rests.append([*plans_and_configuration, *parts[training + 1 :], *parts[:training][::-1]])
    for level in zip_longest(*rests, fillvalue=""):
        groups = {name: {part for n, part in zip(names, level, strict=True) if n == name} for name in names}
        alone = [bool(name) and names.count(name) == 1 for name in names]
        names = [
            name if done or len(groups[name]) == 1 else "_".join(filter(None, (name, part)))
            for name, part, done in zip(names, level, alone, strict=True)
        ]
    names = [name or path.name for name, path in zip(names, predictions, strict=True)]  # the only one of its kind
    return [re.sub(r"[^\w+=.-]+", "_", name).strip("_.") or "model" for name in names]
