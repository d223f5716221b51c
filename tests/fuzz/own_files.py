"""Files that the project itself wrote, and somebody edited, tore or replaced."""

import json
import os
import shutil
from pathlib import Path

from tests.fuzz.case import Case, Place, Rng
from tests.fuzz.mutations import choose, encode_json, mutate_bytes, mutate_json


def own_files(place: Place, rng: Rng) -> Case:
    run = shutil.copytree(place.finished, place.folder / "run")
    data = shutil.copytree(place.workplace.data, place.folder / "data")
    files = [
        *(path for path in run.glob("*.json*")),
        *(path for path in (run / "checkpoints").rglob("*") if path.is_file()),
        *(path for path in data.rglob("*") if path.is_file()),
    ]
    texts = [path for path in sorted(files) if path.suffix in (".json", ".jsonl")]
    # Texts are what people edit, so they are three quarters of the cases.
    _damage(choose(rng, texts if rng.random() < 0.75 else sorted(files)), rng)
    image = place.workplace.source / "val" / "val_0.png"
    elsewhere = f"--config.data.data_dir={data}"
    arguments, writable = choose(
        rng,
        (
            (["predict", f"--input={image}", f"--output={place.output}"], ()),
            (["export", "--format=torch", f"--output={place.output}"], ()),
            (["eval", elsewhere], (run,)),
            (["train", elsewhere], (run,)),
        ),
    )
    return Case([arguments[0], f"--workdir={run}", *arguments[1:]], writable=writable)


def _damage(file: Path, rng: Rng) -> None:
    data = file.read_bytes()
    kind = rng.random()
    if kind < 0.08:
        file.unlink()
        choose(rng, (lambda: None, file.mkdir, lambda: os.mkfifo(file)))()
        return
    if kind < 0.75:
        try:
            lines = [json.loads(line) for line in data.splitlines()]
            whole = file.suffix == ".jsonl" or len(lines) == 1
        except ValueError:
            whole = False
        if whole and lines:
            at = int(rng.integers(len(lines)))
            encoded = [json.dumps(line).encode() for line in lines]
            encoded[at] = encode_json(mutate_json(lines[at], rng), rng)
            file.write_bytes(b"\n".join(encoded) + b"\n")
            return
        try:
            value = json.loads(data)
        except ValueError:
            pass
        else:
            file.write_bytes(encode_json(mutate_json(value, rng), rng))
            return
    file.write_bytes(mutate_bytes(data, rng))
