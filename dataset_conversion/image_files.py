"""Reading, checking and writing the image and masks of one case."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_shapekd.dataset_conversion import pictures
from nnunet_shapekd.dataset_conversion.image_cases import Checked, ImageCase
from nnunet_shapekd.dataset_conversion.image_labels import Labels, merge_masks
from nnunet_shapekd.dataset_conversion.target import ConversionError

#: images are alike where they are alike this small
THUMBNAIL = (24, 24)


@dataclass(frozen=True)
class Reading:
    """How all files of a dataset are read."""

    labels: Labels
    threshold: int | None = None
    exif: str = "refuse"
    channels: str = "auto"
    empty: str = "refuse"
    alike: float | None = None
    unmasked: str = "refuse"


def read_case(case: ImageCase, reading: Reading) -> tuple[Image.Image, np.ndarray | None, bool]:
    """Image, mask (class indices, uint8 (height, width), or None) and whether the threshold decided anything.

    Raises:
        ConversionError: listing what is wrong with the case's files.
    """
    problems, parts, soft = [], [], False
    image = None
    try:
        image = pictures.read_image(case.image, reading.channels, reading.exif)
    except ValueError as error:
        problems.append(str(error))
    if image is not None and case.stereo:
        width = image.width // 2
        image = image.crop((0, 0, width, image.height))
    for path, label in case.masks:
        try:
            part, is_soft = pictures.read_mask(path, reading.labels, label, reading.threshold, reading.exif)
        except ValueError as error:
            problems.append(str(error))
            continue
        if image is not None and case.stereo and part.shape[1] == 2 * image.width:
            part = part[:, : image.width]
        if image is not None and part.shape != (image.height, image.width):
            sizes = f"{part.shape[1]}x{part.shape[0]} pixels, its image {image.width}x{image.height}"
            problems.append(
                f"{path}: has {sizes}; correct one of them, or leave the case out with --exclude {case.name}"
            )
            continue
        parts.append(part)
        soft |= is_soft
    if problems:
        raise ConversionError(problems)
    try:
        mask = merge_masks(parts, reading.labels) if parts else None
    except ValueError as error:
        raise ConversionError(f"{case.masks[0][0]}: {error}") from None
    return image, mask, soft


def check_case(case: ImageCase, reading: Reading) -> Checked:
    """Reads a case once and says what is wrong with it."""
    try:
        image, mask, soft = read_case(case, reading)
    except ConversionError as error:
        return Checked(tuple(error.problems))
    empty = mask is not None and not mask.any()
    problems: tuple[str, ...] = ()
    if empty and reading.empty == "refuse":
        reason = f" (nothing reaches the threshold {reading.threshold})" if reading.threshold is not None else ""
        problems = (f"{case.masks[0][0]}: mask is empty{reason}; correct it, or give --empty keep or leave-out",)
    pixels = hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
    return Checked(problems, image.mode, image.size, empty, soft, pixels, _thumbnail(image) if reading.alike else None)


def _thumbnail(image: Image.Image) -> np.ndarray:
    values = np.asarray(image.convert("L").resize(THUMBNAIL, Image.Resampling.BILINEAR), np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def write_case(case: ImageCase, folder: Path, reading: Reading) -> None:
    """Writes a checked case below a dataset folder."""
    image, mask, _ = read_case(case, reading)
    target = folder / f"images{case.subset}" / f"{case.name}_0000.png"
    if not case.stereo and pictures.is_ready(case.image, image):
        target.write_bytes(case.image.read_bytes())
    else:
        _bare(image).save(target)
    if mask is not None:
        Image.fromarray(mask).save(folder / f"labels{case.subset}" / f"{case.name}.png")


def _bare(image: Image.Image) -> Image.Image:
    """The pixels alone: EXIF, transparency and colour profiles of the source would be written into the PNG."""
    return Image.frombytes(image.mode, image.size, image.tobytes())
