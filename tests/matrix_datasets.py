"""Small datasets of every kind nnU-Net knows, and plans with small networks for them.

Four are cut from the phantom: two channels, a few training cases of about 9 x 64 x 64 voxels and a test case. The
fifth is natural images in colour.
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from skimage import io

from nnunet_shapekd.phantom import SCANNERS, phantom_patient, render_patient

PLANS = "matrixPlans"
ALL_CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
TEST_CASE = "case_9"
#: of the phantom, and of the labels' dictionary without regions
RV, MLV, LVC, IGNORE = 1, 2, 3, 4
_LABELS = {"background": 0, "RV": RV, "MLV": MLV, "LVC": LVC}
_REGIONS = {"background": 0, "heart": [RV, MLV, LVC], "LV": [MLV, LVC], "LVC": LVC}


@dataclass(frozen=True)
class MatrixDataset:
    """A dataset's description.

    Attributes:
        id: nnU-Net's number.
        kind: what is special about it.
        labels: as in dataset.json.
        classes: the keys nnU-Net's summary.json has for it.
        training_cases: the last of them validates.
    """

    id: int
    kind: str
    labels: dict[str, int | list[int]]
    classes: frozenset[str]
    configurations: tuple[str, ...] = ALL_CONFIGURATIONS
    file_ending: str = ".nii.gz"
    channel_names: tuple[str, ...] = ("bright", "dark")
    training_cases: tuple[str, ...] = ("case_1", "case_2", "case_3")

    @property
    def name(self) -> str:
        return f"Dataset{self.id:03d}_{self.kind}"

    @property
    def has_regions(self) -> bool:
        return any(isinstance(value, list) for value in self.labels.values())

    @property
    def n_foreground_labels(self) -> int:
        return 3 if self.kind != "rgb" else 2


_REGION_KEYS = frozenset({"(1, 2, 3)", "(2, 3)", "3"})
#: nnU-Net centres patches on annotated voxels, so only a case without any gives it patches of nothing but ignored ones
_ANNOTATED = ("case_1", "case_2_few", "case_3_none", "case_4")
DATASETS = {
    dataset.kind: dataset
    for dataset in (
        MatrixDataset(901, "plain", _LABELS, frozenset("123")),
        MatrixDataset(902, "regions", _REGIONS, _REGION_KEYS),
        MatrixDataset(903, "ignore", {**_LABELS, "ignore": IGNORE}, frozenset("123"), training_cases=_ANNOTATED),
        MatrixDataset(904, "regions_ignore", {**_REGIONS, "ignore": IGNORE}, _REGION_KEYS, training_cases=_ANNOTATED),
        MatrixDataset(
            905,
            "rgb",
            {"background": 0, "disc": 1, "cup": 2},
            frozenset("12"),
            configurations=("2d",),
            file_ending=".png",
            channel_names=("R", "G", "B"),
        ),
    )
}


@functools.cache
def _heart(number: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Image int16 and labels uint8, both (z, 64, 64) around the heart, and spacing (z, y, x) in mm."""
    image, labels, spacing_mm = render_patient(phantom_patient(number), SCANNERS["a"])["ED"]
    window = [slice(None)]
    for axis in (1, 2):
        inside = np.flatnonzero((labels > 0).any(axis=tuple({0, 1, 2} - {axis})))
        start = (inside[0] + inside[-1]) // 2 - 32
        window.append(slice(start, start + 64))
    return image[tuple(window)], labels[tuple(window)], spacing_mm


def _scribbles(labels: np.ndarray, case: str) -> np.ndarray:
    """Most of the labels replaced by the ignore label; of some cases all but a few background voxels, or all."""
    kept = np.zeros(labels.shape, dtype=bool)
    if case.endswith("few"):
        kept[2:4, 1:4, 1:4] = labels[2:4, 1:4, 1:4] == 0
    elif not case.endswith("none"):
        kept[1::3, ::8] = True  # lines in every third slice
        kept[4, 20:44, 20:44] = True  # and a block
    return np.where(kept, labels, IGNORE).astype(labels.dtype)


