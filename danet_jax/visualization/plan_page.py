"""A plan of a training on absent chips as one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from danet_jax.visualization import pages


def write_plan_page(
    path: Path,
    *,
    title: str,
    columns: Mapping[str, Mapping[str, str]],
    notes: Sequence[str],
    facts: Mapping[str, str],
    config: Mapping[str, Any],
) -> Path:
    """Writes a plan as one HTML file, whole or not at all.

    Args:
      path: the file.
      title: of the page.
      columns: for each topology the names and the texts of its rows.
      notes: what a reader has to know, as sentences.
      facts: the versions of what compiled.
      config: the experiment.
    """
    first = next(iter(columns.values()))
    rows = [
        pages.row(pages.row_head(name), *(_lines(column[name]) for column in columns.values()))
        for name in first
    ]
    table = pages.table(pages.column_heads("", *columns), rows, title="One step of training")
    remarks = pages.tag("ul", *(pages.tag("li", note) for note in notes), class_="card")
    settings = pages.tag("pre", Markup("\n").join(pages.yaml(config)), class_="card config")
    content = pages.page(
        title,
        pages.title(title, "Compiled for chips that were absent, and not run.")
        + pages.facts(facts),
        pages.section("Plan", table),
        pages.section("Notes", remarks),
        pages.section("Config", settings),
    )
    return pages.write(path, content)


def _lines(text: str) -> Markup:
    """A cell of one or several lines."""
    return pages.tag("td", Markup("<br>").join(text.split("\n")))
