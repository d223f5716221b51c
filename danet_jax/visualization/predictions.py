"""The files that `predict` writes for each image: label, overlay and summary."""

import errno
import hashlib
import os
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from danet_jax.base.errors import UserError
from danet_jax.base.files import remove_leftovers, replace_file
from danet_jax.base.wording import counted, listed
from danet_jax.console.terminal import image_progress, say
from danet_jax.visualization import marks, overlays

Paths = tuple[Path, Path, Path]

# Digits of the hash that distinguishes equal names.
_DIGITS = 16
_ENDINGS = ("_label.png", "_overlay.png", ".json")
# Errors of writing one image's files after which those of the next may succeed.
_ERRORS_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR,
                errno.EEXIST, errno.EISDIR, errno.ELOOP)  # fmt: skip


def write_prediction(
    output_dir: Path | str,
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    label: Integer[np.ndarray, "h w"],
    *,
    names: Sequence[str],
    colors: overlays.Colors,
    seconds: float | None = None,
    notes: Sequence[str] = (),
) -> Paths:
    """Writes `NAME_label.png` (palette), `NAME_overlay.png`, `NAME.json`; returns their paths.

    `name` may hold subfolders. Each file is complete or absent; the JSON is written last, so where
    it is, the other two are complete. Raises UserError where nothing could be written.
    """
    height, width = label.shape
    summary = {
        "width": width,
        "height": height,
        "seconds": None if seconds is None else round(float(seconds), 4),
        "notes": list(notes),
        "class_shares": overlays.class_shares(label, names=names),
    }
    label_path, overlay_path, summary_path = _prediction_paths(Path(output_dir), name)
    # All files are encoded before the first is written, so that an invalid label leaves none.
    files = {
        label_path: marks.mark_png(overlays.encode_label_png(label, colors=colors)),
        overlay_path: marks.mark_png(
            overlays.encode_image_png(overlays.overlay(image, label, colors=colors))
        ),
        summary_path: marks.encode_json(summary),
    }
    for path, data in files.items():
        replace_file(path, data=data)
    return label_path, overlay_path, summary_path


def write_predictions(
    predictor: Callable[[np.ndarray], np.ndarray],
    paths: Sequence[Path | str],
    output_dir: Path | str,
    *,
    read_image: Callable[[Path], tuple[np.ndarray, Sequence[str]]],
    root: Path | str,
    names: Sequence[str],
    colors: overlays.Colors,
    searched: bool = False,
) -> list[Paths]:
    """Predicts every image and writes its three files, under its path relative to `root`.

    predictor(image) → integer labels [h, w]; read_image(path) → (uint8 image [h, w, 3], notes).
    `searched` says that the images are all those found in `root`.
    An image that cannot be read, predicted or written is named and the others are done; then
    UserError says how many failed. Raises UserError before the first prediction where an image
    would be overwritten, or any file that no earlier call wrote.
    """
    output_dir = Path(output_dir)
    outputs = prediction_names(paths, root=root, longest_name=_longest_name(output_dir))
    _refuse_to_overwrite(outputs, output_dir, root=Path(root), searched=searched)
    for folder in {(output_dir / name).parent for name in outputs.values()}:
        remove_leftovers(folder, is_ours=marks.begins_as_ours)

    written, failed = [], 0
    noted: Counter[str] = Counter()
    with image_progress(stays=True) as progress:
        task = progress.add_task("predict", total=len(outputs))
        for path, name in outputs.items():
            try:
                image, notes = _read(path, read_image)
                start = time.perf_counter()
                label = _predict(predictor, image)
                seconds = time.perf_counter() - start
                # Hours may have passed since they were looked for.
                if foreign := _foreign_files(output_dir, name):
                    raise _ImageError(f"{foreign[0]} was written meanwhile, and not by predict")
                files = _write(
                    output_dir, name, image, label,
                    names=names, colors=colors, seconds=seconds, notes=notes,
                )  # fmt: skip
            except _ImageError as error:
                failure = str(error) if str(path) in str(error) else f"{path}: {error}"
                if len(outputs) == 1:
                    raise UserError(failure) from None
                say(failure)
                failed += 1
            else:
                noted.update(notes)
                written.append(files)
                if PurePosixPath(name).name[:-_DIGITS] not in path.name:
                    say(f"{path}: its predictions are called {name}; the name is too long or taken")
            progress.advance(task)

    for note, count in noted.items():
        say(f"{counted(count, 'image')}: {note}")
    if failed:
        others = f"; the others are in {output_dir}" if written else ""
        raise UserError(f"{failed} of {len(outputs)} images were not labelled, see above{others}")
    return written


class _ImageError(Exception):
    """One image cannot be read, predicted or written; others may be fine."""


def _read(path: Path, read_image: Callable) -> tuple[np.ndarray, Sequence[str]]:
    try:
        return read_image(path)
    except (ValueError, OSError) as error:
        raise _ImageError(str(error)) from None
    except MemoryError:
        raise _ImageError("there is too little memory to read it") from None


