"""Stacks as nnU-Net preprocesses them, small enough to be held on a card whole: one compressed file.

    python scripts/experiments/one_card/pack.py OUT TO.npz     after ``evidence.py prepare DATA OUT``

Each stack is preprocessed by nnU-Net with OUT's small plans, cropped or padded to a square of CANVAS pixels around its
middle and kept with 8 bits a pixel; the label map that it is judged on stays on its own grid.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_data import ACDC, OTHERS

CANVAS = 144
#: of the official split's validation cases, by ``shapekd stress``'s own function
SHIFTS = {"bias-field": 3, "ghosting": 3}


@dataclass(frozen=True)
class Stack:
    """A stack to preprocess: where it is from, its name there, its files, and the shift it is given first."""

    place: str
    case: str
    image: Path
    labels: Path
    shift: str | None = None


def stacks(out: Path) -> Iterator[Stack]:
    raw = out / "raw"
    official = json.loads((out / "preprocessed" / ACDC / "splits_final.json").read_text())[1]["val"]
    for path in sorted((raw / ACDC / "labelsTr").glob("*.nii.gz")):
        case = path.name.removesuffix(".nii.gz")
        image = raw / ACDC / "imagesTr" / f"{case}_0000.nii.gz"
        yield Stack("ACDC", case, image, path)
        if case in official:
            for shift in SHIFTS:
                yield Stack(shift, case, image, path, shift)
    for other in OTHERS:
        for path in sorted((raw / other.dataset / "labelsTs").glob("*.nii.gz")):
            case = path.name.removesuffix(".nii.gz")
            image = raw / other.dataset / "imagesTs" / f"{case}_0000.nii.gz"
            yield Stack(other.name, case, image, path)


def packed(stack: Stack, out: Path) -> dict[str, np.ndarray]:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_shapekd.stress import shifts
    from nnunet_shapekd.stress.image_files import read_image, write_image
    from nnunet_shapekd.stress.scene import Scene

    folder = out / "preprocessed" / ACDC
    plans = PlansManager(str(folder / "smallPlans.json"))
    configuration = plans.get_configuration("2d")
    labels = json.loads((folder / "dataset.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        image = stack.image
        if stack.shift:
            read = read_image(image)
            scene = Scene(read.spacing, shifts.seed_of(stack.case, stack.shift))
            image = Path(scratch) / image.name
            write_image(shifts.shifted(read.values, stack.shift, SHIFTS[stack.shift], scene), read, image)
        data, seg, about = DefaultPreprocessor(verbose=False).run_case(
            [str(image)], str(stack.labels), plans, configuration, labels
        )
    original, _ = plans.image_reader_writer_class().read_seg(str(stack.labels))
    (z0, z1), *box = about["bbox_used_for_cropping"]
    values = data[0].astype(np.float32)
    low, high = np.percentile(values, (0.02, 99.98))
    levels = np.round(255 * (np.clip(values, low, high) - low) / (high - low)).astype(np.uint8)
    outside = np.round(255 * np.clip(-low / (high - low), 0, 1)).astype(np.uint8)  # 0, as nnU-Net pads
    where = [on_canvas(size) for size in values.shape[1:]]
    inside, source = zip(*where, strict=True)
    image = np.full((len(values), CANVAS, CANVAS), outside, np.uint8)
    image[(slice(None), *inside)] = levels[(slice(None), *source)]
    small = np.zeros(image.shape, np.uint8)
    small[(slice(None), *inside)] = np.clip(seg[0], 0, None)[(slice(None), *source)]
    lost = np.count_nonzero(seg[0] > 0) - np.count_nonzero(small)
    if lost:
        print(f"{stack.place} {stack.case}: {lost} labelled pixels of {np.count_nonzero(seg[0] > 0)} off the canvas")
    return {
        "image": image,
        "labels": small,
        "original": original[0].astype(np.uint8),
        # low, high; shape before the canvas; box in the original's rows and columns, and its slices
        "scale": np.array([low, high], np.float32),
        "shape": np.array([*values.shape[1:], *box[0], *box[1], z0, z1], np.int32),
    }


def on_canvas(size: int) -> tuple[slice, slice]:
    """Of one axis: where on the canvas, and of what part of the image."""
    start = (CANVAS - size) // 2
    if start >= 0:
        return slice(start, start + size), slice(0, size)
    return slice(0, CANVAS), slice(-start, -start + CANVAS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("to", type=Path)
    args = parser.parse_args()
    found = list(stacks(args.out))
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(partial(packed, out=args.out), found, chunksize=8))
    arrays = {f"{i:04d}/{name}": array for i, part in enumerate(parts) for name, array in part.items()}
    splits = json.loads((args.out / "preprocessed" / ACDC / "splits_final.json").read_text())
    index = {"stacks": [[one.place, one.case] for one in found], "splits": splits}
    np.savez_compressed(args.to, index=np.frombuffer(json.dumps(index).encode(), np.uint8), **arrays)


if __name__ == "__main__":
    main()
