"""What preparation keeps when it is interrupted, how images are stored, what is counted."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import shards
from danet_jax.input_pipeline.images import codec
from tests.input_pipeline.cityscapes import write_cityscapes
from tests.input_pipeline.conftest import SIZES


def read_all(data_dir, split="train"):
    opened = input_pipeline.open_split("camvid", split, data_dir=data_dir)
    return [opened[index] for index in range(len(opened))]


def assert_same_examples(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a["id"] == b["id"]
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SIZE", 1)


@pytest.fixture
def encoded(monkeypatch):
    """Counts the labels that are encoded; raises `error` at number `stop_at`."""
    encode = codec.encode_label

    class Encoded:
        count = 0
        stop_at = 0
        error: BaseException = KeyboardInterrupt()

        def __call__(self, label):
            self.count += 1
            if self.count == self.stop_at:
                raise self.error
            return encode(label)

    counter = Encoded()
    monkeypatch.setattr(codec, "encode_label", counter)
    return counter


def prepare(source, data_dir, **options):
    return input_pipeline.prepare("camvid", data_dir=data_dir, source=source, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_preparation_goes_on(source, tmp_path, small_shards, encoded, error):
    encoded.stop_at, encoded.error = 5, error
    with pytest.raises((KeyboardInterrupt, DataError)):
        prepare(source, tmp_path / "data")
    with pytest.raises(DataError, match="is not prepared"):
        read_all(tmp_path / "data")

    encoded.stop_at, encoded.count = 0, 0
    assert prepare(source, tmp_path / "data") == {"train": 7, "val": 8}
    assert encoded.count == 15 - 4
    assert [path.name for path in (tmp_path / "data" / "camvid").iterdir()] == ["1.0.0"]
    prepare(source, tmp_path / "straight")
    assert_same_examples(read_all(tmp_path / "data"), read_all(tmp_path / "straight"))
    kept, straight = (
        input_pipeline.survey_of("camvid", data_dir=tmp_path / name)
        for name in ("data", "straight")
    )
    for split in ("train", "val"):
        ours, theirs = kept.splits[split], straight.splits[split]
        assert (ours.examples, ours.ignored_pixels, ours.sizes) == (
            (theirs.examples, theirs.ignored_pixels, theirs.sizes)
        )
        np.testing.assert_array_equal(ours.class_pixels, theirs.class_pixels)


def test_what_changed_meanwhile_is_read_again(source, tmp_path, small_shards, encoded):
    encoded.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "data")
    file = source / "trainannot" / "train_01.png"
    Image.new("L", (32, 24), 3).save(file)
    os.utime(file, ns=(0, 0))
    encoded.stop_at, encoded.count = 0, 0
    prepare(source, tmp_path / "data")
    assert encoded.count == 15 - 3
    assert (read_all(tmp_path / "data")[1]["label"] == 3).all()


def test_another_storage_is_not_mixed_with_what_was_kept(source, tmp_path, small_shards, encoded):
    encoded.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "data")
    prepare(source, tmp_path / "data", storage="fast")
    split = input_pipeline.open_split("camvid", "train", data_dir=tmp_path / "data")
    for index in range(len(split)):
        assert split._read(index)["image"].startswith(b"P6 32 24 255\n")


def test_good_files_are_kept_while_a_bad_one_is_corrected(source, tmp_path, small_shards, encoded):
    file = source / "valannot" / "val_03.png"
    good = file.read_bytes()
    file.write_bytes(good[:-30])
    with pytest.raises(DataError, match=r"camvid: 1 problem in [\s\S]*val_03.png: does not decode"):
        prepare(source, tmp_path / "data")
    file.write_bytes(good)
    encoded.count = 0
    assert prepare(source, tmp_path / "data") == {"train": 7, "val": 8}
    assert encoded.count == 1


def test_fast_storage_holds_the_same_pixels(source, tmp_path):
    prepare(source, tmp_path / "original")
    prepare(source, tmp_path / "fast", storage="fast")
    for split in ("train", "val"):
        ours, theirs = (read_all(tmp_path / name, split) for name in ("fast", "original"))
        assert_same_examples(ours, theirs)
    split = input_pipeline.open_split("camvid", "train", data_dir=tmp_path / "fast")
    assert split._read(0)["image"].startswith(b"P6 32 24 255\n")
    assert split._read(0)["label"].startswith(b"P5 32 24 255\n")


def test_fast_storage_leaves_jpegs_as_they_are(source, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = source / "train" / "train_00.png"
    Image.fromarray(pixels).save(file, format="JPEG")
    prepare(source, tmp_path / "data", storage="fast")
    split = input_pipeline.open_split("camvid", "train", data_dir=tmp_path / "data")
    assert split._read(0)["image"] == file.read_bytes()


def test_torn_pixels_are_named():
    data = codec.encode_pixels(np.zeros((4, 6, 3), np.uint8))
    np.testing.assert_array_equal(codec.decode_image(data), np.zeros((4, 6, 3), np.uint8))
    for torn in (data[:-1], data + b"0", data[:14]):
        with pytest.raises(DataError, match="torn"):
            codec.decode_image(torn)


def test_storage_is_checked(source, tmp_path):
    with pytest.raises(DataError, match="storage 'quick': give one of original, fast"):
        prepare(source, tmp_path / "data", storage="quick")


def test_what_is_counted(prepared, source):
    survey = input_pipeline.survey_of("camvid", data_dir=prepared)
    for split in ("train", "val"):
        counted = survey.splits[split]
        examples = read_all(prepared, split)
        labels = np.concatenate([example["label"].ravel() for example in examples])
        pixels = np.bincount(labels, minlength=256)
        np.testing.assert_array_equal(counted.class_pixels, pixels[:11])
        assert counted.ignored_pixels == pixels[255]
        assert counted.examples == len(SIZES[split])
        present = sum(np.bincount(np.unique(e["label"]), minlength=256) for e in examples)
        np.testing.assert_array_equal(counted.images_with_class, present[:11])
        sizes = {f"{width}x{height}" for height, width in SIZES[split]}
        assert counted.sizes.keys() == sizes
    assert list(survey.splits["val"].sizes.items())[:2] == [("32x24", 5), ("30x20", 2)]
    assert "split train has 7 examples; the published one has 367." in survey.warnings
    assert "split val: 3 sizes of images, the most frequent 32x24 (5 of 8)" in str(survey.warnings)


def test_drawn_data_sets_are_counted_from_their_labels(tmp_path, monkeypatch):
    from danet_jax.input_pipeline.builders import synthetic_scenes

    monkeypatch.setattr(synthetic_scenes, "NUM_SCENES", {"train": 3, "val": 2})
    input_pipeline.prepare("synthetic_scenes", data_dir=tmp_path)
    survey = input_pipeline.survey_of("synthetic_scenes", data_dir=tmp_path)
    assert survey.splits["train"].examples == 3
    assert survey.splits["val"].sizes == {"208x72": 2}
    assert survey.splits["train"].class_pixels.sum() == 3 * 208 * 72


def test_parts_and_sums_of_splits(prepared):
    whole = [example["id"] for split in ("train", "val") for example in read_all(prepared, split)]
    assert [e["id"] for e in read_all(prepared, "train+val")] == whole
    assert [e["id"] for e in read_all(prepared, "train[:3]")] == whole[:3]
    assert [e["id"] for e in read_all(prepared, "train[5:]+val[:1]")] == [*whole[5:7], whole[7]]
    for split, says in (("train+test", "has no split 'test'"), ("train[", "train\\[")):
        with pytest.raises(DataError, match=says):
            input_pipeline.open_split("camvid", split, data_dir=prepared)


def test_splits_that_will_be_asked_for_are_missed_before_anything_is_read(source, tmp_path):
    with pytest.raises(DataError, match=r"no images of split 'test', which config\.data asks for"):
        prepare(source, tmp_path / "data", splits=("train", "val+test[:5]"))
    assert not (tmp_path / "data").exists()
    assert prepare(source, tmp_path / "data", splits=("train[:3]", "val"))["train"] == 7
    with pytest.raises(DataError, match="has no split 'test'; it has train, val"):
        prepare(source, tmp_path / "data", splits=("test",))


def test_a_file_that_is_saved_again_meanwhile_is_read_again(
    source, tmp_path, small_shards, encoded, monkeypatch
):
    encode = type(encoded).__call__

    def saved_again(label):
        result = encode(encoded, label)
        if encoded.count == 1:
            # After the first label was read, before its shard is kept.
            Image.new("L", (32, 24), 3).save(source / "trainannot" / "train_00.png")
        return result

    monkeypatch.setattr(codec, "encode_label", saved_again)
    encoded.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "data")
    encoded.stop_at = 0
    prepare(source, tmp_path / "data")
    assert (read_all(tmp_path / "data")[0]["label"] == 3).all()


def test_a_pair_that_is_listed_in_two_splits_is_told(source, tmp_path):
    shutil.copy(source / "train.txt", source / "val.txt")
    prepare(source, tmp_path / "data")
    warnings = input_pipeline.survey_of("camvid", data_dir=tmp_path / "data").warnings
    assert (
        "in both train and val: 7 pairs (train/train_00.png = train/train_00.png, "
        "train/train_01.png = train/train_01.png, train/train_02.png = train/train_02.png, …) of "
        "the same image."
    ) in str(warnings)


@pytest.mark.parametrize("file", ["metadata.json", "survey.json"])
def test_torn_notes_are_named(source, tmp_path, file):
    prepare(source, tmp_path / "data")
    (tmp_path / "data" / "camvid" / "1.0.0" / file).write_text("{")
    read = input_pipeline.labels_of if file == "metadata.json" else input_pipeline.survey_of
    with pytest.raises(
        DataError, match=f"{file} cannot be read: .*copy|{file} cannot be read: .*away"
    ):
        read("camvid", data_dir=tmp_path / "data")


def test_a_bucket_is_to_be_mounted():
    with pytest.raises(DataError, match=r"data_dir is gs://bucket/data: .* mounted"):
        input_pipeline.open_split("camvid", "train", data_dir="gs://bucket/data")


def test_names_that_are_no_text_are_told(tmp_path):
    source = write_cityscapes(tmp_path / "cityscapes")
    folder = source / "leftImg8bit" / "train" / "ulm"
    (file,) = folder.iterdir()
    os.rename(file, os.path.join(os.fsencode(folder), b"caf\xe9_leftImg8bit.png"))
    with pytest.raises(DataError) as caught:
        input_pipeline.prepare("cityscapes", data_dir=tmp_path / "data", source=source)
    assert f"b'caf\\xe9_leftImg8bit.png' in {folder}: its name is not UTF-8" in str(caught.value)


def write_grey_of_4_bits(file, *, width, height, value):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    row = b"\0" + bytes([value << 4 | value]) * (width // 2)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))


@pytest.mark.parametrize("name", ["camvid", "folder"])
def test_labels_of_few_bits_are_refused(source, tmp_path, name):
    label = source / "trainannot" / "train_00.png"
    write_grey_of_4_bits(label, width=32, height=24, value=1)
    # 1 of 15 becomes 17 of 255.
    assert set(np.asarray(Image.open(label)).ravel()) == {17}
    if name == "folder":
        for split in ("train", "val"):
            (source / "images").mkdir(exist_ok=True)
            (source / "labels").mkdir(exist_ok=True)
            (source / split).rename(source / "images" / split)
            (source / f"{split}annot").rename(source / "labels" / split)
        (source / "classes.txt").write_text("\n".join(f"class {id}" for id in range(20)))
    with pytest.raises(DataError, match=r"train_00\.png: grey of 2 or 4 bits"):
        input_pipeline.prepare(name, data_dir=tmp_path / "data", source=source)
