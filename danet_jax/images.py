"""What an array has to be to count as an image: RGB of 0 to 255 in uint8, or normalised floats."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from danet_jax.base.errors import UserError
from danet_jax.base.imagenet import MEAN, STD

Pixels = UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]

# Black and white, normalised by ImageNet's statistics: (0 - .485) / .229 and (1 - .406) / .225.
NORMALIZED_RANGE = (-2.12, 2.64)
# No normalised image comes near to it, also where cubic resampling overshot or noise was added.
_FAR = 10.0
# How far cubic resampling overshoots in an image of 0 to 1.
_OVERSHOOT = 0.1
# Resized images of 0 to 1 have a larger range in some channel. Of a normalised one it is 14 levels
# of 255.
_NARROW = 0.25
# Rounding errors of float32 after one or two operations, in levels of 255.
_ROUNDING = 1e-3

WANTED = (
    "uint8 RGB of 0 to 255, or floats that are normalised by ImageNet's mean and standard "
    "deviation (danet_jax.base.imagenet.MEAN and STD)"
)


def check_image(image: Any, *, name: str = "the image") -> Pixels:
    """Returns an array of RGB [h, w, 3] as NumPy's, uint8 or float32.

    Args:
      image: an array of any library.
      name: what messages call it.

    Raises:
      UserError: it is no array, is empty, has other axes or another type, or holds floats that
        are not finite or look like 0 to 255 or 0 to 1.
    """
    array = _as_array(image, name)
    if array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"{name} has the shape {array.shape}; {_advice_on_shape(array.shape)}")
    if not array.size:
        raise UserError(f"{name} has the shape {array.shape}, which is empty.")
    return _checked_values(array, name)


def check_images(images: Any) -> np.ndarray:
    """Returns a batch of images of one size [b, h, w, 3]; raises as `check_image` does."""
    array = _as_array(images, "the batch")
    if array.ndim != 4:
        raise UserError(
            f"the batch has the shape {array.shape}; give images of one size [b, h, w, 3]."
        )
    if not len(array):
        raise UserError(f"the batch has the shape {array.shape}, which is empty.")
    if array.dtype == np.uint8:
        check_image(array[0], name="image 0 of the batch")
        return array
    checked = [
        check_image(image, name=f"image {index} of the batch") for index, image in enumerate(array)
    ]
    return np.stack(checked)


def _as_array(image: Any, name: str) -> np.ndarray:
    if isinstance(image, str | bytes | os.PathLike) or not hasattr(image, "__array__"):
        kind = type(image).__name__
        raise UserError(f"{name} is of the type {kind}; give an array [h, w, 3]: {WANTED}.")
    try:
        return np.asarray(image)
    except Exception as error:  # whatever another library's array raises
        raise UserError(f"{name} cannot be read as an array: {error}") from error


def _advice_on_shape(shape: tuple[int, ...]) -> str:
    wanted = "an image is [height, width, 3], RGB"
    if len(shape) == 3 and shape[0] == 3:
        return f"{wanted}: channels come last, as image.transpose(1, 2, 0) puts them."
    if len(shape) == 4:
        return f"{wanted}. For a batch of one size call labels(images)."
    return f"{wanted}."


def _checked_values(array: np.ndarray, name: str) -> Pixels:
    if array.dtype == np.uint8:
        return array
    # JAX is asked instead of NumPy, which does not know bfloat16.
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = ""
        if jnp.issubdtype(array.dtype, jnp.integer) and 0 <= array.min() <= array.max() <= 255:
            hint = " Where its values mean 0 to 255, image.astype(numpy.uint8) is right."
        raise UserError(f"{name} is {array.dtype}; give {WANTED}.{hint}")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds values that are not finite (nan or inf).")
    low, high = float(array.min()), float(array.max())
    if reason := _unnormalised(array, low, high):
        raise UserError(f"{name} is {array.dtype} of {low:.4g} to {high:.4g}, {reason}")
    return array.astype(np.float32)


def _unnormalised(array: np.ndarray, low: float, high: float) -> str:
    """Says what floats look like where they are visibly not normalised.

    Values below 0 tell that an image is normalised: it is darker than ImageNet's mean somewhere.
    One without any is brighter than that everywhere, as fog, snow or one grey area are, or its
    values are those of 0 to 255 or 0 to 1. It is refused where they

    - go beyond what white is normalised to, or are whole numbers, several of them: 0 to 255;
    - stay within 0 to 1, and are whole multiples of 1 / 255 or differ by much in a channel: 0 to 1;
      not where they are what uint8 is normalised to.

    An image of one colour shows neither. It counts as normalised: 0 is ImageNet's mean, which
    normalised images are padded with.
    """
    to_255 = f"which looks like 0 to 255 and is not normalised. Give {WANTED}."
    if low < -_FAR or high > _FAR or (low >= 0 and high > NORMALIZED_RANGE[1] + _OVERSHOOT):
        return to_255
    spread = float(np.ptp(array.astype(np.float32), axis=(0, 1)).max())
    if low < -_OVERSHOOT or not spread:
        return ""
    if low >= 0 and _are_whole(array):
        return to_255
    if high <= 1 + _OVERSHOOT and _is_0_to_1(array, spread):
        return (
            f"which looks like 0 to 1 and is not normalised. Give {WANTED}; of 0 to 1 "
            "(255 * image).round().astype(numpy.uint8) makes the first."
        )
    return ""


def _is_0_to_1(array: np.ndarray, spread: float) -> bool:
    # Numbers of the shorter types do not tell from which uint8 they were made.
    if array.dtype in (np.float32, np.float64):
        levels = 255.0 * array.astype(np.float64)
        if _are_whole(levels):
            return True
        if _are_whole(levels * STD + 255.0 * np.asarray(MEAN)):
            return False
    return spread > _NARROW


def _are_whole(array: np.ndarray) -> bool:
    return bool(np.all(np.abs(array - np.rint(array)) <= _ROUNDING))
