"""``shapekd figure``: energies as defined, the networks' inputs, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.image
import networks
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import DATASET, PLANS, STUDENT, edit
from matplotlib.figure import Figure
from matrix_datasets import DATASETS, TEST_CASE
from networks import STOCK, TEACHER, folders, write_models
from torch import nn

from nnunet_shapekd.figure import make
from nnunet_shapekd.figure.case import window_around
from nnunet_shapekd.figure.energy import feature_energy, padded
from nnunet_shapekd.figure.make import make_figure
from nnunet_shapekd.figure.options import FigureOptions
from nnunet_shapekd.figure.panels import Panel, draw

TRAINERS = {"baseline": STOCK, "teacher": TEACHER, "student": networks.STUDENT}
#: dataset -> configuration of its networks
TRAINED = {"plain": "2d", "regions_ignore": "3d_fullres", "rgb": "2d"}


folders_of_networks = pytest.fixture(scope="module")(folders)


@pytest.fixture(scope="module")
def root(folders_of_networks) -> Path:
    """nnU-Net's folders with three small datasets and their networks."""
    for kind, configuration in TRAINED.items():
        folds = {0: [DATASETS[kind].training_cases[-1]]}
        write_models(folders_of_networks, kind, configuration, dict.fromkeys(TRAINERS.values(), folds))
    return folders_of_networks


@pytest.fixture
def drawn(monkeypatch):
    """What ``make_figure`` hands to ``draw``, which still draws."""
    calls = []

    def record(*args):
        calls.append(args)
        draw(*args)

    monkeypatch.setattr(make, "draw", record)
    return calls


@pytest.fixture
def inputs(monkeypatch):
    """The inputs of the networks, in the order baseline, teacher, student."""
    images = []

    def record(network, x):
        images.append(x)
        return feature_energy(network, x)

    monkeypatch.setattr(make, "feature_energy", record)
    return images


def figure(kind: str, out: Path, case: str = "case_3", **options) -> Path:
    return make_figure(case, str(DATASETS[kind].id), TRAINED[kind], "0", out, FigureOptions(**options))


def fold(root: Path, kind: str, role: str) -> Path:
    folder = f"{TRAINERS[role]}__nnUNetPlans__{TRAINED[kind]}"
    return root / "results" / DATASETS[kind].name / folder / "fold_0"


@pytest.fixture
def copy(root, tmp_path, monkeypatch):
    """A copy of the folders, to be spoilt."""
    for name in ("raw", "results"):
        shutil.copytree(root / name / DATASETS["plain"].name, tmp_path / name / DATASETS["plain"].name)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path


class Toy(nn.Module):
    """Two features, the input and twice the input; the logits are the features."""

    def __init__(self) -> None:
        super().__init__()
        stage = nn.Conv2d(1, 2, 1, bias=False)
        stage.weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
        self.decoder = nn.Module()
        self.decoder.stages = nn.ModuleList([nn.Identity(), stage])

    def forward(self, x):
        return self.decoder.stages[1](self.decoder.stages[0](x))


def test_the_energy_is_the_mean_over_channels_of_the_squared_features():
    x = torch.tensor([[[[1.0, -2.0], [0.0, 4.0]]]])
    energy, logits = feature_energy(Toy(), x)
    # (1² + 2²) / 2 = 2.5 times the squared input
    assert np.array_equal(energy, [[2.5, 10.0], [0.0, 40.0]])
    assert np.array_equal(logits, [[[1, -2], [0, 4]], [[2, -4], [0, 8]]])


def test_looking_at_the_energy_leaves_no_hook_behind():
    network = Toy()
    feature_energy(network, torch.zeros(1, 1, 4, 4))
    assert not network.decoder.stages[1]._forward_hooks


def test_a_network_without_decoder_stages_is_refused():
    with pytest.raises(ValueError, match="decoder.stages.*Conv2d"):
        feature_energy(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4))


def test_a_size_the_network_takes_is_not_padded():
    image = torch.rand(1, 2, 32, 48)
    assert torch.equal(padded(image, (32, 32), (4, 16)), image)


@pytest.mark.parametrize(
    "size, patch, stride, expected",
    [
        ((33, 30), (16, 16), (4, 8), (36, 32)),
        ((10, 10), (32, 16), (4, 4), (32, 16)),
        ((5, 9, 8), (4, 8, 8), (2, 4, 8), (6, 12, 8)),
    ],
)
def test_padding_goes_to_multiples_of_the_stride_and_at_least_to_the_patch(size, patch, stride, expected):
    assert padded(torch.zeros(1, 1, *size), patch, stride).shape[2:] == expected


