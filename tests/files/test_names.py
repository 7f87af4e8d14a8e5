"""Names and texts from files are data."""

import csv
import io
import unicodedata

import pytest

from nnunet_shapekd.files.names import case_name, cell, name_problem, of_cell, same_letters, shown


@pytest.mark.parametrize("name", ["patient001_frame01", "benign (1)", "A-1", "=1", "Grüße", "a..b", "x" * 200])
def test_ordinary_and_odd_names_are_fine(name):
    assert case_name(name, "table.csv") == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (None, "is no text"),
        (3, "is no text"),
        ("..", "starts with a dot"),
        (".hidden", "starts with a dot"),
        ("../x", "separators"),
        ("/etc/passwd", "separators"),
        ("a\\b", "separators"),
        ("a\0b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("a\x1b[2J", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("\udce9", "not UTF-8"),
        ("ü" * 101, "longer than 200 bytes"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason_in_words_that_can_be_printed(name, why):
    assert why in name_problem(name)
    with pytest.raises(ValueError, match=r"^table.csv: expected a case's name, but ") as caught:
        case_name(name, "table.csv")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 350


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("DCM", "DCM"),
        (None, ""),
        (3, "3"),
        (-2.5, "-2.5"),
        ("-1.5e-3", "-1.5e-3"),
        ("+4", "+4"),
        ("=1+1", "'=1+1"),
        ("-1+1", "'-1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("a\x1b[2Jb", "a [2Jb"),
        ("caf\udce9", "caf\\xe9"),
        ("'quoted'", "'quoted'"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_cell_is_no_formula_and_can_be_written_anywhere(value, text):
    assert cell(value) == text
    file = io.StringIO()
    csv.writer(file).writerow([cell(value)])
    file.getvalue().encode()


@pytest.mark.parametrize("text", ["=1+1", "-a", "+4", "plain", "'", "'plain'", "@x", " =x", ""])
def test_what_a_cell_holds_is_read_back(text):
    assert of_cell(cell(text)) == text


def test_an_accent_is_one_character_however_it_was_written():
    assert same_letters(unicodedata.normalize("NFD", "Grüße")) == "Grüße"


def test_bytes_that_are_not_utf8_are_shown():
    assert shown("caf\udce9/é") == "caf\\xe9/é"
    assert shown("a\x1b[2J\n") == "a\\x1b[2J\\n"
