"""Overrides of every field with values that nobody meant."""

from danet_jax.runs import config as configuration
from tests.fuzz.case import Case, Place, Rng
from tests.fuzz.mutations import choose

TEXTS = (
    "0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "10000000",
    "1000000000",
    "99999999999999999999",
    "0.5",
    "-0.5",
    "1e9",
    "1e308",
    "1e999",
    "-1e999",
    "nan",
    "True",
    "none",
    "",
    "()",
    "(0,0)",
    "(1,1)",
    "(1e9,)",
    "(-1,2)",
    "(0.5,0.75,1.0)",
    "(100000,100000)",
    "(1e999,1)",
    "('a','b')",
    "[[1]]",
    "{}",
    "../outside",
    "gs://bucket/outside",
    "train[:0]",
    "val[:1]",
    "val[50%:",
    "x" * 300,
    "\x1b[31m",
)
# Those that only make a run as long as a person asks for; and where files are, which is not asked
# for twice.
LEFT_OUT = ("train.steps", "train.epochs", "data.data_dir", "data.num_workers", "mesh.distributed")
FIELDS = tuple(
    name
    for name in configuration.flat(configuration.load_config("configs/camvid.py:runlocal"))
    if name not in LEFT_OUT
)


def settings(place: Place, rng: Rng) -> Case:
    names = {choose(rng, FIELDS) for _ in range(int(rng.integers(1, 3)))}
    overrides = [f"--config.{name}={choose(rng, TEXTS)}" for name in sorted(names)]
    image = place.workplace.source / "val" / "val_0.png"
    if rng.random() < 0.5:
        evaluation = [name for name in FIELDS if name.startswith("eval.")]
        override = f"--config.{choose(rng, evaluation)}={choose(rng, TEXTS)}"
        arguments = [f"--workdir={place.finished}", f"--input={image}", f"--output={place.output}"]
        return Case(["predict", *arguments, override])
    config = place.workplace.config("--config.train.steps=1")
    return Case(["train", f"--workdir={place.output}", *config, *overrides])
