"""``shapekd stress``: models on the same images, shifted more and more, see :mod:`~nnunet_shapekd.stress.shifts`.

It stands in for a second dataset where there is none, and is no substitute: scanners differ in more than this.
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd import __version__
from nnunet_shapekd.across.predict import check_own, find_device, predict_cases
from nnunet_shapekd.across.tasks import PREDICTIONS, read_models
from nnunet_shapekd.evaluation.cases import labels_of_dataset
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.metrics import headlines
from nnunet_shapekd.evaluation.plausibility import cut_axis
from nnunet_shapekd.evaluation.record import Evaluation, columns
from nnunet_shapekd.evaluation.results import defined, mean_over_classes, per_patient, shared, write_csv, write_json
from nnunet_shapekd.evaluation.tables import aligned
from nnunet_shapekd.files.output import check_free, left_behind, new_folder
from nnunet_shapekd.stress.cases import (
    Subject,
    drawn,
    each_subject,
    find_subjects,
    normalisations,
    reference_of,
    unreadable,
)
from nnunet_shapekd.stress.shifts import (
    SEVERITIES,
    SHIFTS,
    Scene,
    read_image,
    seed_of,
    shifted,
    write_image,
)

#: in OUT, beside the predictions
RESULTS = "results"
#: name of what severity 0 is, which all shifts share
UNSHIFTED = "none"
#: in OUT, by which a later run knows it
MARK = f"{PREDICTIONS}/.shapekd-stress"
#: the normalisation after which nnU-Net's training and the sizes speak of the same intensities
Z_SCORE = "ZScoreNormalization"
#: the oldest that fits
TORCHIO = (1, 2)


def stress(
    model_folder: str | Path,
    images: str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    baselines: Sequence[str | Path] = (),
    names: Sequence[str] | None = None,
    shifts: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    invert: str | None = None,
    cases: int | None = None,
    all_cases: bool = False,
    seed: int = 0,
    leave_out: Sequence[str] = (),
    folds: Sequence[str | int] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cuda",
    tta: bool = True,
    prediction_processes: int | None = None,
    tolerance: float = 1.0,
    patients: str | Path | None = None,
    pattern: str | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Shift images, predict them with a model and its baselines, evaluate, and write tables and pictures.

    Args:
        model_folder: see :func:`~.model.read_model`.
        images: folder of CASE_0000 and so on, of the file ending the model was trained on.
        labels: folder of their references, in the model's label values; may hold more.
        out: new folder, or one of an earlier run, whose predictions are kept where they would be the same again.
        baselines: see :func:`~.tasks.read_models`.
        names: likewise.
        shifts: names in ``SHIFTS``; by default all, inversion where ``invert`` says of what.
        severities: of 1 to 4, by default all; 0, the images themselves, is always there.
        invert: a class (or its value) whose contrast to its surroundings the shift "inversion" weakens and turns round.
        cases: take patients, drawn by the seed, until there are so many cases; the last patient is taken whole, too.
        all_cases: judge training cases, too, see :func:`find_subjects`.
        seed: of the shifts' patterns and of the choice of cases.
        leave_out: classes that are not judged.
        folds: see :func:`~.model.read_model`; predict together, except for the models' own validation cases.
        checkpoint: likewise.
        device: see :func:`~.predict.predict_cases`.
        tta: likewise.
        prediction_processes: likewise ``processes``.
        tolerance: see :class:`~nnunet_shapekd.evaluation.evaluate.Judging`.
        patients: likewise.
        pattern: likewise.
        processes: likewise.

    Returns:
        What ``stress.json`` holds: the settings, and what :func:`over_patients` counts, with "means", one of each
        model, shift and severity: the headline metrics' means over patients.

    Raises:
        FileNotFoundError, ValueError: before anything is predicted, listing what is missing or does not fit together.
    """
    check_library()
    images, labels, out = Path(images), Path(labels), Path(os.path.abspath(out))
    check_own(out, MARK)
    check_free(out / RESULTS, "stress")
    find_device(device)
    models = read_models(model_folder, baselines, names, folds, checkpoint)
    model = list(models.values())[-1]
    known = labels_of_dataset(model.dataset_json)
    by_name = known.classes | {str(values[0]): values for values in known.classes.values() if len(values) == 1}
    inverted = by_name.get(invert, ())
    steps, problems = plan(shifts, severities, invert)
    if invert and not inverted:
        problems.append(f"--invert {invert}: no such class; there are {', '.join(known.classes)}")
    numbers = {"--cases": (cases, 1), "--seed": (seed, 0), "--tolerance": (tolerance, 0)}
    numbers |= {"-np": (processes, 1), "-npp": (prediction_processes, 0)}
    problems += (wrong := wrong_numbers(numbers))
    subjects, of_case, remarks, not_judged = [], {}, [], []
    with _listed(problems):
        not_judged = [name for name in known.classes if name not in known.without(leave_out).classes]
    with _listed(problems):
        subjects, of_case, remarks, found = find_subjects(images, labels, list(models.values()), all_cases)
        problems += found
    if subjects:
        with _listed(problems):
            number = (None, 0) if wrong else (cases, seed)
            subjects = drawn(subjects, labels, *number, patients, pattern)
        problems += unreadable(subjects, labels, model, not_judged, processes)
    if problems:
        raise ValueError("".join(["nothing was predicted:", *(f"\n  - {problem}" for problem in problems)]))

    schemes = sorted({scheme for one in models.values() for scheme in normalisations(one)})
    marked = schemes == [Z_SCORE]
    if not marked:
        remarks.append(
            f"Not marked is what nnU-Net trains with: the models normalise with {', '.join(schemes)}, and sizes "
            "compare with training's only where each image's channels are brought to mean 0 and sd 1"
        )
    for remark in remarks:
        print(remark)
    (out / MARK).parent.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    evaluations: dict[tuple[str, str, int], Evaluation] = {}
    judging = Judging(
        leave_out=leave_out, tolerance=tolerance, patients=patients, pattern=pattern, chill=True, processes=processes
    )
    for i, (shift, severity) in enumerate(steps, start=1):
        print(f"[{i}/{len(steps)}] {shift if severity == 0 else f'{shift} {severity}'}", flush=True)
        with _images_folder(out / PREDICTIONS) as folder:
            work = partial(_shift, folder=folder, shift=shift, severity=severity, seed=seed, values=inverted)
            each_subject(work, subjects, processes, "Shifting")
            files = {subject.case: [folder / path.name for path in subject.images] for subject in subjects}
            for name, one in models.items():
                predicted = out / PREDICTIONS / name / f"{shift}_{severity}"
                predicted.parent.mkdir(exist_ok=True)
                options = {"folds": of_case, "device": device, "tta": tta, "processes": prediction_processes}
                predict_cases(one, files, predicted, **options)
                here = replace(judging, dataset_json=one.folder / "dataset.json")
                evaluations[name, shift, severity] = evaluate_folders(labels, predicted, here, name=name)
    first = next(iter(evaluations.values()))
    values, counts = over_patients(evaluations)
    result = {
        "models": [
            {
                "name": name,
                "folder": str(one.folder),
                "trainer": one.trainer,
                "checkpoint": checkpoint,
                "weights_sha256": one.weights_sha256,
                "tta": tta,
            }
            for name, one in models.items()
        ],
        "images": str(images.resolve()),
        "labels": str(labels.resolve()),
        "cases": [subject.case for subject in subjects],
        **counts,
        "classes": list(first.classes),
        "distance_unit": first.distance_unit,
        "remarks": remarks,
        "seed": seed,
        "inverted": invert,
        "normalisation": schemes,
        "means": [
            {
                "model": name,
                "shift": shift,
                "severity": severity,
                "value": _size(shift, severity),
                **{metric: float(found.mean()) if len(found) else None for metric, found in of_metric.items()},
            }
            for (name, shift, severity), of_metric in values.items()
        ],
        "versions": {
            "nnunet_shapekd": __version__,
            **{name: version(name) for name in ("torchio", "batchgeneratorsv2")},
        },
    }
    with new_folder(out / RESULTS, kind="stress") as folder:
        _write(evaluations, values, result, folder)
        (folder / "examples.png").write_bytes(_examples(subjects[0], steps, seed, inverted, marked))
    return result


