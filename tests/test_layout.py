"""Who may import whom, so that each part can be read, and changed, without the others."""

import ast
import re
from pathlib import Path

import pytest

from tests.launcher import ROOT

# Modules at the top of the package that know none of its parts.
LEAVES = {
    "errors",
    "files",
    "images",
    "labels",
    "private",
    "parallel",
    "profiling",
    "terminal",
    "wording",
}
# What a run is: its config, its folder, its programs.
RUN = LEAVES | {"compilation", "configuration", "experiment", "history", "run_files"}
ALLOWED = {
    "models": LEAVES | {"models"},
    "training": RUN | {"models", "training"},
    # `Predictor.from_workdir` reads checkpoints.
    "evaluation": RUN | {"models", "training", "evaluation"},
    "visualization": RUN | {"models", "training", "evaluation", "visualization"},
    "interop": RUN | {"models", "training", "evaluation", "interop"},
}
# Libraries that one file alone knows.
ALONE = {
    "orbax": "danet_jax/training/checkpoint.py",
    "grain": "input_pipeline/pipeline.py",
    "tensorboardX": "danet_jax/training/events.py",
}
PARTS = ("danet_base", "danet_jax", "input_pipeline", "configs")


def imported(file: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(*parts: str) -> list[Path]:
    found = [path for part in parts for path in sorted((ROOT / part).rglob("*.py"))]
    assert found
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_what_is_below_them(part):
    for file in files(f"danet_jax/{part}"):
        for name in imported(file):
            package, _, rest = name.partition(".")
            if package == "danet_jax":
                assert rest.partition(".")[0] in ALLOWED[part], f"{file} imports {name}"
            assert package not in ("configs", "input_pipeline", "benchmarks", "tests"), file


def test_the_input_pipeline_knows_nothing_of_the_network():
    for file in files("input_pipeline"):
        known = {name.partition(".")[0] for name in imported(file)}
        assert not known & {"danet_jax", "jax", "flax", "configs", "tensorflow"}, file


def test_what_both_stand_on_imports_neither():
    for file in files("danet_base"):
        known = {name.partition(".")[0] for name in imported(file)}
        assert not known & {"danet_jax", "input_pipeline", "jax", "flax", "configs"}, file


@pytest.mark.parametrize("library", ALONE)
def test_some_libraries_are_known_to_one_file(library):
    users = {
        str(file.relative_to(ROOT))
        for file in files(*PARTS)
        if library in {name.partition(".")[0] for name in imported(file)}
    }
    assert users == {ALONE[library]}


def test_only_one_file_makes_meshes():
    makers = {
        str(file.relative_to(ROOT))
        for file in files(*PARTS)
        if re.search(r"\b(make_mesh|Mesh)\(", file.read_text())
    }
    assert makers == {"danet_jax/parallel.py"}
