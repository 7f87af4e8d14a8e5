"""Checkpoints are read whole or not at all, and without running what is in them."""

import os
import zipfile

import pytest
import torch
from conftest import Malicious

from nnunet_shapekd.files.checkpoints import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
    only_weights_and_values,
    read_checkpoint,
    weights_sha256,
)


@pytest.fixture
def saved(tmp_path):
    """A small checkpoint's file."""
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {"w": torch.arange(2000.0), "b": torch.ones(3)}, "current_epoch": 4}, path)
    return path


def test_a_checkpoint_that_is_cut_anywhere_is_damaged(saved):
    content = saved.read_bytes()
    for length in range(0, len(content), 97):
        saved.write_bytes(content[:length])
        with pytest.raises(DamagedCheckpointError, match=str(saved)):
            read_checkpoint(saved)


def test_one_wrong_bit_in_any_tensor_or_value_is_damage(saved):
    with zipfile.ZipFile(saved) as archive:
        places = {entry.filename: entry.header_offset for entry in archive.infolist() if entry.file_size > 8}
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    content = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        starts = {name: content.index(archive.read(name), offset) for name, offset in places.items()}
    assert len(starts) >= 2
    for name, start in starts.items():
        for place in range(start, start + sizes[name], max(1, sizes[name] // 25)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            saved.write_bytes(flipped)
            with pytest.raises(DamagedCheckpointError, match=str(saved)):
                read_checkpoint(saved)


def test_a_zeroed_page_is_damage(saved):
    content = bytearray(saved.read_bytes())
    content[4096:8192] = bytes(4096)
    saved.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=str(saved)):
        read_checkpoint(saved)


def test_a_file_of_the_format_before_torch_1_6_is_read(tmp_path):
    torch.save({"current_epoch": 4}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.pth") == {"current_epoch": 4}


def test_a_folder_of_the_name_is_said_to_be_one(tmp_path):
    (tmp_path / "checkpoint_final.pth").mkdir()
    with pytest.raises(FileNotFoundError, match="checkpoint_final.pth is a folder"):
        read_checkpoint(tmp_path / "checkpoint_final.pth")


def test_a_checkpoint_that_would_run_code_is_named_and_not_run(tmp_path):
    torch.save({"extra": Malicious(tmp_path / "it_ran")}, tmp_path / "checkpoint_final.pth")
    with pytest.raises(UnsafeCheckpointError, match="checkpoint_final.pth"):
        read_checkpoint(tmp_path / "checkpoint_final.pth")
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_what_others_load_unsafely_is_loaded_safely_inside_and_the_environment_stays(tmp_path, monkeypatch, variable):
    for name in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    before = dict(os.environ)
    torch.save({"extra": Malicious(tmp_path / "it_ran")}, tmp_path / "evil.pth")
    with only_weights_and_values(), pytest.raises(Exception, match="mkdir"):
        torch.load(tmp_path / "evil.pth", weights_only=False)
    assert not (tmp_path / "it_ran").exists() and dict(os.environ) == before


def test_a_resaved_teacher_has_the_same_hash_and_other_weights_another(teacher, tmp_path):
    weights = torch.load(teacher / "checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    torch.save(weights, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert weights_sha256(again) == weights_sha256(weights)
    name = next(iter(again))
    again[name] = again[name] + 1e-6
    assert weights_sha256(again) != weights_sha256(weights)


def test_a_students_own_checkpoint_holds_nothing_but_weights_and_values(student):
    assert read_checkpoint(student / "checkpoint_final.pth")["shapekd"]["role"] == "student"
