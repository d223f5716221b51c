"""What a user gets: the wheel in an empty environment, in a folder of their own, without a network.

    python -m tests.wheel

Needs git, and mypy beside this interpreter. All that it makes is in a temporary folder.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from tests.launcher import ROOT

# The package's folder in the repository for each folder in the wheel.
FOLDERS = {
    "danet_jax": "danet_jax",
    "configs": "danet_jax/configs",
    "input_pipeline": "danet_jax/input_pipeline",
}
# A user's folder, with modules of the names of two of ours.
FOLDER = Path(__file__).parent / "folder"
SMALL = (
    "--config=synthetic_scenes",
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.data.train_split=train[:16]",
    "--config.data.eval_split=val[:8]",
    "--config.data.num_threads=2",
    "--config.train.batch_size=2",
    "--config.train.steps=4",
    "--config.train.eval_every=4",
    "--config.train.checkpoint_every=4",
    "--config.eval.batch_size=4",
)
DRAW = "from PIL import Image; Image.radial_gradient('L').resize((208, 72)).save('street.png')"
BUILD_SDIST = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
# Names in a user's way, and not there.
ABSENT = ("configs", "input_pipeline", "benchmarks", "tests", "main")
FIND = f"""
import importlib.util, danet_jax
found = [name for name in {ABSENT} if importlib.util.find_spec(name)]
assert not found, found
print(danet_jax.__file__)
"""
FIND_NETWORK = """
import socket
found = [name for _, name in socket.if_nameindex() if name != "lo"]
assert not found, found
"""
REFUSING = "http://127.0.0.1:9"

Item = TypeVar("Item")


class Environment:
    """A virtual environment in which nothing is installed at first."""

    def __init__(self, folder: Path):
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        run(sys.executable, "-m", "venv", "--without-pip", folder)

    def install(self, *arguments: str | Path) -> None:
        self._pip("install", "--quiet", *arguments)

    def check(self) -> None:
        self._pip("check")

    def _pip(self, *arguments: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    began = time.monotonic()
    # Settings of the caller's Python are not the user's.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    with tempfile.TemporaryDirectory(prefix="danet-wheel-") as name:
        place = Path(name)
        source = copy_repository(place / "source")
        wheel = build(source, place)
        check_other_installations(source, place)
        environment = Environment(place / "environment")
        say("installs the wheel and what it needs")
        environment.install(wheel, "-c", source / "constraints.txt")
        use(environment, source, place)
    say(f"passed in {time.monotonic() - began:.0f} s on Python {sys.version.split()[0]}")


# --- what is built -------------------------------------------------------------------------------


def copy_repository(target: Path) -> Path:
    """Copies what git has, or would take, and makes it a repository with one commit."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        # A file that was removed is listed until that is committed.
        if file.is_symlink() or file.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target / name, follow_symlinks=False)
    person = ("-c", "user.name=wheel test", "-c", "user.email=nobody@example.org")
    run("git", "init", "--quiet", cwd=target)
    run("git", "add", "--all", cwd=target)
    run("git", *person, "-c", "commit.gpgsign=false", "commit", "--quiet", "-m.", cwd=target)
    return target


def build(source: Path, place: Path) -> Path:
    """Builds a wheel from the image's files, and one by way of an sdist, and checks both."""
    expected = {
        str(Path(inside) / file.relative_to(source / folder))
        for folder, inside in FOLDERS.items()
        for file in (source / folder).rglob("*")
        if file.is_file()
    }
    project = tomllib.loads((source / "pyproject.toml").read_text())
    extras = set(project["tool"]["setuptools"]["dynamic"]["optional-dependencies"])
    say("builds a wheel from the files that the Dockerfile's image is made from")
    context = copy_image_context(source, place / "context")
    check_wheel(pip_wheel(context, place / "of_context"), expected, extras)

    say("builds an sdist, and a wheel from it")
    tools = Environment(place / "tools")
    tools.install(*project["build-system"]["requires"])
    # A copy, as setuptools leaves a folder in what it builds from.
    copy = shutil.copytree(source, place / "for_sdist", symlinks=True)
    run(tools.python, "-c", BUILD_SDIST, place, cwd=copy)
    sdist = only(place.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        links = [member.name for member in archive if member.issym() or member.islnk()]
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    require(not links, f"links in the sdist: {links}")
    require(expected <= names, f"missing in the sdist: {sorted(expected - names)}")
    wheel = pip_wheel(sdist, place / "wheel")
    check_wheel(wheel, expected, extras)
    return wheel


def copy_image_context(source: Path, target: Path) -> Path:
    """Copies what .dockerignore, which excludes everything first, lets through."""
    lines = (source / ".dockerignore").read_text().splitlines()
    first, *patterns = [line for line in lines if line and not line.startswith("#")]
    require(first == "*", ".dockerignore begins with another pattern than *")
    included = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    target.mkdir()
    for path in source.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in included):
            if path.is_dir():
                shutil.copytree(path, target / path.name, symlinks=True)
            else:
                shutil.copy2(path, target)
    return target


