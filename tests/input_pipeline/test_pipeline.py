import itertools
import multiprocessing
import shutil
import types

import numpy as np
import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.storage import datasets
from tests.input_pipeline.conftest import SIZES


def config(**changes):
    fields = {
        "crop_size": (16, 20),
        "base_size": 24,
        "scale_range": (0.75, 2.0),
        "horizontal_flip": True,
        "vertical_flip": False,
        "rotate_90": True,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.1,
        "photometric_distortion": False,
        "cat_max_ratio": 1.0,
        "rare_class_sampling": 0.0,
        "num_workers": 0,
        "num_threads": 2,
    }
    return types.SimpleNamespace(**{**fields, **changes})


# What other codebases do and the original does not; the labels are noise, in which the most
# frequent class of a crop has an eighth of it.
OPTIONS = {"photometric_distortion": True, "cat_max_ratio": 0.12, "rare_class_sampling": 0.01}

# An image as it is stored: its red channel then tells which one it is.
UNCHANGED = {
    "crop_size": (24, 32),
    "scale_range": (1.0, 1.0),
    "horizontal_flip": False,
    "rotate_90": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}


@pytest.fixture(scope="module")
def train(prepared):
    return datasets.open_split("camvid", "train", data_dir=prepared)


@pytest.fixture(scope="module")
def val(prepared):
    return datasets.open_split("camvid", "val", data_dir=prepared)


def take(split, count, data_config, **options):
    stream = input_pipeline.TrainingStream(
        split, data_config, **{"batch_size": 4, "seed": 3, **options}
    )
    batches = list(itertools.islice(stream, count))
    state = stream.get_state()
    stream.close()
    assert state == {
        "next_batch": options.get("next_batch", 0) + count,
        **split.identity,
    }
    return batches


def assert_same(got, want):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.keys() == other.keys() == {"image", "label"}
        for key in one:
            assert one[key].dtype == np.uint8
            np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(scope="module", params=[{}, OPTIONS], ids=["original", "options"])
def options(request):
    return request.param


@pytest.fixture(scope="module")
def reference(train, options):
    """Six batches of four: more than three epochs of seven examples."""
    return take(train, 6, config(**options))


def test_each_option_makes_another_stream(train):
    plain = take(train, 1, config())[0]["image"]
    for name, value in OPTIONS.items():
        assert (take(train, 1, config(**{name: value}))[0]["image"] != plain).any(), name


def test_batches_have_the_crops_size(reference):
    for batch in reference:
        assert batch["image"].shape == (4, 16, 20, 3)
        assert batch["label"].shape == (4, 16, 20)
        assert np.isin(batch["label"], [*range(11), 255]).all()


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_threads_do_not_change_the_stream(train, options, reference, threads):
    assert_same(take(train, 6, config(**options, num_threads=threads)), reference)


@pytest.mark.parametrize(("workers", "done"), [(1, 0), (2, 1)])
def test_workers_do_not_change_the_stream(train, options, reference, workers, done):
    data_config = config(**options, num_workers=workers)
    stream = take(train, 6 - done, data_config, next_batch=done)
    assert_same(stream, reference[done:])


def test_a_resumed_stream_equals_the_uninterrupted_one(train, options, reference):
    for done in (1, 4):
        stream = take(train, 6 - done, config(**options), next_batch=done)
        assert_same(stream, reference[done:])


def test_another_seed_is_another_stream(train, options, reference):
    other = take(train, 6, config(**options), seed=4)
    assert not any((a["image"] == b["image"]).all() for a, b in zip(other, reference, strict=True))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_same_batches(train, options, reference, processes):
    parts = [
        take(train, 6, config(**options), process_index=index, process_count=processes)
        for index in range(processes)
    ]
    for step, whole in enumerate(reference):
        for key in whole:
            # Row r of the whole batch is with process r % processes.
            rows = np.stack([part[step][key] for part in parts], axis=1)
            np.testing.assert_array_equal(rows.reshape(whole[key].shape), whole[key])


def shown(batches):
    return [int(image[0, 0, 0]) for batch in batches for image in batch["image"]]


