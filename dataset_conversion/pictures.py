"""Reading photographs, ultrasound and slices, and their masks, from PNG, JPG, TIF and BMP.

Pillow reads everything. It is what nnU-Net's NaturalImage2DIO reads a PNG with in the end (through scikit-image and
imageio), and the one reader that tells the EXIF orientation.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nnunet_shapekd.dataset_conversion.image_labels import Labels
from nnunet_shapekd.files.label_maps import unknown_labels, values_in
from nnunet_shapekd.files.lengths import check_file

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
#: what to do with a file whose EXIF orientation says that viewers turn it
EXIF = ("refuse", "apply", "ignore")
#: channel names of nnU-Net's dataset.json by Pillow's mode
CHANNEL_NAMES = {"L": {"0": "grey"}, "RGB": {"0": "R", "1": "G", "2": "B"}}
_GREY_MODES, _COLOUR_MODES = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "RGBX")
_ORIENTATION, _TIFF_BITS, _TIFF_COMPRESSION = 0x0112, 258, 259
# Pillow (12.3 and 13.0) maps uncompressed files of these modes into memory, and scrambles those it lays on their side.
_MAPPED_MODES = ("L", "P", "RGBA", "RGBX", "CMYK", "I;16", "I;16B", "I;16L")
#: what undoes the turning that viewers do for an EXIF orientation
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# A JPG of a grey picture may have channels that differ by rounding; a coloured mask is far beyond this.
_GREY_TOLERANCE = 16


def open_picture(path: Path, exif: str = "refuse") -> Image.Image:
    """The one picture in a file, read whole; turned as EXIF says with "apply", as it is stored with "ignore".

    Raises:
        ValueError: if it cannot be read whole, holds several pictures, or is turned by EXIF and ``exif`` is "refuse",
            or Pillow cannot turn it.
    """
    check_file(path)
    try:
        with Image.open(path) as picture:
            n_frames = getattr(picture, "n_frames", 1) if picture.format != "MPO" else 1  # a camera's JPG with preview
            orientation = picture.getexif().get(_ORIENTATION, 1)
            picture.load()
    except Exception as error:  # Pillow's plugins have an exception each for a broken file
        raise ValueError(f"{path}: cannot be read ({error}); restore or remove it") from None
    if n_frames > 1:
        raise ValueError(
            f"{path}: holds {n_frames} pictures, expected one; save them as files of their own. If it is a volume, it "
            'needs no conversion: nnU-Net reads TIFF, with the voxel size in mm in a file {"spacing": [Z, Y, X]} named '
            "as the case is, with the ending .json"
        )
    if orientation in _BACK:
        uncompressed = picture.format == "TIFF" and picture.tag_v2.get(_TIFF_COMPRESSION, 1) == 1
        if orientation >= 5 and uncompressed and picture.mode in _MAPPED_MODES:
            raise ValueError(
                f"{path}: its EXIF orientation is {orientation}, which Pillow gets wrong in an uncompressed TIF of "
                f"mode {picture.mode}: save it turned as its mask or image is, in another program"
            )
        if exif == "refuse":
            raise ValueError(
                f"{path}: its EXIF orientation is {orientation}, so viewers turn or mirror it and nnU-Net does not: "
                "look whether its mask fits what a viewer shows (--exif apply) or what is stored (--exif ignore)"
            )
        # Pillow itself turns a TIF, and no other file, when it is loaded (seen in 10.0 and 13.0).
        is_turned = picture.format == "TIFF"
        if exif == "apply" and not is_turned:
            return ImageOps.exif_transpose(picture)
        if exif == "ignore" and is_turned:
            return picture.transpose(_BACK[orientation])
    return picture


def read_image(path: Path, channels: str = "auto", exif: str = "refuse") -> Image.Image:
    """The picture in Pillow's mode "L" or "RGB", alpha dropped and palettes resolved.

    Args:
        channels: "grey", "rgb", or "auto" for what the file has.

    Raises:
        ValueError: as :func:`open_picture`, and for more than 8 bits a channel and other colour models.
    """
    picture = open_picture(path, exif)
    if _is_deep(picture, path):
        raise ValueError(f"{path}: has more than 8 bits a channel; rescale it to 8 bits, the same way for all images")
    if picture.mode not in (*_GREY_MODES, *_COLOUR_MODES):
        raise ValueError(f"{path}: expected grey or RGB, got {picture.mode}; convert it to RGB")
    mode = {"grey": "L", "rgb": "RGB"}.get(channels, "L" if picture.mode in _GREY_MODES else "RGB")
    if picture.mode == mode:
        return picture
    # RGBA to L in one step would do the same; palettes need the colours first.
    return picture.convert("RGB").convert(mode) if picture.mode in ("P", "PA") else picture.convert(mode)


def is_ready(path: Path, picture: Image.Image) -> bool:
    """Whether the file itself can be copied: an 8-bit PNG that any reader reads as the picture given."""
    if path.suffix.lower() != ".png":
        return False
    with Image.open(path) as raw:
        turned = raw.getexif().get(_ORIENTATION, 1) != 1
        return (
            raw.format == "PNG"
            and (raw.mode, raw.size) == (picture.mode, picture.size)
            and not turned
            and "transparency" not in raw.info
        )


def read_mask(
    path: Path, labels: Labels, name: str | None = None, threshold: int | None = None, exif: str = "refuse"
) -> tuple[np.ndarray, bool]:
    """Class indices of a mask file.

    Args:
        path: The file.
        labels: What its values mean.
        name: The class that the file is of, where each class has its own; its other values are background.
        threshold: For a file of one class: grey values from this on are the class, all others background. Lossy and
            antialiased masks need it.

    Returns:
        Indices, uint8 (height, width), and whether the threshold decided about values strictly between the extremes.

    Raises:
        ValueError: as :func:`open_picture`, and for values that are no class.
    """
    values = _mask_values(path, exif, labels.colours, threshold is not None)
    if threshold is not None:
        index = labels.index(name) if name else 1
        between = bool(((values > 0) & (values < values.max())).any())
        return np.where(values >= threshold, index, 0).astype(np.uint8), between
    lut = {labels.background: 0}
    for known in labels.values if name is None else [name]:
        lut.update(dict.fromkeys(labels.values[known], labels.index(known)))  # inner classes after outer ones
    found = values_in(values)
    advice = "give all of them with --labels"
    if path.suffix.lower() in (".jpg", ".jpeg") or len(set(found) - lut.keys()) > 6:
        advice = "lossy or antialiased: give --threshold 128 if each file is of one class, else ask for lossless masks"
    shown_as = "#{:06X}".format if labels.colours else str
    if problems := unknown_labels(path, found, lut, f"{advice}, or correct the mask", shown_as):
        raise ValueError(problems[0])
    # Far faster than the inverse of np.unique: there are a handful of values and many pixels.
    indices = np.zeros(values.shape, np.uint8)
    for value in found:
        indices[values == value] = lut[value]
    return indices, False


def _mask_values(path: Path, exif: str, colours: bool, brightness: bool) -> np.ndarray:
    """Grey values or palette indices, or 0xRRGGBB, int32 (height, width); alpha is dropped."""
    picture = open_picture(path, exif)
    deep = _is_deep(picture, path)
    # A palette's indices are the classes, unless colours or brightness are asked for.
    if picture.mode in ("P", "PA") and (colours or brightness):
        picture = picture.convert("RGBA")
    array = np.asarray(picture)
    if array.dtype == bool:
        return array.astype(np.int32) * (0xFFFFFF if colours else 255)
    if picture.mode in ("LA", "La", "PA", "RGBA") and _is_in_alpha(array):
        raise ValueError(f"{path}: its information is in the alpha channel; save the mask as grey PNG")
    if picture.mode in ("LA", "La", "PA"):
        array = array[..., 0]
    # Deep masks are fine as class indices only.
    if deep and (array.ndim == 3 or colours or brightness or array.dtype.kind == "f"):
        raise ValueError(f"{path}: has more than 8 bits a channel; save the mask as 8-bit grey or RGB PNG")
    if array.ndim == 3 and picture.mode not in ("RGB", "RGBA", "RGBX"):
        raise ValueError(f"{path}: expected grey or RGB, got {picture.mode}; save the mask as 8-bit grey or RGB PNG")
    array = array.astype(np.int32)
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(f"{path}: expected values 0 to 65535, got {array.min()} to {array.max()}; correct the mask")
    if array.ndim == 2:
        return array * 0x010101 if colours else array
    array = array[..., :3]
    if colours:
        return array[..., 0] << 16 | array[..., 1] << 8 | array[..., 2]
    spread = int((array.max(-1) - array.min(-1)).max())
    if spread > (_GREY_TOLERANCE if brightness else 0):
        raise ValueError(f"{path}: is coloured; name the colours with --labels, like polyp:#FF0000")
    return array[..., 1]


def _is_in_alpha(array: np.ndarray) -> bool:
    """Whether nothing but the last channel of (height, width, channels) differs between pixels."""
    first = array[0, 0]
    return bool((array[..., :-1] == first[:-1]).all() and (array[..., -1] != first[-1]).any())


def _is_deep(picture: Image.Image, path: Path) -> bool:
    """More than 8 bits a channel; Pillow would silently drop the lower ones of a 16-bit RGB PNG."""
    if picture.mode.startswith(("I", "F")):
        return True
    if path.suffix.lower() == ".png":
        with path.open("rb") as file:
            header = file.read(25)
        return header[:4] == b"\x89PNG" and header[24] > 8
    bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS, (8,))
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8
