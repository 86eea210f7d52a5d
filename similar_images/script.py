"""How scripts end: Ctrl-C and a user's mistake are one sentence, at whatever moment and on whatever terminal.

It imports next to nothing, so that hardly a moment is left in which Ctrl-C prints a traceback.
"""

import _signal as signal  # type: ignore[import-not-found]  # what "signal" wraps at the price of a dozen imports
import io
import os
import sys


def begin() -> None:
    """Let Ctrl-C end the process at once, in the middle of an import too, and any name be printed.

    A script calls it before its other imports.
    """
    signal.signal(signal.SIGINT, lambda *_: _end_at_once())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run_command() -> None:
    """Run the script that the console command which started this process is named after."""
    begin()
    from importlib import import_module

    import_module(os.path.basename(sys.argv[0])).main()


class OneSentence:
    """A block that is left by Ctrl-C, or by a user's mistake, with a sentence and status 1.

    Mistakes are a ValueError or an OSError, whose message is the sentence.
    """

    def __init__(self, stopped: str) -> None:
        """Take what to say after Ctrl-C."""
        self._stopped = stopped
        self._is_stopped = False

    def __enter__(self) -> None:
        """Begin the block."""
        self._before = signal.signal(signal.SIGINT, self._stop)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End the block, and where it failed the process."""
        signal.signal(signal.SIGINT, self._before)
        if error is not None and self._is_stopped:
            _fail(self._stopped)
        if isinstance(error, ValueError | OSError):
            _fail(error)

    def _stop(self, *_: object) -> None:
        self._is_stopped = True  # extension modules turn KeyboardInterrupt into errors of their own
        raise KeyboardInterrupt


def _fail(sentence: object) -> None:
    print(f"Error: {sentence}", file=sys.stderr)
    raise SystemExit(1) from None


def _end_at_once() -> None:
    os.write(2, b"Error: stopped\n")
    os._exit(1)
