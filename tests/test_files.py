import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT

from similar_images import files
from similar_images.files import BusyError, card_path, is_unchanged, locked, mend, part_of, replacing

HOLD = """
import sys, time
from pathlib import Path
from similar_images.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_replacing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), replacing(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with replacing(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_locked_by_another_process_is_busy_until_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "v.npy"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, file], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=r"another run is writing .*v\.npy"), locked(file):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(file):
        assert part_of(file) != file
    assert list(tmp_path.iterdir()) == []


def test_locked_by_many_threads_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most, entered = [], [], []

    def enter() -> None:
        while len(entered) < 100:
            try:
                with locked(tmp_path / "a"):
                    inside.append(1)
                    most.append(len(inside))
                    entered.append(1)
                    inside.pop()
            except BusyError:
                pass

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and list(tmp_path.iterdir()) == []


def test_mend_finishes_what_was_cut_off_and_waits_for_who_is_at_it(tmp_path: Path) -> None:
    file = tmp_path / "v.npy"

    def cut_off() -> None:
        for each in (file, card_path(file)):
            part_of(each).write_text("new")

    cut_off()
    mend(file)
    assert file.read_text() == card_path(file).read_text() == "new"
    cut_off()
    with locked(file):
        waiting = threading.Thread(target=mend, args=[file])
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
    waiting.join()
    assert sorted(tmp_path.iterdir()) == [file, card_path(file)]


def test_mend_of_what_another_run_holds_for_long_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MENDING_SECONDS", 0)
    part_of(card_path(tmp_path / "v.npy")).touch()
    with locked(tmp_path / "v.npy"), pytest.raises(BusyError):
        mend(tmp_path / "v.npy")


def test_is_unchanged_reads_a_file_once_for_each_time_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "v.npy", []
    path.write_bytes(b"some")
    known = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    compute = files.digest
    monkeypatch.setattr(files, "digest", lambda file: read.append(1) or compute(file))
    os.utime(path, (1, 1))
    with open(path, "rb") as file:
        assert is_unchanged(file, known) and is_unchanged(file, known) and len(read) == 1
        os.utime(path, (2, 2))
        assert is_unchanged(file, known) and len(read) == 2
    path.write_bytes(b"same")
    os.utime(path, (3, 3))
    with open(path, "rb") as file:
        assert not is_unchanged(file, known) and not is_unchanged(file, known) and len(read) == 4


def test_is_unchanged_trusts_no_time_that_a_second_write_could_share(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    now = time.time_ns() + 10**9  # so that a slow machine is not late
    path.write_bytes(b"some")
    os.utime(path, ns=(now, now))
    with open(path, "rb") as file:
        known = files.digest(file)
        assert is_unchanged(file, known)
    path.write_bytes(b"same")
    os.utime(path, ns=(now, now))  # the clock has not ticked
    with open(path, "rb") as file:
        assert not is_unchanged(file, known)
