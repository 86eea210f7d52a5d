"""The notebook's server as a child process that writes to a log, and the copy of the notebook that it opens."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from similar_images.files import replacing

Notebook = dict[str, Any]

ADDRESS = re.compile(r"is running at:\n(?:\[.*?\] )?(?P<address>https?://\[?(?P<host>[^/]+?)\]?:(?P<port>\d+)\S*)")
MADE_FROM = "similar_images_made_from"  # a copy's metadata: the digest of the notebook that it was made from


class ServerError(ValueError):
    """A server can't be used; the message says where to look."""


def serve(command: Sequence[str], log: Path, listening: Callable[[str], None]) -> None:
    """Run a server until it ends or this process is interrupted, terminated or loses its terminal.

    Args:
        command: Jupyter's or Voila's.
        log: where its output goes, for its owner's eyes: it may name the token that lets in.
        listening: called with the address to open, once there is a server behind it.

    Raises:
        ServerError: it ended before it listened.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    log.unlink(missing_ok=True)
    with open(log, "x", opener=_for_owner) as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        listening(_address(server, log))
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    while server.poll() is None:
        found = ADDRESS.search(log.read_text(encoding="utf-8", errors="replace"))
        if found and not _is_refused(found["host"], int(found["port"])):
            return found["address"]
        time.sleep(0.1)
    raise ServerError(f"the server ended before it could be used; {log} says why")


def _is_refused(host: str, port: int) -> bool:
    """Return whether nobody listens there yet; a name that only others resolve can't be asked."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def working_copy(notebook: Path, folder: Path) -> Path:
    """Return the copy of a notebook in a folder, which is made, or made anew unless its cells were edited.

    Args:
        notebook: the .ipynb file.
        folder: where the copy goes, under the same name.
    """
    copy = folder / notebook.name
    original = json.loads(notebook.read_text(encoding="utf-8"))
    made_from = _digest(original)
    if not copy.exists() or _is_outdated(copy, made_from):
        original["metadata"][MADE_FROM] = made_from
        with replacing(copy) as temporary:
            temporary.write_text(json.dumps(original, indent=1), encoding="utf-8")
    return copy


def _is_outdated(copy: Path, made_from: str) -> bool:
    """Return whether a copy is what it was made from, but for outputs, and that is not what it would be made from."""
    try:
        notebook = json.loads(copy.read_text(encoding="utf-8"))
        return bool(_digest(notebook) == notebook["metadata"][MADE_FROM] != made_from)
    except (ValueError, KeyError, TypeError):  # what a person wrote there is theirs
        return False


def _digest(notebook: Notebook) -> str:
    """Return the SHA-256 of a notebook's cells as they were written, without outputs and empty cells."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    written = [cell for cell in cells if cell[1].strip()]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()
