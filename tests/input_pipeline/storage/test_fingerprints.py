"""A run goes on only on the examples that it was trained on, however they are stored."""

import copy
import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

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


def street(seed):
    """A picture as cameras take them: bright above, a dark shape on one side, some texture."""
    rng = np.random.default_rng(seed)
    image = np.linspace(220, 60, 96)[:, None, None] + np.zeros((96, 128, 3))
    image[40:80, 16:48] = 30
    image += np.array([10, 0, -10]) + rng.normal(0, 8, (96, 128, 1))
    return {"id": f"{seed}", "image": image.clip(0, 255).astype(np.uint8), "label": np.ones((2, 2))}


def as_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


STREETS = [street(seed) for seed in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        np.fliplr,
        np.flipud,
        lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3))),
        lambda image: np.asarray(Image.fromarray(image).resize((32, 24)).resize((128, 96))),
        lambda image: image[..., ::-1],
    ],
    ids=["mirrored", "upside down", "blurred", "enlarged", "other order of colours"],
)
def test_changed_pictures_of_the_same_colours_differ(change):
    changed = [one | {"image": change(one["image"])} for one in STREETS]
    assert not fingerprints.agree(fingerprints.of(STREETS), fingerprints.of(changed))


def test_pictures_decoded_otherwise_and_older_notes_agree():
    now = fingerprints.of(STREETS)
    decoded = [one | {"image": as_jpeg(one["image"], 97)} for one in STREETS]
    assert fingerprints.agree(now, fingerprints.of(decoded))
    # Earlier versions noted the mean of each colour and no more.
    former = [numbers[:5] for numbers in now]
    assert fingerprints.agree(former, now)
    assert fingerprints.agree(now, former)
    former[2][3] += 20
    assert not fingerprints.agree(former, now)


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
