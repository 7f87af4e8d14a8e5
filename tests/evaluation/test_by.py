"""``--by``: the cases of each value of a column, judged and compared by the rules for all of them."""

import csv
import json
import math
from dataclasses import replace

import pytest
from test_compare import BASE, GAINS, evaluation, one_class, row
from test_evaluate import folders  # noqa: F401 (fixture)

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation.by import parts, remarks
from nnunet_shapekd.evaluation.compare import Statistics, compare_evaluations
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.names import check_names
from nnunet_shapekd.evaluation.results import read_evaluation, write_evaluation
from nnunet_shapekd.evaluation.statistics import holm
from nnunet_shapekd.evaluation.tables import comparison_lines, lines

TABLE = "patient,ed_frame,es_frame,Field\npatient001,1,9,1.5\npatient002,1,9,3\npatient003,1,9,3.0\n"


@pytest.fixture
def by_field(folders, tmp_path):  # noqa: F811
    (tmp_path / "patients.csv").write_text(TABLE)
    return folders


def table_of(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_the_means_of_a_value_are_those_of_its_cases(by_field, tmp_path, capsys):
    arguments = ["evaluate", *map(str, by_field), "-o", str(tmp_path / "out"), "--by", "field"]
    assert main([*arguments, "--processes", "1"]) == 0
    rows = table_of(tmp_path / "out" / "metrics.csv")
    found = {(one["value"], one["class"], one["metric"]): one for one in table_of(tmp_path / "out" / "by.csv")}
    assert len(found) == 2 * 4 * 6  # fields, classes and their mean, metrics
    for value, patients in (("1.5", ["patient001"]), ("3", ["patient002", "patient003"])):
        for metric in ("dice", "hd95_mm"):
            own = [float(r[metric]) for r in rows if r["class"] == "RV" and r["patient"] in patients]
            one = found[value, "RV", metric]
            assert float(one["mean"]) == pytest.approx(sum(own) / len(own), rel=1e-4)
            counts = {key: int(one[key]) for key in ("n_cases", "n_patients", "n")}
            assert counts == {"n_cases": len(own), "n_patients": len(patients), "n": len(own)}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(part["column"], part["value"], part["n_cases"]) for part in summary["by"]] == [
        ("field", "1.5", 2),
        ("field", "3", 4),
    ]
    printed = capsys.readouterr().out
    assert "By field: means over its cases" in printed and "by.csv" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("3    RV"))
    assert line.split()[2] == f"{100 * float(found['3', 'RV', 'dice']['mean']):.1f}" and line.split()[-2:] == ["4", "2"]


def test_without_columns_nothing_is_written_that_was_not_before(by_field, tmp_path):
    plain, by_columns = (evaluate_folders(*by_field, Judging(processes=1, by=by)) for by in ((), ("field", "phase")))
    assert write_evaluation(plain, tmp_path / "out") == ["cardiac.csv", "metrics.csv", "summary.json"]
    assert write_evaluation(by_columns, tmp_path / "by") == ["by.csv", "cardiac.csv", "metrics.csv", "summary.json"]
    for name in ("cardiac.csv", "metrics.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "by" / name).read_bytes()
    old, new = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("out", "by"))
    assert new.keys() - old.keys() == {"groups", "by"} and old == {key: new[key] for key in old}
    assert read_evaluation(tmp_path / "out").groups == {}
    assert read_evaluation(tmp_path / "by").groups == by_columns.groups


def test_groups_of_other_cases_are_damage(by_field, tmp_path):
    write_evaluation(evaluate_folders(*by_field, Judging(processes=1, by=["field"])), tmp_path / "out")
    path = tmp_path / "out" / "summary.json"
    summary = json.loads(path.read_text())
    for damaged in ({"other_case": "3"}, ["3"], dict.fromkeys(summary["groups"]["field"], 3)):
        path.write_text(json.dumps({**summary, "groups": {"field": damaged}}))
        with pytest.raises(ValueError, match="is no result of this version"):
            read_evaluation(tmp_path / "out")


