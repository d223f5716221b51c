"""The public `Predictor`: it also takes what `predict` takes, files and Pillow's images."""

import io
import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import input_pipeline
from danet_base.errors import UserError
from danet_jax.evaluation import predictor
from danet_jax.images import Pixels, check_image

# Modes that a PNG keeps as they are; a TIFF does so with most of the others.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


class Predictor(predictor.Predictor):
    __doc__ = f"""{predictor.Predictor.__doc__}
    An image may also be the path of a file or an image of Pillow's, which are read as `predict`
    reads them (upright, over black where they are transparent; a warning says what was converted),
    a grey array [h, w] or [h, w, 1], or an array [h, w, 4] whose alpha is 255 everywhere.
    """

    def read(self, image: Any) -> Pixels:
        """Returns an image as it is predicted, RGB [h, w, 3] in uint8 or normalised floats.

        Raises:
          UserError: an array that is none, see `images.check_image`.
          DataError: a file or an image of Pillow's that `predict` would not read.
        """
        if isinstance(image, str | os.PathLike):
            return _warned(*input_pipeline.read_image(image), name=os.fspath(image))
        if isinstance(image, Image.Image):
            return _warned(*input_pipeline.convert_image(_encoded(image)), name="the image")
        return check_image(_in_colour(image))


def _warned(pixels: Pixels, notes: tuple[str, ...], *, name: str) -> Pixels:
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=4)
    return pixels


def _encoded(image: Image.Image) -> bytes:
    """An image as a file's content, so that one place decides what its modes mean."""
    file = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        upright.save(file, "PNG" if image.mode in _PNG_MODES else "TIFF", compress_level=0)
    except (OSError, ValueError, SystemError) as error:
        raise UserError(
            f"an image of mode {image.mode} and size {image.width}×{image.height} cannot be read "
            f"({error}); give image.convert('RGB')."
        ) from error
    return file.getvalue()


def _in_colour(image: Any) -> Any:
    """An array that is grey or has an opaque alpha as RGB; anything else as it is."""
    if not hasattr(image, "__array__"):
        return image
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        array = np.asarray(image)
        if array.dtype != np.uint8:
            raise UserError(
                f"the image is grey, {array.dtype} {shape}; give grey as uint8 of 0 to 255."
            )
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2)
    if len(shape) == 3 and shape[2] == 4 and shape[0] != 3:
        array = np.asarray(image)
        if array.dtype == np.uint8 and array.size and array[..., 3].min() == 255:
            return array[..., :3]
        raise UserError(
            f"the image has four channels, {array.dtype} {shape}. Where the fourth is "
            "transparency, give PIL.Image.fromarray(image); where it is not, image[..., :3]."
        )
    return image
