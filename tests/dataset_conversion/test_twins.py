"""The same image twice."""

import numpy as np

from nnunet_shapekd.dataset_conversion.twins import digest, first_of_each, in_one_fold, twins_in, twins_remarks


def test_a_digest_is_of_the_numbers_not_of_their_type_or_order_in_memory():
    values = np.arange(24).reshape(2, 3, 4)
    same = [values, values.astype(np.int16), values.astype(np.float64), np.asfortranarray(values)]
    assert len({digest(one) for one in same}) == 1
    others = [values + 1, values.reshape(3, 2, 4), values[::-1], values[..., ::-1]]
    assert len({digest(one) for one in (values, *others)}) == 5


def test_twins_are_called_after_the_first_however_they_are_connected():
    assert first_of_each("abcdef", [("c", "b"), ("e", "f"), ("c", "a"), ("f", "f")]) == dict(
        zip("abcdef", "aaadee", strict=True)
    )
    assert twins_in({"a": ["1", "2"], "b": ["3"], "c": ["2", "4"], "d": ["4"], "e": []}) == {"c": "a", "d": "a"}


def test_twins_move_to_the_fold_of_the_first_and_nobody_else_moves():
    cases_of = {name: [f"{name}_ED", f"{name}_ES"] for name in "abcd"}
    cases = sorted(case for of in cases_of.values() for case in of)
    splits = [
        {"train": [case for case in cases if case[0] not in fold], "val": [case for case in cases if case[0] in fold]}
        for fold in ("ab", "cd")
    ]
    first, second = in_one_fold(splits, {"c": "a"}, cases_of)
    assert first["val"] == ["a_ED", "a_ES", "b_ED", "b_ES", "c_ED", "c_ES"] and first["train"] == ["d_ED", "d_ES"]
    assert second == {"train": first["val"], "val": first["train"]}


def test_twins_of_two_sides_are_a_warning_that_says_what_to_leave_out():
    sides = {"a": "training", "b": "training", "c": "test", "d": "validation"}
    one, two, together = twins_remarks({"b": "a", "c": "a", "d": "a"}, sides)
    assert one.startswith("WARNING: c (test) has the images of a (training)") and one.endswith(": leave out c.")
    assert two.endswith(": leave out d.")
    assert together == "The same images twice, kept on one side: b and a."