def pip_wheel(source: Path, target: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", target, source)
    return only(target.glob("*.whl"))


def check_wheel(wheel: Path, expected: set[str], extras: set[str]) -> None:
    """Requires all files of the package and its two linked folders, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        texts = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        top_level = archive.read(texts["top_level.txt"]).decode().split()
        metadata = archive.read(texts["METADATA"]).decode()
    require(top_level == ["danet_jax"], f"top-level names of the wheel: {top_level}")
    provided = re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE)
    require(set(provided) == extras, f"extras of the wheel: {provided}")
    missing, more = sorted(expected - names), sorted(names - expected)
    require(not missing, f"missing in {wheel.name}: {missing}")
    require(not more, f"in {wheel.name}, too: {more}")
    for name in ("py.typed", "visualization/page.css", "visualization/page.html"):
        require(f"danet_jax/{name}" in names, f"missing in {wheel.name}: {name}")


# --- how it is installed and used ----------------------------------------------------------------


def check_other_installations(source: Path, place: Path) -> None:
    """`pip install` of git's URL, of the folder and with -e, without what the package needs."""
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    for title, arguments in {
        "git+file": (f"git+file://{source}",),
        ".": (source,),
        "-e .": ("-e", source),
    }.items():
        say(f"pip install {title}")
        environment = Environment(place / f"environment of {title}")
        environment.install("--no-deps", *arguments)
        file = run(environment.python, "-c", FIND, cwd=elsewhere).strip()
        is_source = Path(file).is_relative_to(source.resolve())
        require(is_source == ("-e" in title), f"pip install {title} imports {file}")
        version = run(environment.bin / "danet", "--version", cwd=elsewhere)
        require(version.startswith("danet-jax "), version)


def use(environment: Environment, source: Path, place: Path) -> None:
    """Runs all of it in a user's folder, which holds nothing else, without a network."""
    environment.check()
    folder = shutil.copytree(FOLDER, place / "folder", ignore=shutil.ignore_patterns("__pycache__"))
    home = place / "home"
    home.mkdir()
    # Compiles in a third of the time.
    os.environ |= {"HOME": str(home), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ.pop(name, None)
    offline = without_network(environment)
    python, danet = environment.python, environment.bin / "danet"

    def user(*command: str | Path) -> str:
        return run(*offline, *command, cwd=folder)

    # The folder from which a script is started is searched first; that of a command is not.
    require("site-packages" in run(python, "-c", FIND, cwd=place), "another danet_jax is imported")
    # Each names itself in what it says.
    spellings: dict[str, Sequence[str | Path]] = {
        "danet": (danet,),
        "python -m danet_jax": (python, "-m", "danet_jax"),
        "python main.py": (python, source / "main.py"),
    }
    for argument in ("--version", "configs"):
        said = [
            user(*command, argument).replace(name, "danet") for name, command in spellings.items()
        ]
        require(len(set(said)) == 1, "\n".join([f"{argument} is answered in several ways", *said]))

    user(python, "-c", DRAW)
    for step in (
        ("prepare", *SMALL),
        ("train", *SMALL, "--workdir=run"),
        ("eval", "--workdir=run"),
        ("predict", "--workdir=run", "--input=street.png", "--output=labelled"),
        ("export", "--workdir=run", "--format=stablehlo", "--output=exported"),
    ):
        say(f"danet {step[0]}")
        user(danet, *step)
    for file in ("run/report/index.html", "exported/model.stablehlo"):
        require((folder / file).is_file(), f"there is no {file}")
    say("a script of the user's")
    user(python, "script.py")
    say("a type checker")
    check_types(python, folder, place)


def without_network(environment: Environment) -> Sequence[str]:
    """What a command is started with, so that it has no network."""
    prefix = ("unshare", "--map-root-user", "--net")
    if (
        shutil.which("unshare")
        and not subprocess.run([*prefix, "true"], capture_output=True).returncode
    ):
        run(*prefix, environment.python, "-c", FIND_NETWORK)
        say("the network is off from here on")
        return prefix
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = REFUSING
    say("WARNING: this system lets nobody turn the network off (unshare); proxies refuse instead")
    return ()


def check_types(python: Path, folder: Path, place: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", f"--python-executable={python}"),
            *(f"--cache-dir={place / 'mypy'}", "mistake.py"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"error: (.*)", checked.stdout)
    wanted = 'Argument 1 to "evaluate" has incompatible type "int"'
    require(len(found) == 1 and found[0].startswith(wanted), checked.stdout + checked.stderr)


# --- helpers -------------------------------------------------------------------------------------


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Returns what a command prints; where it fails, all that it said is shown and this ends."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    words = " ".join(map(str, command))
    require(not done.returncode, f"{words}\n{done.stdout}{done.stderr}\nstatus {done.returncode}")
    return done.stdout


def only(items: Iterable[Item]) -> Item:
    (item,) = items
    return item


def require(fulfilled: bool, otherwise: str) -> None:
    if not fulfilled:
        sys.exit(f"wheel test failed: {otherwise}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
