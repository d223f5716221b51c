"""What a person sees while something runs: on standard error, as standard output is for results."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from danet_jax.base.texts import visible

# Without emoji, which would change paths such as a:100:b.
console = Console(stderr=True, emoji=False)


def say(text: str) -> None:
    """Prints a line above any bar, as it is: brackets are no markup, and long lines stay whole."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def image_progress(*, visible: bool = True, stays: bool = False) -> Progress:
    """Returns a bar of images, their speed and the time left; it goes when done, or stays."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _ImagesPerSecond(),
        TimeRemainingColumn(),
        console=console,
        transient=not stays,
        disable=not visible,
    )


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("– images/s" if speed is None else f"{speed:.3g} images/s")
