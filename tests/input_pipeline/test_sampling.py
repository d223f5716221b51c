import itertools

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline import sampling
from danet_jax.input_pipeline.sampling import RareClassSampler
from danet_jax.input_pipeline.storage import datasets, preparation
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.test_pipeline import UNCHANGED, config, shown

# Of each image's 768 pixels those that are not class 0: class → pixels; 11 is void.
OTHERS = [{}, {3: 300}, {3: 84, 11: 100}, {7: 10}, {3: 100, 7: 6}, {11: 768}]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rare")
    sizes = {"train": [(24, 32)] * len(OTHERS), "val": [(24, 32)]}
    source = write_camvid(folder / "CamVid", sizes)
    for index, others in enumerate(OTHERS):
        label = np.zeros(768, np.uint8)
        start = 0
        for id, pixels in others.items():
            label[start : start + pixels] = id
            start += pixels
        file = source / "trainannot" / f"train_{index:02d}.png"
        Image.fromarray(label.reshape(24, 32)).save(file)
    preparation.prepare("camvid", data_dir=folder / "data", source=source)
    return datasets.open_split("camvid", "train", data_dir=folder / "data")


def expected_counts():
    counts = np.zeros((len(OTHERS), 12), np.uint32)
    for row, others in zip(counts, OTHERS, strict=True):
        row[list(others)] = list(others.values())
        row[0] = 768 - sum(others.values())
    return counts[:, :11]


def test_pixels_are_counted_once_and_kept(split):
    counts = sampling.count_class_pixels(split)
    assert counts.dtype == np.uint32
    np.testing.assert_array_equal(counts, expected_counts())
    file = split.folder / "class_pixels.npz"
    written = file.stat().st_mtime_ns
    np.testing.assert_array_equal(sampling.count_class_pixels(split), counts)
    assert file.stat().st_mtime_ns == written
    part = datasets.open_split("camvid", "train[2:5]", data_dir=split._data_dir)
    np.testing.assert_array_equal(sampling.count_class_pixels(part), counts[2:5])
    assert file.stat().st_mtime_ns != written
    with np.load(file) as arrays:
        names = [f"{what} train{part}" for what in ("identity", "split") for part in ("", "[2:5]")]
        assert sorted(arrays) == ["checksum", *names]


@pytest.mark.parametrize("content", [b"", b"PK torn", np.zeros(9).tobytes(), b"my own notes"])
def test_another_programs_file_is_neither_read_nor_replaced(split, content):
    file = split.folder / "class_pixels.npz"
    file.write_bytes(content)
    np.testing.assert_array_equal(sampling.count_class_pixels(split), expected_counts())
    assert file.read_bytes() == content
    file.unlink()
    np.savez(file, mine=np.arange(3))
    content = file.read_bytes()
    np.testing.assert_array_equal(sampling.count_class_pixels(split), expected_counts())
    assert file.read_bytes() == content
    file.unlink()


def edited(counts):
    counts = counts.copy()
    counts[0, 0] += 1
    return counts


@pytest.mark.parametrize(
    "edit", [edited, lambda counts: counts.astype(float) * np.nan, lambda counts: counts[:2]]
)
def test_counts_that_were_edited_are_made_anew(split, edit):
    file = split.folder / "class_pixels.npz"
    counts = sampling.count_class_pixels(split)
    with np.load(file) as arrays:
        changed = dict(arrays)
    changed["split train"] = edit(counts)
    np.savez(file, **changed)
    np.testing.assert_array_equal(sampling.count_class_pixels(split), expected_counts())
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["split train"], expected_counts())


def test_counts_of_other_labels_are_made_anew(split, monkeypatch):
    sampling.count_class_pixels(split)
    monkeypatch.setitem(split.identity, "labels", [1])
    asked = []
    monkeypatch.setattr(sampling, "_count", lambda split: asked.append(1) or expected_counts())
    sampling.count_class_pixels(split)
    assert asked == [1]


def test_no_damaged_byte_of_the_counts_stops_a_training(split):
    file = split.folder / "class_pixels.npz"
    sampling.count_class_pixels(split)
    whole = file.read_bytes()
    for position in range(0, len(whole), 5):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert sampling.count_class_pixels(split).shape == expected_counts().shape


def test_counts_of_the_first_release_are_made_anew(split):
    np.savez(split.folder / "class_pixels.npz", **{"split train": np.ones((2, 11), np.uint32)})
    np.testing.assert_array_equal(sampling.count_class_pixels(split), expected_counts())


