"""The MM-WHS conversion, on tiny fake downloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    dataset_in,
    raw_folder,
    voxels,
    write_case,
    write_volume,
)

from nnunet_shapekd.dataset_conversion.mmwhs import MmwhsOptions, convert_mmwhs
from nnunet_shapekd.dataset_conversion.target import ConversionError

WHOLE_HEART = np.array([0, 205, 420, 500, 550, 600, 820, 850])


def make_mmwhs(root: Path) -> Path:
    for modality in ("ct", "mr"):
        for n in range(1001, 1007):
            stem = root / f"{modality}_train/{modality}_train_{n}"
            write_case(Path(f"{stem}_image.nii.gz"), Path(f"{stem}_label.nii.gz"), WHOLE_HEART)
        write_case(root / f"{modality}_test/{modality}_test_2001_image.nii.gz", None, WHOLE_HEART)
    return root


def convert(root: Path, modality: str, **options) -> Path:
    return convert_mmwhs(root, MmwhsOptions(modality=modality, processes=1, **options))


@pytest.mark.parametrize(("modality", "channel", "name"), [("ct", "CT", "032_MMWHSct"), ("mr", "MRI", "033_MMWHSmr")])
def test_mmwhs_has_seven_structures_and_an_unlabelled_test_set(
    modality: str, channel: str, name: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    folder = convert(root, modality)
    assert folder == raw / f"Dataset{name}"
    dataset = dataset_in(folder)
    assert list(dataset["labels"].items())[1:4] == [("MLV", 1), ("LA", 2), ("LVC", 3)]
    assert len(dataset["labels"]) == 8 and dataset["channel_names"] == {"0": channel}
    stem = f"{modality}_train_1003"
    old, new = voxels(root / f"{modality}_train/{stem}_label.nii.gz"), voxels(folder / f"labelsTr/{stem}.nii.gz")
    assert np.array_equal(WHOLE_HEART[new], old)
    assert len(list((folder / "labelsTr").iterdir())) == 6 and not (folder / "labelsTs").exists()
    assert [path.name for path in (folder / "imagesTs").iterdir()] == [f"{modality}_test_2001_0000.nii.gz"]
    assert "6 training cases, 1 test cases (without labels), 5 folds" in capsys.readouterr().out


def test_mmwhs_fits_acdc_by_a_label_map(tmp_path: Path, raw: Path) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    folder = convert(root, "mr", labels="600:1,205:2,500:3,420:0,550:0,820:0,850:0")
    assert dataset_in(folder)["labels"] == {
        "background": 0, "RV": 1, "MLV": 2, "LVC": 3,
    }  # fmt: skip


def test_mmwhs_refuses_a_value_it_does_not_know_with_the_map_to_type(tmp_path: Path, raw: Path) -> None:
    root = make_mmwhs(tmp_path / "mmwhs")
    write_volume(root / "ct_train/ct_train_1002_label.nii.gz", np.full((3, 8, 6), 421, np.int16))
    with pytest.raises(ConversionError, match="1002_label.nii.gz: .*421;.*--labels 205:1,.*,850:7,421:0"):
        convert(root, "ct")
    folder = convert(root, "ct", labels="205:1,420:2,421:2,500:3,550:4,600:5,820:6,850:7")
    assert voxels(folder / "labelsTr/ct_train_1002.nii.gz").min() == 2
