"""Paired comparison of models: what is averaged, what leaves, what is refused, and what the verdict dares to say."""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation.compare import Statistics, compare_evaluations, compare_folders
from nnunet_shapekd.evaluation.evaluate import Judging
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.names import check_names, default_names
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import read_evaluation
from nnunet_shapekd.evaluation.tables import comparison_lines
from nnunet_shapekd.evaluation.verdict import verdict
from nnunet_shapekd.files.output import MANIFEST

NAN = math.nan
CLASSES = {"RV": (1,), "LV": (2,)}
JUDGING = Judging(labels=[1, 2], processes=1)


def evaluation(name: str, dice: dict[str, dict[str, float]], patients: dict[str, str] | None = None) -> Evaluation:
    """A model from case -> class -> Dice; IoU and NSD are the same, distances 100 times what is missing to 1."""
    rows = []
    for case, of_class in dice.items():
        for label, value in of_class.items():
            shares = dict.fromkeys(("dice", "iou", "nsd"), value)
            distances = dict.fromkeys(("hd95", "hd", "assd"), 100 * (1 - value))
            empty = "both" if math.isnan(value) else "prediction" if value == 0 else ""
            whose = {"case": case, "patient": (patients or {}).get(case, case), "phase": "", "class": label}
            rows.append({**whose, **shares, **distances, "reference_size": 7.0, "empty": empty})
    return Evaluation(
        name=name,
        reference=Path("/reference"),
        prediction=Path("/predictions") / name,
        file_ending=".nii.gz",
        classes={label: CLASSES[label] for label in next(iter(dice.values()))},
        ignore_label=None,
        left_out=(),
        cardiac={},
        distance_unit="mm",
        size_unit="ml",
        tolerance=1.0,
        rows=rows,
    )


def one_class(name: str, values: list[float], cases_a_patient: int = 1) -> Evaluation:
    cases = [f"case{i:02}" for i in range(len(values))]
    patients = {case: f"patient{i // cases_a_patient:02}" for i, case in enumerate(cases)}
    return evaluation(name, {case: {"RV": value} for case, value in zip(cases, values, strict=True)}, patients)


def row(comparison: dict, metric: str = "dice", label: str = "RV", model: str | None = None) -> dict:
    (found,) = (
        r
        for r in comparison["rows"]
        if r["metric"] == metric and r["class"] == label and (model is None or r["model"] == model)
    )
    return found


BASE = [0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.5]
GAINS = [0.10, 0.12, 0.08, 0.11, 0.09, 0.13, 0.07, 0.10, 0.12, 0.08]  # mean 0.1, all positive


def better() -> tuple[Evaluation, Evaluation]:
    return one_class("A", BASE), one_class("B", [b + g for b, g in zip(BASE, GAINS, strict=True)])


# --- estimates -------------------------------------------------------------------------------------------------------


