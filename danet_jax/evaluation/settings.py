"""Settings of inference: sliding windows and test-time augmentation, and what they cost."""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from danet_jax.base.errors import UserError, check_choice
from danet_jax.base.exhaustion import machine_memory
from danet_jax.evaluation import merging, windows

MODES = ("whole", "slide")
# The size of a usual photo: settings are checked against it before there is an image.
PHOTO = (768, 1024)
# Smallest and largest scale. The published evaluations go from 0.5 to 2.2.
SCALES = (0.01, 100.0)
MOST_SCALES = 64
# The most windows over one image. At a millisecond each they take some minutes.
MOST_WINDOWS = 250_000
# Bytes that each pixel of a network's input takes at least: normalised colours, and a score for
# each class.
_PIXEL_BYTES, _SCORE_BYTES = 12, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """Those arguments of `Predictor` that say how an image is predicted; see there."""

    mode: str = "whole"
    crop_size: int | None = None
    base_size: int | None = None
    short_side: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge: str = "softmax"

    @property
    def is_single_pass(self) -> bool:
        """Whether the network runs once, on the whole image at its own size.

        The class with the highest score is then the one with the highest logit.
        """
        own_size = self.base_size is None and self.short_side is None and self.scales == (1.0,)
        return own_size and self.mode == "whole" and not self.flip

    @property
    def size_field(self) -> str:
        """Name of the setting that gives an image's size at scale 1; "" for the image's own."""
        return "short_side" if self.short_side else "base_size" if self.base_size else ""

    def describe(self) -> str:
        """Returns the settings in words, in one line."""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        parts = [self._describe_windows(), f"scale{'s' * (len(self.scales) > 1)} {scales}"]
        if self.flip:
            parts.append("mirrored")
        return ", ".join([*parts, self.merge])

    def _describe_windows(self) -> str:
        if self.short_side:
            limit = f" (long side at most {self.base_size})" if self.base_size else ""
            size = f", short side {self.short_side}{limit}"
        else:
            size = f", long side {self.base_size}" if self.base_size else ""
        if self.mode == "whole":
            return f"whole image{size}"
        return f"windows of {self.crop_size}×{self.crop_size}{size}"

    def record(self) -> dict[str, Any]:
        """Returns the settings as a run's notes hold them: 0 for none, short_side only if given."""
        fields = dataclasses.asdict(self)
        if self.short_side is None:
            del fields["short_side"]
        return {name: 0 if value is None else value for name, value in fields.items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "InferenceSettings":
        """Returns the settings that `record` wrote."""
        return cls(
            mode=record["mode"],
            crop_size=record["crop_size"] or None,
            base_size=record["base_size"] or None,
            short_side=record.get("short_side"),
            scales=tuple(record["scales"]),
            flip=record["flip"],
            merge=record["merge"],
        )

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Returns height and width of an image (height, width) at each scale."""
        return [
            windows.scaled_size(size, scale, base_size=self.base_size, short_side=self.short_side)
            for scale in self.scales
        ]

    def grids(self, size: tuple[int, int]) -> list[windows.Grid]:
        """Returns the windows over an image (height, width) at each scale."""
        return [self._grid(scaled) for scaled in self.sizes(size)]

    def count_windows(self, size: tuple[int, int]) -> int:
        """Returns how many windows an image (height, width) has, at all scales together."""
        if self.mode == "whole":
            return len(self.scales)
        assert self.crop_size is not None
        return sum(
            math.prod(windows.count(side, self.crop_size, self.stride) for side in scaled)
            for scaled in self.sizes(size)
        )

    @property
    def stride(self) -> int:
        """Pixels from a window to the next one."""
        assert self.crop_size is not None
        if self.merge == "original":
            return windows.original_stride(self.crop_size, several_scales=len(self.scales) > 1)
        return max(self.crop_size * 2 // 3, 1)

    def _grid(self, size: tuple[int, int]) -> windows.Grid:
        if self.mode == "whole":
            return windows.Grid(size, size, (0,), (0,))
        assert self.crop_size is not None
        if self.merge == "original":
            several = len(self.scales) > 1
            return windows.original_grid(size, self.crop_size, several_scales=several)
        return windows.grid(size, self.crop_size, stride=self.stride, overhang=False)


def inference_settings(
    *,
    mode: str,
    crop_size: Any,
    base_size: Any,
    scales: Any,
    flip: Any,
    merge: str,
    short_side: Any = None,
    prefix: str = "",
) -> InferenceSettings:
    """Returns checked settings. The arguments are those of `Predictor`, not yet checked.

    Args:
      mode: one of MODES.
      crop_size: height and width of a window, None in mode "whole".
      base_size: long side of the image at scale 1, None for its own.
      scales: the scales of test-time augmentation.
      flip: whether the mirrored image is predicted as well.
      merge: one of `merging.MERGES`.
      short_side: short side of the image at scale 1, None where base_size alone gives the size.
      prefix: stands before a field's name in messages.

    Raises:
      UserError: a value is invalid, or no machine has the memory or the time for it.
    """
    check_choice(f"{prefix}mode", mode, MODES)
    check_choice(f"{prefix}merge", merge, merging.MERGES)
    if mode == "slide":
        _check_size(f"{prefix}crop_size", crop_size, "windows need a size of 1 or more")
    elif crop_size is not None:
        raise UserError(
            f"{prefix}crop_size is {crop_size!r}, but mode is 'whole', which has no windows; give "
            f"{prefix}mode='slide' as well, or leave it out."
        )
    if base_size is not None:
        _check_size(f"{prefix}base_size", base_size, "the long side is 1 pixel or more")
    if short_side is not None:
        _check_size(f"{prefix}short_side", short_side, "the short side is 1 pixel or more")
    if base_size is not None and short_side is not None and short_side > base_size:
        raise UserError(
            f"{prefix}short_side is {short_side}, and the long side may not be more than "
            f"{prefix}base_size, which is {base_size}: no image can be both. Give a base_size of "
            f"{short_side} or more, or one of the two alone."
        )
    if not isinstance(flip, bool | np.bool_):
        raise UserError(f"{prefix}flip is {flip!r}; give True or False.")
    settings = InferenceSettings(
        mode=mode,
        crop_size=None if crop_size is None else int(crop_size),
        base_size=None if base_size is None else int(base_size),
        short_side=None if short_side is None else int(short_side),
        scales=_checked_scales(scales, prefix),
        flip=bool(flip),
        merge=merge,
    )
    check_cost(settings, PHOTO, num_classes=1, prefix=prefix)
    return settings


def check_cost(
    settings: InferenceSettings,
    size: tuple[int, int],
    *,
    num_classes: int,
    batch_size: int = 1,
    subject: str = "",
    prefix: str = "",
) -> None:
    """Raises a UserError where an image of a size would need too many windows or too much memory.

    Args:
      settings: the settings of inference.
      size: height and width of the image.
      num_classes: classes that have a score.
      batch_size: windows in a batch.
      subject: what messages call the image; "an image of WIDTH×HEIGHT" where empty.
      prefix: stands before a field's name in messages.
    """
    subject = subject or f"an image of {size[1]}×{size[0]}"
    number = settings.count_windows(size)
    if number > MOST_WINDOWS:
        raise UserError(
            f"{prefix}crop_size is {settings.crop_size}: {subject} would have {number:,} windows, "
            f"and {MOST_WINDOWS:,} are the most. Give larger windows, or a smaller "
            f"{settings.size_field or 'scale'}."
        )
    memory = memory_bytes()
    pixel_bytes = _PIXEL_BYTES + _SCORE_BYTES * num_classes
    for scale, scaled in zip(settings.scales, settings.sizes(size), strict=True):
        # A window and its mirror image are predicted one after the other, so memory is that of one.
        height, width = (settings.crop_size,) * 2 if settings.mode == "slide" else scaled
        assert height is not None
        assert width is not None
        needed = height * width * pixel_bytes * batch_size
        if needed <= memory:
            continue
        if settings.mode == "slide":
            field = f"{prefix}crop_size is {settings.crop_size}"
        else:
            name = settings.size_field
            given = [f"{prefix}{name} is {getattr(settings, name)}"] if name else []
            if scale != 1 or not given:
                given.insert(0, f"{prefix}scales has {scale:g}")
            field = " and ".join(given)
        raise UserError(
            f"{field}: {subject} would be predicted at {width}×{height} pixels, which takes at "
            f"least {_gigabytes(needed)} of memory; this machine has {_gigabytes(memory)}. Give a "
            "smaller value."
        )


def memory_bytes() -> int:
    """Returns the memory of a device; for a CPU, that of the machine or of the job's limit."""
    device = jax.local_devices()[0]
    if device.platform != "cpu" and (known := (device.memory_stats() or {}).get("bytes_limit")):
        return int(known)
    return machine_memory()


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:,.1f} GB"


def _check_size(field: str, value: Any, reason: str) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise UserError(f"{field} is {value!r}; {reason}, as a whole number.")


def _checked_scales(scales: Any, prefix: str) -> tuple[float, ...]:
    name = f"{prefix}scales"
    verb = "is" if prefix else "are"
    if isinstance(scales, np.ndarray):
        scales = scales.tolist()
    if isinstance(scales, str) or not isinstance(scales, Sequence) or not scales:
        raise UserError(f"{name} {verb} {scales!r}; give numbers above 0, such as (0.5, 1.0).")
    if len(scales) > MOST_SCALES:
        raise UserError(f"{name} has {len(scales)} numbers; {MOST_SCALES} are the most.")
    low, high = SCALES
    for scale in scales:
        is_number = isinstance(scale, int | float | np.number) and not isinstance(scale, bool)
        if not is_number or not scale > 0:
            raise UserError(f"{name} {verb} {tuple(scales)}; give numbers above 0.")
        if not low <= scale <= high:
            raise UserError(
                f"{name} has {scale:g}; a scale is a factor of the image's size, from {low:g} to "
                f"{high:g}."
            )
    return tuple(map(float, scales))
