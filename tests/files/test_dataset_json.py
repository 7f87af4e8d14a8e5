"""A dataset.json of any oddity is understood as nnU-Net does, or refused with what is expected."""

from __future__ import annotations

import json

import pytest

from nnunet_shapekd.files.dataset_json import channel_names, read_dataset_json, reader_of
from nnunet_shapekd.files.raw_dataset import read_raw_dataset

GOOD = {"labels": {"background": 0, "RV": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"labels": {"background": 0, "RV": 1, "ignore": []}}, "values of 0 to 65535 for 'ignore', got "),
        ({"labels": {"background": 0, "RV": 1, "ignore": [2]}}, 'one value of its own for "ignore"'),
        ({"labels": {"background": 0, "RV": 1, "ignore": 1}}, 'one value of its own for "ignore"'),
        ({"labels": {"background": 0, "RV": 1, "ignore": 0}}, 'one value of its own for "ignore"'),
        ({"labels": {"background": 0, "RV": []}}, "'RV'"),
        ({"labels": {"background": 0, "RV": [[1]]}}, "'RV'"),
        ({"labels": {"background": 0, "RV": {"a": 1}}}, "'RV'"),
        ({"labels": {"background": 0, "RV": None}}, "'RV'"),
        ({"labels": {"background": 0, "RV": True}}, "'RV'"),
        ({"labels": {"background": 0, "RV": 1.5}}, "'RV'"),
        ({"labels": {"background": 0, "RV": -1}}, "'RV'"),
        ({"labels": {"background": 0, "RV": 10**30}}, "'RV'"),
        ({"labels": {"background": 0, "RV": "one"}}, "'RV'"),
        ({"labels": {"background": 0, "": 1}}, "'' is no name"),
        ({"labels": {"background": 0, "a\nb": 1}}, "is no name"),
        ({"labels": {"background": 0}}, "classes besides background"),
        ({"labels": {"background": 0, "mean": 1}}, "none of them called mean"),
        ({"labels": ["RV"]}, 'expected "labels"'),
        ({"labels": None}, 'expected "labels"'),
        ({"file_ending": ["x"]}, "file_ending"),
        ({"file_ending": "nii"}, "file_ending"),
        ({"file_ending": "./../x"}, "file_ending"),
        ({"file_ending": ".\0"}, "file_ending"),
        ({"channel_names": ["MRI"]}, "channel_names"),
        ({"channel_names": {"first": "MRI"}}, "channel_names"),
        ({"channel_names": {"0": "MRI", "00": "CT"}}, "channel_names"),
    ],
)
def test_an_odd_entry_is_refused_with_the_file_and_what_is_expected(tmp_path, entry, message):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(GOOD | entry))
    with pytest.raises(ValueError, match=message) as error:
        read_dataset_json(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b"[" * 10**5, b'{"labels": {"a": 1, "a": 2}}', b'{"labels": {"a": 1}} x']
)
def test_what_is_no_json_or_says_something_twice_is_refused(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match="dataset.json: "):
        read_dataset_json(tmp_path / "dataset.json")


def test_what_nnunet_takes_is_taken(tmp_path):
    labels = {"background": 0, "RV": "1", "heart": [1, 2.0], "ignore": None}
    content = GOOD | {"labels": labels, "channel_names": {"1": "b", "0": "a"}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert channel_names(read_dataset_json(tmp_path / "dataset.json")) == ["a", "b"]


def test_a_dataset_that_lists_its_files_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(GOOD | {"dataset": {}}))
    with pytest.raises(ValueError, match='lists its files under "dataset".*imagesTr'):
        read_raw_dataset(tmp_path)


def test_the_reader_is_the_plans_else_the_datasets(tmp_path):
    path = tmp_path / "dataset.json"
    assert reader_of(path) is None
    path.write_text(json.dumps(GOOD | {"overwrite_image_reader_writer": "NibabelIO"}))
    assert reader_of(path) == "NibabelIO"
    (tmp_path / "plans.json").write_text('{"image_reader_writer": "Tiff3DIO"}')
    assert reader_of(path) == "Tiff3DIO"
