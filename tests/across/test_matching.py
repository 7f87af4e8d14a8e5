"""Classes are found by name, and values follow."""

from __future__ import annotations

import pytest

from nnunet_shapekd.across.matching import match_classes

MODEL = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}


def classes(labels: dict) -> dict:
    return {"labels": labels}


@pytest.mark.parametrize(
    ("theirs", "leave_out", "pairs", "values"),
    [
        (MODEL, (), {"RV": "RV", "MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3}),
        (
            {"background": 0, "LV": 1, "MYO": 2, "RV": 3},
            (),
            {"LV": "LVC", "MYO": "MLV", "RV": "RV"},
            {0: 0, 1: 3, 2: 2, 3: 1},
        ),
        ({"background": 0, "mlv": 7, "Lvc": 9}, ["rv"], {"mlv": "MLV", "Lvc": "LVC"}, {0: 0, 7: 2, 9: 3}),
        (MODEL, ["RV"], {"MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3}),
        ({**MODEL, "scar": 4}, ["scar"], {"RV": "RV", "MLV": "MLV", "LVC": "LVC"}, {0: 0, 1: 1, 2: 2, 3: 3, 4: 0}),
        ({"background": 0, "LV": 1, "MYO": 2, "RV": 3}, ["LVC"], {"MYO": "MLV", "RV": "RV"}, {0: 0, 1: 0, 2: 2, 3: 1}),
    ],
    ids=[
        "the same",
        "another order, other names",
        "RV not annotated",
        "RV not judged",
        "one class more",
        "left out of both",
    ],
)
def test_classes_are_found_by_name_and_values_follow(theirs, leave_out, pairs, values):
    matching = match_classes(classes(MODEL), classes(theirs), leave_out)
    assert (matching.classes, matching.values) == (pairs, values)


def test_regions_are_matched_by_the_classes_a_value_lies_in():
    ours = {"background": 0, "heart": [1, 2, 3], "LV": [2, 3], "LVC": 3}
    theirs = {"background": 0, "LVC": 1, "LV": [1, 2], "heart": [1, 2, 3]}
    assert match_classes(classes(ours), classes(theirs), ()).values == {0: 0, 1: 3, 2: 2, 3: 1}


def test_a_disc_without_its_cup_is_not_taken_for_the_region_of_both():
    ours, theirs = {"background": 0, "disc": [1, 2], "cup": 2}, {"background": 0, "disc": 1, "cup": 2}
    with pytest.raises(ValueError, match="value 2 lies in cup.*--leave-out"):
        match_classes(classes(ours), classes(theirs), ())
    assert match_classes(classes(ours), classes(theirs), ["disc"]).values == {0: 0, 1: 1, 2: 2}


def test_the_ignore_label_of_a_dataset_is_kept_where_the_model_has_none():
    matching = match_classes(classes(MODEL), classes({**MODEL, "ignore": 9}), ())
    assert matching.values[9] == 4 == matching.labels["ignore"]


@pytest.mark.parametrize(
    ("theirs", "leave_out", "message"),
    [
        ({"background": 0, "MYO": 2, "LV": 3}, (), "--leave-out RV"),
        (
            {**MODEL, "left atrium": 4},
            (),
            "--leave-out 'left atrium'",
        ),
        (MODEL, ["RV", "MLV", "LVC"], "--leave-out names all"),
    ],
)
def test_a_class_that_only_one_side_knows_is_named_with_what_to_do(theirs, leave_out, message):
    with pytest.raises(ValueError, match=message):
        match_classes(classes(MODEL), classes(theirs), leave_out)
