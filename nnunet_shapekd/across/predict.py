"""Predicting with a trained model folder of nnU-Net's, through nnU-Net, so that a killed run loses little."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.options import Predicting
from nnunet_shapekd.files.images import TIFF_VOLUMES
from nnunet_shapekd.files.names import case_name, some
from nnunet_shapekd.files.output import new_file, scratch_folder
from nnunet_shapekd.training.devices import find_device

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

#: in a folder of predictions: which weights and images made them
RECORD = "predictions.json"
#: in a folder of predictions: those of cases that were not asked for last time
_ASIDE = ".aside"
#: cases between two records where worker processes help, which take seconds to start
_AT_ONCE = 32


def check_own(out: Path, holds: str) -> None:
    """Raises ValueError for a folder that is not empty and lacks what an earlier run has put there."""
    if out.exists() and not (out / holds).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already and is left as it is, as it holds no {holds} of an earlier run")


def predict_cases(
    model: Model,
    images: Mapping[str, Sequence[Path]],
    out: Path,
    options: Predicting,
    folds: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Predict cases into a folder that holds exactly these afterwards, one file a case, and ``dataset.json``.

    A prediction that is there already is kept if ``out``'s record says that the same weights made it of the same image
    files, with the same settings. A file appears when it is complete. Earlier predictions of cases that are not asked
    for now step aside, into a folder within, until they are asked for again.

    Args:
        model: of :func:`~.model.read_model`.
        images: case -> its files, a channel each (or one file of all channels, for colour pictures).
        out: new or empty folder, or one of earlier predictions.
        options: say the device, mirroring and processes.
        folds: case -> the folds that predict it; by default all of the model's.

    Raises:
        ValueError: if ``out`` holds something else, or its record what is no case's name; if the device is not there,
            or nnU-Net fails.
    """
    check_own(out, RECORD)
    device, processes = find_device(options.device, "predict"), options.prediction_processes
    processes = (3 if device.type == "cuda" else 0) if processes is None else processes
    folds = folds or dict.fromkeys(images, model.folds)
    out.mkdir(parents=True, exist_ok=True)
    before = _read_record(out / RECORD)
    _write(out / RECORD, before)
    aside = {}
    for case, made in before.items():
        source, target = (out / _ASIDE, out) if case in images else (out, out / _ASIDE)
        if _file(model, source, case).is_file():
            target.mkdir(exist_ok=True)
            _move(model, case, source, target)
        if case not in images and _file(model, target, case).is_file():
            aside[case] = made
    _write(out / "dataset.json", model.dataset_json)
    wanted = {
        case: {
            "weights_sha256": [model.weights_sha256[fold] for fold in folds[case]],
            "tta": options.tta,
            "images_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        }
        for case, files in images.items()
    }
    kept = {
        case: made for case, made in before.items() if wanted.get(case) == made and _file(model, out, case).is_file()
    }
    for path in out.iterdir():
        if path.name.endswith(model.file_ending) and path.name.removesuffix(model.file_ending) not in kept:
            path.unlink()
    _write(out / RECORD, aside | kept)
    todo: dict[tuple[str, ...], list[str]] = {}
    for case in sorted(images.keys() - kept.keys()):
        todo.setdefault(tuple(folds[case]), []).append(case)
    already = f" ({len(kept)} are there already)" if kept else ""
    n_cases, at_once = sum(map(len, todo.values())), _AT_ONCE if processes else 1
    with tqdm(total=n_cases, desc=f"Predicting{already}", file=sys.stderr, disable=not todo) as bar:
        for chosen, cases in sorted(todo.items()):
            predictor = _predictor(model, chosen, device, options.tta)
            for some_cases in (cases[start : start + at_once] for start in range(0, len(cases), at_once)):
                with scratch_folder(out / ".partial") as building:
                    _run(predictor, {case: images[case] for case in some_cases}, building, processes)
                    absent = [case for case in some_cases if not _file(model, building, case).is_file()]
                    if absent:
                        raise ValueError(f"nnU-Net made no prediction of {some(absent)}, without saying why.")
                    for case in some_cases:
                        _move(model, case, building, out)
                kept |= {case: wanted[case] for case in some_cases}
                _write(out / RECORD, aside | kept)
                bar.update(len(some_cases))


def _file(model: Model, folder: Path, case: str) -> Path:
    return folder / f"{case}{model.file_ending}"


def _move(model: Model, case: str, source: Path, target: Path) -> None:
    """Move a prediction, and the JSON that holds a TIFF's spacing: first, as the prediction counts when it is there."""
    file = _file(model, source, case)
    if model.reader == TIFF_VOLUMES and (beside := file.with_name(f"{file.stem}.json")).is_file():
        os.replace(beside, target / beside.name)
    os.replace(file, _file(model, target, case))


def _read_record(path: Path) -> dict[str, Any]:
    """Case -> what made its prediction; empty if there is no record that can be read.

    Raises:
        ValueError: for what is no case's name: predictions are moved by it.
    """
    content = None
    with contextlib.suppress(FileNotFoundError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
    return {case_name(case, path): made for case, made in content.items()} if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with new_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _predictor(model: Model, folds: Sequence[str], device: Any, tta: bool) -> nnUNetPredictor:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from nnunet_shapekd.files.checkpoints import only_weights_and_values

    with contextlib.redirect_stdout(io.StringIO()), only_weights_and_values():
        predictor = nnUNetPredictor(
            use_mirroring=tta, perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
        )
        try:
            predictor.initialize_from_trained_model_folder(
                str(model.folder), tuple(folds), checkpoint_name=model.checkpoint
            )
        except (RuntimeError, LookupError, TypeError) as error:
            raise ValueError(f"{model.folder} cannot be loaded by nnU-Net: {error}") from error
    return predictor


def _run(predictor: nnUNetPredictor, images: Mapping[str, Sequence[Path]], out: Path, processes: int) -> None:
    """One call of nnU-Net's, without its remarks."""
    files = [[str(path) for path in paths] for paths in images.values()]
    targets = [str(out / case) for case in images]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            if processes:
                predictor.predict_from_files(
                    files, targets, num_processes_preprocessing=processes, num_processes_segmentation_export=processes
                )
            else:
                predictor.predict_from_files_sequential(files, targets)
    except (RuntimeError, AssertionError, LookupError, ValueError, OSError) as error:
        # an unreadable image, too many channels, a full device
        raise ValueError(f"nnU-Net could not predict {some(list(images))}: {error or type(error).__name__}") from error