def plan(
    shifts: Sequence[str] | None, severities: Sequence[int] | None, invert: str | None
) -> tuple[list[tuple[str, int]], list[str]]:
    """Shift and severity of every step, the unshifted images first; and what is wrong with the arguments."""
    names = list(dict.fromkeys(SHIFTS if shifts is None else shifts))
    if shifts is None and not invert:
        names.remove("inversion")
    levels, problems = sorted(set(SEVERITIES[1:] if severities is None else severities)), []
    if unknown := [name for name in names if name not in SHIFTS]:
        problems.append(f"--shifts: expected some of {', '.join(SHIFTS)}, got {', '.join(unknown)}")
    if not levels or not set(levels) <= set(SEVERITIES[1:]):
        problems.append(f"--severities: expected some of 1 to {SEVERITIES[-1]}, got {', '.join(map(str, levels))}")
    if "inversion" in names and not invert:
        problems.append("--shifts inversion: name the class to invert with --invert")
    if invert and "inversion" not in names:
        problems.append(f"--invert {invert}: is for the shift inversion, which is not among --shifts")
    return [(UNSHIFTED, 0), *((name, level) for name in names for level in levels)], problems


def wrong_numbers(arguments: Mapping[str, tuple[float | None, int]]) -> list[str]:
    """What is wrong with arguments, option -> value and the least it may be; None is always right."""
    return [
        f"{option}: expected {least} or more, got {value}"
        for option, (value, least) in arguments.items()
        if value is not None and not (math.isfinite(value) and value >= least)
    ]