def test_padding_is_zero_at_the_end_and_leaves_a_network_of_single_pixels_as_it_was():
    image = torch.rand(1, 1, 5, 6) + 1
    large = padded(image, (4, 4), (4, 4))
    assert large.sum() == pytest.approx(image.sum().item())
    assert np.array_equal(feature_energy(Toy(), large)[0][:5, :6], feature_energy(Toy(), image)[0])


@pytest.mark.parametrize(
    "foreground, expected",
    [
        (slice(40, 44), slice(37, 47)),
        (slice(0, 2), slice(0, 10)),
        (slice(95, 100), slice(90, 100)),
        (slice(0), slice(45, 55)),
    ],
)
def test_a_window_is_centred_on_the_foreground_but_stays_inside(foreground, expected):
    mask = np.zeros((100, 4), dtype=bool)
    mask[foreground] = True
    assert window_around(mask, (10, 8)) == (expected, slice(0, 4))


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    old = tmp_path / "figure.png"
    old.write_text("old")
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: (file.write_text("half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        draw([[Panel("", np.zeros((4, 4)))]], old)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"] and old.read_text() == "old"


def test_the_pixels_proportions_are_the_spacings(tmp_path):
    picture = np.ones((10, 10))
    draw([[Panel("", picture)]], tmp_path / "square.png")
    draw([[Panel("", picture)]], tmp_path / "high.png", aspect=1.5)
    extents = []
    for name in ("square", "high"):
        drawn = matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3]
        rows, columns = np.nonzero((drawn != 1).any(-1))
        extents.append((np.ptp(rows) + 1) / (np.ptp(columns) + 1))
    assert extents == pytest.approx([1.0, 1.5], rel=0.02)


def test_teacher_and_others_see_class_means_and_image_of_the_whole_slice(copy, drawn, inputs):
    raw = copy / "raw" / DATASETS["plain"].name
    files = [raw / "imagesTr" / f"case_3_000{channel}.nii.gz" for channel in (0, 1)]
    files.append(raw / "labelsTr" / "case_3.nii.gz")
    for path in files:  # to a size the networks, with a total stride of 4, do not take
        sitk.WriteImage(sitk.ReadImage(str(path))[:61, :58], str(path))
    image, labels = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32) for path in files[::2])
    image, labels = ((image - image.mean()) / image.std())[3], labels[3]  # (58, 61)

    figure("plain", copy / "figure.png", slice_number=4)
    baseline, teacher, student = inputs
    assert student.shape == (1, 2, 60, 64) and torch.equal(baseline, student)
    assert np.allclose(student[0, 0, :58, :61], image, atol=1e-4)
    assert not student[..., 58:, :].any() and not student[..., 61:].any()
    means = np.select([labels == label for label in range(4)], [image[labels == label].mean() for label in range(4)])
    assert np.allclose(teacher[0, 0, :58, :61], means, atol=1e-4)
    # of zeros beside it a teacher makes structures: in training, padding belongs to the background's mean
    assert np.allclose(teacher[0, 0, 58:], means[0, 0], atol=1e-4)
    assert np.array_equal(drawn[0][0][0][2].picture.any(-1), labels > 0)
    assert {panel.picture.shape[:2] for row in drawn[0][0] for panel in row} == {(58, 61)}


def test_a_figure_has_the_energies_of_all_three_networks_at_the_slices_size(root, tmp_path, drawn):
    out = figure("plain", tmp_path / "figure.png")
    (top, energies, segmentations), path, aspect, legend, caption = drawn[0]
    assert [panel.title for panel in top] == ["image", "class-mean image", "reference"]
    assert [panel.title for panel in energies] == ["baseline: energy", "teacher: energy", "student: energy"]
    assert {panel.picture.shape[:2] for row in (top, energies, segmentations) for panel in row} == {(64, 64)}
    for panel in energies:
        assert panel.brightest == pytest.approx(np.percentile(panel.picture, 99))
        assert f"{panel.brightest:.3g}" in panel.note
    assert len({panel.brightest for panel in energies}) == 3
    assert aspect == 1 and [name for name, _ in legend] == ["RV", "MLV", "LVC"]
    assert "case_3 of Dataset901_plain (not a training case)" in caption and " mm, normalised" in caption
    assert matplotlib.image.imread(out).shape[2] == 4 and list(tmp_path.iterdir()) == [out]


def test_the_shown_slice_is_the_one_with_the_most_foreground_or_the_one_asked_for(root, tmp_path, drawn):
    path = root / "raw" / DATASETS["plain"].name / "labelsTr" / "case_3.nii.gz"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    largest = 1 + int((labels > 0).sum(axis=(1, 2)).argmax())
    figure("plain", tmp_path / "figure.png")
    figure("plain", tmp_path / "figure.png", slice_number=len(labels))
    assert [rows[0][0].note for rows, *_ in drawn] == [f"slice {i} of {len(labels)}" for i in (largest, len(labels))]


