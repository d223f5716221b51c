"""`prepare` of a person's folder: its labels, its list of classes, its names."""

import io
import os
import shutil

import numpy as np
from PIL import Image

from tests.fuzz.case import Case, Place, Rng
from tests.fuzz.images import _encoded as encoded_image
from tests.fuzz.mutations import NAMES, choose, encode_json, mutate_bytes, mutate_json, mutate_text
from tests.input_pipeline.folder import NAMES as CLASSES
from tests.input_pipeline.folder import draw_label, write_folder


def labels(place: Place, rng: Rng) -> Case:
    source = write_folder(place.folder / "source")
    for _ in range(int(rng.integers(1, 4))):
        choose(rng, (_label, _label, _classes, _classes, _file, _layout))(source, rng)
    data = place.folder / "data"
    return Case(
        [
            "prepare",
            f"--config=configs/folder.py:classes={choose(rng, (2, 3, 3, 3, 4))}",
            f"--config.data.data_dir={data}",
            f"--source={source}",
        ],
        writable=(data,),
    )


def _some(source, kind: str, rng: Rng):
    files = sorted(path for path in (source / kind).rglob("*") if path.is_file())
    return choose(rng, files) if files else source / kind / "train" / "new.png"


def _label(source, rng: Rng) -> None:
    """Another form of a label: ids, depth, mode, size, file."""
    file = _some(source, "labels", rng)
    ids = draw_label(int(rng.integers(9)))
    match int(rng.integers(9)):
        case 0:
            ids = ids + int(rng.integers(256))
        case 1:
            ids = ids.astype(np.uint16) * int(choose(rng, (1, 3, 257)))
        case 2:
            ids = rng.integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
        case 3:
            ids = np.repeat(ids[:, :, None], int(choose(rng, (3, 4))), axis=2)
        case 4:
            ids = ids[: int(rng.integers(1, 24)), : int(rng.integers(1, 32))]
        case 5:
            ids = np.full_like(ids, 255)
        case 6:
            form, _, mode = choose(rng, (("PNG", "", "P"), ("PNG", "", "1"), ("GIF", "", "P")))
            file.write_bytes(encoded_image(form, mode, rng))
            return
        case 7:
            file.write_bytes(mutate_bytes(file.read_bytes() if file.exists() else b"x", rng))
            return
    stream = io.BytesIO()
    Image.fromarray(ids).save(stream, "PNG")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream.getvalue())


def _classes(source, rng: Rng) -> None:
    """Another list of classes, as text or JSON."""
    text = source / "classes.txt"
    if rng.random() < 0.5:
        names = [choose(rng, (*CLASSES, *NAMES)) for _ in CLASSES]
        value = choose(
            rng,
            (
                {"classes": names},
                {"classes": [{"name": name, "color": [1, 2, i]} for i, name in enumerate(names)]},
                names,
            ),
        )
        text.unlink(missing_ok=True)
        (source / "classes.json").write_bytes(encode_json(mutate_json(value, rng), rng))
    else:
        text.write_bytes(mutate_text("\n".join(CLASSES), rng))


def _file(source, rng: Rng) -> None:
    """Something that is no plain file, or one that does not belong there."""
    file = _some(source, choose(rng, ("images", "labels")), rng)
    if not file.parent.is_dir():
        # Another mutation has renamed the folders already.
        return
    other = file.with_name(choose(rng, ("Thumbs.db", "._photo_0.png", "photo_9.png", "x.txt")))
    match int(rng.integers(7)):
        case 0:
            file.unlink(missing_ok=True)
        case 1:
            file.unlink(missing_ok=True)
            os.mkfifo(file)
        case 2:
            file.unlink(missing_ok=True)
            file.symlink_to("/dev/zero")
        case 3:
            other.write_bytes(rng.bytes(100))
        case 4:
            other.unlink(missing_ok=True)
            other.symlink_to(file.parent)
        case 5:
            name = choose(rng, NAMES).replace("\0", "").replace("/", "_").replace("\ud800", "?")
            while len(name.encode()) > 240:
                name = name[:-1]
            file.rename(file.with_name(f"{name}x.png"))
        case 6:
            file.write_bytes(mutate_bytes(file.read_bytes(), rng))


def _layout(source, rng: Rng) -> None:
    """Folders that are missing, empty, renamed, swapped or linked."""
    images, labels = source / "images", source / "labels"
    if not (labels / "val").exists() or (images / "train" / "loop").is_symlink():
        # Another mutation has changed the folders already.
        return
    match int(rng.integers(6)):
        case 0:
            images.rename(source / "other")
            labels.rename(images)
            (source / "other").rename(labels)
        case 1:
            shutil.rmtree(labels / "val")
        case 2:
            for file in (images / "train").iterdir():
                file.unlink()
        case 3:
            labels.rename(source / "masks")
        case 4:
            (images / "train" / "loop").symlink_to(images)
        case 5:
            (labels / "val").rename(labels / "validation")
