"""Weights of a live mmsegmentation DANet give the same logits here, and train in the same way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

import danet_jax
from benchmarks import mmsegmentation
from danet_jax.configs import common

CLASSES, SIZE, STEPS, TOTAL_STEPS = 7, (65, 73), 3, 10
DECAY = 1e-4
WEIGHTS = {"fused": 1.0, "position": 1.0, "channel": 1.0, "auxiliary": 0.4}


@pytest.fixture(scope="module", params=[50, 101])
def depth(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(depth):
    return mmsegmentation.encoder_decoder(depth, num_classes=CLASSES)


@pytest.fixture(scope="module")
def config(depth):
    config = common.get_config()
    config.model.update(
        backbone=f"resnet{depth}",
        num_classes=CLASSES,
        multi_grid=(),
        stem="deep",
        deep_stem_width=32,
        auxiliary_head=True,
        align_corners=False,
        dropout_rate=0.0,
    )
    config.optimizer.update(weight_decay=DECAY)
    return config


@pytest.fixture(scope="module")
def model(config):
    return danet_jax.create_model(config.model)


@pytest.fixture(scope="module")
def variables(theirs, model):
    return jax.device_get(danet_jax.from_torch(theirs.state_dict(), model))


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES + 1, (STEPS, 2, 9, 10)).repeat(8, 2).repeat(8, 3)
    labels = np.where(labels == CLASSES, 255, labels)[:, :, : SIZE[0], : SIZE[1]]
    images = rng.standard_normal((STEPS, 2, *SIZE, 3)).astype(np.float32)
    return [
        {"image": image, "label": label.astype(np.uint8)}
        for image, label in zip(images, labels, strict=True)
    ]


def to_nchw(image):
    return torch.from_numpy(image.transpose(0, 3, 1, 2).copy())


def test_the_inverse_gives_every_array_bit_for_bit(theirs, model, variables):
    """Theirs → ours → the original's names → ours: the same arrays under other names."""
    arrays = danet_jax.to_torch(variables, model)
    again = danet_jax.from_torch(arrays, model)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), variables)
    counted = [n for n in theirs.state_dict() if not n.endswith("num_batches_tracked")]
    assert len(arrays) == len(counted)
    ours = sorted(a.tobytes() for a in arrays.values())
    assert ours == sorted(theirs.state_dict()[name].numpy().tobytes() for name in counted)


def test_all_four_logits_agree(theirs, model, variables, batches):
    image = batches[0]["image"]
    theirs.eval()
    with torch.inference_mode():
        expected = mmsegmentation.logits(theirs, to_nchw(image))
    found = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    assert set(found) == {"fused", "position", "channel"}
    for name, logits in found.items():
        wanted = expected[name].numpy().transpose(0, 2, 3, 1)
        assert np.abs(np.asarray(logits) - wanted).max() <= 1e-3 * wanted.std(), name


def test_all_four_logits_agree_in_training_mode(theirs, model, variables, batches):
    image = batches[0]["image"]
    theirs.train()
    state = {name: array.clone() for name, array in theirs.state_dict().items()}
    with torch.no_grad():
        expected = mmsegmentation.logits(theirs, to_nchw(image))
    theirs.load_state_dict(state)

    @jax.jit
    def apply(variables, image):
        return model.apply(variables, image, train=True, mutable=["batch_stats"])[0]

    found = apply(variables, image)
    assert set(found) == set(WEIGHTS)
    for name, logits in found.items():
        wanted = expected[name].numpy().transpose(0, 2, 3, 1)
        assert np.abs(np.asarray(logits) - wanted).max() <= 1e-3 * wanted.std(), name


@pytest.mark.parametrize(
    ("dtype", "rate", "tolerance"), [("float64", 0.003, 1e-7), ("float32", 0.001, 2e-3)]
)
def test_three_steps_of_sgd_agree(depth, model, config, batches, dtype, rate, tolerance):
    """The loss of R101 with random weights is chaotic in the rate.

    In float64 both sides agree to 1e-8 at the rate of Cityscapes; in float32 at that rate each
    side's third loss is 5e-3 from it, so there the rate is that of PASCAL Context.
    """
    theirs = mmsegmentation.encoder_decoder(depth, num_classes=CLASSES).to(getattr(torch, dtype))
    batches = [batch | {"image": batch["image"].astype(dtype)} for batch in batches]
    expected = train_torch(theirs, batches, rate)
    with jax.enable_x64(dtype == "float64"):
        # Anew, since the former ones are trained by now.
        start = mmsegmentation.encoder_decoder(depth, num_classes=CLASSES).state_dict()
        losses = train_jax(model.clone(dtype=jnp.dtype(dtype)), config, start, batches, rate)
    np.testing.assert_allclose(losses, expected, rtol=tolerance)


def train_jax(model, config, state_dict, batches, rate):
    config.optimizer.learning_rate = rate
    variables = danet_jax.from_torch(state_dict, model)
    variables = jax.tree.map(lambda x: jnp.asarray(x, model.dtype), variables)
    state = danet_jax.create_train_state(config, model, variables, TOTAL_STEPS)
    step = jax.jit(danet_jax.train_step)
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses


def train_torch(model, batches, base_rate):
    """The original's recipe, written with PyTorch's own optimiser and losses."""
    model.train()
    head = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    optimizer = torch.optim.SGD(
        [{"params": model.backbone.parameters()}, {"params": head}],
        lr=base_rate,
        momentum=0.9,
        weight_decay=DECAY,
    )
    losses = []
    for index, batch in enumerate(batches):
        rate = base_rate * (1 - index / TOTAL_STEPS) ** 0.9
        for group, factor in zip(optimizer.param_groups, (1, 10), strict=True):
            group["lr"] = factor * rate
        target = torch.from_numpy(batch["label"]).long()
        loss = sum(
            WEIGHTS[name]
            * functional.cross_entropy(
                functional.interpolate(logits, SIZE, mode="bilinear", align_corners=False),
                target,
                ignore_index=255,
            )
            for name, logits in mmsegmentation.logits(model, to_nchw(batch["image"])).items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
