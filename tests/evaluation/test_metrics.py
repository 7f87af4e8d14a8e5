"""The table of metrics: its numbers by hand and against MONAI, the rule for empty masks, and what a new row reaches."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from test_surface import blobs, box

from nnunet_shapekd import drawing
from nnunet_shapekd.across import table
from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation import metrics
from nnunet_shapekd.evaluation.metrics import DIAGONAL, DISTANCE, METRICS, PERCENT, Metric, Pair
from nnunet_shapekd.evaluation.plausibility import COUNTS
from nnunet_shapekd.evaluation.results import read_evaluation
from nnunet_shapekd.stress import stress, tables


def measured(reference, prediction, spacing=(1.0, 1.0), tolerance=1.0) -> dict[str, float]:
    pair = Pair(reference, prediction, spacing, tolerance, diagonal=99.0)
    return {key: metric.of(pair) for key, metric in METRICS.items()}


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_two_squares_shifted_by_one_by_hand():
    """3 x 3 pixels each, 6 in common; half of each border lies on the other one, half is 1 from it."""
    found = measured(box((6, 6), (1, 1), (4, 4)), box((6, 6), (1, 2), (4, 5)), tolerance=0.5)
    assert found == {"dice": 12 / 18, "iou": 6 / 12, "nsd": 0.5, "hd95": 1, "hd": 1, "assd": 0.5}


def test_equal_masks_are_perfect_at_any_tolerance():
    mask = blobs(0)[0]
    perfect = {"dice": 1, "iou": 1, "nsd": 1, "hd95": 0, "hd": 0, "assd": 0}
    assert measured(mask, mask, (10.0, 1.4, 1.4), tolerance=0.0) == perfect


def test_the_95th_percentile_ignores_one_far_voxel_in_a_hundred():
    reference = np.zeros((3, 110), dtype=bool)
    reference[1, :100] = True
    prediction = reference.copy()
    prediction[1, 109] = True
    found = measured(reference, prediction, (1.0, 2.0))
    assert found["hd"] == 20 and found["hd95"] == 0
    assert found["assd"] == pytest.approx(20 / 201) and found["nsd"] == pytest.approx(200 / 201)


def test_the_larger_direction_counts():
    reference, prediction = box((1, 50), (0, 0), (1, 10)), box((1, 50), (0, 0), (1, 40))
    found = measured(reference, prediction)
    assert found["hd95"] == pytest.approx(np.percentile([0] * 10 + list(range(1, 31)), 95))  # prediction to reference
    assert found == measured(prediction, reference)


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    a, b = box((9, 3), (4, 1), (5, 2)), box((9, 3), (6, 1), (7, 2))
    assert measured(a, b, tolerance=2.0)["nsd"] == 1
    assert measured(a, b, tolerance=1.9)["nsd"] == 0
    assert measured(a, b, (float(np.float32(0.3)), 1.0), tolerance=0.6)["nsd"] == 1  # as a NIfTI header holds 0.3


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (10.0, 1.4, 1.4), (1.5, 0.5, 3.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_numbers_are_monais(spacing, seed):
    monai = pytest.importorskip("monai.metrics", reason="MONAI is installed for development only")
    masks = blobs(seed)
    assert 0 < (masks[0] & masks[1]).sum() < masks[0].sum()
    reference, prediction = (torch.from_numpy(mask)[None, None].float() for mask in masks)
    options = {"include_background": True, "spacing": spacing}
    expected = {
        "dice": monai.compute_dice(prediction, reference),
        "iou": monai.compute_iou(prediction, reference),
        "hd": monai.compute_hausdorff_distance(prediction, reference, **options),
        "hd95": monai.compute_hausdorff_distance(prediction, reference, percentile=95, **options),
        "assd": monai.compute_average_surface_distance(prediction, reference, symmetric=True, **options),
        "nsd": monai.compute_surface_dice(prediction, reference, [2.0], **options),
    }
    found = measured(*masks, spacing, tolerance=2.0)
    assert found == pytest.approx({key: value.item() for key, value in expected.items()}, rel=1e-5)


def test_distances_are_measured_once_for_all_metrics(monkeypatch):
    calls = []
    whole = metrics.surface_distances
    monkeypatch.setattr(metrics, "surface_distances", lambda *masks: calls.append(masks) or whole(*masks))
    measured(*blobs(1), (1.0, 1.0, 1.0))
    assert len(calls) == 1


# --- empty masks -----------------------------------------------------------------------------------------------------

MASK, NOTHING = box((4, 4), (1, 1), (3, 3)), np.zeros((4, 4), dtype=bool)


@pytest.mark.parametrize(("masks", "empty"), [((MASK, NOTHING), "prediction"), ((NOTHING, MASK), "reference")])
def test_one_empty_mask_gives_what_the_row_says(masks, empty):
    assert Pair(*masks, (1.0, 1.0), 1.0, 99.0).empty == empty
    assert measured(*masks) == {"dice": 0, "iou": 0, "nsd": 0, "hd95": 99, "hd": 99, "assd": 99}


def test_two_empty_masks_have_no_metric():
    assert all(math.isnan(value) for value in measured(NOTHING, NOTHING).values())


def test_the_rule_is_said_as_the_rows_have_it(monkeypatch):
    assert metrics.empty_rule() == "Dice, IoU, NSD 0; distances the image's diagonal"
    monkeypatch.setitem(METRICS, "x", Metric("x", "X", lambda pair: 0.0, PERCENT, False, 1.0))
    assert metrics.empty_rule() == "Dice, IoU, NSD 0; distances the image's diagonal; X 1"


def test_labels_say_unit_and_tolerance():
    assert METRICS["nsd"].label("px", 2.5) == "NSD at 2.5 px (%)"
    assert METRICS["hd95"].label("mm", 2.5) == "HD95 (mm)"
    assert Metric("n", "Lesions", lambda pair: 0.0, metrics.COUNT, False, 0.0).label("mm", 1.0) == "Lesions"


# --- a new row -------------------------------------------------------------------------------------------------------


def volume_similarity(pair: Pair) -> float:
    reference, prediction = pair.sizes
    return 1 - abs(reference - prediction) / (reference + prediction)


def median_distance(pair: Pair) -> float:
    return float(np.median(pair.distances))


#: row, its column, the label beside its numbers, what it is of the first case's empty prediction and of the others, and
#: for how many patients "b" is better than "a"
NEW = [
    (Metric("vs", "VS", volume_similarity, PERCENT, True, 0.0, True, True), "vs", "VS (%)", 0.0, 1 - 20 / 180, 7),
    (
        Metric("median", "Median", median_distance, DISTANCE, False, DIAGONAL, True, True),
        *("median_px", "Median (px)", math.hypot(32, 32), 0.0, 1),
    ),
]


@pytest.fixture
def folders(tmp_path) -> list[str]:
    """References of seven patients, 10 x 10 pixels of class 1; "a" has 8 x 10 of them and none of case0; "b" all."""
    for name, n_rows in (("reference", 10), ("a", 8), ("b", 10)):
        (tmp_path / name).mkdir()
        for i in range(7):
            image = np.zeros((32, 32), np.uint8)
            image[4 + i : 4 + i + n_rows, 4:14] = (name, i) != ("a", 0)
            sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / name / f"case{i}.png"))
    return [str(tmp_path / name) for name in ("reference", "a", "b")]


@pytest.mark.parametrize(("metric", "column", "label", "of_empty", "of_others", "wins"), NEW, ids=["%", "distance"])
def test_a_new_row_is_in_every_file_and_table(
    metric, column, label, of_empty, of_others, wins, folders, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(METRICS, metric.key, metric)
    monkeypatch.setattr(drawing, "png", lambda figure: b"\x89PNG" + bytes(20))
    better = "higher" if metric.higher_is_better else "lower"

    out = tmp_path / "evaluated"
    assert main(["evaluate", *folders[:2], "-o", str(out), "-l", "1", "-np", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"  {metric.name}  " in printed
    assert ("VS 0" in printed) == (metric.unit == PERCENT)  # the rule for empty masks
    with (out / "metrics.csv").open() as file:
        values = [float(row[column]) for row in csv.DictReader(file)]
    assert values == pytest.approx([of_empty] + [of_others] * 6, rel=1e-5)
    summary = json.loads((out / "summary.json").read_text())["metrics"]["1"][column]
    assert (summary["mean"], summary["n"]) == (pytest.approx((of_empty + 6 * of_others) / 7), 7)

    out = tmp_path / "compared"
    assert main(["compare", *folders, "-o", str(out), "-l", "1", "-np", "1", "--resamples", "100"]) == 0
    assert f"{label}, {better} is better" in capsys.readouterr().out
    comparison = json.loads((out / "comparison.json").read_text())
    (row,) = (row for row in comparison["rows"] if row["metric"] == metric.key)
    assert row["baseline_mean"] == pytest.approx((of_empty + 6 * of_others) / 7)
    assert row["wins"] == wins
    with (out / "comparison.csv").open() as file:
        assert metric.key in {row["metric"] for row in csv.DictReader(file)}

    assert main(["report", str(out), "-o", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert f">{label}</th>" in page and f"<details open><summary>{label}: {better} is better" in page
    assert (tmp_path / "report" / "figures" / f"{metric.key}.png").is_file()

    where = {"dataset": "D", "where": "own", "distance_unit": "px"}
    models = [{"name": name, "dataset": "D", "weights_sha256": {"0": ""}} for name in "ab"]
    rows = [{**where, **row} for row in comparison["rows"]]
    text = list(table.lines({"models": models, "datasets": [], "confidence": 0.95, "rows": rows}))
    assert any(line.startswith(f"{label}, mean over 1") for line in text)

    steps = {(name, "none", 0): read_evaluation(out / name) for name in "ab"}
    of_patients, counts = stress.over_patients(steps)
    found = of_patients["a", "none", 0][metric.key]
    assert found == pytest.approx(np.array(values), rel=1e-5)
    means = [{"model": name, "shift": "none", "severity": 0, **dict.fromkeys(METRICS, 0.5)} for name in "ab"]
    result = {"models": models, "means": means, "classes": ["1"], "distance_unit": "px", "normalisation": [], **counts}
    assert f"{label}, {better} is better" in list(tables.lines(result))


def test_what_is_counted_for_plausibility_is_a_row_too(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(COUNTS, "rows", lambda mask, _: int(mask.any(axis=1).sum()))
    assert main(["evaluate", *folders[:2], "-o", str(tmp_path / "out"), "-l", "1", "-np", "1"]) == 0
    assert "  rows\n" in capsys.readouterr().out
    with (tmp_path / "out" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rows"], row["reference_rows"]) for row in rows] == [("0", "10")] + [("8", "10")] * 6
