"""What a table says of cases: columns in any case, numbers as numbers, and what is not said."""

from __future__ import annotations

import pytest

from nnunet_shapekd.files.columns import columns_of, value_order
from nnunet_shapekd.files.whose import find_patients

CASES = ["A1_ED", "A1_ES", "B2_ED", "C3_ED"]


def columns(tmp_path, text: str, *wanted: str, cases=CASES):
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    return columns_of(wanted, find_patients(cases, [tmp_path]), [tmp_path])


def test_a_row_a_case_says_its_values_and_a_case_without_a_row_has_none(tmp_path):
    table = "case,patient,Vendor\nA1_ED,A1,GE\nA1_ES,A1,\nB2_ED,B2,Siemens\n"
    found, absent = columns(tmp_path, table, "vendor")
    assert found == {"vendor": {"A1_ED": "GE", "A1_ES": "", "B2_ED": "Siemens", "C3_ED": ""}} and not absent


@pytest.mark.parametrize("more", ["", ",ed_frame,es_frame"])
def test_a_row_a_patient_speaks_for_all_its_cases(tmp_path, more):
    table = f"patient,group{more}\nA1,HCM\nB2,DCM\n"
    assert columns(tmp_path, table, "group")[0] == {
        "group": {"A1_ED": "HCM", "A1_ES": "HCM", "B2_ED": "DCM", "C3_ED": ""}
    }


def test_values_that_are_the_same_are_written_as_the_first(tmp_path):
    rows = ["A1_ED,A1,3,GE  Medical", "A1_ES,A1,3.0,ge medical", "B2_ED,B2,1.5,GE", "C3_ED,C3,1.50,"]
    found, _ = columns(tmp_path, "\n".join(["case,patient,field,vendor", *rows]), "field", "vendor")
    assert list(found["field"].values()) == ["3", "3", "1.5", "1.5"]
    assert list(found["vendor"].values()) == ["GE  Medical", "GE  Medical", "GE", ""]


def test_numbers_are_sorted_by_size_before_texts_and_the_unknown_is_last():
    values = ["", "Siemens", "10", "9", "1.5", "canon", "-2"]
    assert sorted(values, key=value_order) == ["-2", "1.5", "9", "10", "canon", "Siemens", ""]


def test_patient_and_phase_are_known_without_a_table(tmp_path):
    found, absent = columns_of(["Phase", "patient", "vendor"], find_patients(CASES), [tmp_path])
    assert list(found["Phase"].values()) == ["ED", "ES", "ED", "ED"]
    assert list(found["patient"].values()) == ["A1", "A1", "B2", "C3"]
    assert absent == {
        "vendor": "no patients.csv was found, so the column vendor is not there; there are patient, phase"
    }


def test_a_column_that_is_not_there_or_empty_is_told_with_those_there_are(tmp_path):
    table = "case,patient,phase,vendor,centre\nA1_ED,A1,ED,,1\nX9_ED,X9,ED,GE,2\n"
    found, absent = columns(tmp_path, table, "scanner", "vendor", "centre")
    assert set(found) == {"centre"}
    where = f"{tmp_path / 'patients.csv'}: the column"
    assert absent == {
        "scanner": f"{where} scanner is not there; there are patient, phase, vendor, centre",
        "vendor": f"{where} vendor is empty for these cases; there are patient, phase, vendor, centre",
    }


def test_columns_that_differ_in_case_are_told_apart_by_their_own_spelling(tmp_path):
    table = "case,patient,Site,site\nA1_ED,A1,1,x\n"
    assert columns(tmp_path, table, "site")[0]["site"]["A1_ED"] == "x"
    with pytest.raises(ValueError, match="--by SITE could be each of its columns Site, site"):
        columns(tmp_path, table, "SITE")
    with pytest.raises(ValueError, match="--by vendor could be each of its columns vendor, vendor"):
        columns(tmp_path, "case,patient,vendor,vendor\nA1_ED,A1,1,x\n", "vendor")


@pytest.mark.parametrize(
    ("table", "key", "who"),
    [
        ("case,patient,field\nA1_ED,A1,3\nA1_ED,A1,3.0\nA1_ED,A1,1.5\n", "case", "A1_ED"),
        ("patient,field\nA1,3\nA1,3.0\nA1,1.5\n", "patient", "A1"),
    ],
)
def test_two_values_of_one_case_are_an_error(tmp_path, table, key, who):
    with pytest.raises(ValueError, match=f"two different values of field for one {key}: {who}"):
        columns(tmp_path, table, "field")


def test_a_table_that_does_not_say_whose_a_row_is_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected a column case or patient beside vendor, got id, vendor"):
        columns(tmp_path, "id,vendor\n1,GE\n", "vendor")


def test_letters_are_the_same_however_they_are_composed(tmp_path):
    table = "case,patient,h\u00f4pital\nRen\u00e9_1,R,Ch\u00e2telet\n"
    found, _ = columns(tmp_path, table, "ho\u0302pital", cases=["Rene\u0301_1"])
    assert found == {"ho\u0302pital": {"Rene\u0301_1": "Ch\u00e2telet"}}
