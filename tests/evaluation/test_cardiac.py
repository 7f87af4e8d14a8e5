"""Volumes, ejection fraction, mass and their agreement, against numbers derived by hand."""

import math
from pathlib import Path

import pytest

from nnunet_shapekd.evaluation.cardiac import agreement, ejection_fraction, indices
from nnunet_shapekd.evaluation.record import Evaluation

CLASSES = {"RV": (1,), "MLV": (2,), "LVC": (3,)}
CARDIAC = {"lv": "LVC", "myo": "MLV", "rv": "RV"}


def case(name: str, patient: str, phase: str, **sizes: tuple[float, float]) -> list[dict]:
    """A case's rows with (reference, prediction) in ml of each class."""
    pairs = {"RV": (50.0, 50.0), "MLV": (100.0, 100.0), "LVC": (50.0, 50.0)} | sizes
    return [
        {"case": name, "patient": patient, "phase": phase, "class": c, "reference_size": r, "prediction_size": p}
        for c, (r, p) in pairs.items()
    ]


def evaluation(*cases: list[dict], cardiac: dict | None = None, size_unit: str = "ml") -> Evaluation:
    return Evaluation(
        name="model",
        reference=Path("/reference"),
        prediction=Path("/prediction"),
        file_ending=".nii.gz",
        classes=CLASSES,
        ignore_label=None,
        left_out=(),
        cardiac=CARDIAC if cardiac is None else cardiac,
        distance_unit="mm",
        size_unit=size_unit,
        tolerance=1.0,
        rows=[row for rows in cases for row in rows],
    )


def found(of: Evaluation) -> dict[tuple[str, str], tuple[float, float]]:
    return {(row["patient"], row["index"]): (row["reference"], row["prediction"]) for row in indices(of)}


def test_the_indices_of_a_patient():
    ed = case("a_01", "a", "ED", LVC=(120.0, 100.0), RV=(150.0, 160.0), MLV=(100.0, 120.0))
    es = case("a_12", "a", "ES", LVC=(60.0, 40.0), RV=(75.0, 40.0), MLV=(90.0, 90.0))
    rows = indices(evaluation(es, ed))  # in whatever order
    assert [(row["index"], row["unit"]) for row in rows] == [
        ("LV EDV", "ml"),
        ("LV ESV", "ml"),
        ("LV EF", "%"),
        ("RV EDV", "ml"),
        ("RV ESV", "ml"),
        ("RV EF", "%"),
        ("LV mass", "g"),
    ]
    assert found(evaluation(ed, es)) == {
        ("a", "LV EDV"): (120, 100),
        ("a", "LV ESV"): (60, 40),
        ("a", "LV EF"): (50, 60),
        ("a", "RV EDV"): (150, 160),
        ("a", "RV ESV"): (75, 40),
        ("a", "RV EF"): (50, 75),
        ("a", "LV mass"): (pytest.approx(105), pytest.approx(126)),  # 1.05 g/ml at ED
    }


def test_ejection_fraction_of_an_empty_ventricle_is_undefined_and_a_negative_one_is_not_hidden():
    assert math.isnan(ejection_fraction(0, 0))
    assert ejection_fraction(50, 100) == -100


def test_a_ventricle_nobody_found_has_volume_0_and_no_ejection_fraction():
    rows = found(evaluation(case("a1", "a", "ED", LVC=(100.0, 0.0)), case("a2", "a", "ES", LVC=(40.0, 0.0))))
    assert rows["a", "LV EDV"] == (100, 0)
    assert rows["a", "LV EF"][0] == 60 and math.isnan(rows["a", "LV EF"][1])


def test_a_patient_without_a_phase_leaves_the_indices_that_need_it():
    whole = [case("b1", "b", "ED"), case("b2", "b", "ES")]
    only_ed = {index for patient, index in found(evaluation(case("a1", "a", "ED"), *whole)) if patient == "a"}
    only_es = {index for patient, index in found(evaluation(case("a2", "a", "ES"), *whole)) if patient == "a"}
    assert only_ed == {"LV EDV", "RV EDV", "LV mass"}
    assert only_es == {"LV ESV", "RV ESV"}


