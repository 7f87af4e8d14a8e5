import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import label

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.phantom import GROUPS, SCANNERS, phantom_patient, render_patient, write_phantom

RV, MYO, LV = 1, 2, 3
PATIENTS = [1, 2, 3, 4, 5]  # one of each group


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def _ml(labels: np.ndarray, k: int, spacing_mm: tuple[float, ...]) -> float:
    return float((labels == k).sum() * np.prod(spacing_mm) / 1000)


@pytest.fixture(scope="module")
def rendered() -> dict[tuple[int, str], dict]:
    return {(n, s): render_patient(phantom_patient(n), SCANNERS[s]) for n in PATIENTS for s in ("a", "b")}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "acdc"
    write_phantom(out, patients=2, test_patients=1)
    return out


def test_folders_are_named_as_in_acdc_and_returned_training_first(tmp_path):
    folders = write_phantom(tmp_path / "acdc", patients=1, test_patients=1)
    assert folders == [tmp_path / "acdc/training/patient001", tmp_path / "acdc/testing/patient101"]
    assert all(f.is_dir() for f in folders)


def test_same_seed_gives_identical_files(written, tmp_path):
    write_phantom(tmp_path / "again", patients=2, test_patients=1)
    assert _files(tmp_path / "again") == _files(written)


def test_one_patient_does_not_depend_on_how_many_are_written(written, tmp_path):
    write_phantom(tmp_path / "one", patients=1, test_patients=0)
    assert _files(tmp_path / "one/training/patient001") == _files(written / "training/patient001")


def test_different_seeds_give_different_hearts():
    first, second = (phantom_patient(1, seed) for seed in (0, 1))
    assert first.group == second.group
    assert first.radius_mm != second.radius_mm and first.heart_mm != second.heart_mm


def test_five_consecutive_patients_hold_all_five_groups():
    assert sorted(phantom_patient(n).group for n in PATIENTS) == sorted(GROUPS)


@pytest.mark.parametrize("number", PATIENTS)
@pytest.mark.parametrize("scanner", ["a", "b"])
def test_every_volume_holds_exactly_the_four_labels(rendered, number, scanner):
    for image, labels, _ in rendered[number, scanner].values():
        assert np.unique(labels).tolist() == [0, RV, MYO, LV]
        assert image.dtype == np.int16 and labels.dtype == np.uint8
        assert image.min() >= 0 and 200 < image.max() <= 2000


@pytest.mark.parametrize("number", PATIENTS)
@pytest.mark.parametrize("scanner", ["a", "b"])
def test_lv_cavity_touches_nothing_but_myocardium_within_a_slice(rendered, number, scanner):
    for _, labels, _ in rendered[number, scanner].values():
        lv = labels == LV
        for axis in (1, 2):
            for step in (-1, 1):  # nothing wraps around: the heart is far from the border
                assert set(np.unique(labels[np.roll(lv, step, axis)])) <= {MYO, LV}


@pytest.mark.parametrize("number", PATIENTS)
def test_every_structure_is_one_piece_within_a_slice(rendered, number):
    for scanner in ("a", "b"):
        for _, labels, _ in rendered[number, scanner].values():
            assert max(label(in_slice == k)[1] for in_slice in labels for k in (RV, MYO, LV)) == 1


@pytest.mark.parametrize("number", PATIENTS)
def test_cavities_shrink_in_systole_while_muscle_is_kept(rendered, number):
    (_, ed, spacing_mm), (_, es, _) = (rendered[number, "a"][frame] for frame in ("ED", "ES"))
    assert _ml(es, LV, spacing_mm) < 0.9 * _ml(ed, LV, spacing_mm)
    assert _ml(es, RV, spacing_mm) < 0.9 * _ml(ed, RV, spacing_mm)
    assert _ml(es, MYO, spacing_mm) == pytest.approx(_ml(ed, MYO, spacing_mm), rel=0.2)


def test_ejection_fraction_separates_dilated_from_hypertrophic_hearts(rendered):
    fraction = {}
    for number in PATIENTS:
        ed, es = ((rendered[number, "a"][frame][1] == LV).sum() for frame in ("ED", "ES"))
        fraction[phantom_patient(number).group] = 1 - es / ed
    assert fraction["DCM"] < 0.4 < 0.5 < fraction["NOR"] < 0.75
    assert fraction["HCM"] > 0.55