def _predict(predictor: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    too_large = f"there is too little memory to label {width}x{height} pixels: save it smaller"
    try:
        return np.asarray(predictor(image))
    except UserError as error:
        raise _ImageError(str(error)) from None
    except MemoryError:
        raise _ImageError(too_large) from None
    except RuntimeError as error:  # JAX's
        if "RESOURCE_EXHAUSTED" in str(error):
            raise _ImageError(too_large) from None
        raise


def _write(*args: Any, **options: Any) -> Paths:
    try:
        return write_prediction(*args, **options)
    except UserError as error:
        # Any other error, such as a full disk, ends the command: nothing more could be written.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _ERRORS_OF_ONE_FILE:
            raise _ImageError(str(error)) from None
        raise


def prediction_names(
    paths: Sequence[Path | str], *, root: Path | str, longest_name: int = 255
) -> dict[Path, str]:
    """Image path → the name of its predictions: relative to `root`, without the extension.

    Images that would share a name (a.png, a.jpg) keep their extensions. Where names still differ in
    nothing but capitals or the form of their accents, or would have files of more than
    `longest_name` bytes, a part of the path's hash makes them different. An image named twice
    stands once. Raises UserError on no images, or on an image outside `root`.
    """
    absolute_root = Path(os.path.abspath(root))
    full: dict[Path, str] = {}
    named: set[str] = set()
    for path in map(Path, paths):
        try:
            relative = Path(os.path.abspath(path)).relative_to(absolute_root)
        except ValueError:
            raise UserError(f"image {path} lies outside {root}") from None
        if relative.as_posix() not in named:
            named.add(relative.as_posix())
            full[path] = relative.as_posix()
    if not full:
        raise UserError(f"no images to predict in {root}")

    names = {path: str(PurePosixPath(name).with_suffix("")) for path, name in full.items()}
    # This is repeated, as a name with its extension can equal another's stem (a.png, a.png.jpg).
    while True:
        counts = Counter(_folded(name) for name in names.values())
        longer = {
            path: full[path] if counts[_folded(name)] > 1 else name for path, name in names.items()
        }
        if longer == names:
            break
        names = longer
    room = longest_name - max(map(len, _ENDINGS))
    return {
        path: _distinct(name, full[path], room)
        if counts[_folded(name)] > 1 or len(os.fsencode(PurePosixPath(name).name)) > room
        else name
        for path, name in names.items()
    }


def _folded(name: str) -> str:
    """Returns equal texts for names that some file systems take for the same file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _distinct(name: str, full: str, room: int) -> str:
    """Returns as much of the name as fits into `room` bytes with a hash of the whole path."""
    digest = hashlib.blake2b(os.fsencode(full), digest_size=_DIGITS // 2).hexdigest()
    folder, _, last = name.rpartition("/")
    start = os.fsencode(last)[: room - _DIGITS - 1].decode("utf-8", "ignore")
    return f"{folder}/{start}-{digest}" if folder else f"{start}-{digest}"


def _longest_name(folder: Path) -> int:
    """The most bytes that a file's name may have in a folder, which need not exist yet."""
    folder = folder.absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        return os.pathconf(above, "PC_NAME_MAX")
    except (OSError, ValueError):
        return 255


def _refuse_to_overwrite(
    outputs: dict[Path, str], output_dir: Path, *, root: Path, searched: bool
) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output {output_dir} is a file; name a folder.")
    if output_dir.resolve() == root.resolve():
        raise UserError(
            f"the output folder {output_dir} is the folder of the images: a second run would "
            "predict on predictions. Choose another one."
        )
    inputs = {path.resolve(): path for path in outputs}
    for name in outputs.values():
        for output in _prediction_paths(output_dir, name):
            if output.resolve() in inputs:
                raise UserError(
                    f"the prediction {output} would overwrite the image "
                    f"{inputs[output.resolve()]}. Choose another output folder."
                )
    searched = searched or len(outputs) > 1
    # A link can lead from the one into the other.
    inside = [path for file, path in inputs.items() if file.is_relative_to(output_dir.resolve())]
    if searched and (inside or output_dir.resolve().is_relative_to(root.resolve())):
        raise UserError(
            f"the output folder {output_dir} lies in the folder of the images: a second run would "
            "predict on predictions. Choose another one."
        )
    foreign = [path for name in outputs.values() for path in _foreign_files(output_dir, name)]
    if foreign:
        raise UserError(
            f"{counted(len(foreign), 'file')} that no earlier predict wrote would be overwritten: "
            f"{listed(foreign)}. Choose another output folder."
        )


def _foreign_files(output_dir: Path, name: str) -> list[Path]:
    """The files at the paths of a prediction that are not an unchanged earlier prediction."""
    return [
        path
        for path in _prediction_paths(output_dir, name)
        if os.path.lexists(path) and not marks.is_ours(path)
    ]


def _prediction_paths(output_dir: Path, name: str) -> Paths:
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise UserError(f"the name {name!r} leads out of the output folder {output_dir}")
    label, overlay, summary = (output_dir / f"{name}{ending}" for ending in _ENDINGS)
    return label, overlay, summary
