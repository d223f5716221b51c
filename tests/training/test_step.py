"""The public step: compiled, leaves its state alone, and takes no label for another."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.training import step
from danet_jax.training.losses import LOSSES, segmentation_losses
from tests.test_command_line import check_message
from tests.training.compilation import light_compilation
from tests.training.tiny import CLASSES, random_batch, random_variables, tiny_config

__all__ = ["light_compilation"]


@pytest.fixture(scope="module")
def state():
    config = tiny_config(attention=(), dropout_rate=0.0)
    model = danet_jax.create_model(config.model)
    return danet_jax.create_train_state(config, model, random_variables(model), 10)


def with_label(value, dtype=np.uint8):
    batch = random_batch(2)
    label = batch["label"].astype(dtype)
    label[0, 3, 5] = value
    return batch | {"label": label}


WRONG = [
    (-1, np.int32, "holds -1,", "numpy.where(label == -1, 255, label)"),
    (-1, np.int8, "holds -1,", "numpy.where"),
    (-100, np.int64, "holds -100,", "Correct the labels"),
    (9, np.uint8, "holds 9,", "0 to 2, and 255"),
    (CLASSES, np.uint8, "holds 3,", "0 to 2"),
    (254, np.uint8, "holds 254,", "0 to 2"),
    (256, np.int32, "holds 256,", "0 to 2"),
    # JAX would narrow it to 1.
    (2**32 + 1, np.int64, "holds 4294967297,", "0 to 2"),
    (1, np.float32, "is float32", "label.astype(numpy.uint8)"),
    (1, bool, "is bool", "label.astype(numpy.uint8)"),
]


@pytest.mark.parametrize(("value", "dtype", "says", "cure"), WRONG)
def test_labels_that_are_no_classes_are_refused(state, value, dtype, says, cure):
    batch = with_label(value, dtype)
    if dtype is np.int8:
        # It holds no 255.
        batch["label"] = np.where(batch["label"] == -1, -1, np.abs(batch["label"]) % CLASSES)
        batch["label"] = batch["label"].astype(np.int8)
    with pytest.raises(UserError) as error:
        danet_jax.train_step(state, batch)
    assert f'batch["label"] {says}' in str(error.value)
    assert cure in str(error.value)


def test_classes_that_count_from_1_are_told(state):
    batch = random_batch(2)
    batch["label"] = np.where(batch["label"] == 255, 255, batch["label"] + 1).astype(np.uint8)
    with pytest.raises(UserError, match=r"holds 3, and .* count from 1, .* label - 1"):
        danet_jax.train_step(state, batch)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.zeros((2, 32, 32, 1), np.uint8)}, r"\(2, 32, 32, 1\); give \[b, h, w, 3\]"),
        ({"label": np.zeros((2, 16, 16), np.uint8)}, r"\(2, 16, 16\)"),
        ({"image": np.zeros((2, 32, 32, 3), np.int32)}, "int32"),
        ({"image": np.full((2, 32, 32, 3), 99.0)}, "0 to 255"),
        ({"image": jnp.zeros((2, 32, 32, 3), jnp.int32)}, "int32"),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused(state, change, says):
    with pytest.raises(UserError, match=says):
        danet_jax.train_step(state, random_batch(2) | change)
    for name in ("image", "label"):
        with pytest.raises(UserError, match=f"no '{name}'"):
            danet_jax.train_step(state, {k: v for k, v in random_batch(2).items() if k != name})


@pytest.mark.slow
def test_a_plain_call_is_compiled_once_and_keeps_its_state(state, light_compilation):
    step._compiled.cache_clear()
    batch = random_batch(2)
    after, metrics = danet_jax.train_step(state, batch)
    assert int(after.step) == 1
    # The old state is still there, to go on from, and whole numbers of any type are the same.
    for dtype in (np.int16, np.int64, np.uint32):
        again, same = danet_jax.train_step(state, batch | {"label": batch["label"].astype(dtype)})
        assert jax.device_get(same) == jax.device_get(metrics)
        jax.tree.map(np.testing.assert_array_equal, again.params, after.params)
    # What is on the device is not fetched to be looked at; its loss says it.
    wrong = jax.tree.map(jnp.asarray, with_label(9))
    unmoved, bad = danet_jax.train_step(state, wrong)
    assert np.isnan(bad["loss"])
    assert np.isnan(bad["gradient_norm"])
    jax.tree.map(np.testing.assert_array_equal, unmoved.params, state.params)
    assert step._compiled()._cache_size() <= 2


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("value", "dtype"), [(9, np.uint8), (-1, np.int32), (256, np.int32)])
def test_no_loss_is_given_for_labels_that_are_no_classes(name, value, dtype):
    config = ml_collections.FrozenConfigDict(tiny_config(loss={"name": name}).loss)
    logits = {"fused": jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 4)), np.float32)}
    label = np.arange(64, dtype=dtype).reshape(1, 8, 8) % 4
    label[0, 0, 0] = 255

    def loss(logits, label):
        total, parts = segmentation_losses(logits, label, config, align_corners=True)
        return total, parts["loss_fused"]

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, part), gradient = compute(logits, label)
    assert np.isfinite(total)
    assert total == part
    assert np.isfinite(gradient["fused"]).all()
    label[0, 7, 7] = value
    (total, part), gradient = compute(logits, label)
    assert np.isnan(total)
    assert np.isnan(part)
    assert np.isnan(gradient["fused"]).any()


# A config is Python: with this one the stream has a label that no class has, as a data set may that
# was not prepared by this project.
WRONG_LABEL = """
from danet_jax.configs.camvid import get_config
from danet_jax.input_pipeline.pipeline import TrainingStream

def with_wrong_label(self, plain=TrainingStream.__next__):
    batch = plain(self)
    label = batch["label"].copy()
    label[0, 0, 0] = 77
    return batch | {"label": label}

TrainingStream.__next__ = with_wrong_label
"""


@pytest.mark.end_to_end
def test_the_loop_names_a_label_that_is_no_class(workplace, tmp_path):
    config = tmp_path / "wrong_label.py"
    config.write_text(WRONG_LABEL)
    arguments = [f"--config={config}:runlocal", *workplace.config()[1:]]
    message = check_message(workplace.run("train", f"--workdir={tmp_path / 'run'}", *arguments))
    assert (
        "The batch of step 0 contains the label 77, but there are only 11 classes (0 to 10"
        in message
    )
    assert "prepare the data set again" in message
    assert "learning_rate" not in message
