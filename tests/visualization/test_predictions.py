import errno
import fcntl
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.visualization.predictions import (
    prediction_names,
    write_prediction,
    write_predictions,
)

NAMES = ["sky", "<b>", "größe"]
COLORS = [(10, 20, 30), (200, 100, 0), (0, 255, 128)]
IMAGE = np.full((2, 3, 3), 100, np.uint8)
LABEL = np.array([[0, 0, 1], [0, 2, 2]], np.uint8)


def read_image(path: Path):
    if path.read_bytes() == b"torn":
        raise UserError(f"{path}: does not decode")
    if path.read_bytes() == b"grey":
        raise ValueError("a grey image")
    return IMAGE, ["converted from RGBA"]


def make(root: Path, **files: bytes):
    paths = []
    for name, data in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def predict(paths, output_dir, *, root, predictor=lambda image: LABEL, **options):
    return write_predictions(
        predictor,
        paths,
        output_dir,
        read_image=read_image,
        root=root,
        names=NAMES,
        colors=COLORS,
        **options,
    )


def files_in(folder: Path):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_one_prediction_is_three_files(tmp_path):
    paths = write_prediction(
        tmp_path, "day/a.b", IMAGE, LABEL,
        names=NAMES, colors=COLORS, seconds=0.123456, notes=["was RGBA"],
    )  # fmt: skip
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "day/a.b_label.png",
        "day/a.b_overlay.png",
        "day/a.b.json",
    ]
    with Image.open(paths[0]) as label:
        np.testing.assert_array_equal(np.asarray(label), LABEL)
    with Image.open(paths[1]) as overlay:
        assert overlay.mode == "RGB"
        # 0.45 · 100 + 0.55 · (10, 20, 30), no boundary there.
        assert overlay.getpixel((0, 0)) == (50, 56, 62)
    summary = json.loads(paths[2].read_text("utf-8"))
    assert len(summary.pop("checksum")) == 32
    assert summary == {
        "written_by": "danet-jax predict",
        "width": 3,
        "height": 2,
        "seconds": 0.1235,
        "notes": ["was RGBA"],
        "class_shares": {"sky": 0.5, "<b>": 1 / 6, "größe": 2 / 6},
    }


def test_a_bad_label_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError, match="outside 0 … 2"):
        write_prediction(tmp_path, "a", IMAGE, LABEL + 1, names=NAMES, colors=COLORS)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/a"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(UserError, match="leads out of the output folder"):
        write_prediction(tmp_path / "out", name, IMAGE, LABEL, names=NAMES, colors=COLORS)
    assert files_in(tmp_path) == []


def test_folders_are_mirrored(tmp_path):
    root = tmp_path / "in"
    paths = make(root, a_dot_png=b"", day__a_dot_png=b"")
    written = predict(paths, tmp_path / "out", root=root)
    assert files_in(tmp_path / "out") == [
        "a.json", "a_label.png", "a_overlay.png",
        "day/a.json", "day/a_label.png", "day/a_overlay.png",
    ]  # fmt: skip
    assert len(written) == 2
    summary = json.loads(written[1][2].read_text("utf-8"))
    assert summary["notes"] == ["converted from RGBA"]
    assert 0 <= summary["seconds"] < 5


def test_same_stems_keep_their_extensions(tmp_path):
    paths = make(tmp_path / "in", a_dot_png=b"", a_dot_jpg=b"", b_dot_png=b"")
    predict(paths, tmp_path / "out", root=tmp_path / "in")
    assert [name for name in files_in(tmp_path / "out") if name.endswith(".json")] == [
        "a.jpg.json",
        "a.png.json",
        "b.json",
    ]


def test_names_are_different_whatever_the_stems(tmp_path):
    def names(*paths):
        return list(prediction_names([tmp_path / p for p in paths], root=tmp_path).values())

    assert names("a.png", "b/a.png") == ["a", "b/a"]
    assert names("a.png", "a.jpg", "a.png.jpg") == ["a.png", "a.jpg", "a.png.jpg"]
    assert names("A.png", "a.jpg") == ["A.png", "a.jpg"]
    assert names("a.png", "b/../a.png") == ["a"]
    with pytest.raises(UserError, match="lies outside"):
        prediction_names([tmp_path.parent / "a.png"], root=tmp_path)
    with pytest.raises(UserError, match="no images"):
        names()


def test_files_that_fail_are_named_once_and_the_others_done(tmp_path, capsys):
    root = tmp_path / "in"
    paths = make(root, a_dot_png=b"torn", b_dot_png=b"", c_dot_png=b"grey", d_dot_png=b"")
    paths.append(root / "gone.png")
    with pytest.raises(UserError) as error:
        predict(paths, tmp_path / "out", root=root)
    assert str(error.value) == (
        f"3 of 5 images were not labelled, see above; the others are in {tmp_path / 'out'}"
    )
    assert files_in(tmp_path / "out") == [
        "b.json", "b_label.png", "b_overlay.png", "d.json", "d_label.png", "d_overlay.png",
    ]  # fmt: skip
    captured = capsys.readouterr()
    for failure in (f"{root}/a.png: does not decode", f"{root}/c.png: a grey image", "gone.png"):
        assert captured.err.count(failure) == 1
    assert "5/5" in captured.err
    assert captured.out == ""


