import numpy as np
import pytest
import scipy.io

from danet_jax import input_pipeline
from tests.input_pipeline.coco_stuff import (
    IDS,
    INTERPOLATED,
    NAMES_10K,
    REPEAT,
    filled,
    prepare,
    refusal,
    resized,
    save_mat,
    write_coco_stuff_10k,
)

MAT = "annotations/COCO_train2014_000000000077.mat"


@pytest.fixture
def source(tmp_path):
    return write_coco_stuff_10k(tmp_path / "cocostuff-10k-v1.1")


TRAIN_IDS = np.array([IDS.index(id) if id in IDS else 255 for id in range(256)])


def expected(source, name):
    return TRAIN_IDS[scipy.io.loadmat(source / "annotations" / f"{name}.mat")["S"].astype(int)]


def test_records(source, tmp_path):
    assert prepare("coco_stuff_10k", source, tmp_path) == {"train": 3, "val": 2}
    # The published test list is what everyone validates on.
    for split, listing in (("train", "train"), ("val", "test")):
        examples = input_pipeline.open_split("coco_stuff_10k", split, data_dir=tmp_path / "data")
        for index, name in enumerate(NAMES_10K[listing]):
            file = source / "images" / f"{name}.jpg"
            assert examples._records[index]["image"] == file.read_bytes()
            example = examples[index]
            assert example["id"] == name
            np.testing.assert_array_equal(example["label"], expected(source, name))
            if index:
                assert set(np.unique(example["label"])) == {*range(171), 255}


def test_labels_in_matlabs_own_numbers(source, tmp_path):
    file = source / MAT
    label = scipy.io.loadmat(file)["S"]
    save_mat(file, label.astype(np.float64), names=182)
    assert scipy.io.loadmat(file)["S"].dtype == np.float64
    prepare("coco_stuff_10k", source, tmp_path)
    example = input_pipeline.open_split("coco_stuff_10k", "train", data_dir=tmp_path / "data")[0]
    np.testing.assert_array_equal(example["label"], expected(source, file.stem))


def make_version_1_0(source, *, names):
    """1 is unlabelled, 2 to 81 are things and 82 to 172 stuff, without gaps."""
    for file in (source / "annotations").iterdir():
        label = scipy.io.loadmat(file)["S"].astype(int)
        ordered = np.searchsorted((0, *IDS), label) + 1
        save_mat(file, ordered.astype(np.uint8), names=names)


VERSION_1_0 = (
    "version 1.0 numbers the classes differently (1 unlabelled, 2 to 81 things, 82 to 172 stuff)"
)


def test_version_1_0_is_refused(source, tmp_path):
    make_version_1_0(source, names=172)
    lines = refusal("coco_stuff_10k", source, tmp_path)
    assert lines == [
        f"coco_stuff_10k: 5 problems in {source}; it is not prepared.",
        *(
            f"  annotations/{name}.mat: {VERSION_1_0}; give the annotations of "
            "cocostuff-10k-v1.1.zip"
            for names in NAMES_10K.values()
            for name in names
        ),
        REPEAT,
    ]


def test_version_1_0_without_names_is_refused(source, tmp_path):
    make_version_1_0(source, names=0)
    every = [*NAMES_10K["train"][1:], NAMES_10K["test"][1]]
    files = [f"annotations/{name}.mat" for name in every]
    lines = refusal("coco_stuff_10k", source, tmp_path)
    assert lines[2] == f"  {files[0]}: label ids 12, 26, 29, 30, 45; known are {KNOWN}"
    assert lines[-2] == (
        f"Ids 12, 26, 29, 30, 45 and 6 more belong to no class, and are not ignored (3 labels "
        f"({', '.join(files)})): give the annotations of cocostuff-10k-v1.1.zip as they are; "
        f"{VERSION_1_0}."
    )


def rewrite(source, change, **options):
    file = source / MAT
    save_mat(file, change(scipy.io.loadmat(file)["S"]), **{"names": 182, **options})


def damage_never_used(source):
    rewrite(source, lambda label: filled(label, 83))


def damage_converted(source):
    rewrite(source, lambda label: filled(label % 171, 255))


def damage_size(source):
    rewrite(source, lambda label: label[:, :-1])


def damage_missing(source):
    (source / MAT).unlink()


