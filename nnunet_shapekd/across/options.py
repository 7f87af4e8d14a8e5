"""What ``shapekd cross`` and ``shapekd stress`` are told about models, predicting and judging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.problems import out_of_range


@dataclass(frozen=True)
class Predicting:
    """How cases are predicted.

    Attributes:
        folds: numbers, or "all", which predict together; by default all numbered folds that are there, or "all" where
            there is no other.
        checkpoint: name of the file in each fold's folder.
        device: "cuda", "cpu" or "mps".
        tta: mirroring, where the model was trained with it.
        prediction_processes: for reading and for writing each; 0 predicts one case after the other in this process. By
            default 3, nnU-Net's number, on a GPU, where the network is faster than they are, else 0.
    """

    folds: Sequence[str | int] | None = None
    checkpoint: str = "checkpoint_final.pth"
    device: str = "cuda"
    tta: bool = True
    prediction_processes: int | None = None

    def problems(self) -> list[str]:
        """What is wrong with its numbers."""
        return out_of_range(("-npp", self.prediction_processes, 0))


@dataclass(frozen=True)
class ModelOptions(Predicting):
    """Which models are judged, and how.

    Attributes:
        baselines: folders of models trained on the same dataset as the model; the first is what the others are compared
            with.
        names: of baselines and model, in this order; by default from their folders.
        leave_out: classes that are not judged.
        tolerance: see :func:`~nnunet_shapekd.evaluation.evaluate.evaluate_folders`.
        pattern: likewise.
        processes: likewise.
        ignore_origins: likewise.
    """

    baselines: Sequence[str | Path] = ()
    names: Sequence[str] | None = None
    leave_out: Sequence[str] = ()
    tolerance: float = 1.0
    pattern: str | None = None
    processes: int | None = None
    ignore_origins: bool = False

    def judging(self, **more: Any) -> Judging:
        """How predictions are judged; raises ValueError as that does."""
        shared = ("tolerance", "pattern", "processes", "ignore_origins")
        return Judging(**{name: getattr(self, name) for name in shared}, **more)


@dataclass(frozen=True)
class CrossOptions(ModelOptions):
    """Of :func:`~.cross.cross`.

    Attributes:
        part: "Tr" or "Ts"; by default Ts where there are labelsTs. Tr of the models' own dataset means the validation
            cases of each fold, predicted by that fold alone.
        ignore_channel_names: the channels' names may differ.
        by: see :class:`~nnunet_shapekd.evaluation.judging.Judging`; a dataset may lack some of the columns.
        seed: see :func:`~nnunet_shapekd.evaluation.compare.compare_evaluations`.
        resamples: likewise.
        confidence: likewise.
    """

    part: str | None = None
    ignore_channel_names: bool = False
    by: Sequence[str] = ()
    seed: int = 0
    resamples: int = 9999
    confidence: float = 0.95
