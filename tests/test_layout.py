"""Who may import whom, so that each part can be read, and changed, without the others."""

import ast
import re
from pathlib import Path

import pytest

from tests.launcher import ROOT

# A file or a package of danet_jax: what of danet_jax it imports, beside `base`.
ALLOWED = {
    "base": set(),
    # Operations know nothing of the package, and modules nothing but operations.
    "ops": {"ops"},
    "models": {"models", "ops"},
    "platform.py": {"ops"},
    "network.py": {"models", "platform"},
    "images.py": set(),
    "console": {"console"},
    "runtime": {"console", "platform", "runtime"},
    "runs": {"console", "runs", "runtime"},
}
BELOW = {"images", "models", "network", "ops", "platform", "console", "runtime", "runs"}
ALLOWED |= {
    "training": BELOW | {"training"},
    "evaluation": BELOW | {"evaluation"},
    "visualization": BELOW | {"evaluation", "visualization"},
    "interop": BELOW | {"evaluation", "interop"},
    "planning": BELOW | {"training", "planning"},
    "tasks": BELOW | {"training", "evaluation", "visualization", "interop", "planning", "tasks"},
}
# What of configs is imported, and by whom: the fields' rules, and the fields.
CONFIGS = {
    "network.py": {"common", "rules"},
    "training": {"rules"},
    "evaluation": {"rules"},
    "planning": {"rules"},
    "runs": {"common"},
    "tasks": {"common", "rules"},
}
# What reads data sets.
READERS = ("danet_jax/evaluation/run.py", "danet_jax/tasks/")
# Libraries that one file alone knows.
ALONE = {
    "orbax": "danet_jax/runs/checkpoints.py",
    "grain": "input_pipeline/pipeline.py",
    "huggingface_hub": "danet_jax/interop/hub.py",
    "tensorboardX": "danet_jax/training/events.py",
}
PARTS = ("danet_jax", "input_pipeline", "configs")


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
    found = []
    for part in parts:
        path = ROOT / part
        found += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_what_is_below_them(part):
    for file in files(f"danet_jax/{part}"):
        for name in imported(file):
            package, _, rest = name.partition(".")
            # They are parts of the package, and nothing else is of these names for a user.
            outside = ("benchmarks", "tests", "configs", "input_pipeline")
            assert package not in outside, f"{file} imports {name}"
            if package != "danet_jax":
                continue
            first, _, rest = rest.partition(".")
            if first == "configs":
                assert rest.partition(".")[0] in CONFIGS.get(part, ()), f"{file} imports {name}"
            elif first == "__version__":
                continue
            elif first == "input_pipeline":
                assert str(file.relative_to(ROOT)).startswith(READERS), f"{file} imports {name}"
            else:
                assert first in {*ALLOWED[part], "base"}, f"{file} imports {name}"


def test_nothing_imports_the_benchmarks():
    for file in files(*PARTS):
        assert "benchmarks" not in {name.partition(".")[0] for name in imported(file)}, file
        # Neither by a module's name in a string.
        assert not re.search(r"""["']benchmarks[."']""", file.read_text()), file


@pytest.mark.parametrize("part", ["input_pipeline", "configs"])
def test_data_sets_and_configs_know_nothing_of_the_network(part):
    for file in files(part):
        names = imported(file)
        assert not {name.partition(".")[0] for name in names} & {"jax", "flax", "tensorflow"}, file
        for name in names:
            if name.startswith("danet_jax."):
                assert name.split(".")[1] in ("base", part), f"{file} imports {name}"
            assert name.partition(".")[0] not in ("configs", "input_pipeline"), file


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
    assert makers == {"danet_jax/runtime/parallel.py"}


def test_only_one_file_asks_which_devices_are_here():
    """All else is told, so that programs can be made for devices that are absent."""
    asking = {
        str(file.relative_to(ROOT))
        for file in files("danet_jax", "benchmarks")
        if "default_backend" in file.read_text()
    }
    assert asking == {"danet_jax/platform.py"}


# Packages whose parts stand one above the other: each may import those behind it.
ORDERS = {
    "input_pipeline": ("storage", "builders", "checking", "images", "labels"),
    "input_pipeline/checking": (
        "summary",
        "diagnosis",
        "label_ids",
        "wording",
        "survey",
        "verification",
        "reading",
        "mistakes",
        "pairs",
    ),
}


def imports_of_modules(*parts: str) -> dict[str, set[str]]:
    """For each module of these packages the ones it imports, in functions and for types, too."""
    modules = {}
    for file in files(*parts):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        modules[name if name.startswith("danet_jax") else f"danet_jax.{name}"] = file
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        graph[module] = set()
        for name in imported(file):
            # "package.module.function" is an import of the module.
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, from one to itself; [] where there is none."""
    done: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for name in sorted(graph[path[-1]]):
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done and (circle := search([*path, name])):
                return circle
        done.add(path[-1])
        return []

    for module in sorted(graph):
        if module not in done and (circle := search([module])):
            return circle
    return []


def test_a_circle_of_imports_is_seen():
    assert circle_in({"a": {"b", "d"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", ["danet_jax", "input_pipeline"])
def test_imports_make_no_circle(package):
    graph = imports_of_modules(package)
    # The names of the package itself are imported when they are used.
    graph = {module: names - {"danet_jax"} for module, names in graph.items()}
    assert any(graph.values())
    assert circle_in(graph) == []


@pytest.mark.parametrize("package", ORDERS)
def test_parts_of_the_input_pipeline_import_only_what_is_below_them(package):
    order, prefix = ORDERS[package], f"danet_jax.{package.replace('/', '.')}."
    for module, targets in imports_of_modules(package).items():
        part = module.removeprefix(prefix).partition(".")[0]
        if part not in order:
            continue
        for target in targets:
            other = target.removeprefix(prefix).partition(".")[0]
            assert other == part or other in order[order.index(part) :], f"{module} → {target}"