@pytest.mark.parametrize("number", PATIENTS)
def test_two_scanners_show_the_same_anatomy_at_different_spacing(rendered, number):
    for frame in ("ED", "ES"):
        (_, a, spacing_a_mm), (_, b, spacing_b_mm) = (rendered[number, s][frame] for s in ("a", "b"))
        assert len(a) == len(b) and spacing_a_mm[0] == spacing_b_mm[0] and spacing_a_mm[1] < spacing_b_mm[1]
        for k in (RV, MYO, LV):
            assert _ml(b, k, spacing_b_mm) == pytest.approx(_ml(a, k, spacing_a_mm), rel=0.06)
            centre_mm = [  # from the middle of the field of view
                (np.argwhere(x == k).mean(0) - (np.array(x.shape) - 1) / 2) * mm
                for x, mm in ((a, spacing_a_mm), (b, spacing_b_mm))
            ]
            np.testing.assert_allclose(*centre_mm, atol=1.0)


def test_second_scanner_has_less_contrast_between_blood_and_muscle(rendered):
    for number in PATIENTS:
        (a, labels_a, _), (b, labels_b, _) = (rendered[number, s]["ED"] for s in ("a", "b"))
        ratio_a, ratio_b = (im[la == LV].mean() / im[la == MYO].mean() for im, la in ((a, labels_a), (b, labels_b)))
        assert 1.2 < ratio_b < ratio_a


def test_the_other_sequence_has_less_contrast_and_twice_the_spread_in_the_wall():
    for number in PATIENTS:
        contrast, spread, drawn = {}, {}, {}
        for scanner in ("a", "c"):
            image, labels, _ = render_patient(phantom_patient(number), SCANNERS[scanner])["ED"]
            drawn[scanner] = labels
            cavity, wall = image[labels == LV], image[labels == MYO]
            contrast[scanner] = (cavity.mean() - wall.mean()) / image.std()
            spread[scanner] = wall.std() / image.std()
        np.testing.assert_array_equal(drawn["a"], drawn["c"])
        assert 0.4 < contrast["c"] / contrast["a"] < 0.9  # 1.1 to 1.5 in late enhancement and cine MRI
        assert 1.5 < spread["c"] / spread["a"] < 2.7


def test_no_threshold_segments_the_blood(rendered):
    image, labels, _ = rendered[1, "a"]["ED"]
    blood = (labels == LV) | (labels == RV)
    dice = [2 * (blood & (image > t)).sum() / (blood.sum() + (image > t).sum()) for t in range(50, 1000, 25)]
    assert max(dice) < 0.6


def test_image_and_labels_share_their_geometry(written):
    files = sorted(written.rglob("*_gt.nii.gz"))
    assert len(files) == 3 * 2
    for file in files:
        reference, image = sitk.ReadImage(str(file)), sitk.ReadImage(str(file).replace("_gt", ""))
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(reference, geometry)() == getattr(image, geometry)()
        x_mm, y_mm, z_mm = image.GetSpacing()
        assert x_mm == y_mm and 1.9 < x_mm < 2.6 and 8 <= z_mm <= 10 and 7 <= image.GetSize()[2] <= 9
        assert image.GetPixelID() == sitk.sitkInt16 and reference.GetPixelID() == sitk.sitkUInt8


def test_info_names_the_frames_that_exist(written):
    for folder in (*written.glob("training/*"), *written.glob("testing/*")):
        info = dict(re.findall(r"^(\w+): (.+)$", (folder / "Info.cfg").read_text(), re.MULTILINE))
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert info["Group"] in GROUPS and 1 == int(info["ED"]) < int(info["ES"]) < int(info["NbFrame"])
        frames = [f"{folder.name}_frame{int(info[k]):02d}{s}.nii.gz" for k in ("ED", "ES") for s in ("", "_gt")]
        assert sorted(f.name for f in folder.iterdir()) == sorted(["Info.cfg", *frames])


def test_existing_output_is_refused_and_untouched(tmp_path, capsys):
    out = tmp_path / "acdc"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    assert main(["phantom", str(out), "--patients", "1", "--test-patients", "0"]) == 1
    assert f"{out} exists already" in capsys.readouterr().err
    assert _files(tmp_path) == {str(Path("acdc", "mine.txt")): b"precious"}


def test_an_empty_folder_is_filled(tmp_path):
    assert main(["phantom", str(tmp_path), "--patients", "1", "--test-patients", "0"]) == 0
    assert [f.name for f in tmp_path.iterdir()] == ["training"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    assert main(["phantom", str(tmp_path / "acdc"), "--patients", "1", "--test-patients", "0"]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 0}, "patients must be 1..100, got 0"),
        ({"patients": 101}, "patients must be 1..100, got 101"),
        ({"test_patients": -1}, "test_patients must be 0..899, got -1"),
        ({"seed": -3}, "seed must be 0 or more, got -3"),
        ({"scanner": "d"}, "scanner must be one of a, b, c, got 'd'"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_phantom(tmp_path / "acdc", **arguments)
    assert list(tmp_path.iterdir()) == []