def test_a_patient_counts_once_whatever_its_number_of_cases():
    patients = {"c1": "p1", "c2": "p1", "c3": "p1", "c4": "p2"}
    a = evaluation("A", {case: {"RV": 0.5} for case in patients}, patients)
    b = evaluation("B", {"c1": {"RV": 0.6}, "c2": {"RV": 0.6}, "c3": {"RV": 0.6}, "c4": {"RV": 0.8}}, patients)
    found = row(compare_evaluations([a, b]))
    # patients' differences 0.1 and 0.3; over cases the mean would be 0.15
    assert found["difference"] == pytest.approx(0.2)
    assert (found["baseline_mean"], found["model_mean"]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert (found["n_cases"], found["n_patients"]) == (4, 2)


def test_the_difference_is_model_minus_baseline_and_wins_follow_the_metric():
    comparison = compare_evaluations(better())
    assert row(comparison)["difference"] == pytest.approx(0.1)
    assert row(comparison, "hd95")["difference"] == pytest.approx(-10)
    assert [row(comparison, metric)["wins"] for metric in METRICS] == [10] * 6


def test_the_mean_is_over_classes_within_a_case_and_over_those_both_models_have():
    a = evaluation("A", {"c1": {"RV": 0.5, "LV": 0.7}, "c2": {"RV": NAN, "LV": 0.8}})
    b = evaluation("B", {"c1": {"RV": 0.7, "LV": 0.7}, "c2": {"RV": 0.0, "LV": 0.9}})
    comparison = compare_evaluations([a, b])
    mean = row(comparison, label="mean")
    assert mean["baseline_mean"] == pytest.approx((0.6 + 0.8) / 2)
    assert mean["model_mean"] == pytest.approx((0.7 + 0.9) / 2)
    assert mean["note"] == "1 of 2 cases without some class; invented alone, and not counted against it: 1 by B"


def test_a_single_class_has_no_row_of_the_mean():
    assert {r["class"] for r in compare_evaluations(better())["rows"]} == {"RV"}


def test_a_case_undefined_in_one_model_leaves_both_and_who_invented_is_said():
    a, b = one_class("A", [0.5, NAN, 0.6, NAN], 2), one_class("B", [0.6, 0.0, 0.8, NAN], 2)
    found = row(compare_evaluations([a, b]))
    assert (found["n_cases"], found["n_patients"]) == (2, 2)
    assert found["difference"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["note"].startswith(
        "2 of 4 cases left out: absent from the reference and from a prediction; invented alone, and not counted "
        "against it: 1 by B"
    )


def test_a_patient_undefined_in_every_case_leaves_the_row():
    a, b = one_class("A", [0.5, 0.5, NAN, NAN], 2), one_class("B", [0.6, 0.6, NAN, NAN], 2)
    assert row(compare_evaluations([a, b]))["n_patients"] == 1


def test_a_metric_that_no_case_has_is_undefined_and_json_can_say_so():
    comparison = compare_evaluations([one_class("A", [NAN] * 8), one_class("B", [NAN] * 8)])
    found = row(comparison)
    assert found["n_patients"] == 0
    assert [found[key] for key in ("baseline_mean", "model_mean", "difference", "low", "high", "p", "p_holm")] == [
        None
    ] * 7
    assert "undefined in every case" in comparison["verdicts"][0]["text"]
    json.dumps(comparison, allow_nan=False)
    assert list(comparison_lines(comparison))


# --- interval, p and correction --------------------------------------------------------------------------------------


def test_ten_gains_have_the_smallest_p_and_an_interval_around_their_mean():
    found = row(compare_evaluations(better()))
    assert found["p"] == pytest.approx(2 / 2**10)
    assert 0.07 < found["low"] < 0.1 < found["high"] < 0.13


def test_holm_corrects_over_classes_and_models_of_one_metric():
    rng = np.random.default_rng(0)

    def model(name: str, gain: float) -> Evaluation:
        cases = {f"c{i}": {label: 0.5 + gain + 0.1 * rng.random() for label in CLASSES} for i in range(8)}
        return evaluation(name, cases)

    comparison = compare_evaluations([model("A", 0), model("B", 0.3), model("C", 0.3)], Statistics(resamples=200))
    rows = [r for r in comparison["rows"] if r["metric"] == "dice"]
    assert [(r["model"], r["class"]) for r in rows] == [(m, c) for m in "BC" for c in ("RV", "LV", "mean")]
    assert [r["p"] for r in rows] == pytest.approx([2 / 2**8] * 6)
    assert [r["p_holm"] for r in rows] == pytest.approx([6 * 2 / 2**8] * 6)


def test_no_row_depends_on_which_other_models_there_are():
    a, b = better()
    alone = row(compare_evaluations([a, b]))
    beside = row(compare_evaluations([a, replace(a, name="C"), b]), model="B")
    assert {k: v for k, v in alone.items() if k != "p_holm"} == {k: v for k, v in beside.items() if k != "p_holm"}


def test_five_patients_have_neither_interval_nor_p_and_are_listed():
    a, b = one_class("A", [0.5] * 10, 2), one_class("B", [0.6, 0.7] * 5, 2)
    comparison = compare_evaluations([a, b])
    found = row(comparison)
    assert found["n_patients"] == 5
    assert found["low"] is found["high"] is found["p"] is found["p_holm"] is None
    listed = [one for one in comparison["patient_differences"] if one["metric"] == "dice"]
    assert [one["patient"] for one in listed] == [f"patient{i:02}" for i in range(5)]
    assert [one["difference"] for one in listed] == pytest.approx([0.15] * 5)
    assert "too few for an interval or a test" in comparison["verdicts"][0]["text"]
    assert "patient03 +15.00" in "\n".join(comparison_lines(comparison))


def test_enough_patients_are_not_listed():
    assert "patient_differences" not in compare_evaluations(better())


def test_one_case_is_compared_without_a_test():
    comparison = compare_evaluations([one_class("A", [0.5]), one_class("B", [0.6])])
    assert "+10.00 percentage points of Dice of RV on 1 patient, too few" in comparison["verdicts"][0]["text"]


def test_where_no_corrected_p_could_be_small_the_notes_say_so():
    def model(name: str, value: float) -> Evaluation:
        return evaluation(name, {f"c{i}": {"RV": value, "LV": value} for i in range(6)})

    # three rows (two classes and their mean), each at best 2 / 2**6
    notes = compare_evaluations([model("A", 0.5), model("B", 0.9)])["notes"]
    assert any("no corrected p can fall below 0.094" in note for note in notes)
    assert not any("no corrected p" in note for note in compare_evaluations(better())["notes"])


def test_cases_of_which_nothing_says_whose_they_are_are_pointed_out():
    unknown = [replace(one, unknown_patients=10) for one in better()]
    assert any("--patients or --pattern" in note for note in compare_evaluations(unknown)["notes"])
    assert not any("--patients" in note for note in compare_evaluations(better())["notes"])  # a table said so
    a, b = one_class("A", [0.5] * 4, 2), one_class("B", [0.5] * 4, 2)
    assert not any("--patients" in note for note in compare_evaluations([a, b])["notes"])


def test_missed_masks_are_counted():
    a, b = one_class("A", [0.5] * 6), one_class("B", [0.5] * 5 + [0.0])
    (note,) = (note for note in compare_evaluations([a, b])["notes"] if "missed" in note)
    assert note.startswith("B: of 6 masks, 1 missed and 0 invented")


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_shown_difference_is_about_these_two_trained_models():
    text = compare_evaluations(better())["verdicts"][0]["text"]
    assert text.startswith(
        "B has a higher Dice of RV than A on these 10 patients: +10.00 percentage points (95 % interval"
    )
    assert "corrected p = 0.002" in text
    assert "says nothing about another seed" in text


def test_a_worse_model_is_called_lower():
    text = compare_evaluations(better()[::-1])["verdicts"][0]["text"]
    assert text.startswith("A has a lower Dice of RV than B")


def verdict_of(low: float, high: float, p_holm: float, **changes) -> str:
    values = {"model": "B", "class": "mean", "n_patients": 15, "difference": (low + high) / 2, "p": 0.01, "ties": 0}
    return verdict({**values, "low": low, "high": high, "p_holm": p_holm, **changes}, "A", 0.95)


def test_no_difference_shown_says_what_remains_possible():
    text = verdict_of(-0.02, 0.03, 0.6)
    assert text.startswith("No difference in mean Dice is shown between B and A on these 15 patients: +0.50 percentage")
    assert text.endswith("anything from 2.00 points worse to 3.00 points better remains possible.")


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "why"),
    [
        (0.01, 0.03, 0.2, "the interval excludes 0, but the corrected test does not reject"),
        (-0.03, -0.01, 0.05, "the interval excludes 0, but the corrected test does not reject"),
        (-0.01, 0.03, 0.04, "the corrected test rejects, but the interval contains 0"),
        (0.0, 0.03, 0.04, "the corrected test rejects, but the interval contains 0"),
    ],
)
def test_where_interval_and_test_disagree_no_difference_is_shown(low, high, p_holm, why):
    text = verdict_of(low, high, p_holm)
    assert text.startswith("No difference") and why in text


