"""Losses of dense classification on logits [b, h, w, s] and labels [b, h, w], 255 ignored."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Bool, Float, Integer, UInt8

from danet_jax.base.errors import UserError
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.ops.resize import BY_PLATFORM
from danet_jax.training import row_blocks
from danet_jax.training.row_blocks import OverPixels

# Means over pixels, and ratios of areas.
PIXEL_LOSSES = ("cross_entropy", "ohem", "focal")
LOSSES = (*PIXEL_LOSSES, "dice", "jaccard", "tversky")
LOGITS = ("fused", "position", "channel", "auxiliary")

Logits = Float[Array, "b h w s"]
Labels = Integer[Array, "b h w"]
Map = Float[Array, "b h w"]
Scalar = Float[Array, ""]
# Float32 logits [b, h, w, s] and uint8 labels [b, h, w], 255 ignored → a number.
LossFunction = Callable[[Array, Array], Array]


def check_loss_function(
    function: LossFunction, label_shape: tuple[int, int, int], num_classes: int
) -> None:
    """Raises a UserError where a program's own loss cannot be traced, or gives no number."""
    logits = jax.ShapeDtypeStruct((*label_shape, num_classes), jnp.float32)
    label = jax.ShapeDtypeStruct(label_shape, jnp.uint8)
    wanted = (
        "give a function that JAX can trace, of float32 logits [b, h, w, s] and uint8 labels "
        "[b, h, w], 255 where ignored, that returns one number."
    )
    try:
        value = jax.eval_shape(function, logits, label)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"loss= cannot be computed ({type(error).__name__}: {reason}): {wanted}"
        ) from error
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        given = type(value).__name__ if shape is None else f"{dtype} {list(shape)}"
        raise UserError(f"loss= returns {given}: {wanted}")


def segmentation_losses(
    logits: dict[str, Logits],
    label: Integer[Array, "b H W"],
    loss_config: ml_collections.FrozenConfigDict,
    *,
    align_corners: bool,
    logit_bytes: int | None = None,
    resize: str = BY_PLATFORM,
    function: LossFunction | None = None,
) -> tuple[Scalar, dict[str, Scalar]]:
    """Returns the weighted sum over logit maps and each map's own loss, "loss_fused", ….

    Logits come at feature stride and are brought to the label's size, some rows at a time where
    they would take more than logit_bytes. Everything is nan, and so is each gradient,
    where a label is neither a class nor 255: no loss is right then. A function takes the place of
    the loss that loss_config names; it gets a map's logits at the label's size, and the label.
    """
    if unknown := logits.keys() - set(LOGITS):
        raise ValueError(f"no loss is defined for the maps {sorted(unknown)}: add them to LOGITS")
    label, one = _checked(label, logits["fused"].shape[-1])
    total = jnp.zeros(())
    parts = {}
    for name in LOGITS:
        if name not in logits:
            continue
        rows = row_blocks.rows_of_block(label.shape, logits[name].shape[-1], logit_bytes)
        if function is not None:
            # It is no sum over rows, as far as anybody knows.
            rows = label.shape[1]
        pixels = row_blocks.over_pixels(
            logits[name],
            label,
            rows=rows,
            align_corners=align_corners,
            ignored=IGNORE_LABEL,
            resize=resize,
        )
        if function is not None:
            part = pixels(function, True)
        else:
            part = _loss(loss_config.name, pixels, label, loss_config)
        if loss_config.added:
            part += loss_config.added_weight * _loss(loss_config.added, pixels, label, loss_config)
        part *= one
        parts[f"loss_{name}"] = part
        total += loss_config[f"{name}_weight"] * part
    return total, parts


def _checked(
    label: Integer[Array, "b H W"], num_classes: int
) -> tuple[UInt8[Array, "b H W"], Scalar]:
    """Returns labels in 8 bits, and 1.0, or nan where a label is neither a class nor ignored."""
    # Wide enough for 255, which int8 does not hold; of 32 bits and more the type stays.
    wide = label.astype(jnp.promote_types(label.dtype, jnp.int16))
    wrong = ((wide < 0) | (wide >= num_classes)) & (wide != IGNORE_LABEL)
    # A factor, since the gradient of a sum or a choice would not be nan.
    return label.astype(jnp.uint8), jnp.where(jnp.any(wrong), jnp.nan, 1.0)


def _loss(
    name: str, pixels: OverPixels, label: Labels, config: ml_collections.FrozenConfigDict
) -> Scalar:
    weights = jnp.array(config.class_weights, jnp.float32) if config.class_weights else None
    if name in PIXEL_LOSSES:
        loss = pixels(pixel_losses, False)
        if name == "cross_entropy":
            return cross_entropy(
                loss, label, class_weights=weights, normalization=config.normalization
            )
        if name == "focal":
            return focal(loss, label, gamma=config.focal_gamma, class_weights=weights)
        assert name == "ohem", name
        return ohem_cross_entropy(
            loss,
            label,
            threshold=config.ohem_threshold,
            min_kept=config.ohem_min_kept,
            class_weights=weights,
        )
    # Dice and Jaccard are Tversky's index at these weights of the two kinds of error.
    alpha, beta = {
        "dice": (0.5, 0.5),
        "jaccard": (1.0, 1.0),
        "tversky": (config.tversky_alpha, config.tversky_beta),
    }[name]
    return tversky(pixels(soft_counts, True), alpha=alpha, beta=beta)


