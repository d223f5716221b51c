import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders import scene_drawing, synthetic_scenes
from danet_jax.input_pipeline.builders.synthetic_scenes import COLORS, NAMES, draw_scene, scene_rng

SIGNALS = (scene_drawing.SIGNAL_RED, scene_drawing.SIGNAL_GREEN)
VEHICLES = (scene_drawing.VEHICLE_STOPPED, scene_drawing.VEHICLE_MOVING)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(scene_rng("train", index)) for index in range(100)]


def test_names_stand_at_the_indices_that_are_painted():
    painted = {name: getattr(scene_drawing, name.upper()) for name in NAMES}
    assert painted == {name: index for index, name in enumerate(NAMES)}
    assert len(set(COLORS)) == len(NAMES) == 9


def test_same_seed_same_scene_other_seed_other_scene():
    (image, label), (again, label_again) = (draw_scene(scene_rng("val", 3)) for _ in range(2))
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)
    other = [draw_scene(scene_rng(*which))[0] for which in (("val", 4), ("train", 3))]
    assert all((image != scene).mean() > 0.5 for scene in other)


def test_size_is_a_parameter_and_the_labels_stay_ids():
    image, label = draw_scene(scene_rng("train", 0), height=64, width=160)
    assert image.shape == (64, 160, 3)
    assert image.dtype == label.dtype == np.uint8
    assert label.shape == (64, 160)
    with pytest.raises(ValueError, match="not 100x100"):
        draw_scene(scene_rng("train", 0), height=100, width=100)


@pytest.mark.slow
def test_every_class_has_a_share(scenes):
    shares = [np.bincount(label.ravel(), minlength=9) / label.size for _, label in scenes[:50]]
    assert {len(share) for share in shares} == {9}  # no id above 8
    low = [0.10, 0.20, 0.10, 0.03, 0.03, 0.02, 0.02, 0.03, 0.03]
    high = [0.25, 0.45, 0.30, 0.15, 0.12, 0.09, 0.09, 0.12, 0.12]
    mean = np.mean(shares, axis=0)
    assert (low < mean).all(), mean
    assert (mean < high).all(), mean


def test_signal_is_whole_and_far_from_every_vehicle(scenes):
    for _, label in scenes:
        rows, columns = np.nonzero(np.isin(label, SIGNALS))
        assert np.ptp(columns) + 1 >= 20
        assert np.ptp(rows) + 1 >= 45
        center = (columns.min() + columns.max()) / 2
        distance = np.abs(np.nonzero(np.isin(label, VEHICLES))[1] - center)
        assert distance.min() >= 0.49 * label.shape[1]


def test_one_lamp_and_one_vehicle_class_in_a_scene(scenes):
    stopped = 0
    for image, label in scenes:
        present = [vehicle in label for vehicle in VEHICLES]
        assert sum(present) == 1
        red, green, _ = image[np.isin(label, SIGNALS)].astype(int).T
        assert ((red - green).max() > (green - red).max()) == present[0]
        assert [signal in label for signal in SIGNALS] == present
        stopped += present[0]
    assert 30 <= stopped <= 70


@pytest.mark.parametrize("index", range(10))
def test_the_lamp_alone_tells_stopped_from_moving(index):
    red_image, red_label = draw_scene(scene_rng("train", index), red=True)
    green_image, green_label = draw_scene(scene_rng("train", index), red=False)

    signal = red_label == scene_drawing.SIGNAL_RED
    changed = (red_image != green_image).any(axis=-1)
    assert changed[signal].mean() > 0.3
    assert not changed[~signal].any()

    swapped = red_label.copy()
    swapped[signal] = scene_drawing.SIGNAL_GREEN
    swapped[red_label == scene_drawing.VEHICLE_STOPPED] = scene_drawing.VEHICLE_MOVING
    np.testing.assert_array_equal(green_label, swapped)


def test_the_drawn_lamp_is_one_of_the_two():
    label = draw_scene(scene_rng("train", 5))[1]
    forced = [draw_scene(scene_rng("train", 5), red=red)[1] for red in (True, False)]
    assert sum(np.array_equal(label, other) for other in forced) == 1


def test_builder_writes_and_reads_back_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_scenes, "NUM_SCENES", {"train": 3, "val": 2})
    monkeypatch.chdir(tmp_path)
    builder = synthetic_scenes.SyntheticScenes(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    skip = tfds.decode.SkipDecoding()
    for split, count in (("train", 3), ("val", 2)):
        source = builder.as_data_source(split, decoders={"image": skip, "label": skip})
        examples = {bytes(e["id"]).decode(): e for e in (source[i] for i in range(len(source)))}
        assert set(examples) == {f"{split}_{index:05d}" for index in range(count)}
        for name, example in examples.items():
            image, label = draw_scene(scene_rng(split, int(name[-5:])))
            np.testing.assert_array_equal(_decode(example["image"])[..., ::-1], image)
            np.testing.assert_array_equal(_decode(example["label"]), label)
    assert "tensorflow" not in sys.modules


def _decode(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