def invents(name: str, gain: float, invents_y: bool) -> Evaluation:
    """Ten cases of a class x; a class y that no reference has, which the model predicts or not."""
    y = {True: (0.0, "reference"), False: (NAN, "both")}[invents_y]
    found = evaluation(name, {f"c{i}": {"RV": 0.7 + gain + i / 100, "LV": y[0]} for i in range(10)})
    rows = [{**r, "empty": y[1]} if r["class"] == "LV" else r for r in found.rows]
    return replace(found, rows=rows)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_model_that_invents_structures_is_not_called_better(swapped):
    models = [invents("A", 0.0, False), invents("B", 0.1, True)]
    text = compare_evaluations(models[::-1] if swapped else models)["verdicts"][0]["text"]
    assert text.startswith("No conclusion on mean Dice")
    assert text.endswith("invented 10 by B, which count against B.")


def test_a_model_that_is_better_although_the_other_one_invents_is_called_so():
    text = compare_evaluations([invents("A", 0.0, True), invents("B", 0.1, False)])["verdicts"][0]["text"]
    assert text.startswith("B has a higher mean Dice") and text.endswith("are left out: 10 by A.")


def test_teachers_do_not_count_as_tests():
    a, b = better()
    teacher = replace(b, name="T", prediction=Path("/r/nnUNetTrainerMeanImage__nnUNetPlans__2d/fold_0/validation"))
    alone, beside = (row(compare_evaluations(models), model="B") for models in ([a, b], [a, b, teacher]))
    assert alone["p_holm"] == beside["p_holm"]