def test_a_reference_without_any_foreground_is_shown_in_the_middle(copy, drawn):
    path = copy / "raw" / DATASETS["plain"].name / "labelsTr" / "case_3.nii.gz"
    labels = sitk.ReadImage(str(path))
    sitk.WriteImage(labels * 0, str(path))
    figure("plain", copy / "figure.png")
    number = labels.GetSize()[2]
    assert drawn[0][0][0][0].note == f"slice {number // 2 + 1} of {number}"
    assert not drawn[0][0][0][2].picture.any()


def test_in_3d_a_block_of_the_patchs_size_is_seen_with_regions_outlined_and_the_ignored_grey(
    root, tmp_path, drawn, inputs
):
    figure("regions_ignore", tmp_path / "figure.png", "case_1")
    rows, _, _, legend, caption = drawn[0]
    assert {tuple(x.shape[2:]) for x in inputs} == {(4, 48, 48)}
    assert [name for name, _ in legend] == ["heart", "LV", "LVC", "not annotated"]
    heart, lv, lvc = (mask for mask, _ in rows[0][2].outlines)
    assert heart.sum() > lv.sum() > lvc.sum() > 0 and not (lvc & ~lv).any() and not (lv & ~heart).any()
    grey = (np.abs(rows[0][2].picture - 128 / 255) < 1e-6).all(-1)
    assert grey.any() and not (grey & heart).any()
    assert "4 × 48 × 48 voxels" in caption


def test_a_colour_picture_is_shown_in_colour_and_one_channel_of_it_in_grey(root, tmp_path, drawn):
    figure("rgb", tmp_path / "figure.png")
    figure("rgb", tmp_path / "figure.png", channel=1)
    colour, grey = (rows[0] for rows, *_ in drawn)
    assert all(np.ptp(panel.picture, axis=-1).any() for panel in colour)
    assert not any(np.ptp(panel.picture, axis=-1).any() for panel in grey[:2])
    assert "slice 1 of 1" in drawn[0][4] and "pixels of 1 × 1, " in drawn[0][4]


