"""A progress bar as a plain callback, so that what works need not know how it is shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Callback = Callable[[int, int], None]  # (done, total)


@contextmanager
def progress_bar(title: str) -> Iterator[Callback]:
    """`with progress_bar("encoding") as tell: work(progress=tell)`; the bar goes to the console."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))  # standard output is for results
    task = bar.add_task(title, total=None)

    def tell(done: int, total: int) -> None:
        bar.start()  # only once there is something to tell: a cache that is there shows no bar
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        if bar.live.is_started:
            bar.stop()
