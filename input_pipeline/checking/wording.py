"""How diagnoses write of several files, ids and classes."""

from collections.abc import Sequence

from danet_jax.base.wording import counted
from danet_jax.input_pipeline.checking.survey import Occurrence

_MAX_NAMES = 5
_SINGULAR = {
    "are": "is",
    "have": "has",
    "hold": "holds",
    "look": "looks",
    "seem": "seems",
    "were": "was",
}


def of_labels(occurrence: Occurrence, text: str) -> str:
    """Completes a sentence on labels: "2 labels (FILES) hold …", or "1 label (FILE) holds …"."""
    verb, space, rest = text.partition(" ")
    verb = _SINGULAR[verb] if occurrence.images == 1 else verb
    return f"{listed(occurrence, 'label')} {verb}{space}{rest}"


def listed(occurrence: Occurrence, what: str) -> str:
    more = ", …" if occurrence.images > len(occurrence.files) else ""
    return f"{counted(occurrence.images, what)} ({', '.join(occurrence.files)}{more})"


def quoted(items: Sequence[int | str]) -> str:
    """Lists the first of these in quotes, and says how many more there are."""
    shown = ", ".join(repr(item) for item in items[:_MAX_NAMES])
    return f"{shown} and {len(items) - _MAX_NAMES} more" if items[_MAX_NAMES:] else shown
