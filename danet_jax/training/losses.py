"""Losses of dense classification on logits [b, h, w, s] and labels [b, h, w], 255 ignored."""

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Bool, Float, Integer

from danet_jax.errors import UserError, check_choice
from danet_jax.models.resize import resize_bilinear

IGNORE_LABEL = 255
LOSSES = ("cross_entropy", "ohem", "focal", "dice", "jaccard", "tversky")
NORMALIZATIONS = ("labelled", "all")
LOGITS = ("fused", "position", "channel", "auxiliary")

Logits = Float[Array, "b h w s"]
Labels = Integer[Array, "b h w"]
Map = Float[Array, "b h w"]
Scalar = Float[Array, ""]


def segmentation_losses(
    logits: dict[str, Logits],
    label: Integer[Array, "b H W"],
    loss_config: ml_collections.FrozenConfigDict,
    *,
    align_corners: bool,
) -> tuple[Scalar, dict[str, Scalar]]:
    """Returns the weighted sum over logit maps and each map's own loss, "loss_fused", ….

    Logits come at feature stride and are brought to the label's size.
    """
    total = jnp.zeros(())
    parts = {}
    size = (label.shape[1], label.shape[2])
    for name in LOGITS:
        if name not in logits:
            continue
        full = resize_bilinear(logits[name], size, align_corners=align_corners)
        part = _loss(loss_config.name, full, label, loss_config)
        if loss_config.added:
            part += loss_config.added_weight * _loss(loss_config.added, full, label, loss_config)
        parts[f"loss_{name}"] = part
        total += loss_config[f"{name}_weight"] * part
    return total, parts


def check_loss_config(loss_config: ml_collections.ConfigDict, num_classes: int) -> None:
    """Raises a UserError for a loss that does not exist or class weights of another number."""
    for field in ("name", "added"):
        allowed = LOSSES if field == "name" else ("", *LOSSES)
        check_choice(f"config.loss.{field}", loss_config[field], allowed)
    check_choice("config.loss.normalization", loss_config.normalization, NORMALIZATIONS)
    if loss_config.class_weights and len(loss_config.class_weights) != num_classes:
        raise UserError(
            f"config.loss.class_weights has {len(loss_config.class_weights)} values for "
            f"{num_classes} classes: give one for each class, or () for equal ones."
        )


def _loss(
    name: str, logits: Logits, label: Labels, config: ml_collections.FrozenConfigDict
) -> Scalar:
    weights = jnp.array(config.class_weights, jnp.float32) if config.class_weights else None
    if name == "cross_entropy":
        return cross_entropy(
            logits, label, class_weights=weights, normalization=config.normalization
        )
    if name == "ohem":
        return ohem_cross_entropy(
            logits,
            label,
            threshold=config.ohem_threshold,
            min_kept=config.ohem_min_kept,
            class_weights=weights,
        )
    if name == "focal":
        return focal(logits, label, gamma=config.focal_gamma, class_weights=weights)
    # Dice and Jaccard are Tversky's index at these weights of the two kinds of error.
    alpha, beta = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0)}.get(
        name, (config.tversky_alpha, config.tversky_beta)
    )
    return tversky(logits, label, alpha=alpha, beta=beta)


def cross_entropy(
    logits: Logits,
    label: Labels,
    *,
    class_weights: Float[Array, " s"] | None = None,
    normalization: str = "labelled",
) -> Scalar:
    """Mean over labelled pixels of the whole batch; with class weights the weighted mean.

    With normalization "all" the (weighted) sum over labelled pixels is divided by the number of all
    pixels, as mmsegmentation does by default (`avg_non_ignore=False`).
    """
    loss, weight = _pixel_losses(logits, label, class_weights)
    if normalization == "all":
        return jnp.sum(loss * weight) / label.size
    return _mean(loss, weight)


def ohem_cross_entropy(
    logits: Logits,
    label: Labels,
    *,
    threshold: float,
    min_kept: float,
    class_weights: Float[Array, " s"] | None = None,
) -> Scalar:
    """Cross-entropy of the hard pixels (online hard example mining).

    Hard are the labelled pixels whose class has a probability below `threshold`, and in any case
    the hardest share `min_kept` of them.
    """
    unweighted, valid = _pixel_losses(logits, label, None)
    # Ascending probability of the true class; unlabelled pixels come last.
    probability = jnp.where(valid > 0, jnp.exp(-jax.lax.stop_gradient(unweighted)), 2.0)
    kept = jnp.ceil(min_kept * jnp.sum(valid)).astype(jnp.int32)
    ordered = jnp.sort(probability.reshape(-1))
    least = ordered[jnp.clip(kept - 1, 0, ordered.size - 1)]
    hard = (probability < threshold) | (probability <= least)
    loss, weight = _pixel_losses(logits, label, class_weights)
    return _mean(loss, weight * hard)


def focal(
    logits: Logits,
    label: Labels,
    *,
    gamma: float,
    class_weights: Float[Array, " s"] | None = None,
) -> Scalar:
    """(1 - p)^gamma times the cross-entropy (Lin et al. 2017), mean over labelled pixels."""
    loss, weight = _pixel_losses(logits, label, class_weights)
    # -expm1 keeps 1 - p exact near p = 1, where the power's gradient else is nan.
    miss = jnp.maximum(-jnp.expm1(-loss), 1e-12)
    return _mean(miss**gamma * loss, weight)


def tversky(logits: Logits, label: Labels, *, alpha: float, beta: float) -> Scalar:
    """1 - TP / (TP + alpha FP + beta FN), mean over the classes that the batch's labels hold.

    Sums are soft and over the whole batch (Salehi et al. 2017): alpha = beta = 1/2 is Dice,
    alpha = beta = 1 is Jaccard.
    """
    valid = _valid(label)
    probability = jax.nn.softmax(logits, axis=-1) * valid[..., None]
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=probability.dtype)
    hit = jnp.einsum("bhws,bhws->s", probability, truth)
    truths = jnp.sum(truth, axis=(0, 1, 2))
    false_positive = jnp.sum(probability, axis=(0, 1, 2)) - hit
    index = hit / jnp.maximum(hit + alpha * false_positive + beta * (truths - hit), 1e-12)
    present = (truths > 0).astype(jnp.float32)
    return _mean(1 - index, present)


def _pixel_losses(
    logits: Logits, label: Labels, class_weights: Float[Array, " s"] | None
) -> tuple[Map, Map]:
    """Returns each pixel's cross-entropy, 0 where ignored, and its weight."""
    valid = _valid(label)
    index = jnp.where(valid, label, 0).astype(jnp.int32)
    picked = jnp.take_along_axis(logits, index[..., None], axis=-1)[..., 0]
    loss = jnp.where(valid, jax.nn.logsumexp(logits, axis=-1) - picked, 0.0)
    weight = valid.astype(jnp.float32)
    if class_weights is not None:
        weight *= class_weights[index]
    return loss, weight


def _valid(label: Labels) -> Bool[Array, "b h w"]:
    return label != IGNORE_LABEL


def _mean(loss: Float[Array, "..."], weight: Float[Array, "..."]) -> Scalar:
    """The weighted mean; 0 for a batch without any labelled pixel."""
    total = jnp.sum(weight)
    return jnp.sum(loss * weight) / jnp.where(total > 0, total, 1.0)