def test_equal_models_are_called_the_same():
    a, _ = better()
    comparison = compare_evaluations([a, replace(a, name="B")])
    assert comparison["verdicts"][0]["text"] == "B and A have the same Dice of RV in each of these 10 patients."
    assert row(comparison)["p"] == 1


def test_every_verdict_is_one_sentence():
    texts = [verdict_of(0.01, 0.03, 0.01), verdict_of(-0.01, 0.03, 0.3), verdict_of(0.01, 0.03, 0.3)]
    texts += [verdict_of(0, 0, 1, p=None), verdict_of(0, 0, 1, n_patients=0), verdict_of(0, 0, 1, ties=15)]
    for text in texts:
        assert text.endswith(".") and ". " not in text


def test_nothing_is_concluded_of_a_teacher():
    a, b = better()
    b = replace(b, prediction=Path("/results/nnUNetTrainerMeanImage_50epochs__nnUNetPlans__2d/fold_0/validation"))
    text = compare_evaluations([a, b])["verdicts"][0]["text"]
    assert text == "Nothing follows from comparing B with A: B is a teacher, whose input is made from the reference."


# --- what is refused -------------------------------------------------------------------------------------------------


def test_evaluations_of_different_things_are_refused_with_all_differences():
    a, b = better()
    moved = [{**r, "patient": "another"} if r["case"] == "case01" else r for r in b.rows if r["case"] != "case00"]
    moved = [{**r, "reference_size": 8.0} if r["case"] == "case02" else r for r in moved]
    other = replace(b, reference=Path("/other"), tolerance=2.0, distance_unit="px", classes={"RV": (3,)}, rows=moved)
    with pytest.raises(ValueError) as error:
        compare_evaluations([a, other])
    for expected in (
        "reference: A /reference, B /other",
        "classes: A {'RV': (1,)}, B {'RV': (3,)}",
        "distance unit: A mm, B px",
        "tolerance: A 1.0, B 2.0",
        "1 cases that only A has: case00",
        "cases of other patients in B than in A: case01",
        "the reference was another when B was evaluated: case02",
    ):
        assert expected in str(error.value)