def damage_colors(source):
    rewrite(source, lambda label: np.stack([label] * 3, -1)[:8])


def damage_empty(source):
    rewrite(source, lambda label: label[:0])


def damage_fractions(source):
    rewrite(source, lambda label: label + 0.5)


def damage_not_a_number(source):
    rewrite(source, lambda label: filled(label.astype(np.float64), np.nan))


def damage_negative(source):
    rewrite(source, lambda label: label.astype(np.int16) - 1)


def damage_field(source):
    scipy.io.savemat(source / MAT, {"GTcls": np.zeros((96, 120), np.uint8)})


def damage_no_list(source):
    (source / "imageLists" / "test.txt").unlink()


def damage_empty_list(source):
    (source / "imageLists" / "test.txt").write_text("\n")


def damage_twice(source):
    with (source / "imageLists" / "train.txt").open("a") as listing:
        listing.write(NAMES_10K["train"][1] + "\n")


KNOWN = "0-11, 13-25, 27-28, 31-44, 46-65, 67, 70, 72-82, 84-90, 92-182"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            damage_never_used,
            [
                f"{MAT}: label ids 83; known are {KNOWN}",
                f"Id 83 belongs to no class, and is not ignored (1 label ({MAT})): give the "
                f"annotations of cocostuff-10k-v1.1.zip as they are; {VERSION_1_0}.",
            ],
        ),
        (
            damage_converted,
            [
                f"{MAT}: label ids 255; known are {KNOWN}",
                f"1 label ({MAT}) was converted to train ids already (0 to 170 and 255): give the "
                f"annotations of cocostuff-10k-v1.1.zip as they are; {VERSION_1_0}.",
            ],
        ),
        (damage_size, [f"{MAT}: 119x96, but its image is 120x96"]),
        (damage_missing, [f"{MAT}: missing"]),
        (
            damage_colors,
            [
                f"{MAT}: S holds colours",
                f"1 label ({MAT}) is painted in colours, as palette images are that were "
                "converted to RGB. Give files of ids, a palette image's indices; or name the "
                "colour of each class in classes.txt of data set `folder`.",
            ],
        ),
        (damage_empty, [f"{MAT}: 120x0, but its image is 120x96"]),
        (damage_fractions, [f"{MAT}: S holds other values than ids"]),
        (damage_not_a_number, [f"{MAT}: S holds other values than ids"]),
        (damage_negative, [f"{MAT}: S holds other values than ids"]),
        (damage_field, [f"{MAT}: holds no map S of ids"]),
        (
            damage_no_list,
            [
                "imageLists/test.txt: missing; the source is the folder of cocostuff-10k-v1.1.zip, "
                "with images/*.jpg, annotations/*.mat, imageLists/train.txt and "
                "imageLists/test.txt"
            ],
        ),
        (damage_empty_list, ["imageLists/test.txt: lists no examples"]),
        (damage_twice, ["imageLists/train.txt: COCO_train2014_000000000110 is listed twice"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_named(source, tmp_path, damage, says):
    damage(source)
    assert refusal("coco_stuff_10k", source, tmp_path) == [
        f"coco_stuff_10k: 1 problem in {source}; it is not prepared.",
        f"  {says[0]}",
        *says[1:],
        REPEAT,
    ]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_torn_mat_files(source, tmp_path, share):
    file = source / MAT
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    lines = refusal("coco_stuff_10k", source, tmp_path)
    assert lines[0] == f"coco_stuff_10k: 1 problem in {source}; it is not prepared."
    assert lines[1].startswith(f"  {MAT}: does not decode (")
    assert lines[2:] == [REPEAT]


def test_a_flipped_byte_is_found(source, tmp_path):
    file = source / MAT
    data = bytearray(file.read_bytes())
    data[600] ^= 0x55
    file.write_bytes(data)
    assert f"{MAT}: does not decode (" in refusal("coco_stuff_10k", source, tmp_path)[1]


def test_interpolated_labels(source, tmp_path):
    rewrite(source, resized)
    lines = refusal("coco_stuff_10k", source, tmp_path)
    assert lines[1].startswith(f"  {MAT}: label ids ")
    assert lines[2:] == [f"1 label ({MAT}) {INTERPOLATED}", REPEAT]
