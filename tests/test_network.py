"""What leaves the machine: nothing that its user didn't ask for."""

import os
import subprocess
import sys
from pathlib import Path

WATCHED = """
import os, sys

def watch(event, args):  # also in processes that are forked from this one
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{event} {args[:2]}\\n".encode())
        os.close(log)
        raise PermissionError("no connections")

sys.addaudithook(watch)
"""
USE = """
from pathlib import Path
import build_search_db, extract_image_vectors
from similar_images.search.gallery import Gallery
from similar_images.encoding.weights import import_keras

keras = import_keras()
taken = keras.Input((32, 32, 3))
keras.Model(taken, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3)(taken))).save("small.keras")
extract = ["-d", os.environ["PHOTOS"], "-m", "small.keras", "-o", "v.saved_predictions.npy", "--precision", "int8"]
extract_image_vectors.main(extract, standalone_mode=False)
build_search_db.main(["-i", "v.saved_predictions.npy"], standalone_mode=False)
photo = next(Path(os.environ["PHOTOS"]).rglob("*.jpg"))
print(Gallery.open("v.faiss.index").search(photo.read_bytes())[0].similarity > 0.99)
"""


def watched(code: str, folder: Path, **settings: str) -> tuple[str, str]:
    """Run code in a folder that is its home too; return what it printed and the connections that it wanted."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    log = folder / "connections.log"
    places = {"HOME": str(folder), "LOG": str(log), "MPLCONFIGDIR": str(folder)}
    command = [sys.executable, "-c", WATCHED + code]
    done = subprocess.run(
        command, cwd=folder, env=environment | places | settings, capture_output=True, text=True, check=True
    )
    return done.stdout, log.read_text() if log.exists() else ""


def test_extracting_and_searching_open_no_connection_and_leave_no_mark_in_the_home(
    photos: Path, tmp_path: Path
) -> None:
    said, connections = watched(USE, tmp_path, PHOTOS=str(photos))
    assert said.endswith("True\n") and connections == ""
    assert not (tmp_path / "intel").exists(), "OpenVINO keeps an identity there"


def test_connections_are_seen_where_there_are_some(tmp_path: Path) -> None:
    code = "import contextlib, socket\nwith contextlib.suppress(PermissionError):\n"
    assert "127.0.0.1" in watched(f"{code}    socket.create_connection(('127.0.0.1', 9))", tmp_path)[1]
