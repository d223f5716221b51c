"""What `predict` leaves for each image: label, overlay and a summary."""

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from danet_jax.errors import UserError
from danet_jax.files import replace_file
from danet_jax.terminal import image_progress, say
from danet_jax.visualization import overlays
from danet_jax.wording import counted, listed

Paths = tuple[Path, Path, Path]

# In the PNGs, so that those of a predict that was killed before it wrote their JSON are known.
SOFTWARE = "danet-jax predict"


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

    `name` may hold sub folders. Each file is whole or not there; the JSON, written last, says
    that the other two are. Raises UserError where nothing could be written.
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
    # All are encoded before the first is written, so that a bad label leaves nothing behind.
    files = {
        label_path: overlays.encode_label_png(label, colors=colors, software=SOFTWARE),
        overlay_path: overlays.encode_image_png(
            overlays.overlay(image, label, colors=colors), software=SOFTWARE
        ),
        summary_path: (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode(),
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
) -> list[Paths]:
    """Predicts every image and writes its three files, under its path relative to `root`.

    predictor(image) → integer labels [h, w]; read_image(path) → (uint8 image [h, w, 3], notes).
    An image that cannot be read is named and the others are done; then UserError says how many
    failed. Raises UserError before the first prediction where an image would be overwritten, or
    any file that no earlier call wrote.
    """
    output_dir = Path(output_dir)
    outputs = prediction_names(paths, root=root)
    _refuse_to_overwrite(outputs, output_dir, root=Path(root))

    written, failed = [], 0
    noted: Counter[str] = Counter()
    with image_progress(stays=True) as progress:
        task = progress.add_task("predict", total=len(outputs))
        for path, name in outputs.items():
            try:
                image, notes = read_image(path)
            except (ValueError, OSError) as error:
                failure = str(error) if str(path) in str(error) else f"{path}: {error}"
                if len(outputs) == 1:
                    raise UserError(failure) from None
                say(failure)
                failed += 1
                progress.advance(task)
                continue
            noted.update(notes)
            start = time.perf_counter()
            label = np.asarray(predictor(image))
            seconds = time.perf_counter() - start
            written.append(
                write_prediction(
                    output_dir, name, image, label,
                    names=names, colors=colors, seconds=seconds, notes=notes,
                )
            )  # fmt: skip
            progress.advance(task)

    for note, count in noted.items():
        say(f"{counted(count, 'image')}: {note}")
    if failed:
        others = f"; the others are in {output_dir}" if written else ""
        raise UserError(f"{failed} of {len(outputs)} images could not be read, see above{others}")
    return written


def prediction_names(paths: Sequence[Path | str], *, root: Path | str) -> dict[Path, str]:
    """Image path → the name of its predictions: relative to `root`, without the extension.

    Images that would share a name (a.png, a.jpg) keep their extensions. An image named twice
    stands once. Raises UserError on no images, or on an image outside `root`.
    """
    absolute_root = Path(os.path.abspath(root))
    full: dict[Path, str] = {}
    seen: set[str] = set()
    for path in map(Path, paths):
        try:
            relative = Path(os.path.abspath(path)).relative_to(absolute_root)
        except ValueError:
            raise UserError(f"image {path} lies outside {root}") from None
        if relative.as_posix() not in seen:
            seen.add(relative.as_posix())
            full[path] = relative.as_posix()
    if not full:
        raise UserError(f"no images to predict in {root}")

    names = {path: str(PurePosixPath(name).with_suffix("")) for path, name in full.items()}
    # Again until nothing changes: a kept extension can meet a further stem (a.png, a.png.jpg).
    while True:
        # Without case, as some file systems hold A and a to be the same file.
        counts = Counter(name.casefold() for name in names.values())
        longer = {
            path: full[path] if counts[name.casefold()] > 1 else name
            for path, name in names.items()
        }
        if longer == names:
            return names
        names = longer


def _refuse_to_overwrite(outputs: dict[Path, str], output_dir: Path, *, root: Path) -> None:
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
    if len(outputs) > 1 and output_dir.resolve().is_relative_to(root.resolve()):
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
    """What lies at the places of a prediction without being an earlier one.

    Pictures are known by their mark, also those that a killed predict left without a summary: one
    that a person saved anew does not have it.
    """
    *pictures, summary = _prediction_paths(output_dir, name)
    known = {summary: _is_summary} | dict.fromkeys(pictures, _is_marked)
    return [path for path, is_ours in known.items() if os.path.lexists(path) and not is_ours(path)]


def _is_summary(path: Path) -> bool:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "class_shares" in value


def _is_marked(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            # That a large one may be an attack: nothing but its header is read.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=["PNG"]) as image:
                return image.info.get("Software") == SOFTWARE
    # Whatever Pillow raises on a file that may be anything.
    except Exception:
        return False


def _prediction_paths(output_dir: Path, name: str) -> Paths:
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise UserError(f"the name {name!r} leads out of the output folder {output_dir}")
    return (
        output_dir / f"{name}_label.png",
        output_dir / f"{name}_overlay.png",
        output_dir / f"{name}.json",
    )