def _disc_and_cup(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 (72, 64, 3) and its labels uint8 (72, 64): a bright disc with a brighter cup in it."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:72, :64]
    radius = np.hypot(y - rng.uniform(30, 42), x - rng.uniform(26, 38))
    labels = np.where(radius < rng.uniform(6, 9), 2, np.where(radius < rng.uniform(15, 20), 1, 0)).astype(np.uint8)
    colours = np.array([(150, 60, 30), (210, 130, 60), (240, 210, 150)])
    picture = colours[labels] + rng.normal(0, 12, size=(72, 64, 3))
    return picture.clip(0, 255).astype(np.uint8), labels


def write_raw(dataset: MatrixDataset, raw: Path) -> Path:
    """Write a dataset in nnU-Net's raw format, the test case's labels in ``labelsTs``; returns its folder."""
    folder = raw / dataset.name
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    for number, case in enumerate((*dataset.training_cases, TEST_CASE), start=1):
        part = "Ts" if case == TEST_CASE else "Tr"
        images, segmentation = folder / f"images{part}", folder / f"labels{part}" / f"{case}{dataset.file_ending}"
        if dataset.kind == "rgb":
            picture, labels = _disc_and_cup(number)
            io.imsave(images / f"{case}_0000.png", picture, check_contrast=False)
            io.imsave(segmentation, labels, check_contrast=False)
            continue
        image, labels, spacing_mm = _heart(number)
        if "ignore" in dataset.labels:
            labels = _scribbles(labels, case)
        dark = 1000 * np.exp(-image / 400)  # the other contrast
        for path, array in (
            (images / f"{case}_0000.nii.gz", image),
            (images / f"{case}_0001.nii.gz", dark.astype(np.float32)),
            (segmentation, labels),
        ):
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing(spacing_mm[::-1])
            sitk.WriteImage(volume, str(path))
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.channel_names)},
        "labels": dataset.labels,
        "numTraining": len(dataset.training_cases),
        "file_ending": dataset.file_ending,
    }
    if dataset.has_regions:
        description["regions_class_order"] = [RV, MLV, LVC]
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def extract_fingerprint() -> None:
    """nnU-Net's fingerprint of dataset ``sys.argv[1]`` from fewer samples: its 100 million take 15 s."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    extractor = DatasetFingerprintExtractor(int(sys.argv[1]), num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = 1e5
    extractor.run()


def write_split(dataset: MatrixDataset, preprocessed: Path) -> None:
    """One fold: the last training case validates."""
    fold = {"train": list(dataset.training_cases[:-1]), "val": [dataset.training_cases[-1]]}
    (preprocessed / "splits_final.json").write_text(json.dumps([fold]))


def write_small_plans(preprocessed: Path) -> list[str]:
    """Write plans with small networks and the cascade beside nnU-Net's, whose preprocessed data they use.

    Returns:
        The configurations that remain to be preprocessed with these plans.
    """
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["plans_name"] = PLANS
    configurations = plans["configurations"]
    shrink(configurations["2d"], patch_size=[64, 64], strides=[[1, 1], [2, 2], [2, 2]])
    if "3d_fullres" in configurations:
        # anisotropic, as nnU-Net plans for short-axis stacks: flat kernels and strides at first
        fullres = configurations["3d_fullres"]
        kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
        shrink(fullres, [8, 48, 48], strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]], kernel_sizes=kernels)
        lowres = copy.deepcopy(fullres)
        lowres["data_identifier"] = f"{PLANS}_3d_lowres"
        lowres["patch_size"] = [8, 32, 32]
        lowres["spacing"] = [size * factor for size, factor in zip(fullres["spacing"], (1, 2, 2), strict=True)]
        median = fullres["median_image_size_in_voxels"]
        lowres["median_image_size_in_voxels"] = [size / factor for size, factor in zip(median, (1, 2, 2), strict=True)]
        lowres["next_stage"] = "3d_cascade_fullres"
        configurations["3d_lowres"] = lowres
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    (preprocessed / f"{PLANS}.json").write_text(json.dumps(plans, indent=4))
    return ["3d_lowres"] if "3d_lowres" in configurations else []


def shrink(
    configuration: dict, patch_size: list[int], strides: list[list[int]], kernel_sizes: list[list[int]] | None = None
) -> None:
    """Give a planned configuration a small patch, a batch of two and a network of ``len(strides)`` narrow stages."""
    configuration["patch_size"], configuration["batch_size"] = patch_size, 2
    network = configuration["architecture"]["arch_kwargs"]
    n_stages = len(strides)
    network["n_stages"] = n_stages
    network["features_per_stage"] = [8 * (i + 1) for i in range(n_stages)]
    network["strides"] = strides
    network["kernel_sizes"] = kernel_sizes or [[3] * len(patch_size)] * n_stages
    for key in ("n_conv_per_stage", "n_blocks_per_stage"):  # of the plain and of the residual encoder
        if key in network:
            network[key] = network[key][:n_stages]
    network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: n_stages - 1]
