"""The public `Predictor`: it also takes what `predict` takes, files and Pillow's images."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps

from danet_jax import input_pipeline
from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.evaluation import predictor
from danet_jax.evaluation.eval_config import changed_options
from danet_jax.images import Pixels, check_image
from danet_jax.input_pipeline.labels import standard_color
from danet_jax.interop import hub, weights_folder
from danet_jax.visualization import overlays

# Modes that a PNG keeps as they are; a TIFF does so with most of the others.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
# The same pixels in Pillow's memory can stand for different images in files of these formats.
_AMBIGUOUS_FORMATS = ("BMP", "PNG", "TIFF")
# A grey of 2 or 4 bits; Pillow scales the pixels to 8 bits, and not the grey that is transparent.
_OF_FEW_BITS = range(1, 16)


class Predictor(predictor.Predictor):
    __doc__ = f"""{predictor.Predictor.__doc__}
    An image may also be the path of a file or an image of Pillow's, which are read as `predict`
    reads them (upright, over black where they are transparent; a warning says what was converted),
    a grey array [h, w] or [h, w, 1], or an array [h, w, 4] whose alpha is 255 everywhere.
    """

    @classmethod
    def from_folder(cls, folder: Path | str, **options: Any) -> "Predictor":
        """Reads what `export --format=folder` wrote; the labels are those of the run.

        Args:
          folder: its path; or "hf://OWNER/NAME" or "hf://OWNER/NAME@REVISION" for a repository of
            a hub, which is downloaded into the cache of huggingface_hub.
          options: arguments of `Predictor` that replace those of config.eval.

        Raises:
          UserError: it is no such folder, a file is another one than was exported, an option has an
            invalid value, or the hub does not give the repository.
        """
        text = os.fspath(folder)
        path = hub.download(hub.parse(text)) if hub.is_address(text) else Path(text)
        weights = weights_folder.read(path)
        chosen: dict[str, Any] = {"names": weights.names, "colors": weights.colors}
        chosen |= changed_options(weights.config.eval, options)
        found = cls(weights.model, weights.variables, **chosen)
        found.step = weights.step
        return found

    def __repr__(self) -> str:
        model, step = self.model, "" if self.step is None else f", step {self.step}"
        kind = " + ".join(model.attention) or "no"
        return (
            f"Predictor({model.backbone} with {kind} attention, {model.num_classes} classes{step}; "
            f"{self.settings.describe()})"
        )

    def overlay(self, image: Any, *, opacity: float = 0.55) -> UInt8[np.ndarray, "h w 3"]:
        """Returns an image tinted with the colours of its predicted classes, as `predict` draws it.

        Args:
          image: uint8, or a file or an image of Pillow's.
          opacity: of the colours, 0 to 1.
        """
        pixels = self.read(image)
        if pixels.dtype != np.uint8:
            raise UserError("an image that is normalised already has no colours to draw over")
        count = self.model.num_classes
        colors = self.colors or [standard_color(index) for index in range(1, count + 1)]
        return overlays.overlay(pixels, self(pixels), colors=colors, opacity=opacity)

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
        warnings.warn(f"{one_line(name)}: {note}", stacklevel=4)
    return pixels


def _encoded(image: Image.Image) -> bytes:
    """An image as a file's content, so that one place decides what its modes mean."""
    if content := _content(image):
        return content
    if _is_told_by_its_file(image):
        raise UserError(
            f"an image of mode {image.mode} of a {image.format} whose header says what its values "
            "mean (0 is white, 12 bits, transparency of 16), which Pillow does not keep with the "
            "pixels; give the path of the file, or Image.open(path) before it is decoded."
        )
    file = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        upright.save(file, "PNG" if image.mode in _PNG_MODES else "TIFF", compress_level=0)
    # Pillow asserts that the file of an image that it has to decode is open.
    except (OSError, ValueError, SystemError, AssertionError) as error:
        raise UserError(
            f"an image of mode {image.mode} and size {image.width}×{image.height} cannot be read "
            f"({str(error) or 'its file is closed'}); give image.convert('RGB')."
        ) from error
    return file.getvalue()


def _content(image: Image.Image) -> bytes:
    """The content of a file that Pillow has opened and not decoded, b"" for other images."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in _AMBIGUOUS_FORMATS:
        return b""
    # Pixels that are decoded may have been changed since, and a later page was asked for.
    if not image.tile or image.fp is None or image.tell():
        return b""
    try:
        place = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read()
        image.fp.seek(place)
    except (OSError, ValueError):
        return b""  # It was closed, which is reported when it is to be decoded.
    return content


def _is_told_by_its_file(image: Image.Image) -> bool:
    """Whether a decoded file's header gives its pixels another meaning than Pillow does."""
    color = image.info.get("transparency")
    if image.format == "PNG" and image.mode in ("L", "RGB") and color is not None:
        if image.mode == "L":
            return color in _OF_FEW_BITS
        return isinstance(color, tuple) and max(color) > 255
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return False

    def has(tag: ExifTags.Base, value: int) -> bool:
        return value in np.atleast_1d(tags.get(tag, ()))

    if image.mode.startswith("I;16"):
        return has(ExifTags.Base.PhotometricInterpretation, 0) or has(
            ExifTags.Base.BitsPerSample, 12
        )
    if image.mode == "L":
        is_unsaid = ExifTags.Base.PhotometricInterpretation not in tags
        return is_unsaid or has(ExifTags.Base.SampleFormat, 2)
    # Colours that are multiplied by their transparency, or 16 bits of each band after those of the
    # band before.
    return has(ExifTags.Base.ExtraSamples, 1) or (
        has(ExifTags.Base.PlanarConfiguration, 2)
        and has(ExifTags.Base.BitsPerSample, 16)
        and has(ExifTags.Base.Compression, 1)
    )


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