def test_labels_that_cannot_be_counted_are_named(split):
    records = [split._records[index] for index in range(len(split))]
    records[4] = {**records[4], "label": b"torn"}
    broken = datasets.Split(
        "camvid",
        "train[:50%]",
        data_dir=split._data_dir,
        labels=split.labels,
        records=records,
        folder=split.folder,
    )
    with pytest.raises(DataError, match="example 'train_04': does not decode"):
        sampling.count_class_pixels(broken)


def test_classes_are_drawn_by_their_share_of_labelled_pixels():
    # Shares .9, .1 and 0: exp(-.9 / .5), exp(-.1 / .5) over their sum.
    counts = np.array([[50, 0, 10], [40, 0, 0]], np.uint32)
    sampler = RareClassSampler(counts, temperature=0.5)
    assert sampler.classes.tolist() == [0, 2]
    np.testing.assert_allclose(sampler.probabilities, [0.16798161486, 0.83201838514], rtol=1e-9)
    np.testing.assert_allclose(
        RareClassSampler(counts, temperature=1e6).probabilities, [0.5, 0.5], atol=1e-6
    )
    # exp(80) to exp(800): as float64 such a quotient would be inf / inf.
    extreme = RareClassSampler(counts, temperature=0.001)
    assert extreme.probabilities.tolist() == [0.0, 1.0]
    rng = np.random.default_rng(0)
    assert {extreme.draw(rng) for _ in range(50)} == {0}


def probabilities(counts, temperature):
    """Of each image, by the definition, class by class."""
    totals = counts.sum(axis=0) / counts.sum()
    weights = {c: np.exp((1 - f) / temperature) for c, f in enumerate(totals) if f > 0}
    found = np.zeros(len(counts))
    for c, weight in weights.items():
        holders = np.flatnonzero(counts[:, c])
        found[holders] += weight / sum(weights.values()) / len(holders)
    return found


def chi_square(indices, expected):
    counts = np.bincount(indices, minlength=len(expected))
    assert not counts[expected == 0].any()
    wanted = len(indices) * expected[expected > 0]
    return ((counts[expected > 0] - wanted) ** 2 / wanted).sum()


# Of 5 degrees of freedom, a value above this has the probability 1e-4.
LIMIT = 25.7


@pytest.mark.parametrize("temperature", [0.02, 0.3, 10.0])
def test_images_are_drawn_as_defined(temperature):
    counts = np.random.default_rng(0).integers(0, 1000, (7, 4)).astype(np.uint32)
    counts[2:, 1] = 0
    counts[:, 3] = [0, 0, 1, 0, 0, 0, 0]
    counts[6] = 0
    sampler = RareClassSampler(counts, temperature=temperature)
    rng = np.random.default_rng(1)
    drawn = [sampler.draw(rng) for _ in range(20000)]
    assert chi_square(drawn, probabilities(counts, temperature)) < LIMIT


def test_a_stream_shows_images_as_defined(split):
    rare = config(**UNCHANGED, rare_class_sampling=0.5, num_threads=4)
    stream = input_pipeline.TrainingStream(split, rare, batch_size=40, seed=0)
    order = np.array(shown(itertools.islice(stream, 25)))
    stream.close()
    expected = probabilities(expected_counts().astype(np.int64), 0.5)
    # Class 7 is rare, and in images 3 and 4 alone; image 5 is void.
    assert expected[3:5].min() > 0.2 > expected[:3].max()
    assert chi_square(order, expected) < LIMIT
    # Neighbours in the sequence are independent of each other, and so are epochs.
    same = np.mean(order[1:] == order[:-1]), np.mean(order[6:] == order[:-6])
    # Four standard deviations of 1000 draws.
    np.testing.assert_allclose(same, (expected**2).sum(), atol=0.06)


def test_values_that_sample_nothing_are_named(split):
    def start(temperature, chosen=split):
        data_config = config(rare_class_sampling=temperature)
        input_pipeline.TrainingStream(chosen, data_config, batch_size=2, seed=0).close()

    for temperature in (-0.1, float("nan")):
        with pytest.raises(DataError, match=r"data\.rare_class_sampling is (-0\.1|nan); give 0"):
            start(temperature)
    void = datasets.open_split("camvid", "train[5:]", data_dir=split._data_dir)
    with pytest.raises(DataError, match=r"rare_class_sampling: no image has a labelled pixel"):
        start(0.01, void)