def test_the_only_image_that_fails_is_the_error(tmp_path, capsys):
    (path,) = make(tmp_path / "in", a_dot_png=b"torn")
    with pytest.raises(UserError) as error:
        predict([path], tmp_path / "out", root=tmp_path / "in")
    assert str(error.value) == f"{path}: does not decode"
    assert "decode" not in capsys.readouterr().err


def test_what_an_earlier_predict_left_is_replaced(tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"", b_dot_png=b"", c_dot_png=b"")
    predict(paths, output, root=root)
    # As a kill leaves them: the JSON is written last.
    (output / "b.json").unlink()
    (output / "c.json").unlink()
    (output / "c_overlay.png").unlink()
    predict(paths, output, root=root)
    assert len(files_in(output)) == 9


def test_a_prediction_that_a_person_changed_is_not_replaced(tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"")
    predict(paths, output, root=root)
    Image.fromarray(LABEL).save(output / "a_label.png")
    with pytest.raises(UserError, match=f"1 file that no earlier predict wrote .*: {output}/a_lab"):
        predict(paths, output, root=root)
    with Image.open(output / "a_label.png") as label:
        assert label.mode == "L"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b'{"version": "5.0.1", "shapes": []}'),
        ("a.json", b"[" * 100_000),
        ("a.json", b'"class_shares"'),
        ("a.json", b'{"width": 3, "height": 2, "class_shares": {"sky": 1.0}}'),
        ("a.json", b'{\n  "written_by": "danet-jax predict",\n  "class_shares": {}\n}\n'),
        ("a.json", b"\xff"),
        ("a_label.png", png(LABEL)),
        ("a_overlay.png", b"mine"),
    ],
)
def test_files_of_others_are_never_overwritten(tmp_path, name, data):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"", b_dot_png=b"")
    output.mkdir()
    (output / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        predict(paths, output, root=root)
    assert str(error.value) == (
        f"1 file that no earlier predict wrote would be overwritten: {output / name}. "
        "Choose another output folder."
    )
    assert files_in(output) == [name]
    assert (output / name).read_bytes() == data


def test_what_somebody_writes_while_it_predicts_is_not_overwritten(tmp_path, capsys):
    paths = make(tmp_path / "in", a_dot_png=png(IMAGE), b_dot_png=png(IMAGE))
    output = tmp_path / "out"

    def predictor(image):
        output.mkdir(exist_ok=True)
        (output / "b_label.png").write_bytes(b"drawn by hand")
        return LABEL

    with pytest.raises(UserError, match="1 of 2 images were not labelled"):
        predict(paths, output, root=tmp_path / "in", predictor=predictor)
    assert "b_label.png was written meanwhile" in " ".join(capsys.readouterr().err.split())
    assert (output / "b_label.png").read_bytes() == b"drawn by hand"
    assert (output / "a.json").is_file()
    assert not (output / "b.json").exists()


def test_many_files_of_others_are_named_in_part(tmp_path):
    paths = [tmp_path / "in" / f"{i}.png" for i in range(8)]
    make(tmp_path / "out", **{f"{i}_dot_json": b"{}" for i in range(8)})
    with pytest.raises(UserError, match=r"^8 files .*/0\.json, .*/4\.json and 3 more\. Choose"):
        predict(paths, tmp_path / "out", root=tmp_path / "in")


def test_images_are_never_overwritten(tmp_path):
    root = tmp_path / "in"
    paths = make(root, a_dot_png=b"", out__a_label_dot_png=b"mine")
    with pytest.raises(UserError, match="is the folder of the images"):
        predict(paths, root / "out" / "..", root=root)
    with pytest.raises(UserError, match=r"out/a_label\.png would overwrite the image"):
        predict(paths, root / "out", root=root)
    assert paths[1].read_bytes() == b"mine"
    assert files_in(root) == ["a.png", "out/a_label.png"]


def test_an_error_of_the_predictor_is_not_taken_for_a_bad_image(tmp_path):
    paths = make(tmp_path / "in", a_dot_png=b"")

    def broken(image):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match=r"^a bug$"):
        write_predictions(
            broken, paths, tmp_path / "out",
            read_image=read_image, root=tmp_path / "in", names=NAMES, colors=COLORS,
        )  # fmt: skip


@pytest.mark.parametrize("ending", ["_label.png", "_overlay.png", ".json"])
def test_a_changed_file_is_a_persons_own(tmp_path, ending):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"")
    predict(paths, output, root=root)
    file = output / f"a{ending}"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1  # of the pixels, or of a share
    file.write_bytes(data)
    with pytest.raises(UserError, match="no earlier predict wrote"):
        predict(paths, output, root=root)
    assert file.read_bytes() == data


