"""How diagnoses write of several files, ids and classes."""

from collections.abc import Sequence

from danet_base.wording import counted
from input_pipeline.checking.survey import Occurrence

_MAX_NAMES = 5
_SINGULAR = {
    "are": "is",
    "have": "has",
    "hold": "holds",
    "look": "looks",
    "seem": "seems",
    "were": "was",
}


def of_labels(seen: Occurrence, text: str) -> str:
    """Completes a sentence on labels: "2 labels (FILES) hold …", or "1 label (FILE) holds …"."""
    verb, space, rest = text.partition(" ")
    return f"{listed(seen, 'label')} {_SINGULAR[verb] if seen.images == 1 else verb}{space}{rest}"


def listed(seen: Occurrence, what: str) -> str:
    more = ", …" if seen.images > len(seen.files) else ""
    return f"{counted(seen.images, what)} ({', '.join(seen.files)}{more})"


def quoted(things: Sequence[int | str]) -> str:
    """Lists the first of these in quotes, and says how many more there are."""
    shown = ", ".join(repr(thing) for thing in things[:_MAX_NAMES])
    return f"{shown} and {len(things) - _MAX_NAMES} more" if things[_MAX_NAMES:] else shown
