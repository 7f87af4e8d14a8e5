"""The page's pictures, each with its caption and what it says to those who do not see it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from nnunet_shapekd import drawing
from nnunet_shapekd.evaluation import cardiac
from nnunet_shapekd.evaluation.metrics import METRICS, Metric
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import describe, mean_over_classes
from nnunet_shapekd.report import figures, overlays, tables
from nnunet_shapekd.report.runs import Run
from nnunet_shapekd.training.curves import training_curves

#: classes in one picture of distributions, at most
MOST_CLASSES = 12


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    file: str
    alt: str
    caption: str
    data: bytes
    width: int  # CSS pixels

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.data).decode("ascii")


def _picture(file: str, figure: Figure, alt: str, caption: str) -> Picture:
    data = drawing.png(figure)
    pixels = int.from_bytes(data[16:20], "big")  # PNG's header
    return Picture(file, alt, caption, data, round(pixels * 96 / drawing.DPI))


def distributions(evaluations: Sequence[Evaluation], chosen_by: str) -> list[Picture]:
    """A picture of each drawn metric, the headlines first; of many classes, those in which ``chosen_by`` is worst."""
    pictures, first = [], evaluations[0]
    empty = {e.name: e.values("empty") for e in evaluations}
    marked = {
        name: {model: {case for case, which in of[name].items() if which} for model, of in empty.items()}
        for name in first.classes
    }
    styles = drawing.class_styles(list(first.classes))
    for metric in sorted((one for one in METRICS.values() if one.drawn), key=lambda one: not one.headline):
        of_model = {e.name: e.values(metric.key) for e in evaluations}
        drawn = _worst_classes(of_model[chosen_by], metric)
        values = {
            name: {
                model: {case: metric.factor * value for case, value in of[name].items()}
                for model, of in of_model.items()
            }
            for name in drawn
        }
        label = caption = metric.label(first.distance_unit, first.tolerance)
        if len(drawn) < len(styles):
            end = "lowest" if metric.higher_is_better else "highest"
            caption += f": the {len(drawn)} of {len(styles)} classes with the {end} mean of {chosen_by}"
        alt = f"{label} of every case, a strip per class and model; medians are in the tables above."
        figure = figures.distributions(values, label, styles, marked)
        pictures.append(_picture(f"{metric.key}.png", figure, alt, caption))
    return pictures


def _worst_classes(values: Mapping[str, Mapping[str, float]], metric: Metric) -> list[str]:
    """At most ``MOST_CLASSES`` of the classes, in their own order: those of the worst mean, undefined ones last."""
    sign = 1 if metric.higher_is_better else -1
    means = {name: describe(of_case.values())["mean"] for name, of_case in values.items()}
    worst = sorted(means, key=lambda name: math.inf if means[name] is None else sign * means[name])[:MOST_CLASSES]
    return [name for name in values if name in worst]


def image_index(folder: Path) -> dict[str, Path]:
    """Case -> first channel's file, of a folder with nnU-Net's names (CASE_0000.ENDING)."""
    found = {}
    for path in sorted(folder.iterdir()):
        case, channel, ending = path.name.rpartition("_0000.")
        if channel and ending != "json":  # nnU-Net keeps the spacing of TIFFs in such files
            found.setdefault(case, path)
    return found


def default_images(reference: Path) -> Path | None:
    """imagesTr beside labelsTr, imagesTs beside labelsTs, if it is there."""
    name = {"labelsTr": "imagesTr", "labelsTs": "imagesTs"}.get(reference.name)
    return reference.parent / name if name and (reference.parent / name).is_dir() else None


def cases(
    evaluations: Sequence[Evaluation], chosen_by: str, images: Path | None
) -> tuple[str, list[tuple[str, Picture | None, str]]]:
    """A remark about the images, and of every chosen case its heading, picture and remark."""
    images = images or default_images(evaluations[0].reference)
    index = image_index(images) if images else {}
    remark = "" if images else "No images are known: contours are on black. Give their folder with --images."
    means = {e.name: mean_over_classes(e, "dice") for e in evaluations}
    of_model = {name: {case: dice for case, dice in of.items() if not math.isnan(dice)} for name, of in means.items()}
    content = []
    for which, case in overlays.chosen_cases(of_model[chosen_by]).items():
        dice = {name: f"Dice {tables.shown(100 * of[case], 1)} %" for name, of in of_model.items() if case in of}
        heading = f"{'The only case' if which == 'only' else which.capitalize()}: {case}"
        try:
            read, trouble = overlays.read_case(case, evaluations, index.get(case))
        except ValueError as error:
            content.append((heading, None, f"Not shown: {error}."))
            continue
        if images and case not in index:
            trouble = f"Contours on black: {images} has no {case}_0000 image."
        alt = f"{heading}: contours of the reference and of {', '.join(of_model)}. " + "; ".join(
            f"{name}: mean {of}" for name, of in dice.items()
        )
        content.append((heading, _picture(f"{which}.png", overlays.overlay(read, dice), alt, heading), trouble))
    return remark, content


def cardiac_indices(evaluations: Sequence[Evaluation]) -> tuple[Picture | None, list[tables.Table], str]:
    """Bland-Altman plots, a table of each model, and a remark where there is neither."""
    try:
        indices = {e.name: cardiac.indices(e) for e in evaluations}
    except ValueError as error:
        return None, [], f"No indices: {error}"
    indices = {name: rows for name, rows in indices.items() if rows}
    if not indices:
        return None, [], ""
    agreement = {name: cardiac.agreement(rows) for name, rows in indices.items()}
    figure = figures.bland_altman(indices, agreement)
    biases = [
        f"{name}, {row['index']}: bias {tables.shown(row['bias'], 1, True)} {row['unit']}"
        for name, rows in agreement.items()
        for row in rows
        if row["index"] == "LV EF"
    ]
    alt = "Bland-Altman plots of prediction and reference. " + "; ".join(biases)
    picture = _picture("bland_altman.png", figure, alt, "Bland–Altman")
    return picture, [tables.agreement_table(name, rows) for name, rows in agreement.items()], ""


def curves(trainings: Mapping[str, Run]) -> Picture | None:
    """Training curves of the models whose logs are known."""
    logs = {
        name + (" (teacher)" if training.is_teacher else ""): training.log
        for name, training in trainings.items()
        if any(training.log.values())
    }
    if not logs:
        return None
    alt = f"Losses and pseudo Dice over the epochs of {', '.join(logs)}."
    return _picture("training.png", training_curves(logs), alt, "Training curves")
