"""What a report says about the training behind a model: its log and its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.report.tables import Cell, Table, text

#: the first that is there speaks for the run
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
CURVES = ("train_losses", "val_losses", "distillation_losses", "mean_fg_dice", "ema_fg_dice")


@dataclass(frozen=True)
class Run:
    """A training; ``remark`` says what is missing, and why."""

    log: Mapping[str, Sequence[float]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def is_teacher(self) -> bool:
        return self.provenance.get("role") == "teacher"


def read_run(evaluation: Evaluation, folder: Path | None = None) -> Run:
    """The training of a model, as far as it is known: in its fold folder, if that is given, or around ``validation``.

    Raises:
        FileNotFoundError, ValueError: if ``folder`` is given and has no readable checkpoint. One that is only found
            beside the predictions gives a remark instead.
    """
    place = folder or (evaluation.prediction.parent if evaluation.prediction.name == "validation" else None)
    path = next((place / name for name in CHECKPOINTS if (place / name).is_file()), None) if place else None
    if path is None and folder:
        raise FileNotFoundError(
            f"--run {evaluation.name}={folder}: there is none of {', '.join(CHECKPOINTS)}. Give a fold folder of "
            "nnU-Net's results, .../TRAINER__PLANS__CONFIGURATION/fold_0"
        )
    if path is None:
        return Run(remark=f"Not known: give --run {evaluation.name}=FOLD_FOLDER.")
    # torch takes seconds to import, and is needed here only
    from nnunet_shapekd.files.checkpoints import read_checkpoint
    from nnunet_shapekd.files.provenance import provenance_of

    try:
        provenance = provenance_of(path)
        logging = read_checkpoint(path).get("logging")
    except (OSError, ValueError) as error:
        if folder:
            raise
        return Run(remark=f"Not known: {error}")
    log, remark = _curves(logging)
    return Run(log, provenance, remark)


def _curves(logging: Any) -> tuple[dict[str, list[float]], str]:
    """Those of a checkpoint's curves that are numbers, and what is to be said about the rest ("" if nothing)."""
    if not isinstance(logging, Mapping):
        return {}, "No curves: the checkpoint holds no log."
    curves, odd = {}, []
    for key in (key for key in CURVES if key in logging):
        values = logging[key]
        if isinstance(values, (list, tuple)) and all(isinstance(value, (float, int, np.number)) for value in values):
            curves[key] = [float(value) for value in values]
        else:
            odd.append(key)
    return curves, f"Curves left out, as they are no lists of numbers: {', '.join(odd)}." if odd else ""


def provenance_table(evaluation: Evaluation, run: Run) -> Table:
    """What is known of a model, one fact a row."""
    facts: dict[str, Any] = {"predictions": evaluation.prediction, "references": evaluation.reference}
    for key, value in run.provenance.items():
        if isinstance(value, Mapping):
            facts.update(
                {f"{_label(key)}: {name if key == 'settings' else _label(name)}": v for name, v in value.items()}
            )
        else:
            facts[_label(key)] = value
    rows = [[text(name), _fact(name, value)] for name, value in facts.items() if value is not None]
    return Table(evaluation.name, [], rows)


def _label(name: str) -> str:
    from nnunet_shapekd.files.provenance import label  # imports torch, as whoever has a provenance has done already

    return {"role": "role in the distillation", "file": "checkpoint"}.get(name, label(name))


def _fact(name: str, value: Any) -> Cell:
    if isinstance(value, (list, tuple)):
        return Cell(str(len(value)), "", title=" ".join(map(str, value)))
    if name.endswith("SHA-256"):
        return Cell(f"{str(value)[:12]}…", "", title=str(value))
    return text(value)
