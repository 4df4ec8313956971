"""A stranger's image file -> pixels of the size that is asked for, within bounds.

What is done with it, in this order, wherever it came from:

1. PNG, JPEG or WebP, by its first bytes; at most `max_pixels` by its header, before anything is decoded.
2. One frame: animations are refused. Of a JPEG with several pictures in it (MPO) the first counts.
3. Turned and mirrored as its EXIF orientation says.
4. Made RGB, 8 bits a channel: 16-bit is scaled, CMYK converted without a profile, transparency laid over white. Colour
   profiles are ignored: numbers are taken as sRGB. Of a mask with transparency the alpha alone counts.
5. Cropped around the centre to the aspect that is asked for, and resized with Lanczos.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import structlog
from PIL import ExifTags, Image, ImageOps

from darkroom.errors import (
    DarkroomError,
    ImageAnimated,
    ImageFormatUnsupported,
    ImageInvalid,
    ImageTooLarge,
    InvalidDimensions,
    OutOfMemory,
)
from runtime.arrays import Pixels
from runtime.pictures.bounds import refuse_costly
from runtime.pictures.header import Header, read_header

MAX_PIXELS = 25_000_000
MIN_SIDE = 8
MAX_ASPECT = 8
_TURNED = (5, 6, 7, 8)  # EXIF orientations whose rows are columns


def decode(data: bytes, width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """An image file as uint8 [height, width, 3].

    Raises: ImageFormatUnsupported, ImageInvalid, ImageTooLarge, ImageAnimated, InvalidDimensions, OutOfMemory.
    """
    image = _load(data, max_pixels)
    fitted = ImageOps.fit(_over_white(image), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


@dataclass(frozen=True, eq=False)
class Mask:
    """`pixels`: uint8 [H, W], 255 where to draw again, 0 elsewhere; `by_alpha`: the file's transparency said so."""

    pixels: Pixels
    by_alpha: bool


def decode_mask(
    data: bytes,
    width: int,
    height: int,
    *,
    alpha: Literal["transparent", "opaque"] = "transparent",
    max_pixels: int = MAX_PIXELS,
) -> Mask:
    """Where a mask file is rather white than black, or, where something of it is transparent, rather as `alpha` says.

    It is cropped and resized as the image is, so that a mask of the image's aspect lies where it was drawn.
    Raises as `decode` does.
    """
    image = _load(data, max_pixels)
    opacity = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    by_alpha = opacity is not None and opacity.getextrema() != (255, 255)
    if opacity is None or not by_alpha:
        redrawn = image.convert("RGB").convert("L")
    else:
        redrawn = opacity if alpha == "opaque" else ImageOps.invert(opacity)
    fitted = ImageOps.fit(redrawn, (width, height), Image.Resampling.BILINEAR)
    return Mask(np.where(np.asarray(fitted) >= 128, np.uint8(255), np.uint8(0)), by_alpha)


def size_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of an image file, upright, before anything of it is decoded.

    Raises: ImageFormatUnsupported, ImageInvalid, ImageTooLarge, ImageAnimated, InvalidDimensions.
    """
    header = _checked(data, max_pixels)
    turned = False
    with suppress(Exception), Image.open(io.BytesIO(data), formats=[header.format]) as image:
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))  # `getexif` would decode a PNG in search of it
        turned = exif.get(ExifTags.Base.Orientation) in _TURNED
    return (header.height, header.width) if turned else (header.width, header.height)


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """The one frame of a file, decoded and turned upright, in a mode that Pillow converts rightly."""
    header = _checked(data, max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as image:
            if image.size != (header.width, header.height):
                raise ImageInvalid("The image says two different sizes.")
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise ImageAnimated("Send an image of one frame, not an animation.")
            image.load()
            upright = _upright(image)
            return _eight_bits(upright) if upright.mode.startswith("I") else upright
    except DarkroomError:
        raise
    except MemoryError:
        raise OutOfMemory from None
    except Exception as refused:  # Pillow's readers raise whatever the bytes lead them into
        structlog.get_logger().debug("image refused", kind=type(refused).__name__)
        raise ImageInvalid("The image is damaged or cut short.") from None


def _checked(data: bytes, max_pixels: int) -> Header:
    if data[:6] in (b"GIF87a", b"GIF89a"):
        _refuse_gif(data)
    header = read_header(data)
    short, long = sorted((header.width, header.height))
    if short * long > max_pixels:
        raise ImageTooLarge(f"An image may have at most {max_pixels} pixels.")
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        raise InvalidDimensions(
            f"An image's sides must be at least {MIN_SIDE} pixels, and the longer at most {MAX_ASPECT} times the other."
        )
    refuse_costly(data, header)
    return header


def _refuse_gif(data: bytes) -> NoReturn:
    """Whoever sends an animation is told that, not that its format is the wrong one."""
    animated = False
    with suppress(Exception), Image.open(io.BytesIO(data), formats=["GIF"]) as image:
        animated = getattr(image, "is_animated", False)  # looks for a second frame without decoding the first
    raise ImageAnimated("Send an image of one frame, as PNG, JPEG or WebP.") if animated else ImageFormatUnsupported


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata does no harm to the picture
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow would clip at 255 where it converts it."""
    values = np.asarray(image).astype(np.uint32).clip(0, 65535)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
