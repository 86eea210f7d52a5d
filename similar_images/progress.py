"""How far long work has got: said in one way by all of it, and shown by bars on a terminal."""

import contextlib
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]  # what is being done, how many are done by now, of how many


def no_progress(step: str, done: int, total: int) -> None:
    """Show nothing."""


@contextlib.contextmanager
def progress_bars(unit: str) -> Iterator[Progress]:
    """Yield a `Progress` that shows each step as a bar with rate and time left: on standard error, if a terminal.

    Args:
        unit: what is counted: "photos", say. What was done before a step is shown first doesn't count for the rate.
    """
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in bars:
            close()
            bars[step] = tqdm(desc=step.capitalize(), total=total, initial=done, unit=f" {unit}", disable=None)
        bars[step].update(done - bars[step].n)

    def close() -> None:
        for bar in bars.values():
            bar.close()

    try:
        yield show
    finally:
        close()