def test_a_column_that_is_nowhere_is_an_error_before_anything_is_judged(by_field, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError("something was judged")

    monkeypatch.setattr("nnunet_shapekd.evaluation.evaluate._judge_case", fail)
    for command in (["evaluate", *map(str, by_field)], ["compare", str(by_field[0]), *[str(by_field[1])], "other"]):
        (tmp_path / "other").mkdir(exist_ok=True)
        arguments = [str(tmp_path / "other") if one == "other" else one for one in command]
        assert main([*arguments, "-o", str(tmp_path / "out"), "--by", "field", "vendor", "--chill"]) == 1
        if command[0] == "evaluate":
            said = capsys.readouterr().err
            assert "the column vendor is not there; there are patient, phase, ed_frame, es_frame, Field" in said
            assert "--patients names a CSV that has it" in said
    assert not (tmp_path / "out").exists()


def test_the_table_may_lie_anywhere(by_field, tmp_path):
    table = tmp_path / "elsewhere.csv"
    rows = [f"patient00{patient}_frame0{frame},{patient},S{frame}" for patient in (1, 2, 3) for frame in (1, 9)]
    table.write_text("\n".join(["case,patient,scanner", *rows]))
    found = evaluate_folders(*by_field, Judging(processes=1, patients=table, by=["scanner"]))
    assert set(found.groups["scanner"].values()) == {"S1", "S9"}
    (remark,) = remarks(found)
    assert remark.startswith("3 of 3 patients have cases of more than one scanner (1, 2, 3)")
    assert remark in list(lines(found))


# --- compare ---------------------------------------------------------------------------------------------------------


def grouped(n: int = 16):
    """A and B on patients of which the first ten are of GE, the next of Siemens and the last of nobody known."""
    base, gains = (BASE * 2)[:n], (GAINS * 2)[:n]
    a, b = one_class("A", base), one_class("B", [x + gain for x, gain in zip(base, gains, strict=True)])
    of = {case: "GE" if i < 10 else "Siemens" if i < n - 1 else "" for i, case in enumerate(a.patients)}
    return replace(a, groups={"vendor": of}), replace(b, groups={"vendor": of})


def test_a_values_rows_are_the_comparison_of_its_cases_alone(monkeypatch):
    models = grouped()
    comparison = compare_evaluations(models)
    by_value = {}
    for of, alone in parts(models):
        expected = compare_evaluations(alone)["rows"]
        found = [one for one in comparison["by"] if one["value"] == of["value"]]
        by_value[of["value"]] = found
        left = ("p_holm", "note")
        for one, other in zip(found, expected, strict=True):
            assert {k: one[k] for k in other if k not in left} == {k: v for k, v in other.items() if k not in left}
    assert [next(iter(rows))["n_patients"] for rows in by_value.values()] == [10, 5, 1]
    assert {rows[0]["low"] is None for rows in (by_value["Siemens"], by_value[""])} == {True}
    # the rows of all cases are what they are without columns
    plain = compare_evaluations([replace(model, groups={}) for model in models])
    assert plain.keys() == comparison.keys() - {"by"} and plain["rows"] == comparison["rows"]
    assert plain["verdicts"] == comparison["verdicts"]


def test_p_is_corrected_for_all_values_together():
    a, b = grouped(20)
    halves = {case: "GE" if i < 10 else "Siemens" for i, case in enumerate(a.patients)}
    comparison = compare_evaluations([replace(one, groups={"vendor": halves}) for one in (a, b)])
    dice = [one for one in comparison["by"] if one["metric"] == "dice"]
    assert [one["p_holm"] for one in dice] == list(holm([one["p"] for one in dice]))
    assert dice[0]["p_holm"] == 2 * dice[0]["p"]


def test_a_patient_of_two_scanners_counts_for_each_by_its_cases():
    dice = {"x_1": {"RV": 0.5}, "x_2": {"RV": 0.9}, "y_1": {"RV": 0.7}}
    whose = {"x_1": "x", "x_2": "x", "y_1": "y"}
    of = {"scanner": {"x_1": "Sola", "x_2": "Aera", "y_1": "Aera"}}
    models = [replace(evaluation(name, dice, whose), groups=of) for name in "AB"]
    comparison = compare_evaluations(models)
    means = {
        one["value"]: (one["n_patients"], one["model_mean"]) for one in comparison["by"] if one["metric"] == "dice"
    }
    assert means == {"Aera": (2, pytest.approx(0.8)), "Sola": (1, pytest.approx(0.5))}
    assert row(comparison)["model_mean"] == pytest.approx(0.7)  # of all: patients' means 0.7 and 0.7
    assert "1 of 2 patients have cases of more than one scanner (x)" in " ".join(comparison["notes"])


def test_a_class_that_a_value_lacks_is_undefined_there():
    dice = {"x": {"RV": math.nan, "LV": 0.5}, "y": {"RV": 0.8, "LV": 0.5}}
    models = [replace(evaluation(name, dice), groups={"v": {"x": "1", "y": "2"}}) for name in "AB"]
    found = [one for one in compare_evaluations(models)["by"] if (one["metric"], one["class"]) == ("dice", "RV")]
    assert [(one["value"], one["n_cases"], one["model_mean"]) for one in found] == [("1", 0, None), ("2", 1, 0.8)]


def test_values_are_printed_with_their_patients_and_without_interval_where_there_are_few():
    text = "\n".join(comparison_lines(compare_evaluations(grouped())))
    assert "By vendor: Dice (%), higher is better" in text and "By vendor: HD95 (mm), lower is better" in text
    assert "of fewer than 6 patients there is neither interval nor p" in " ".join(text.split())
    rows = text.split("By vendor: Dice")[1].split("\n\n")[0].splitlines()[2:]
    assert [one.split("  ")[0] for one in rows] == ["GE", "Siemens", "(not known)"]
    assert " to " in rows[0] and " to " not in rows[1] and rows[1].split()[-1] == "5"


def test_compare_writes_the_rows_and_each_models_own(by_field, tmp_path, capsys):
    reference, predictions = by_field
    other = tmp_path / "other"
    other.mkdir()
    for path in reference.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "my out"
    arguments = ["compare", str(reference), str(predictions), str(other), "-o", str(out)]
    assert main([*arguments, "--processes", "1", "--by", "Field", "phase", "--names", "A", "B"]) == 0
    assert f"Next: shapekd report '{out}' -o REPORT" in capsys.readouterr().out
    rows = table_of(out / "by.csv")
    assert {(one["column"], one["value"]) for one in rows} == {
        ("Field", "1.5"), ("Field", "3"), ("phase", "ED"), ("phase", "ES"),
    }  # fmt: skip
    assert {one["model_mean"] for one in rows if one["metric"] == "dice"} == {"1"}  # B is the reference
    assert len(json.loads((out / "comparison.json").read_text())["by"]) == len(rows) == 4 * 4 * 6
    for name in "AB":
        assert (out / name / "by.csv").is_file()
    assert main([*arguments, "--processes", "1", "--names", "A", "B"]) == 0
    assert not (out / "by.csv").exists()


def test_no_model_is_called_like_the_file():
    with pytest.raises(ValueError, match="cannot name a model's folder"):
        check_names(["A", "By.csv"])


def test_teachers_are_not_tested_by_value_either(tmp_path):
    a, b = grouped()
    folder = tmp_path / "nnUNetTrainerMeanImage__nnUNetPlans__2d" / "fold_0" / "validation"
    comparison = compare_evaluations([a, replace(b, prediction=folder)], Statistics(resamples=100))
    assert {one["p_holm"] for one in comparison["by"]} == {None}