def check_library() -> None:
    """Raises ValueError, with what to type, where TorchIO is not installed, or too old."""
    try:
        import torchio  # noqa: F401

        found = version("torchio")
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < TORCHIO:
            raise ImportError(f"this is {found}")
    except ImportError as error:
        raise ValueError(f"shapekd stress needs TorchIO ({error}): pip install 'torchio>=1.2,<2'") from None


@contextmanager
def _listed(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        problems.append(str(error))


@contextmanager
def _images_folder(predictions: Path) -> Iterator[Path]:
    """A folder for shifted images, which lives as long as they are predicted; what killed runs left is removed."""
    stem = predictions / f".images-{platform.node()}-"
    for leftover in left_behind(stem):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = stem.with_name(f"{stem.name}{os.getpid()}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shift(subject: Subject, folder: Path, shift: str, severity: int, seed: int, values: Sequence[int]) -> None:
    """Write a case's shifted files; those of severity 0 are the very files."""
    for channel, path in enumerate(subject.images):
        if severity == 0:
            shutil.copyfile(path, folder / path.name)
            continue
        image = read_image(path)
        scene = _scene(subject, image.spacing, shift, seed, channel, values)
        write_image(shifted(image.values, shift, severity, scene), image, folder / path.name)


def _scene(
    subject: Subject,
    spacing: tuple[float, float, float],
    shift: str,
    seed: int,
    channel: int,
    values: Sequence[int],
) -> Scene:
    mask = np.isin(reference_of(subject), values) if shift == "inversion" else None
    return Scene(spacing, seed_of(subject.case, shift, seed), channel, mask)


def _size(shift: str, severity: int) -> float | None:
    return SHIFTS[shift].values[severity - 1] if severity else None


def over_patients(
    evaluations: Mapping[tuple[str, str, int], Evaluation],
) -> tuple[dict[tuple[str, str, int], dict[str, np.ndarray]], dict[str, Any]]:
    """Every step's headline metrics, of the same structures: those that have a value in all steps of all models.

    Args:
        evaluations: of each model, shift and severity, of the same references.

    Returns:
        For each of them metric -> one value a patient: the mean over classes within a case, then over the patient's
        cases. And how many cases and patients these are, and how many structures that are not there were predicted
        (and left out): by some model at some step ("n_invented"), and by each of the models ("invented").
    """
    keys, n_invented = shared(evaluations.values())
    invented: dict[str, set[tuple[str, str]]] = {}
    for (name, *_), evaluation in evaluations.items():
        invented.setdefault(name, set()).update(defined(evaluation) - keys)
    values = {
        step: {one.key: per_patient(evaluation, mean_over_classes(evaluation, one.key, keys)) for one in headlines()}
        for step, evaluation in evaluations.items()
    }
    return values, {
        "n_cases": len({case for case, _ in keys}),
        "n_patients": len(next(iter(values.values()))["dice"]),
        "n_invented": n_invented,
        "invented": {name: len(found) for name, found in invented.items()},
    }


def in_training(shift: str, severity: int, marked: bool) -> str:
    """Whether nnU-Net trains with a shift of this severity; nothing where sizes do not compare."""
    if severity == 0:
        return "yes"
    if SHIFTS[shift].trained is None:
        return "no"
    return ("yes" if severity == 1 else "no") if marked else ""


def _write(
    evaluations: Mapping[tuple[str, str, int], Evaluation],
    of_patients: Mapping[tuple[str, str, int], Mapping[str, np.ndarray]],
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write tables and curves."""
    from nnunet_shapekd.drawing import png
    from nnunet_shapekd.stress.pictures import curves

    first = next(iter(evaluations.values()))
    header = ("model", "shift", "severity", "value", "in_training", *(first.header(key) for key in columns()))
    rows = []
    for (name, shift, severity), evaluation in evaluations.items():
        what = (name, shift, severity, _size(shift, severity), in_training(shift, severity, _marked(result)))
        rows += [(*what, *(row[key] for key in columns())) for row in evaluation.rows]
    write_csv(folder / "stress.csv", header, rows)
    write_json(folder / "stress.json", result)
    (folder / "stress.md").write_text(
        "\n".join([*result["remarks"], "```", *lines(result), "```", ""]), encoding="utf-8"
    )
    kinds = [shift for shift in dict.fromkeys(shift for _, shift, _ in evaluations) if shift != UNSHIFTED]
    for metric in headlines():
        values: dict[str, dict[str, dict[int, np.ndarray]]] = {
            kind: {model["name"]: {} for model in result["models"]} for kind in kinds
        }
        for (name, shift, severity), of_metric in of_patients.items():
            for kind in kinds if shift == UNSHIFTED else [shift]:
                values[kind][name][severity] = metric.factor * of_metric[metric.key]
        figure = curves(values, metric.label(result["distance_unit"]), result["n_patients"], _marked(result))
        (folder / f"{metric.key}.png").write_bytes(png(figure))


def _marked(result: Mapping[str, Any]) -> bool:
    """Whether it is shown how strong nnU-Net's training makes a shift."""
    return result["normalisation"] == [Z_SCORE]


def _examples(
    subject: Subject, steps: Sequence[tuple[str, int]], seed: int, values: Sequence[int], marked: bool
) -> bytes:
    """Every shift and severity of the slice with the most foreground, as the bytes of a PNG file."""
    from nnunet_shapekd.drawing import png
    from nnunet_shapekd.stress.pictures import examples

    image, reference = read_image(subject.images[0]), reference_of(subject) != 0
    picture, across = image.header is None, cut_axis(image.values.shape[1:], image.spacing)
    within = tuple(axis for axis in range(3) if axis != across)
    number = int(reference.sum(within).argmax())
    low, high = np.percentile(image.values, (0.5, 99.5))

    def window(volume: np.ndarray) -> np.ndarray:
        cut = np.take(volume, number, axis=across + 1)  # (channels, first axis, second axis)
        cut = np.clip((cut - low) / max(float(high - low), 1e-6), 0, 1)
        cut = np.moveaxis(cut, 0, -1) if picture else cut.transpose(2, 1, 0)
        return cut[..., 0] if cut.shape[-1] == 1 else cut

    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for shift, severity in steps[1:]:
        scene = _scene(subject, image.spacing, shift, seed, 0, values)
        row = rows.setdefault(shift, [("the image", window(image.values.astype(np.float32)))])
        title = f"{severity}: {_size(shift, severity):g}"
        if marked and severity == 1 and SHIFTS[shift].trained:
            title += " (as in training)"
        row.append((title, window(shifted(image.values, shift, severity, scene))))
    first, second = (image.spacing[axis] for axis in within)
    caption = f"{subject.case}; severity and size; brightness as in the image itself, nnU-Net normalises each anew"
    return png(examples(rows, 1.0 if picture else second / first, caption))


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The tables that ``shapekd stress`` prints."""
    of = {(row["model"], row["shift"], row["severity"]): row for row in result["means"]}
    levels = sorted({severity for _, _, severity in of})
    judged = f"{result['n_cases']} cases of {result['n_patients']} patients"
    yield f"{judged}; mean over {', '.join(result['classes'])}, then over patients, by severity."
    if result["n_invented"]:
        each = ", ".join(f"{count} by {name}" for name, count in result["invented"].items())
        yield f"Without {result['n_invented']} structures that are not there and were predicted at some step: {each}."
    known = "nnU-Net trains with shifts up to severity 1 where there is a *, and with no others"
    yield f"0 is the image itself; {known}." if _marked(result) else "0 is the image itself."
    for metric in headlines():
        table = [["", *map(str, levels)]]
        for shift in (kind for kind in dict.fromkeys(key[1] for key in of) if kind != UNSHIFTED):
            for model in result["models"]:
                found = [of[model["name"], shift if level else UNSHIFTED, level][metric.key] for level in levels]
                cells = ["–" if value is None else f"{metric.factor * value:.1f}" for value in found]
                mark = "*" if _marked(result) and SHIFTS[shift].trained else " "
                table.append([f"{shift:14} {mark}  {model['name']}", *cells])
        yield ""
        yield f"{metric.label(result['distance_unit'])}, {metric.better} is better"
        yield from aligned(table)


def run(model_folder: str, images: str, labels: str, out: str, **options: Any) -> int:
    """``shapekd stress``: print what :func:`stress` found; returns the exit code 0."""
    result = stress(model_folder, images, labels, out, **options)
    print()
    print("\n".join(lines(result)))
    curves = ", ".join(f"{metric.key}.png" for metric in headlines())
    print(f"\nWritten to {os.path.join(out, RESULTS)}: stress.csv, .json and .md, {curves}, examples.png")
    return 0
