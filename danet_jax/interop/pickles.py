"""Which objects and how much memory a PyTorch file asks for, found without loading it."""

import _compat_pickle
import contextlib
import dataclasses
import pickletools
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line

# Modules whose functions start programs, open files or connections, or reach those that do. No
# checkpoint of a training script needs them, and a pickle that names them calls them.
_DANGEROUS = re.compile(
    r"(_io|_pickle|_posixsubprocess|asyncio|code|codeop|ctypes|ftplib|http|imp|importlib|"
    r"inspect|io|marshal|multiprocessing|nt|operator|os|pdb|pickle|pip|platform|posix|profile|pty|"
    r"requests|runpy|shutil|signal|site|smtplib|socket|subprocess|sys|tempfile|threading|timeit|"
    r"trace|types|urllib|webbrowser)\.(?!SimpleNamespace$)|.*\b(eval|exec|popen|system)\b"
)
_HARMLESS_BUILTINS = re.compile(
    "bytearray|bytes|complex|dict|float|frozenset|int|list|object|print|range|set|slice|str|tuple|"
    "type"
)
# Encodings from bytes to more bytes: one after another, they double their memory each time.
_GROWING = ("hex", "base64", "uu", "quopri", "quotedprintable")
_LONGEST_NAME = 40
# The errors of the readers of archives and pickles where a file is damaged, or is neither.
_TORN = (
    *(ValueError, ArithmeticError, LookupError, EOFError, OSError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
# Larger pickles and more entries do not occur in a file of weights.
_LARGEST_PICKLE = 256 << 20
_MOST_ENTRIES = 200_000
# The objects of a file in the format before PyTorch 1.6, in which several pickles follow each
# other: a magic number, a version, facts about the machine, the content, its arrays' keys.
_LEGACY_PICKLES = 5


def check_size(path: Path, largest: int) -> None:
    """Raises a UserError where a file, or what it unpacks to, is larger than `largest` bytes.

    The sizes are those that an archive names for its entries, so nothing is unpacked for it.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        entries = _entries(path)
        size = max(size, sum(entry.file_size for entry in entries))
        if len(entries) > _MOST_ENTRIES or len({e.filename for e in entries}) < len(entries):
            raise UserError(
                f"checkpoint {path} is an archive of {len(entries)} entries, some of the same name "
                "or too many: torch.save writes no such file. It was not loaded."
            )
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            raise UserError(
                f"checkpoint {path} is an archive whose entries overlap: torch.save writes no such "
                "file. It was not loaded."
            )
    if size > largest:
        raise UserError(
            f"checkpoint {path} holds {_amount(size)}, but a checkpoint of this network has at "
            f"most {_amount(largest)}, also with an optimiser's state in 64 bits: it is another "
            "network's, or not what it says. It was not loaded. Save the state_dict alone where "
            "it came from, or choose the config of its network."
        )


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception as error:  # by what is torn, some five types
        raise UserError(
            f"checkpoint {path} is torn, or not a PyTorch file: {one_line(error)}"
        ) from error


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


@dataclasses.dataclass
class Contents:
    """What the pickles of a file ask for."""

    # Full names of everything that they import.
    imports: set[str] = dataclasses.field(default_factory=set)
    # All short texts in them; the name of an encoding would be among them.
    texts: set[str] = dataclasses.field(default_factory=set)
    # The protocol of Python's pickle module.
    protocol: int | None = None

    @property
    def dangerous(self) -> list[str]:
        """The imports that nothing but running code has a use for."""
        return sorted(filter(is_dangerous, self.imports))

    @property
    def inflating(self) -> list[str]:
        """The calls that turn few bytes into much memory, which PyTorch's reader takes for safe."""
        calls = sorted(self.imports & {"builtins.bytearray"})
        if "_codecs.encode" in self.imports:
            codecs = {re.sub("[^a-z0-9]|codec", "", text.lower()) for text in self.texts}
            calls += [f"_codecs.encode to {codec}" for codec in _GROWING if codec in codecs]
        return calls


def read_contents(path: Path) -> Contents:
    """Lists what the pickles of a file ask for, without doing it.

    Where a pickle cannot be read to its end, the part before counts; PyTorch then says why.
    """
    contents = Contents()
    with contextlib.suppress(*_TORN):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".pkl") and entry.file_size <= _LARGEST_PICKLE:
                        with archive.open(entry) as file:
                            _collect(file, contents)
        else:
            with open(path, "rb") as file:
                for _ in range(_LEGACY_PICKLES):
                    _collect(file, contents)
    return contents


def is_dangerous(name: str) -> bool:
    """Whether weights have no use for an import of this name."""
    module, _, attribute = name.partition(".")
    if module == "builtins":
        return not _HARMLESS_BUILTINS.fullmatch(attribute)
    return bool(_DANGEROUS.match(name))


def _collect(file: Any, contents: Contents) -> None:
    """Reads the next pickle of a file."""
    # STACK_GLOBAL takes a module and a name from the stack: the two texts that were pushed last.
    pushed: list[str | None] = [None, None]
    memo: dict[int, str | None] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO":
                contents.protocol = argument
            case "GLOBAL" | "INST":
                contents.imports.add(_today(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                contents.imports.add(_today(*map(str, pushed)))
            case "MEMOIZE":
                memo[len(memo)] = pushed[-1]
                continue
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[int(argument)] = pushed[-1]
                continue
            case "BINGET" | "LONG_BINGET" | "GET":
                pushed = [pushed[-1], memo.get(int(argument))]
                continue
        text = argument if isinstance(argument, str) and opcode.name != "GLOBAL" else None
        if text is not None and len(text) <= _LONGEST_NAME:
            contents.texts.add(text)
        pushed = [pushed[-1], text]


def _today(module: str, name: str) -> str:
    """The full name in Python 3 of an object that protocols up to 2 may name as in Python 2."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[module, name])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
