"""Which label becomes which, and what the classes are called then."""

from __future__ import annotations

import pytest

from nnunet_shapekd.dataset_conversion import label_maps


def test_a_label_map_is_read_and_shown_again() -> None:
    assert label_maps.parse_label_map("500:3, 200:2,600:1,420:0") == {500: 3, 200: 2, 600: 1, 420: 0}
    assert label_maps.show_label_map({500: 3, 420: 0}) == "500:3,420:0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("500=3", "expected SOURCE:TARGET"),
        ("", "expected SOURCE:TARGET"),
        ("500:-1", "expected SOURCE:TARGET"),
        ("500:3,", "expected SOURCE:TARGET"),
        ("500:1,500:2", "500 is mapped 2 times"),
        ("500:1,200:3", "without gaps, got 1, 3"),
        ("500:0", "without gaps, got 0 only"),
        ("0:1", "0 is background and stays 0"),
        ("99999:1", "expected sources 1 to 65535"),
    ],
)
def test_a_wrong_label_map_is_refused_saying_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="--labels") as caught:
        label_maps.parse_label_map(text)
    assert words in str(caught.value)


def test_classes_are_named_after_their_sources_or_as_given() -> None:
    known = {500: "LVC", 200: "MLV", 3: "LVC"}
    assert label_maps.name_labels({500: 1, 200: 1, 3: 1, 7: 2}, known) == {
        "background": 0, "LVC_and_MLV": 1, "label7": 2,
    }  # fmt: skip
    assert label_maps.name_labels({500: 2, 200: 1}, known, "myo, lv") == {"background": 0, "myo": 1, "lv": 2}
    for names in ("one", "a,a", "a,background"):
        with pytest.raises(ValueError, match="--names"):
            label_maps.name_labels({500: 2, 200: 1}, known, names)