def test_each_epoch_shows_each_example_once_in_another_order(train):
    order = shown(take(train, 21, config(**UNCHANGED)))  # 84 = 12 epochs of 7
    epochs = [tuple(order[start : start + 7]) for start in range(0, 84, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) > 9


def test_processes_see_disjoint_parts_of_an_epoch(train):
    parts = [
        shown(
            take(
                train,
                1,
                config(**UNCHANGED),
                batch_size=14,
                process_index=index,
                process_count=2,
            )
        )
        for index in range(2)
    ]
    # Of the first epoch's 7 places the one has 4, the other 3.
    first, second = set(parts[0][:4]), set(parts[1][:3])
    assert (len(first), len(second)) == (4, 3)
    assert first | second == set(range(7))


def test_examples_come_unchanged_where_nothing_is_switched_on(train):
    for batch in take(train, 2, config(**UNCHANGED)):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            example = train[int(image[0, 0, 0])]
            np.testing.assert_array_equal(image, example["image"])
            np.testing.assert_array_equal(label, example["label"])


def test_an_example_is_augmented_anew_in_each_epoch(train):
    unchanged = {**UNCHANGED, "crop_size": (8, 8)}
    crops = {}
    for batch in take(train, 14, config(**unchanged)):
        for image in batch["image"]:
            crops.setdefault(int(image[0, 0, 0]), set()).add(image.tobytes())
    # Eight epochs, 17 * 25 places for the crop.
    assert all(len(seen) >= 6 for seen in crops.values())


def test_a_split_of_one_example_and_a_batch_beyond_the_split(train):
    one = datasets.Split(
        "camvid",
        "train",
        data_dir=train._data_dir,
        labels=train.labels,
        records=[train._records[2]],
        folder=train.folder,
    )
    assert shown(take(one, 3, config(**UNCHANGED))) == [2] * 12
    assert sorted(shown(take(train, 1, config(**UNCHANGED), batch_size=14))) == sorted(
        [*range(7)] * 2
    )


def test_far_positions_are_reached_at_once(train):
    far = 10**12
    (batch,) = take(train, 1, config(), next_batch=far)
    (again,) = take(train, 1, config(num_threads=1), next_batch=far)
    assert_same([batch], [again])


def test_the_streams_config_is_an_experiments_data_section(train):
    from danet_jax.configs import common

    data_config = common.get_config().data
    data_config.crop_size = (16, 16)
    data_config.base_size = 20
    assert take(train, 1, data_config)[0]["image"].shape == (4, 16, 16, 3)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"process_count": 3}, "train.batch_size 4 does not divide among 3 processes"),
        ({}, {"batch_size": 0}, "train.batch_size 0"),
        ({}, {"process_index": 2, "process_count": 2}, "process 2 of 2"),
        ({}, {"seed": -1}, "seed is -1"),
        ({}, {"next_batch": -1}, "next_batch is -1"),
        ({"num_workers": -1}, {}, "data.num_workers -1"),
        ({"crop_size": (0, 4)}, {}, "data.crop_size"),
        ({"crop_size": (100_000, 100_000)}, {}, "data.crop_size .* GB of memory.*data.num_threads"),
        ({"cat_max_ratio": 0.0}, {}, "data.cat_max_ratio"),
        ({"rare_class_sampling": -1.0}, {}, "data.rare_class_sampling is -1"),
    ],
)
def test_values_that_make_no_stream_are_named(train, changes, options, message):
    with pytest.raises(DataError, match=message):
        take(train, 1, config(**changes), **options)


def broken(split):
    records = [split._records[index] for index in range(len(split))]
    records[2] = {**records[2], "label": b"torn"}
    return datasets.Split(
        "camvid",
        "train",
        data_dir=split._data_dir,
        labels=split.labels,
        records=records,
        folder=split.folder,
    )


def test_an_unusable_example_stops_stream_and_evaluation(train):
    with pytest.raises(DataError, match="example 'train_02': does not decode"):
        take(broken(train), 2, config())
    with pytest.raises(DataError, match="example 'train_02': does not decode"):
        list(input_pipeline.evaluation_batches(broken(train), batch_size=2))


def test_an_error_in_a_worker_arrives_as_it_is(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    next((tmp_path / "data").rglob("*train*")).write_bytes(b"")
    damaged = datasets.open_split("camvid", "train", data_dir=tmp_path / "data")
    stream = input_pipeline.TrainingStream(damaged, config(num_workers=1), batch_size=2, seed=0)
    with pytest.raises(DataError, match="'camvid', split 'train' is damaged"):
        next(stream)
    # The stream has closed itself: no worker is left waiting.
    assert list(stream) == []
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 20])
@pytest.mark.parametrize("processes", [1, 3])
def test_evaluation_shows_each_example_once(val, batch_size, processes):
    seen = []
    for process in range(processes):
        mine = []
        for batch in input_pipeline.evaluation_batches(
            val, batch_size=batch_size, process_index=process, process_count=processes
        ):
            assert batch["image"].shape[0] == batch["label"].shape[0] == batch_size
            assert batch["index"].dtype == np.int64
            for image, label, index in zip(
                *(batch[k] for k in ("image", "label", "index")), strict=True
            ):
                if index < 0:
                    assert index == -1
                    assert not image.any()
                    assert (label == 255).all()
                    continue
                np.testing.assert_array_equal(image, val[index]["image"])
                np.testing.assert_array_equal(label, val[index]["label"])
                mine.append(int(index))
        assert sorted(mine) == list(range(process, len(val), processes))
        seen += mine
    assert sorted(seen) == list(range(len(val)))


def test_evaluation_hands_a_size_out_when_it_is_full(val):
    batches = list(input_pipeline.evaluation_batches(val, batch_size=2))
    # Sizes are A B A A B C A A.
    assert [batch["index"].tolist() for batch in batches] == [
        [0, 2],
        [1, 4],
        [3, 6],
        [5, -1],
        [7, -1],
    ]
    shapes = [batch["label"].shape[1:] for batch in batches]
    assert shapes == [SIZES["val"][index] for index in (0, 1, 3, 5, 7)]


def test_evaluation_by_more_processes_than_examples(val):
    assert (
        list(
            input_pipeline.evaluation_batches(val, batch_size=1, process_index=9, process_count=10)
        )
        == []
    )


def test_evaluation_can_be_left_early(val):
    batches = input_pipeline.evaluation_batches(val, batch_size=1)
    assert next(batches)["index"].tolist() == [0]
    batches.close()


def test_evaluation_values_are_checked_at_the_call(val):
    with pytest.raises(DataError, match=r"eval\.batch_size is 0"):
        input_pipeline.evaluation_batches(val, batch_size=0)
    with pytest.raises(DataError, match="process 1 of 1"):
        input_pipeline.evaluation_batches(val, batch_size=1, process_index=1)
