"""Whose case is whose: by a table, a pattern, a name; and what is not known is said."""

from __future__ import annotations

import pytest

from nnunet_shapekd.files.whose import find_patients

CASES = ["A1D0Z6_ED", "A1D0Z6_ES", "patient001_frame01", "patient001_frame12", "liver_7"]


def test_names_of_acdc_and_mnms_say_whose_they_are_and_others_are_not_known():
    found = find_patients(CASES)
    assert list(found.of.values()) == ["A1D0Z6", "A1D0Z6", "patient001", "patient001", "liver_7"]
    assert list(found.phase.values()) == ["ED", "ES", "", "", ""]
    assert found.unknown == ("liver_7",)
    assert found.remark().startswith("whose 1 of 5 cases are is not known (liver_7)")
    assert find_patients(CASES[:4]).remark() == ""


def test_patients_on_two_sides_are_torn():
    found = find_patients(CASES)
    assert found.torn(CASES[:1] + CASES[4:], CASES[1:2]) == ["A1D0Z6"]
    assert found.torn(CASES[:2], CASES[2:]) == []
    assert found.torn(["liver_7"], ["liver_7"]) == ["liver_7"]


@pytest.mark.parametrize("where", ["beside", "raw"])
def test_a_table_in_the_datasets_folder_is_found_wherever_the_cases_come_from(tmp_path, monkeypatch, where):
    name = "Dataset012_Liver"
    (tmp_path / "raw" / name).mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    (tmp_path / "raw" / name / "patients.csv").write_text("case,patient\nliver_7, x \nliver_8,x\n")
    folder = tmp_path / "raw" / name if where == "beside" else tmp_path / "preprocessed" / name
    found = find_patients([*CASES, "liver_8"], [folder])
    assert found.of["liver_7"] == found.of["liver_8"] == "x" and found.unknown == ()
    assert found.of["A1D0Z6_ED"] == "A1D0Z6"  # of what it does not name, the name
    assert find_patients(CASES, [tmp_path / "Dataset013_Other"]).unknown == ("liver_7",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case,patient\na,\nb,1\n", "the patient of a is empty"),
        ("case,patient\na,  \nb,1\n", "the patient of a is empty"),
        ("case,patient\na\nb,1\n", "the patient of a is empty"),
        ("patient,ed_frame,es_frame\n,1,2\n", "the patient of .* is empty"),
        ("patient,ed_frame,es_frame\np1,one,2\n", "ed_frame of p1: expected a number, got one"),
        ("case,patient,phase\na,1,ED\na,1,ES\n", "has two different rows of the case a"),
    ],
)
def test_a_table_that_lacks_a_patient_is_an_error_wherever_it_lies(tmp_path, table, message):
    (tmp_path / "patients.csv").write_text(table)
    for options in ({"folders": [tmp_path]}, {"table": tmp_path / "patients.csv"}):
        with pytest.raises(ValueError, match=f"patients.csv: {message}"):
            find_patients(["a", "b"], **options)


def test_empty_lines_of_a_table_say_nothing(tmp_path):
    (tmp_path / "patients.csv").write_text("case,patient\n\na,1\n,\n")
    assert find_patients(["a"], [tmp_path]).of == {"a": "1"}


def test_the_same_letters_are_the_same_however_they_are_composed(tmp_path):
    (tmp_path / "patients.csv").write_text("case,patient\nRen\u00e9_1,x\n", encoding="utf-8")
    assert find_patients(["Rene\u0301_1"], [tmp_path]).of == {"Rene\u0301_1": "x"}


def test_a_table_of_other_columns_is_not_used_and_that_is_said(tmp_path):
    (tmp_path / "patients.csv").write_text("id,age\n1,70\n")
    found = find_patients(CASES, [tmp_path])
    assert found.unknown == ("liver_7",) and "expected columns case,patient" in found.unused