def test_only_the_structures_that_are_known_have_indices():
    of = evaluation(case("a1", "a", "ED"), case("a2", "a", "ES"), cardiac={"lv": "LVC"})
    assert [row["index"] for row in indices(of)] == ["LV EDV", "LV ESV", "LV EF"]


def test_other_tasks_phases_and_units_have_no_indices():
    ed, es = case("a1", "a", "ED"), case("a2", "a", "ES")
    assert indices(evaluation(ed, es, cardiac={})) == []
    assert indices(evaluation(ed, es, size_unit="px")) == []
    assert indices(evaluation(case("a1", "a", ""), case("a2", "a", ""))) == []
    assert agreement([]) == []


def test_two_ed_cases_of_a_patient_are_refused_by_name():
    with pytest.raises(ValueError, match="a1 and a3.*--patients"):
        indices(evaluation(case("a1", "a", "ED"), case("a2", "a", "ES"), case("a3", "a", "ED")))


def index_rows(*pairs: tuple[float, float]) -> list[dict]:
    return [
        {"patient": str(i), "index": "LV EF", "unit": "%", "reference": r, "prediction": p}
        for i, (r, p) in enumerate(pairs)
    ]


def test_agreement_by_hand():
    (row,) = agreement(index_rows((50, 52), (60, 60), (70, 76), (40, 36)))
    # d = 2, 0, 6, -4: mean 1, squares of d - 1: 1 + 1 + 25 + 25 = 52, sample variance 52 / 3
    sd = math.sqrt(52 / 3)
    assert row == {
        "index": "LV EF",
        "unit": "%",
        "n": 4,
        "mean_reference": 55,
        "mean_prediction": 56,
        "bias": 1,
        "sd": pytest.approx(sd),
        "limits_low": pytest.approx(1 - 1.96 * sd),
        "limits_high": pytest.approx(1 + 1.96 * sd),
        "mean_absolute_error": 3,
        # deviations -5 5 15 -15 and -4 4 20 -20: products 640, squares 500 and 832
        "pearson_r": pytest.approx(640 / math.sqrt(500 * 832)),
    }


def test_one_patient_has_a_bias_and_no_limits():
    (row,) = agreement(index_rows((50, 53)))
    assert (row["n"], row["bias"], row["mean_absolute_error"]) == (1, 3, 3)
    assert row["sd"] is row["limits_low"] is row["limits_high"] is row["pearson_r"] is None


def test_correlation_needs_three_patients_and_two_sides_that_vary():
    assert agreement(index_rows((50, 51), (60, 62)))[0]["pearson_r"] is None
    assert agreement(index_rows((50, 50), (60, 50), (70, 50)))[0]["pearson_r"] is None
    assert agreement(index_rows((50, 50), (60, 60), (70, 70)))[0]["pearson_r"] == pytest.approx(1)


def test_what_is_undefined_on_one_side_is_not_counted():
    (row,) = agreement(index_rows((50, 52), (60, math.nan), (math.nan, 70)))
    assert (row["n"], row["mean_reference"], row["mean_prediction"], row["bias"]) == (1, 50, 52, 2)


def test_an_index_without_any_defined_patient_is_listed_with_n_0():
    (row,) = agreement(index_rows((math.nan, 50)))
    assert row["n"] == 0 and row["bias"] is None and row["mean_reference"] is None


def test_indices_are_kept_apart():
    rows = index_rows((50, 52)) + [{**index_rows((100, 90))[0], "index": "LV EDV", "unit": "ml"}]
    assert [(row["index"], row["unit"], row["bias"]) for row in agreement(rows)] == [
        ("LV EF", "%", 2),
        ("LV EDV", "ml", -10),
    ]