def test_a_case_of_another_dataset_with_the_same_labels_can_be_shown(copy, drawn):
    other = copy / "raw" / "Dataset950_OtherScanner"
    (copy / "raw" / DATASETS["plain"].name).rename(other)
    figure("plain", copy / "figure.png", TEST_CASE, case_dataset="950")
    assert drawn[0][4].startswith(f"{TEST_CASE} of Dataset950_OtherScanner: slice")
    description = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**description, "labels": {"background": 0, "heart": 1}}))
    with pytest.raises(ValueError, match="Dataset950_OtherScanner.*heart"):
        figure("plain", copy / "figure.png", TEST_CASE, case_dataset="950")
    (other / "dataset.json").write_text(json.dumps({**description, "dataset": {TEST_CASE: {}}}))
    with pytest.raises(ValueError, match='lists its files under "dataset".*imagesTr'):
        figure("plain", copy / "figure.png", TEST_CASE, case_dataset="950")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"slice_number": 0}, r"--slice .*got 0"),
        ({"slice_number": 99}, r"--slice .*got 99"),
        ({"channel": 2}, "--channel .* 0 to 1"),
        ({"case": "case_33"}, "case_33.* case_3"),
        ({"case_dataset": "999"}, "dataset 999"),
        ({"trainer": "nnUNetTrainer"}, "-tr .*ShapeKD"),
    ],
)
def test_an_argument_that_cannot_work_is_named_and_nothing_is_written(root, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        figure("plain", tmp_path / "figure.png", **arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "out, message", [("a missing/figure.png", "mkdir -p '.*/a missing'$"), ("figure.jpg", "PNG"), ("", "PNG")]
)
def test_an_output_that_cannot_be_written_is_refused_at_once(root, tmp_path, out, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        figure("plain", tmp_path / out)


def test_a_missing_student_is_an_error_with_its_command(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="shapekd train Dataset901_plain 2d 1 -tr nnUNetTrainerShapeKD$"):
        make_figure("case_3", "901", "2d", "1", tmp_path / "figure.png", FigureOptions())
    with pytest.raises(FileNotFoundError, match="checkpoint_final.pth: .*-chk"):
        figure("plain", tmp_path / "figure.png", checkpoint="checkpoint_best.pth")
    assert not any(tmp_path.iterdir())


def test_a_missing_teacher_is_an_error_with_its_command_unless_its_new_place_is_given(copy, drawn, monkeypatch):
    moved = fold(copy, "plain", "teacher").rename(copy / "moved")
    with pytest.raises(FileNotFoundError, match="nnUNetv2_train Dataset901_plain 2d 0 -tr nnUNetTrainerMeanImage$"):
        figure("plain", copy / "figure.png")
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(moved))
    figure("plain", copy / "figure.png")
    monkeypatch.delenv("SHAPEKD_TEACHER_PATH")
    student = fold(copy, "plain", "student") / "checkpoint_final.pth"
    edit(student, lambda checkpoint: checkpoint["shapekd"]["settings"].update(teacher_path=str(moved)))
    figure("plain", copy / "figure.png")
    first, second = (rows[1][1].picture for rows, *_ in drawn)
    assert np.array_equal(first, second)


def test_a_missing_baseline_is_left_out_and_said(copy, drawn, capsys):
    shutil.rmtree(fold(copy, "plain", "baseline"))
    figure("plain", copy / "figure.png")
    said = capsys.readouterr().err
    assert "nnUNetv2_train Dataset901_plain 2d 0 -tr nnUNetTrainer\n" in said and "left out" in said
    rows = drawn[0][0]
    assert rows[1][0] is None and rows[2][0] is None and rows[1][1] and rows[1][2]


def test_another_teacher_than_the_students_is_said(copy, drawn, capsys):
    def change(checkpoint):
        checkpoint["network_weights"]["decoder.seg_layers.1.bias"] += 1

    edit(fold(copy, "plain", "teacher") / "checkpoint_final.pth", change)
    figure("plain", copy / "figure.png")
    assert "not the one the student learned from" in capsys.readouterr().err
    assert "not the one the student learned from" in drawn[0][4]


def test_a_baseline_trained_on_other_data_is_refused(copy):
    def change(checkpoint):
        checkpoint["init_args"]["plans"]["configurations"]["2d"]["spacing"] = [2.0, 2.0]

    edit(fold(copy, "plain", "baseline") / "checkpoint_final.pth", change)
    with pytest.raises(ValueError, match=r"spacing: baseline \[2.0, 2.0\]"):
        figure("plain", copy / "figure.png")


def test_a_network_whose_training_diverged_is_named(copy):
    def change(checkpoint):
        checkpoint["network_weights"]["decoder.seg_layers.1.bias"] *= float("nan")

    edit(fold(copy, "plain", "baseline") / "checkpoint_final.pth", change)
    with pytest.raises(ValueError, match="baseline .*case_3: .*diverged"):
        figure("plain", copy / "figure.png")


def test_a_cascade_is_refused_naming_the_stage_that_can_be_shown(copy):
    source = fold(copy, "plain", "student")
    target = Path(str(source).replace("__2d", "__3d_cascade_fullres"))
    shutil.copytree(source, target)
    with pytest.raises(ValueError, match="-c 3d_lowres"):
        make_figure("case_3", "901", "3d_cascade_fullres", "0", copy / "figure.png", FigureOptions())


@pytest.mark.parametrize(
    "value, message",
    [(np.nan, "case_3_0000.nii.gz: has NaN or infinite values"), (7, "case_3.*: unknown label value 7;")],
)
def test_bad_voxels_are_refused(copy, value, message):
    folder = copy / "raw" / DATASETS["plain"].name
    path = folder / ("labelsTr/case_3.nii.gz" if value == 7 else "imagesTr/case_3_0000.nii.gz")
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkUInt8 if value == 7 else sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image)
    array[3, 30:34, 30:34] = value
    bad = sitk.GetImageFromArray(array)
    bad.CopyInformation(image)
    sitk.WriteImage(bad, str(path))
    with pytest.raises(ValueError, match=message):
        figure("plain", copy / "figure.png")
    assert not (copy / "figure.png").exists()


def test_a_case_without_reference_or_with_one_of_another_shape_is_refused(copy):
    path = copy / "raw" / DATASETS["plain"].name / "labelsTr" / "case_3.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 1:], str(path))
    with pytest.raises(ValueError, match="case_3.*[Ss]hape"):
        figure("plain", copy / "figure.png")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="labelsTr/case_3.nii.gz"):
        figure("plain", copy / "figure.png")


def test_the_networks_folders_stay_as_they_were(root, tmp_path):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (root / "results").rglob("*")}

    before = state()
    figure("rgb", tmp_path / "figure.png", TEST_CASE)
    assert state() == before


def test_a_trained_pair_is_shown_with_what_its_trainings_recorded(student, nnunet_environment, tmp_path, drawn, capsys):
    splits = json.loads((nnunet_environment.root / "preprocessed" / DATASET / "splits_final.json").read_text())
    for kind, note in (("train", "(a training case)"), ("val", "(not a training case)")):
        options = FigureOptions(trainer=STUDENT, plans=PLANS)
        make_figure(splits[0][kind][0], "27", "2d", "0", tmp_path / "figure.png", options)
        assert note in drawn[-1][4]
    assert "learned from" not in capsys.readouterr().err