def test_six_digits_of_a_file_are_the_same_reference():
    a, b = better()
    a = replace(a, rows=[{**r, "reference_size": 123.456789} for r in a.rows])
    b = replace(b, rows=[{**r, "reference_size": 123.457} for r in b.rows])
    compare_evaluations([a, b], Statistics(resamples=100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "--confidence: .* got 1.0"),
        ({"confidence": 95}, "--confidence: .* got 95"),
        ({"confidence": 0.999}, "--confidence: .* got 0.999"),
        ({"resamples": 10}, "--resamples: .* got 10"),
        ({"seed": -1}, "--seed: .* got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Statistics(**options)


def test_a_single_evaluation_is_refused():
    with pytest.raises(ValueError, match="two .* got 1"):
        compare_evaluations(better()[:1])


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["T1__nnUNetPlans__2d/fold_0/validation", "T2__nnUNetPlans__2d/fold_0/validation"], ["T1", "T2"]),
        (["T1__p__2d/fold_0/validation", "T1__p__2d/fold_1/validation"], ["T1_fold_0", "T1_fold_1"]),
        (["T1__p__2d/fold_0/validation", "T1__p__3d_fullres/fold_0/validation"], ["T1_2d", "T1_3d_fullres"]),
        (["T1__p__2d/fold_0/validation", "T2__p__2d/fold_0/validation", "T2__q__2d/fold_0/validation"],
         ["T1", "T2_p", "T2_q"]),
        (["D1/T1__p__2d/fold_0/validation", "D2/T1__p__2d/fold_0/validation"], ["T1_D1", "T1_D2"]),
        (["T1__p__2d/fold_0/validation", "published"], ["T1", "published"]),
        (["T1__p__2d/fold_0/validation", "x/preds", "y/preds"], ["T1", "x", "y"]),
        (["x/preds", "y/preds"], ["x", "y"]),
        (["preds", "preds/ours"], ["preds", "ours"]),
        (["my model", "other model"], ["my_model", "other_model"]),
    ],
)  # fmt: skip
def test_default_names_are_short_and_tell_apart(paths, names):
    assert default_names([Path("/data") / path for path in paths]) == names
    check_names(names)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "comparison.json", "a ", " a", ".hidden", "a."])
def test_names_that_are_no_folders_are_refused(name):
    with pytest.raises(ValueError, match=f"--names: {re.escape(repr(name))}"):
        check_names([name, "fine"])


def test_names_must_differ_even_without_capitals():
    with pytest.raises(ValueError, match="--names: .* Unet, unet"):
        check_names(["unet", "Unet", "other"])


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path) -> Callable[[str, int], Path]:
    """Makes a folder of seven patients' squares, which are ``shift`` pixels off."""

    def make(name: str, shift: int) -> Path:
        (tmp_path / name).mkdir()
        for i in range(7):
            image = np.zeros((32, 32), np.uint8)
            image[4 + i : 14 + i, 4 + shift : 14 + shift] = 1
            image[20:30, 20 - shift : 30 - shift] = 2
            sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / name / f"case{i}.png"))
        return tmp_path / name

    return make


