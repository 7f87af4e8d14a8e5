import pytest

from nnunet_shapekd.output import new_folder


def fill(target, text, replaces=None):
    with new_folder(target, replaces) as folder:
        (folder / "result.txt").write_text(text)


def test_a_new_folder_appears_only_when_it_is_filled(tmp_path):
    with new_folder(tmp_path / "a" / "out") as folder:
        assert not (tmp_path / "a" / "out").exists()
        (folder / "result.txt").write_text("whole")
    assert (tmp_path / "a" / "out" / "result.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_an_error_leaves_nothing_and_keeps_the_earlier_result(tmp_path):
    fill(tmp_path / "out", "earlier")
    with pytest.raises(KeyError), new_folder(tmp_path / "out", "result.txt") as folder:
        (folder / "result.txt").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "result.txt").read_text() == "earlier"


def test_an_earlier_result_is_replaced_wholly(tmp_path):
    fill(tmp_path / "out", "earlier")
    (tmp_path / "out" / "old.png").touch()
    fill(tmp_path / "out", "later", replaces="result.txt")
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("result.txt", "later")]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("replaces", [None, "summary.json"])
def test_a_folder_with_other_things_is_left_as_it_is(tmp_path, replaces):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="exists already and is left as it is"):
        fill(tmp_path / "out", "result", replaces)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="is no folder"):
        fill(tmp_path / "out", "result", "result.txt")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "result")
    assert (tmp_path / "out" / "result.txt").is_file()