def pixel_losses(logits: Logits, label: Labels) -> Map:
    """Each pixel's cross-entropy, 0 where ignored."""
    valid = _valid(label)
    index = jnp.where(valid, label, 0).astype(jnp.int32)
    picked = jnp.take_along_axis(logits, index[..., None], axis=-1)[..., 0]
    return jnp.where(valid, jax.nn.logsumexp(logits, axis=-1) - picked, 0.0)


def soft_counts(logits: Logits, label: Labels) -> Float[Array, "3 s"]:
    """Of each class the probability on its own pixels, on all labelled ones, and its pixels."""
    probability = jax.nn.softmax(logits, axis=-1) * _valid(label)[..., None]
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=probability.dtype)
    hit = jnp.einsum("bhws,bhws->s", probability, truth)
    return jnp.stack([hit, jnp.sum(probability, axis=(0, 1, 2)), jnp.sum(truth, axis=(0, 1, 2))])


def cross_entropy(
    loss: Map,
    label: Labels,
    *,
    class_weights: Float[Array, " s"] | None = None,
    normalization: str = "labelled",
) -> Scalar:
    """Mean of `pixel_losses` over the batch's labelled pixels; with class weights the weighted one.

    With normalization "all" the (weighted) sum over labelled pixels is divided by the number of all
    pixels, as mmsegmentation does by default (`avg_non_ignore=False`).
    """
    weight = _weights(label, class_weights)
    if normalization == "all":
        return jnp.sum(loss * weight) / label.size
    return _mean(loss, weight)


def ohem_cross_entropy(
    loss: Map,
    label: Labels,
    *,
    threshold: float,
    min_kept: float,
    class_weights: Float[Array, " s"] | None = None,
) -> Scalar:
    """Mean of `pixel_losses` over the hard pixels (online hard example mining).

    Hard are the labelled pixels whose class has a probability below `threshold`, and in any case
    the hardest share `min_kept` of them.
    """
    valid = _valid(label)
    # Ascending probability of the true class; unlabelled pixels come last.
    probability = jnp.where(valid, jnp.exp(-jax.lax.stop_gradient(loss)), 2.0)
    kept = jnp.ceil(min_kept * jnp.sum(valid, dtype=jnp.float32)).astype(jnp.int32)
    ordered = jnp.sort(probability.reshape(-1))
    least = ordered[jnp.clip(kept - 1, 0, ordered.size - 1)]
    hard = (probability < threshold) | (probability <= least)
    return _mean(loss, _weights(label, class_weights) * hard)


def focal(
    loss: Map,
    label: Labels,
    *,
    gamma: float,
    class_weights: Float[Array, " s"] | None = None,
) -> Scalar:
    """(1 - p)^gamma times the cross-entropy (Lin et al. 2017), mean over labelled pixels."""
    # -expm1 keeps 1 - p exact near p = 1, where the power's gradient else is nan.
    miss = jnp.maximum(-jnp.expm1(-loss), 1e-12)
    return _mean(miss**gamma * loss, _weights(label, class_weights))


def tversky(counts: Float[Array, "3 s"], *, alpha: float, beta: float) -> Scalar:
    """1 - TP / (TP + alpha FP + beta FN), mean over the classes that the batch's labels hold.

    `soft_counts` are over the whole batch (Salehi et al. 2017): alpha = beta = 1/2 is Dice,
    alpha = beta = 1 is Jaccard.
    """
    hit, probability, truths = counts
    index = hit / jnp.maximum(hit + alpha * (probability - hit) + beta * (truths - hit), 1e-12)
    present = (truths > 0).astype(jnp.float32)
    return _mean(1 - index, present)


def _weights(label: Labels, class_weights: Float[Array, " s"] | None) -> Map:
    """0 where ignored, else the class's weight."""
    valid = _valid(label)
    weight = valid.astype(jnp.float32)
    if class_weights is not None:
        weight *= class_weights[jnp.where(valid, label, 0).astype(jnp.int32)]
    return weight


def _valid(label: Labels) -> Bool[Array, "b h w"]:
    return label != IGNORE_LABEL


def _mean(loss: Float[Array, "..."], weight: Float[Array, "..."]) -> Scalar:
    """The weighted mean; 0 for a batch without any labelled pixel."""
    total = jnp.sum(weight)
    return jnp.sum(loss * weight) / jnp.where(total > 0, total, 1.0)