def test_the_command_writes_and_prints_the_comparison(folders, tmp_path, capsys):
    reference, a, b = folders("reference", 0), folders("a", 4), folders("b", 1)
    out = tmp_path / "out"
    command = ["compare", str(reference), str(a), str(b), "-o", str(out), "-l", "1", "2", "-np", "1"]
    assert main([*command, "--resamples", "500"]) == 0
    printed = capsys.readouterr().out
    comparison = json.loads((out / "comparison.json").read_text())
    assert comparison["models"] == ["a", "b"]
    found = row(comparison, label="1")
    # of 10 columns 6 and 9 are common
    assert (found["baseline_mean"], found["model_mean"]) == (pytest.approx(0.6), pytest.approx(0.9))
    assert (found["low"], found["high"]) == (pytest.approx(0.3), pytest.approx(0.3))
    assert found["p"] == pytest.approx(2 / 2**7) and found["p_holm"] == pytest.approx(3 * 2 / 2**7)
    assert comparison["verdicts"][0]["text"] in printed.replace("\n", " ")
    assert "HD95 (px), lower is better" in printed and "Dice (%), higher is better" in printed
    with (out / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(comparison["rows"]) == 6 * 3
    assert [read_evaluation(out / name).name for name in "ab"] == ["a", "b"]


def test_what_was_written_compares_as_what_was_judged(folders, tmp_path):
    reference, a, b = folders("reference", 0), folders("a", 4), folders("b", 1)
    compare_folders(reference, [a, b], ["first", "second"], tmp_path / "out", JUDGING, Statistics(resamples=500))
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    again = compare_evaluations(
        [read_evaluation(tmp_path / "out" / n) for n in ("first", "second")], Statistics(resamples=500)
    )
    for ours, theirs in zip(again["rows"], written["rows"], strict=True):
        for key in ("baseline_mean", "model_mean", "difference", "low", "high", "p", "p_holm"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4)
        assert ours["wins"] == theirs["wins"]
    assert again["verdicts"] == written["verdicts"]


def test_an_earlier_comparison_is_replaced_and_a_foreign_folder_is_not(folders, tmp_path):
    arguments = folders("reference", 0), [folders("a", 4), folders("b", 1)]
    options = JUDGING, Statistics(resamples=100)
    compare_folders(*arguments, ["x", "y"], tmp_path / "out", *options)
    compare_folders(*arguments, None, tmp_path / "out", *options)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [MANIFEST, "a", "b", "comparison.csv", "comparison.json"]
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "a"))):
        compare_folders(*arguments, None, tmp_path / "a", *options)


def test_nothing_is_left_of_a_comparison_that_failed(folders, tmp_path):
    reference, a, b = folders("reference", 0), folders("a", 4), folders("b", 1)
    (b / "case3.png").unlink()
    with pytest.raises(ValueError, match="case3.png"):
        compare_folders(reference, [a, b], None, tmp_path / "out", JUDGING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "reference"]


def test_problems_of_all_models_are_listed_together(folders, tmp_path):
    reference, a, b = folders("reference", 0), folders("a", 4), folders("b", 1)
    (a / "case1.png").unlink()
    (b / "case3.png").unlink()
    with pytest.raises(ValueError, match=r"(?s)a.case1.png.*b.case3.png"):
        compare_folders(reference, [a, b], None, tmp_path / "out", JUDGING)


def test_all_models_files_are_looked_at_before_the_first_is_judged(folders, tmp_path, monkeypatch):
    reference, a, b = folders("reference", 0), folders("a", 4), folders("b", 1)
    monkeypatch.setattr("nnunet_shapekd.evaluation.evaluate.judge", None)
    (b / "case3.png").unlink()
    with pytest.raises(ValueError, match="is missing"):
        compare_folders(reference, [a, b], None, tmp_path / "out", JUDGING)


def test_options_out_of_range_are_refused_before_anything_is_judged(folders, tmp_path, capsys):
    paths = [str(folders(name, 0)) for name in ("reference", "a", "b")]
    (tmp_path / "a" / "case0.png").write_bytes(b"no image")
    for option, value in (("--confidence", "95"), ("--resamples", "1"), ("--seed", "-1"), ("--tolerance", "-1")):
        assert main(["compare", *paths, "-o", str(tmp_path / "out"), "-l", "1", "2", option, value]) == 1
        assert option in (error := capsys.readouterr().err) and "case0.png" not in error


def test_predictions_must_be_two_different_folders(tmp_path):
    with pytest.raises(ValueError, match="got 1; `shapekd evaluate`"):
        compare_folders(tmp_path, [tmp_path / "a"], None, tmp_path / "out")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'a'))}$"):
        compare_folders(tmp_path, [tmp_path / "a", tmp_path / "b" / ".." / "a"], None, tmp_path / "out")
    with pytest.raises(ValueError, match="--names: expected 2 .* got 1"):
        compare_folders(tmp_path, [tmp_path / "a", tmp_path / "b"], ["A"], tmp_path / "out")