def test_names_that_are_too_long_are_cut_and_differ(tmp_path, capsys):
    root = tmp_path / "in"
    stem = "ü" * 122
    names = [f"{stem}{last}.png" for last in "abc"] + ["a.png", f"sub/{stem}a.png"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    written = predict([root / name for name in names], tmp_path / "out", root=root)
    stems = [path.relative_to(tmp_path / "out").as_posix() for _, _, path in written]
    assert len(set(stems)) == 5
    assert stems[3] == "a.json"
    for long in (*stems[:3], stems[4]):
        start, _, digest = long.removeprefix("sub/").removesuffix(".json").rpartition("-")
        assert stem.startswith(start)
        assert len(start) > 100
        assert len(digest) == 16
    assert capsys.readouterr().err.count("its predictions are called") == 4


def test_names_that_some_disks_hold_to_be_one_are_different(tmp_path):
    paths = [tmp_path / name for name in ("A.png", "a.png", "\u00e9.png", "e\u0301.png", "b.png")]
    names = list(prediction_names(paths, root=tmp_path).values())
    assert len({name.casefold() for name in names}) == 5
    assert names[0].startswith("A.png-")
    assert names[4] == "b"
    assert names == list(prediction_names(paths, root=tmp_path).values())


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (MemoryError(), "there is too little memory to label 3x2"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
            "there is too little memory to label 3x2",
        ),
        (UserError("scales has 9: too large"), "scales has 9"),
    ],
)
def test_an_image_that_cannot_be_predicted_does_not_end_the_others(tmp_path, capsys, failure, says):
    root = tmp_path / "in"
    paths = make(root, a_dot_png=b"", b_dot_png=b"", c_dot_png=b"")
    answers = iter([LABEL, failure, LABEL])

    def predictor(image):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(UserError, match="1 of 3 images were not labelled"):
        predict(paths, tmp_path / "out", root=root, predictor=predictor)
    assert [name for name in files_in(tmp_path / "out") if "json" in name] == ["a.json", "c.json"]
    assert f"b.png: {says}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.ENOSPC])
def test_a_file_that_cannot_be_written_does_not_end_the_others(
    tmp_path, monkeypatch, capsys, number
):
    root = tmp_path / "in"
    paths = make(root, a_dot_png=b"", b_dot_png=b"", c_dot_png=b"")
    replace = os.replace

    def fail(source, target):
        if Path(target).name == "b_label.png":
            raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError) as error:
        predict(paths, tmp_path / "out", root=root)
    summaries = [name for name in files_in(tmp_path / "out") if "json" in name]
    if number == errno.ENOSPC:  # which ends all
        assert "Free space" in str(error.value)
        assert summaries == ["a.json"]
    else:
        assert "1 of 3 images were not labelled" in str(error.value)
        assert summaries == ["a.json", "c.json"]
        said = capsys.readouterr().err
        assert "b_label.png was not written" in said
        assert "Free space" not in said


def test_what_a_killed_predict_left_is_removed(tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"", day__b_dot_png=b"")
    predict(paths, output, root=root)
    names = [f".tmp-danet-{digit * 32}" for digit in "01234567"]
    torn = [output / names[0], output / names[1], output / "day" / names[2], output / names[7]]
    torn[0].write_bytes((output / "a_label.png").read_bytes()[:100])
    torn[1].write_bytes((output / "a.json").read_bytes()[:60])
    torn[2].write_bytes((output / "a_overlay.png").read_bytes())
    # Killed before the first byte was written.
    torn[3].write_bytes(b"")
    # Of others, a link, of a process that is still writing, a pipe, of other names.
    (output / names[3]).write_bytes(b"mine")
    (output / names[4]).symlink_to(output / "a.json")
    (output / names[5]).write_bytes((output / "a.json").read_bytes())
    os.mkfifo(output / names[6])
    (output / ".tmp-mine").write_bytes((output / "a.json").read_bytes())
    (output / f".tmp-{'8' * 32}").write_bytes(b"")
    with open(output / names[5], "rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        predict(paths, output, root=root)
    assert [path.name for path in torn if path.exists()] == []
    kept = [f".tmp-{'8' * 32}", *names[3:7], ".tmp-mine"]
    assert sorted(path.name for path in output.iterdir() if path.name[0] == ".") == kept


def test_predictions_are_never_predicted(tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    paths = make(root, a_dot_png=b"")
    with pytest.raises(UserError, match="lies in the folder of the images"):
        predict(paths, root / "out", root=root, searched=True)
    predict(paths, output, root=root, searched=True)
    (root / "link").symlink_to(output)
    with pytest.raises(UserError, match="lies in the folder of the images"):
        predict([root / "link" / "a_label.png"], output, root=root, searched=True)
