"""What is allowed and yet rarely meant: an evaluation that its training does not fit."""

import math
from collections.abc import Iterator, Mapping

import ml_collections

from danet_jax.base.wording import counted
from danet_jax.configs.rules import used_multi_grid
from danet_jax.evaluation.presets import PRESETS
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.input_pipeline import Split

# Sides that differ from what training shows by less are near enough.
NEAR = 0.75
# Share of the images that may look otherwise without a word.
FEW = 0.1

Sizes = Mapping[tuple[int, int], int]


def doubts(
    config: ml_collections.ConfigDict, settings: InferenceSettings, sizes: Sizes
) -> list[str]:
    """Returns sentences that say what does not fit and what to do about it, mostly none.

    Args:
      config: the experiment.
      settings: those of its evaluation.
      sizes: how many of the images of `config.data.eval_split` have which (height, width); empty
        where that is not known.
    """
    if len(config.data.crop_size) != 2 or len(config.data.scale_range) != 2:
        return []  # training refuses that, and no other command needs it
    return [*_scales(config, settings, sizes), *_dilations(config, settings, sizes)]


def doubts_on_splits(train: Split, evaluated: Split) -> list[str]:
    """Returns sentences on examples that are evaluated and trained on, or that come twice."""
    found = []
    if shared := train.shared_examples(evaluated):
        found.append(
            f"{shared} of {counted(len(evaluated), 'image')} of {evaluated.split} are also in "
            f"{train.split}: scores on images that were trained on say nothing of others. Give "
            "splits that have none in common in config.data.train_split and config.data.eval_split."
        )
    for split in {train.split: train, evaluated.split: evaluated}.values():
        if repeated := split.repeated_examples:
            found.append(
                f"{counted(repeated, 'image')} of {split.split} come twice or more: the parts of "
                "that sum overlap."
            )
    return found


def _scales(
    config: ml_collections.ConfigDict, settings: InferenceSettings, sizes: Sizes
) -> Iterator[str]:
    """Images that are evaluated at another scale than any that training draws."""
    base_size = config.data.base_size
    low, high = (int(base_size * scale) for scale in config.data.scale_range)
    others: dict[int, int] = {}
    for size, count in sizes.items():
        shown = [min(scaled) for scaled in settings.sizes(size)]
        if not any(NEAR * low <= short <= high / NEAR for short in shown):
            short = max(shown)
            others[short] = others.get(short, 0) + count
    images = sum(sizes.values())
    if not images or sum(others.values()) <= FEW * images:
        return
    first, last = min(others), max(others)
    which = f"{first}" if first == last else f"{first} to {last}"
    drawn = f"{low}" if low == high else f"{low} to {high}"
    choose = "--config.eval.preset= " if "base_size" in PRESETS[config.eval.preset] else ""
    yield (
        f"{sum(others.values())} of {counted(images, 'image')} of {config.data.eval_split} are "
        f"evaluated at a short side of {which} pixels, while training draws {drawn}: things have "
        f"another size there than the network learns. Give {choose}"
        f"--config.eval.short_side={base_size} --config.eval.base_size={4 * base_size}, or a "
        "config.data.base_size that is nearer."
    )


def _dilations(
    config: ml_collections.ConfigDict, settings: InferenceSettings, sizes: Sizes
) -> Iterator[str]:
    """Weights that see little but padding in training, and image where inputs are larger."""
    model, crop = config.model, config.data.crop_size
    if window := settings.crop_size:
        inputs = [(window, window)]
    else:
        inputs = [scaled for size in sizes for scaled in settings.sizes(size)]
    if inputs and max(map(max, inputs)) <= max(crop):
        return
    # Without multi-grid, the last layer's: 4 at a stride of 8.
    widest = max(used_multi_grid(model) or (32 // model.output_stride,))
    height, width = (math.ceil(side / model.output_stride) for side in crop)
    if 2 * widest <= min(height, width):
        return
    advice = "--config.model.multi_grid=(), " if model.multi_grid else ""
    yield (
        f"the dilation {widest} of layer 4 is more than half of the {height}×{width} features of a "
        "crop: its outer weights see little but padding in training, stay nearly as they began, "
        f"and can spoil larger images. Give {advice}a larger config.data.crop_size, or "
        f"--config.eval.mode=slide with --config.eval.crop_size={max(crop)}."
    )
