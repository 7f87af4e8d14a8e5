"""``shapekd report``: one HTML page, and its pictures as files, of one or several evaluated models."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nnunet_shapekd import __version__, drawing
from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.compare import COLUMNS, FILE, differences
from nnunet_shapekd.evaluation.metrics import empty_rule, headlines
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import describe, mean_over_classes, read_evaluation
from nnunet_shapekd.evaluation.verdict import is_teacher
from nnunet_shapekd.files.output import new_folder
from nnunet_shapekd.report import pictures, tables
from nnunet_shapekd.report.runs import Run, provenance_table, read_run


def write_report(
    evaluations: Sequence[Evaluation],
    comparison: Mapping[str, Any] | None,
    out: Path,
    images: Path | None = None,
    runs: Mapping[str, Path] | None = None,
) -> Path:
    """Write ``out``/index.html, which needs no other file, and its pictures as ``out``/figures/*.png.

    Args:
        evaluations: of the models, with the same references, cases and classes.
        comparison: ``compare_evaluations``'s, whose models come first, in its order; ``None``: side by side, without
            statistics.
        out: a new or empty folder, or one of an earlier report, which is replaced.
        images: folder of CASE_0000 images; by default imagesTr beside a reference folder labelsTr (Ts: likewise).
        runs: model -> fold folder of its training; by default the one around a prediction folder ``validation``.

    Returns:
        The page's path.

    Raises:
        ValueError: if the evaluations do not belong together (all differences are listed), ``runs`` names another
            model, or ``out`` holds something else.
        FileNotFoundError: if ``images`` or a run is not there.
    """
    evaluations = _in_order(evaluations, comparison)
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"--images {images} is no folder. Give the one that holds the CASE_0000 images.")
    if unknown := sorted(set(runs or {}) - {e.name for e in evaluations}):
        given = ", ".join(f"{name}=..." for name in unknown)
        raise ValueError(f"--run {given}: no such model; there are {', '.join(e.name for e in evaluations)}.")
    with new_folder(out, kind="report") as folder:
        trainings = {e.name: read_run(e, (runs or {}).get(e.name)) for e in evaluations}
        (folder / "figures").mkdir()
        content = _content(evaluations, comparison, images, trainings)
        for picture in content["pictures"]:
            (folder / "figures" / picture.file).write_bytes(picture.data)
        (folder / "index.html").write_text(_render(content), encoding="utf-8")
    return out / "index.html"


def run(
    evaluations: Sequence[str | Path], out: str | Path, images: str | Path | None = None, runs: Sequence[str] = ()
) -> int:
    """``shapekd report``, of folders that evaluate or compare wrote; ``runs`` are ``NAME=FOLD_FOLDER`` each.

    Raises:
        ValueError, FileNotFoundError: as :func:`read_folders` and :func:`write_report`.
    """
    fold_folders: dict[str, Path] = {}
    for entry in runs:
        name, equals, fold_folder = entry.partition("=")
        if not (name and equals and fold_folder):
            raise ValueError(f"--run {entry}: expected NAME=FOLD_FOLDER")
        if name in fold_folders:
            raise ValueError(f"--run {name}=... is given twice")
        fold_folders[name] = Path(fold_folder).absolute()
    read, comparison = read_folders([Path(folder) for folder in evaluations])
    page = write_report(read, comparison, Path(out), None if images is None else Path(images), fold_folders)
    print(f"Wrote {page}")
    return 0


def read_folders(folders: Sequence[Path]) -> tuple[list[Evaluation], dict[str, Any] | None]:
    """The evaluations in what ``shapekd evaluate`` and ``shapekd compare`` wrote, and the comparison, if one is there.

    Raises:
        FileNotFoundError: if a folder is neither.
        ValueError: if two of them are comparisons, or one is damaged or not of the evaluations in its folder.
    """
    evaluations, comparisons = [], []
    for folder in folders:
        if (folder / FILE).is_file():
            comparison = _read_comparison(folder / FILE)
            compared = [read_evaluation(folder / name) for name in comparison["models"]]
            if (names := [e.name for e in compared]) != comparison["models"]:
                raise ValueError(
                    f"{folder / FILE} compares {', '.join(comparison['models'])}, but the evaluations in their folders "
                    f"are of {', '.join(names)}: run shapekd compare again"
                )
            comparisons.append(comparison)
            evaluations += compared
        elif (folder / "summary.json").is_file():
            evaluations.append(read_evaluation(folder))
        else:
            raise FileNotFoundError(
                f"{folder} holds neither summary.json nor {FILE}: give the -o folder of shapekd evaluate or "
                "of shapekd compare"
            )
    if len(comparisons) > 1:
        raise ValueError("two of the folders are comparisons: give one, or run shapekd compare with all models")
    return evaluations, comparisons[0] if comparisons else None


def _read_comparison(path: Path) -> dict[str, Any]:
    """A comparison.json that has all a page needs; raises ValueError if it is damaged."""
    names = ("model", "class", "metric", "note")
    try:
        comparison = json.loads(path.read_text(encoding="utf-8"))
        by_value, listed = comparison.get("by", []), comparison.get("patient_differences", [])
        rows = comparison["rows"] + by_value
        texts = [comparison["baseline"], *comparison["models"], *comparison["notes"]]
        texts += [verdict["text"] for verdict in comparison["verdicts"]]
        texts += [row[key] for row in rows for key in names] + [row[key] for row in by_value for key in by.KEYS]
        texts += [entry[key] for entry in listed for key in ("model", "class", "metric", "patient")]
        numbers = [comparison["confidence"], *(entry["difference"] for entry in listed)]
        numbers += [row[key] for row in rows for key in COLUMNS if key not in names and row[key] is not None]
        whole = isinstance(comparison["models"], list) and comparison["baseline"] in comparison["models"]
        whole &= all(isinstance(text, str) for text in texts) and all(isinstance(n, (int, float)) for n in numbers)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged, or of another version: run `shapekd compare` again")
    return comparison


def _in_order(evaluations: Sequence[Evaluation], comparison: Mapping[str, Any] | None) -> list[Evaluation]:
    """The models of the comparison in its order, then the others; raises ValueError if they do not belong together."""
    if not evaluations:
        raise ValueError("no evaluation is given: give the -o folder of shapekd evaluate or of shapekd compare")
    names = [e.name for e in evaluations]
    compared = list(comparison["models"]) if comparison else []
    if lacking := [name for name in compared if name not in names]:
        raise ValueError(f"of the comparison's models {', '.join(lacking)} is missing; there are {', '.join(names)}")
    problems = [
        f"{names.count(name)} models are called {name}: evaluate with another --name"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    problems += [line for other in evaluations[1:] for line in differences(evaluations[0], other)]
    if problems:
        raise ValueError("these evaluations do not belong on one page:\n  " + "\n  ".join(problems))
    return sorted(evaluations, key=lambda e: compared.index(e.name) if e.name in compared else len(compared))


def _content(
    evaluations: Sequence[Evaluation],
    comparison: Mapping[str, Any] | None,
    images: Path | None,
    trainings: Mapping[str, Run],
) -> dict[str, Any]:
    """All the template needs, and "pictures", which become files."""
    first = evaluations[0]
    teachers = [e.name for e in evaluations if trainings[e.name].is_teacher or is_teacher(e)]
    # a teacher's cases say nothing, unless there is nothing else
    chosen_by = ([e.name for e in evaluations if e.name not in teachers] or [e.name for e in evaluations])[-1]
    content: dict[str, Any] = {
        "evaluations": evaluations,
        "models": [e.name for e in evaluations],
        "classes": list(first.classes),
        "n_cases": len(first.patients),
        "n_patients": len(set(first.patients.values())),
        "comparison": comparison,
        "summaries": [_summary(e) for e in evaluations],
        "teachers": teachers,
        "chosen_by": chosen_by,
        "metrics": [tables.metrics_table(e) for e in evaluations],
        "by_value": [tables.metrics_table(alone) for e in evaluations for alone in _by_value(e)],
        "empty": tables.empty_table(evaluations),
        "empty_rule": empty_rule(),
        "headlines": [metric.key for metric in headlines()],
        "plausibility": tables.plausibility_table(evaluations),
        "comparison_tables": tables.comparison_tables(comparison, first) if comparison else {},
        "comparison_by_value": tables.by_value_tables(comparison, first) if comparison else {},
        "without_statistics": [e.name for e in evaluations if comparison and e.name not in comparison["models"]],
        "distributions": pictures.distributions(evaluations, chosen_by),
        "runs": [(e.name, trainings[e.name]) for e in evaluations],
        "curves": pictures.curves(trainings),
        "provenance": [(provenance_table(e, trainings[e.name]), trainings[e.name].remark) for e in evaluations],
        "versions": _versions(),
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    content["images_remark"], content["cases"] = pictures.cases(evaluations, chosen_by, images)
    content["cardiac"], content["cardiac_tables"], content["cardiac_remark"] = pictures.cardiac_indices(evaluations)
    drawn = [*content["distributions"], content["cardiac"], content["curves"], *(p for _, p, _ in content["cases"])]
    content["pictures"] = [picture for picture in drawn if picture is not None]
    return content


def _by_value(evaluation: Evaluation) -> Iterator[Evaluation]:
    """The evaluations of each value's cases, called after it."""
    for of, (alone,) in by.parts([evaluation]):
        yield replace(alone, name=f"{evaluation.name}, {of['column']} {of['value'] or by.UNKNOWN}")


def _summary(evaluation: Evaluation) -> str:
    said = f"{evaluation.name}: mean over classes and cases"
    for metric in headlines():
        mean = describe(mean_over_classes(evaluation, metric.key).values())["mean"]
        mean = tables.shown(mean, tables.digits(metric), factor=metric.factor)
        said += f", {metric.name} {mean} {metric.shown_unit(evaluation.distance_unit)}".rstrip()
    return f"{said}."


def _versions() -> str:
    versions = [f"nnunet_shapekd {__version__}", f"Python {platform.python_version()}"]
    for package in ("nnunetv2", "numpy", "scipy", "SimpleITK"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


def _breakable(name: str) -> Markup:
    """``name``, escaped, which may break where its words end."""
    return Markup("<wbr>").join(drawing.words(name))


def _render(content: Mapping[str, Any]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(content)
