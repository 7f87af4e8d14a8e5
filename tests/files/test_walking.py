"""Walking somebody else's folder: nothing that may be data is passed over in silence."""

import os
import socket
from pathlib import Path

import pytest

from nnunet_shapekd.files.walking import ending, file_trouble, looks_like_data, unused, walk


def write(path: Path, content: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def below(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root).files]


def test_links_to_files_and_folders_are_followed(tmp_path):
    write(tmp_path / "store/p2/b.nii.gz")
    write(tmp_path / "root/p1/a.nii.gz")
    (tmp_path / "root/p2").symlink_to(tmp_path / "store/p2")
    (tmp_path / "root/c.nii.gz").symlink_to("../store/p2/b.nii.gz")
    found = walk(tmp_path / "root")
    assert below(tmp_path / "root") == ["c.nii.gz", "p1/a.nii.gz", "p2/b.nii.gz"]
    assert [folder.name for folder in found.folders] == ["p1", "p2"] and not found.problems + found.remarks


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_back_is_noticed_and_not_followed(tmp_path, target):
    write(tmp_path / "root/p1/a.nii.gz")
    (tmp_path / "root/p1/again").symlink_to(target)
    assert below(tmp_path / "root") == ["p1/a.nii.gz"]
    (remark,) = walk(tmp_path / "root").remarks
    assert "p1/again is a link back to " in remark


def test_two_folders_that_link_to_each_other_end(tmp_path):
    for one, other in ("pq", "qp"):
        write(tmp_path / f"{one}/{one}.nii")
        (tmp_path / one / "other").symlink_to(tmp_path / other)
    assert below(tmp_path) == ["p/other/q.nii", "p/p.nii", "q/other/p.nii", "q/q.nii"]


def test_many_links_among_folders_are_walked_in_no_time(tmp_path):
    names = [f"f{number:02d}" for number in range(25)]
    for name in names:
        write(tmp_path / name / "a.nii")
        for other in names:
            if other != name:
                (tmp_path / name / other).symlink_to(tmp_path / other)
    assert 25 <= len(walk(tmp_path).files) <= 50


def test_what_cannot_be_reached_is_a_problem_that_says_why(tmp_path):
    (tmp_path / "p1").symlink_to("../.git/annex/objects/p1")
    (tmp_path / "p2").symlink_to("p2")
    (tmp_path / "a.nii.gz").symlink_to("elsewhere.nii.gz")
    (tmp_path / "notes.txt").symlink_to("elsewhere.txt")
    os.mkfifo(tmp_path / "b.nii.gz")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "c.nii"))
        problems = walk(tmp_path).problems
    expected = {
        "a.nii.gz": "is a link to elsewhere.nii.gz, which cannot be followed: nothing is there",
        "b.nii.gz": "is no regular file but a named pipe",
        "c.nii": "is no regular file but a socket",
        "p1": "`git annex get`",
        "p2": "is a link to itself",
    }
    assert len(problems) == len(expected)
    for problem, (name, why) in zip(problems, expected.items(), strict=True):
        assert problem.startswith(f"{tmp_path / name}: ") and why in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may do everything")
def test_a_folder_that_may_not_be_looked_into_is_a_problem(tmp_path):
    folder = write(tmp_path / "p1/a.nii").parent
    folder.chmod(0)
    (problem,) = walk(tmp_path).problems
    folder.chmod(0o700)
    assert f"{folder}: may not be looked into (Permission denied)" in problem


def test_a_folder_that_refuses_to_be_listed_is_a_problem(tmp_path, monkeypatch):
    folder, scandir = write(tmp_path / "p1/a.nii").parent, os.scandir

    def refuse(path):
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (problem,) = walk(tmp_path).problems
    assert f"{folder}: may not be looked into (Permission denied)" in problem


def test_names_that_are_not_utf8_are_named_as_they_can_be_printed(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/Gr\xfc\xdfe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9t\xe9.nii.gz")).write_bytes(b"data")
    found = walk(tmp_path)
    assert not found.folders + found.files
    assert [problem.encode().split(b": ")[0].split(b"/")[-1] for problem in found.problems] == [
        b"Gr\\xfc\\xdfe",
        b"\\xe9t\\xe9.nii.gz",
    ]
    assert all("the name is not UTF-8" in problem for problem in found.problems)


def test_what_operating_systems_leave_is_no_data(tmp_path):
    for name in (".a.nii", "__MACOSX/a.nii", "@eaDir/a.jpg", ".git/b.nii", "p/._c.nii"):
        write(tmp_path / name)
    assert not walk(tmp_path).files


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("a.nii.gz", ".nii.gz", True),
        ("a.b.NII.GZ", ".nii.gz", True),
        ("a.mha", ".mha", True),
        ("IM_0001", "", True),
        ("a.nii.gz.part", ".part", True),
        ("LICENSE", "", False),
        ("table.CSV", ".csv", False),
        ("Info.cfg", ".cfg", False),
    ],
)
def test_a_file_looks_like_data_unless_it_is_a_document(name, kind, data):
    assert ending(Path(name)) == kind and looks_like_data(Path(name)) is data


def test_what_was_not_used_is_named_with_its_ending_and_why(tmp_path):
    used = write(tmp_path / "a.nii.gz")
    (tmp_path / "again.nii.gz").symlink_to("a.nii.gz")
    for name in ("other.nii.gz", "b.mha", *(f"c/{number}.dcm" for number in range(7)), "README.md", "raw"):
        write(tmp_path / name)
    assert [*unused(walk(tmp_path), [used], (".nii", ".nii.gz"))] == [
        "Not used: 1 file without an ending (read are .nii, .nii.gz): raw",
        "Not used: 7 files ending in .dcm (read are .nii, .nii.gz): "
        "c/0.dcm, c/1.dcm, c/2.dcm, c/3.dcm, c/4.dcm and 2 more",
        "Not used: 1 file ending in .mha (read are .nii, .nii.gz): b.mha",
        "Not used: 1 file ending in .nii.gz (named or placed otherwise than it is read): other.nii.gz",
    ]


def test_each_trouble_with_a_file_has_its_own_words(tmp_path):
    assert file_trouble(write(tmp_path / "good.nii")) is None
    assert "is empty" in file_trouble(write(tmp_path / "empty.nii", b""))
    assert "is a folder" in file_trouble(tmp_path)
    assert "is not there" in file_trouble(tmp_path / "absent.nii")
    assert "`git lfs pull`" in file_trouble(
        write(tmp_path / "lfs.nii", b"version https://git-lfs.github.com/spec/v1\n")
    )
    assert "`git annex get`" in file_trouble(write(tmp_path / "annex.nii", b"/annex/objects/MD5E-s1--0.nii\n"))
    os.mkfifo(tmp_path / "pipe.nii")
    assert "is no regular file but a named pipe" in file_trouble(tmp_path / "pipe.nii")


def test_a_file_that_may_not_be_read_is_called_so(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert file_trouble(path) == f"{path}: may not be read (Permission denied); give yourself the permission: chmod u+r"
