"""A run goes on only on the examples that it was trained on, however they are stored."""

import copy

import numpy as np
import pytest

from danet_jax import input_pipeline
from danet_jax.configs import common
from danet_jax.input_pipeline.storage import fingerprints


def example(seed, **changes):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return {"id": f"street_{seed}", "image": image, "label": image[..., 0] % 4} | changes


EXAMPLES = [example(seed) for seed in range(9)]


def changed(index, **fields):
    examples = list(EXAMPLES)
    examples[index] = {**examples[index], **fields}
    return examples


def test_the_same_examples_agree():
    one = fingerprints.of(EXAMPLES)
    assert len(one) == 4
    assert fingerprints.agree(one, fingerprints.of(copy.deepcopy(EXAMPLES)))
    # Libraries decode a JPEG a little differently.
    noisy = [{**e, "image": np.clip(e["image"].astype(int) + 1, 0, 255)} for e in EXAMPLES]
    assert fingerprints.agree(one, fingerprints.of(noisy))


@pytest.mark.parametrize(
    "others",
    [
        changed(0, id="another"),
        changed(8, label=1 - EXAMPLES[8]["label"] % 2),
        changed(8, image=255 - EXAMPLES[8]["image"] // 2),
        EXAMPLES[::-1],
        EXAMPLES[1:],
        EXAMPLES[:2],
    ],
    ids=["id", "label", "image", "order", "one less", "few"],
)
def test_other_examples_differ(others):
    assert not fingerprints.agree(fingerprints.of(EXAMPLES), fingerprints.of(others))


def test_a_stream_stands_where_its_state_says(prepared):
    split = input_pipeline.open_split("camvid", "train", data_dir=prepared)
    data = common.get_config().data

    def stream(**options):
        return input_pipeline.TrainingStream(split, data, batch_size=2, seed=0, **options)

    state = stream(next_batch=3).get_state()
    assert stream(next_batch=3).is_at(state)
    assert not stream(next_batch=4).is_at(state)
    assert not stream(next_batch=3).is_at(state | {"num_examples": 5})
    other = [[0.0] * 5] * 4
    assert not stream(next_batch=3).is_at(state | {"fingerprint": other})
    assert not stream(next_batch=3).is_at(state | {"labels": [0] * len(state["labels"])})
    # The survey of the preparation has counted the pixels of all examples.
    assert not stream(next_batch=3).is_at(state | {"class_pixels": 1})
    assert stream(next_batch=3).is_at(state | {"class_pixels": None})
    # The first release noted none.
    del state["fingerprint"], state["labels"], state["class_pixels"]
    assert stream(next_batch=3).is_at(state)
