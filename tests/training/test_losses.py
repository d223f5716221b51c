"""Losses against numbers worked out in numpy's float64."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.configs.rules import check_loss
from danet_jax.ops.resize import resize_bilinear
from danet_jax.training.losses import (
    LOSSES,
    PIXEL_LOSSES,
    cross_entropy,
    focal,
    ohem_cross_entropy,
    pixel_losses,
    segmentation_losses,
    soft_counts,
    tversky,
)

pytestmark = pytest.mark.usefixtures("light_compilation")

# One image of 1 x 4 pixels, three classes, the last pixel ignored.
LOGITS = jnp.array([[[[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 3.0, 0.0], [9.0, 9.0, 9.0]]]])
LABEL = jnp.array([[[0, 2, 0, 255]]], jnp.uint8)
IGNORED = jnp.full((1, 1, 4), 255, jnp.uint8)
# exp of each row over its sum, written out.
PROBABILITY = np.array(
    [
        np.exp([2, 0, 1]) / np.exp([2, 0, 1]).sum(),
        [1 / 3, 1 / 3, 1 / 3],
        np.exp([-1, 3, 0]) / np.exp([-1, 3, 0]).sum(),
    ]
)
TRUE = PROBABILITY[[0, 1, 2], [0, 2, 0]]


def of_probabilities(*true):
    """Two-class logits of pixels whose true class, 0, has these probabilities."""
    true = np.array(true)
    logits = np.stack([np.log(true), np.log(1 - true)], axis=-1)
    return jnp.asarray(logits[None, None], jnp.float32), jnp.zeros((1, 1, len(true)), jnp.uint8)


def loss_config(**fields):
    config = common.get_config().loss
    config.update(fields)
    return ml_collections.FrozenConfigDict(config)


def all_losses(**fields):
    """Each loss as a function of logits and labels, through the config."""

    def one(name):
        config = loss_config(name=name, **fields)
        return lambda logits, label: segmentation_losses(
            {"fused": logits}, label, config, align_corners=True
        )[0]

    return {name: one(name) for name in LOSSES}


def test_cross_entropy_is_the_mean_over_labelled_pixels():
    np.testing.assert_allclose(
        cross_entropy(pixel_losses(LOGITS, LABEL), LABEL), -np.log(TRUE).mean(), rtol=1e-6
    )


def test_class_weights_give_torchs_weighted_mean():
    weights = np.array([2.0, 5.0, 0.5])
    of_pixel = weights[[0, 2, 0]]
    expected = (of_pixel * -np.log(TRUE)).sum() / of_pixel.sum()
    loss = cross_entropy(
        pixel_losses(LOGITS, LABEL), LABEL, class_weights=jnp.asarray(weights, jnp.float32)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_ignored_pixels_have_no_gradient():
    for name, loss in all_losses().items():
        gradient = jax.jit(jax.grad(loss))(LOGITS, LABEL)
        assert (gradient[0, 0, 3] == 0).all(), name
        assert np.abs(gradient[0, 0, :3]).max() > 1e-3, name
        moved = LOGITS.at[0, 0, 3].set(jnp.array([-50.0, 50.0, 0.0]))
        np.testing.assert_allclose(loss(moved, LABEL), loss(LOGITS, LABEL), rtol=1e-6)


@pytest.mark.parametrize("class_weights", [(), (2.0, 5.0, 0.5)])
def test_a_batch_without_labels_costs_nothing(class_weights):
    for name, loss in all_losses(class_weights=class_weights).items():
        value, gradient = jax.value_and_grad(loss)(LOGITS, IGNORED)
        assert float(value) == 0.0, name
        assert (gradient == 0).all(), name


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [
        # Below the threshold only.
        (0.7, 0.1, [0.6, 0.3]),
        (0.5, 0.0, [0.3]),
        # Three of six are the least: two come on top of the threshold's.
        (0.5, 0.5, [0.3, 0.6, 0.8]),
        # 0.4 of six is rounded up.
        (0.1, 0.4, [0.3, 0.6, 0.8]),
        (0.1, 1.0, [0.95, 0.9, 0.8, 0.6, 0.3, 0.85]),
        (1.0, 0.0, [0.95, 0.9, 0.8, 0.6, 0.3, 0.85]),
    ],
)
def test_ohem_picks_the_hard_pixels(threshold, min_kept, kept):
    pixels = [0.95, 0.9, 0.8, 0.6, 0.3, 0.85, 0.01]
    logits, label = of_probabilities(*pixels)
    # The hardest of all is not labelled.
    label = label.at[0, 0, 6].set(255)

    def loss(logits):
        losses = pixel_losses(logits, label)
        return ohem_cross_entropy(losses, label, threshold=threshold, min_kept=min_kept)

    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(value, -np.log(kept).mean(), rtol=1e-5)
    picked = np.flatnonzero(np.abs(gradient[0, 0]).max(axis=-1) > 0)
    assert sorted(picked) == sorted(pixels.index(p) for p in kept)


def test_ohem_weighs_the_picked_pixels_by_class():
    logits, label = of_probabilities(0.9, 0.6, 0.3)
    label = label.at[0, 0, 1].set(1)
    weights = jnp.array([3.0, 1.0])
    # The probabilities of the true classes are .9, .4 and .3.
    losses = pixel_losses(logits, label)
    loss = ohem_cross_entropy(losses, label, threshold=0.5, min_kept=0.0, class_weights=weights)
    np.testing.assert_allclose(loss, -(np.log(0.4) + 3 * np.log(0.3)) / 4, rtol=1e-6)


def test_focal():
    logits, label = of_probabilities(0.8, 0.25)
    expected = -(0.2**2 * np.log(0.8) + 0.75**2 * np.log(0.25)) / 2
    np.testing.assert_allclose(
        focal(pixel_losses(logits, label), label, gamma=2.0), expected, rtol=1e-5
    )
    weights, losses = jnp.array([2.0, 1.0, 0.5]), pixel_losses(LOGITS, LABEL)
    np.testing.assert_allclose(
        focal(losses, LABEL, gamma=0.0, class_weights=weights),
        cross_entropy(losses, LABEL, class_weights=weights),
        rtol=1e-6,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("margin", [5.0, 20.0, 200.0])
def test_focal_gradient_is_finite_at_a_perfect_prediction(gamma, margin):
    logits = jnp.array([[[[margin, 0.0]]]])
    label = jnp.zeros((1, 1, 1), jnp.uint8)
    value, gradient = jax.value_and_grad(
        lambda x: focal(pixel_losses(x, label), label, gamma=gamma)
    )(logits)
    miss = np.exp(-margin) / (1 + np.exp(-margin))
    np.testing.assert_allclose(value, miss**gamma * np.log1p(np.exp(-margin)), rtol=1e-4, atol=1e-8)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() <= 1.01 * (1 + gamma) * miss


def tversky_by_hand(alpha, beta):
    """Class 1 is not labelled, so it counts only as false positive of nothing: it is left out."""
    truth = np.eye(3)[[0, 2, 0]]
    hit = (PROBABILITY * truth).sum(axis=0)
    false_positive = (PROBABILITY * (1 - truth)).sum(axis=0)
    false_negative = ((1 - PROBABILITY) * truth).sum(axis=0)
    index = hit / (hit + alpha * false_positive + beta * false_negative)
    return 1 - (index[0] + index[2]) / 2


def test_tversky_dice_and_jaccard():
    np.testing.assert_allclose(
        tversky(soft_counts(LOGITS, LABEL), alpha=0.3, beta=0.7),
        tversky_by_hand(0.3, 0.7),
        rtol=1e-5,
    )
    losses = all_losses(tversky_alpha=0.2, tversky_beta=0.9)
    for name, weights in {
        "dice": (0.5, 0.5),
        "jaccard": (1.0, 1.0),
        "tversky": (0.2, 0.9),
    }.items():
        np.testing.assert_allclose(
            losses[name](LOGITS, LABEL), tversky_by_hand(*weights), rtol=1e-5, err_msg=name
        )


def test_jaccard_of_hard_predictions_is_one_minus_mean_iou():
    # Class 0: 2 hits, 1 false negative; class 1: 1 hit, 1 false positive.
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    logits = jnp.asarray(100 * np.eye(2)[predicted][None, None], jnp.float32)
    counts = soft_counts(logits, jnp.asarray(truth[None, None]))
    loss = tversky(counts, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(loss, 1 - (2 / 3 + 1 / 2) / 2, rtol=1e-6)


# --- several logit maps --------------------------------------------------------------------------


def maps():
    generator = np.random.default_rng(0)
    return {
        name: jnp.asarray(generator.standard_normal((2, 2, 3, 3)), jnp.float32)
        for name in ("fused", "position", "channel", "auxiliary")
    }


LARGE_LABEL = jnp.asarray(np.random.default_rng(1).integers(0, 3, (2, 5, 7)), jnp.uint8)


@pytest.mark.parametrize("align_corners", [True, False])
def test_total_is_the_weighted_sum_of_upsampled_maps(align_corners):
    weights = {"fused": 1.0, "position": 0.5, "channel": 0.25, "auxiliary": 0.4}
    config = loss_config(**{f"{name}_weight": weight for name, weight in weights.items()})
    total, parts = segmentation_losses(maps(), LARGE_LABEL, config, align_corners=align_corners)
    expected = {
        f"loss_{name}": cross_entropy(
            pixel_losses(resize_bilinear(logits, (5, 7), align_corners=align_corners), LARGE_LABEL),
            LARGE_LABEL,
        )
        for name, logits in maps().items()
    }
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-6)
    np.testing.assert_allclose(
        total, sum(weight * parts[f"loss_{name}"] for name, weight in weights.items()), rtol=1e-6
    )
    fused = {"fused": maps()["fused"]}
    total, parts = segmentation_losses(fused, LARGE_LABEL, config, align_corners=align_corners)
    assert list(parts) == ["loss_fused"]
    np.testing.assert_allclose(total, expected["loss_fused"], rtol=1e-6)


def test_a_second_loss_is_added_with_its_weight():
    config = loss_config(name="cross_entropy", added="dice", added_weight=3.0)
    total, _ = segmentation_losses({"fused": LOGITS}, LABEL, config, align_corners=True)
    np.testing.assert_allclose(
        total, -np.log(TRUE).mean() + 3 * tversky_by_hand(0.5, 0.5), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("fields", "fragments"),
    [
        ({"name": "focall"}, ("config.loss.name", "'focall'", "Did you mean 'focal'?")),
        ({"added": "iou"}, ("config.loss.added", "'iou'", "jaccard")),
        ({"name": ""}, ("config.loss.name", "''")),
        (
            {"class_weights": (1.0, 2.0)},
            ("config.loss.class_weights", "2 values", "3 classes", "()"),
        ),
        (
            {"class_weights": (1.0, -2.0, 1.0)},
            ("config.loss.class_weights", "give 0 or more"),
        ),
        (
            {"name": "dice", "class_weights": (1.0, 2.0, 3.0)},
            ("config.loss.class_weights", "'dice' counts areas", "config.loss.added"),
        ),
    ],
)
def test_losses_that_do_not_exist_are_errors(fields, fragments):
    with pytest.raises(UserError) as error:
        check_loss(loss_config(**fields), 3)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_every_documented_loss_passes_the_check():
    for name in LOSSES:
        weights = (1.0, 2.0, 3.0) if name in PIXEL_LOSSES else ()
        check_loss(loss_config(name=name, added=name, class_weights=weights), 3)
    check_loss(loss_config(name="dice", added="focal", class_weights=(1.0, 2.0, 3.0)), 3)


def test_a_map_without_a_loss_is_an_error():
    """Else a new branch of the network would be left out of training without a word."""
    with pytest.raises(ValueError, match="no loss is defined for the maps \\['criss_cross'\\]"):
        segmentation_losses(
            {"fused": LOGITS, "criss_cross": LOGITS}, LABEL, loss_config(), align_corners=True
        )
