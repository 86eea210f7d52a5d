import os
import pty
import subprocess
import sys
import termios

import pytest

SHOW = """
from similar_images.progress import progress_bars
with progress_bars("photos") as progress:
    progress("comparing", 3, 3)
    progress("encoding", 40, 100)
    progress("encoding", 100, 100)
"""


def test_progress_bars_on_a_terminal_show_each_step_and_how_much_is_done() -> None:
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 100))
    subprocess.run([sys.executable, "-c", SHOW], stderr=other_end, check=True)
    os.close(other_end)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # all was read
            break
    os.close(terminal)
    said = shown.decode()
    for words in ("Comparing: 100%", "3/3", "Encoding:  40%", "40/100", "Encoding: 100%", "100/100"):
        assert words in said, said


def test_progress_bars_elsewhere_show_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    subprocess.run([sys.executable, "-c", SHOW], check=True)
    assert capfd.readouterr() == ("", "")
