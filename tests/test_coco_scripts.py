"""The published five steps on a COCO-like archive from a local server, and what can go wrong on the way."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run
from http_server import serve

DATASET, VECTORS = str(ROOT / "get_ms_coco_dataset.sh"), str(ROOT / "get_ms_coco_vectors.sh")
LIST = "ms_coco_file_list.txt"
NPY = f"{LIST}.saved_predictions.npy"
TOOLS = "sh cat dirname basename df du awk find sed sort wc tr sleep pwd mkdir mv rm unzip dd".split()
WRITERS = "mkdir curl unzip mv rm sort".split()  # all that changes what lies on the disk
UNTRAINED = ("--encoder", "mobilenet_v2", "--weights", "none")
PHOTOS = 3


def archive(file: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in entries.items():
            zipped.writestr(name, content)


def photo_entries(count: int = PHOTOS) -> dict[str, bytes]:
    return {f"val2014/COCO_val2014_{number:012d}.jpg": b"photo %d" % number for number in range(count)}


def matrix() -> bytes:
    rows = io.BytesIO()
    np.save(rows, np.random.default_rng(0).random((PHOTOS, 4096), np.float32))
    return rows.getvalue()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with val2014.zip, a few files in COCO's shape and names, and with the vectors' archive."""
    folder = tmp_path / "served"
    folder.mkdir()
    archive(folder / "val2014.zip", {"val2014/": b""} | photo_entries())
    archive(folder / "vectors.zip", {NPY: matrix()})
    return folder


@pytest.fixture
def address(served: Path) -> Iterator[str]:
    with serve(served) as (address, _):
        yield address


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def environment(address: str, archive: str = "val2014.zip", vectors: str = "vectors.zip") -> dict[str, str]:
    return {
        "MS_COCO_URL": f"{address}/{archive}",
        "MS_COCO_VECTORS_URL": f"{address}/{vectors}",
        "MS_COCO_COUNT": str(PHOTOS),
        "RETRY_SECONDS": "0",
    }


def tools(folder: Path, *more: str) -> str:
    """Return a PATH that has only the tools that the scripts need, and some more."""
    folder.mkdir()
    for tool in (*TOOLS, *more):
        found = sys.executable if tool == "python3" else shutil.which(tool)
        if not found:
            pytest.fail(f"{tool} is needed for this test: install it")
        (folder / tool).symlink_to(found)
    return str(folder)


def content(folder: Path) -> dict[str, bytes | None]:
    """Return all that lies in a folder: files with their bytes, folders without."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.usefixtures("encoder")
def test_published_steps_end_in_a_notebook_that_searches(work: Path, photos: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    real = {f"val2014/COCO_val2014_{n:012d}.jpg": p.read_bytes() for n, p in enumerate(sorted(photos.rglob("*.jpg")))}
    archive(tmp_path / "val2014.zip", real)
    rows = io.BytesIO()
    np.save(rows, np.random.default_rng(0).random((75, 4096), np.float32))
    archive(tmp_path / "vectors.zip", {NPY: rows.getvalue()})
    with serve(tmp_path) as (address, _):
        assert run(DATASET, cwd=work, **environment(address) | {"MS_COCO_COUNT": "75"}).returncode == 0
        assert run(VECTORS, cwd=work, **environment(address)).returncode == 0
    names = (work / LIST).read_text().splitlines()
    assert len(names) == 75 and names == sorted(names) and names[0] == "COCO_val2014_000000000000.jpg"
    assert sorted(entry.name for entry in work.iterdir()) == ["ms_coco", LIST, NPY]
    done = run("build_search_db.py", "-i", NPY, "-d", "4096", cwd=work)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(ROOT / "Similar image.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(work)}}).execute()
    assert "1  0.000  COCO_val2014_000000000000.jpg" in str(notebook)
    assert "vgg16 fc2" in str(notebook)
    done = run("extract_image_vectors.py", "-l", LIST, "-o", "own.npy", *UNTRAINED, cwd=work)
    assert done.returncode == 0, done.stderr
    assert np.load(work / "own.npy").shape == (75, 1280)


@pytest.mark.parametrize(("client", "lock"), [("curl", "flock"), ("wget", "python3")])
def test_download_goes_on_where_it_was_cut(served: Path, work: Path, tmp_path: Path, client: str, lock: str) -> None:
    path = tools(tmp_path / "tools", client, lock)
    with serve(served) as (address, asked):
        done = run(DATASET, cwd=work, PATH=path, **environment(address, "cut/val2014.zip"))
    assert done.returncode == 0, done.stderr
    assert asked[0][1] in (None, "bytes=0-") and asked[1][1] not in (None, "bytes=0-")
    assert len((work / LIST).read_text().splitlines()) == PHOTOS


def test_scripts_run_again_do_nothing(served: Path, work: Path) -> None:
    with serve(served) as (address, asked):
        for _ in range(2):
            for script in (DATASET, VECTORS):
                assert run(script, cwd=work, **environment(address)).returncode == 0
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["val2014.zip", "val2014.zip.part"])
def test_damaged_leftover_is_fetched_anew(served: Path, address: str, work: Path, name: str) -> None:
    (work / "ms_coco").mkdir()
    (work / "ms_coco" / name).write_bytes(bytes((served / "val2014.zip").stat().st_size))
    done = run(DATASET, cwd=work, **environment(address))
    assert done.returncode == 0, done.stderr
    assert set(content(work / "ms_coco")) == {"val2014", *(name for name in photo_entries())}


def killed_runs(script: str, work: Path, address: str, folder: Path) -> Iterator[str]:
    """Run a script until each command that writes, kill -9 it and its commands there, and say what the command was."""
    path = f"{tools(folder, 'curl', 'flock')}-killing"
    shutil.copytree(folder, path, symlinks=True)
    (folder / "kill").write_text(
        '#!/bin/sh\ntool=${0##*/}\necho "$tool" >> "$CALLS"\n'
        f'[ "$(wc -l < "$CALLS")" -ne "$NUMBER" ] || kill -9 "-$GROUP"\nexec "{folder}/$tool" "$@"\n'
    )
    (folder / "kill").chmod(0o755)
    for tool in WRITERS:
        (Path(path) / tool).unlink()
        (Path(path) / tool).symlink_to(folder / "kill")
    calls = folder / "calls"
    for number in range(1, 100):
        calls.unlink(missing_ok=True)
        shutil.rmtree(work)
        work.mkdir()
        settings = environment(address) | {"PATH": path, "CALLS": str(calls), "NUMBER": str(number)}
        words = ["/bin/sh", "-c", 'export GROUP=$$; exec "$0"', script]
        done = subprocess.run(words, cwd=work, env=settings, capture_output=True, start_new_session=True, check=False)
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield f"before {calls.read_text().split()[-1]}, which is number {number}"


@pytest.mark.parametrize(("script", "changes"), [(DATASET, 12), (VECTORS, 9)], ids=["dataset", "vectors"])
def test_killed_before_any_change_the_same_command_finishes(
    address: str, work: Path, tmp_path: Path, script: str, changes: int
) -> None:
    assert run(script, cwd=work, **environment(address)).returncode == 0
    whole = content(work)
    killed = []
    for where in killed_runs(script, work, address, tmp_path / "tools"):
        done = run(script, cwd=work, **environment(address))
        assert done.returncode == 0, (where, done.stderr)
        assert content(work) == whole, where
        killed.append(where)
    assert len(killed) >= changes, killed


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 1])
def test_killed_in_the_middle_of_a_change_the_same_command_finishes(
    served: Path, address: str, work: Path, share: float
) -> None:
    for script, zipped, stem, file in (
        (DATASET, "val2014.zip", "ms_coco/val2014", "COCO_val2014_000000000000.jpg"),
        (VECTORS, "vectors.zip", "ms_coco_predictions_vgg", NPY),
    ):
        shutil.rmtree(work)
        (work / "ms_coco").mkdir(parents=True)
        data = (served / zipped).read_bytes()
        (work / f"{stem}.zip.part").write_bytes(data[: round(share * len(data))])
        (work / f"{stem}.part").mkdir()
        (work / f"{stem}.part" / file).write_bytes(b"only the beg")
        assert run(script, cwd=work, **environment(address)).returncode == 0
        kept = content(work)
        assert not [name for name in kept if ".zip" in name or ".part" in name]
        assert b"only the beg" not in kept.values()


def test_unfinished_extraction_of_the_same_list_is_kept(address: str, work: Path) -> None:
    (work / f"{NPY}.part").write_bytes(b"hours of work")
    assert run(VECTORS, cwd=work, **environment(address)).returncode == 0
    assert (work / f"{NPY}.part").read_bytes() == b"hours of work"


def lying(file: Path, entries: dict[str, bytes]) -> None:
    """Write an archive that lists one byte for each of its files."""
    archive(file, entries)
    data = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + offset : at + offset + 4] = (1).to_bytes(4, "little")
    file.write_bytes(data)


def linked(file: Path, entries: dict[str, bytes]) -> None:
    """Write an archive whose last file is a link to the others' folder."""
    *others, last = entries
    archive(file, {name: entries[name] for name in others})
    link = zipfile.ZipInfo(last)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr(link, "/etc")


def renamed(old: str, new: str) -> dict[str, bytes]:
    return {name.replace(old, new): photo for name, photo in photo_entries().items()}


WRONG_PHOTOS = {
    "too few": (archive, photo_entries(PHOTOS - 1), "2 files val2014/*.jpg, not 3"),
    "another split": (archive, renamed("val2014/", "val2017/"), "0 files val2014/*.jpg, not 3"),
    "a large photo": (
        archive,
        photo_entries(2) | {"val2014/large.jpg": bytes(20_000_001)},
        "val2014/large.jpg, which is oddly named or larger than 20 MB",
    ),
    "another folder": (archive, renamed("0.jpg", "0/x.jpg"), "0/x.jpg, which is oddly named"),
    "a way out": (archive, renamed("2014/COCO", "2014/../../COCO"), "which is oddly named"),
    "two lines": (archive, renamed("_0", "\n0"), "which is oddly named"),
    "two words": (archive, renamed("_0", " 0"), "which is oddly named"),
    "a link": (linked, photo_entries(), "something else than it lists"),
    "a lie": (lying, photo_entries(), "more than it lists"),
    "a large lie": (lying, photo_entries(2) | {"val2014/large.jpg": bytes(50_000_000)}, "more than it lists"),
}


@pytest.mark.parametrize("kind", WRONG_PHOTOS)
def test_archive_of_other_than_photos_is_removed_and_the_same_command_then_works(
    served: Path, address: str, work: Path, kind: str
) -> None:
    write, entries, sentence = WRONG_PHOTOS[kind]
    (served / "val2014.zip").rename(served / "right.zip")
    write(served / "val2014.zip", entries)
    done = run(DATASET, cwd=work, **environment(address))
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert content(work) == {"ms_coco": None}
    (served / "right.zip").replace(served / "val2014.zip")
    done = run(DATASET, cwd=work, **environment(address))
    assert done.returncode == 0, done.stderr
    assert content(work / "ms_coco") == {"val2014": None} | photo_entries()


WRONG_VECTORS = {
    "other names": ({"vectors.npy": matrix()}, f"0 files {NPY}, not 1"),
    "text": ({NPY: b"<html>moved</html>"}, "that is no whole NumPy matrix"),
    "nothing": ({NPY: b""}, "that is no whole NumPy matrix"),
    "half": ({NPY: matrix()[:20_000]}, "that is no whole NumPy matrix"),
    "too much": ({NPY: matrix() + bytes(5000)}, "that is no whole NumPy matrix"),
}


@pytest.mark.parametrize("kind", WRONG_VECTORS)
def test_archive_of_other_than_vectors_is_removed_and_the_same_command_then_works(
    served: Path, address: str, work: Path, kind: str
) -> None:
    entries, sentence = WRONG_VECTORS[kind]
    archive(served / "wrong.zip", entries)
    (served / "vectors.zip").rename(served / "right.zip")
    (served / "wrong.zip").rename(served / "vectors.zip")
    done = run(VECTORS, cwd=work, **environment(address))
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert content(work) == {}
    (served / "right.zip").replace(served / "vectors.zip")
    assert run(VECTORS, cwd=work, **environment(address)).returncode == 0
    assert content(work) == {NPY: matrix()}


def test_what_is_no_archive_or_missing_is_a_sentence(served: Path, address: str, work: Path) -> None:
    (served / "text.zip").write_text("<html>not found</html>")
    with zipfile.ZipFile(served / "encrypted.zip", "w") as zipped:
        zipped.writestr("val2014/a.jpg", b"x")
    data = bytearray((served / "encrypted.zip").read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.find(mark) + offset] |= 1
    (served / "encrypted.zip").write_bytes(data)
    for name, sentence in (
        ("missing.zip", "could not be downloaded"),
        ("text.zip", "is no whole zip archive"),
        ("encrypted.zip", "is no whole zip archive"),
    ):
        for script in (DATASET, VECTORS):
            done = run(script, cwd=work, **environment(address, name, name))
            assert done.returncode == 1 and sentence in done.stderr, (name, done.stderr)
    assert content(work) == {"ms_coco": None}


def on_small_disk(script: str, work: Path, kilobytes: int, address: str, **settings: str) -> tuple[str, set[str]]:
    """Run a script on a disk of that size; return what it says and leaves."""
    mounted = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$PWD" && cd "$PWD" && '
    words = ["unshare", "-rm", "sh", "-c", mounted + '"$0"; echo "ended with $?" >&2; find . -type f', script]
    done = run(*words, cwd=work, **environment(address) | settings)
    if "ended with" not in done.stderr:
        pytest.skip(f"a small disk can't be made here: {done.stderr}")
    assert "ended with 1" in done.stderr
    return done.stderr, set(done.stdout.splitlines())


def test_full_disk_is_named_and_not_the_connection(served: Path, address: str, work: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    archive(served / "val2014.zip", {name: random.bytes(100_000) for name in photo_entries()})
    for client in ("curl", "wget"):
        path = f"{tools(tmp_path / client, client, 'flock', 'mount', 'unshare')}"
        said, left = on_small_disk(DATASET, work, 100, address, PATH=path)
        assert "val2014.zip.part could not be written: free some room on its disk" in said and "connection" not in said
    said, left = on_small_disk(DATASET, work, 700, address)
    assert "1 MB are needed in" in said and "which has 0: free some, then run this again" in said
    assert "./ms_coco/val2014.zip" in left, "the download is not to be lost"


def test_disk_that_fills_while_unpacking_is_named_and_the_archive_kept(served: Path, address: str, work: Path) -> None:
    archive(served / "val2014.zip", photo_entries(600))
    said, left = on_small_disk(DATASET, work, 1300, address, MS_COCO_COUNT="600")
    assert "ms_coco/val2014.part could not be written: free some room on its disk" in said
    assert left & {"./ms_coco/val2014.zip", f"./{LIST}"} == {"./ms_coco/val2014.zip"}
    assert not [name for name in left if ".jpg" in name], "nor is the disk to be left full"


def test_room_that_a_download_has_taken_is_not_asked_for_again(work: Path) -> None:
    def needed() -> int:
        done = run("sh", "-c", f". '{ROOT}/similar_images/download.sh'; room . 1000000000 val2014.*", cwd=work)
        assert done.returncode == 1
        return int(done.stderr.split(" MB are needed in ")[0].split()[-1])

    assert needed() == 1_000_000_000
    (work / "val2014.zip.part").write_bytes(os.urandom(5 << 20))
    assert needed() == 1_000_000_000 - 5


@pytest.mark.parametrize("client", ["curl", "wget"])
@pytest.mark.parametrize("kind", ["stall", "silent"])
def test_server_that_stalls_is_given_up(served: Path, work: Path, tmp_path: Path, client: str, kind: str) -> None:
    path = tools(tmp_path / "tools", client, "flock")
    with serve(served) as (address, asked):
        settings = environment(address, f"{kind}/val2014.zip") | {"STALL_SECONDS": "1", "PATH": path}
        done = run(DATASET, cwd=work, **settings)
    assert done.returncode == 1 and "could not be downloaded: check the connection" in done.stderr
    assert len(asked) == 3


@pytest.mark.parametrize("lock", ["flock", "python3"])
def test_second_run_at_once_is_told_so_and_the_first_is_not_disturbed(
    served: Path, work: Path, tmp_path: Path, lock: str
) -> None:
    path = tools(tmp_path / "tools", "curl", lock)
    for script in (DATASET, VECTORS):
        with serve(served) as (address, asked):
            settings = environment(address, "stall/val2014.zip", "stall/vectors.zip") | {"PATH": path}
            first = subprocess.Popen(
                [script], cwd=work, env=settings, stderr=subprocess.DEVNULL, start_new_session=True
            )
            while not asked:
                time.sleep(0.01)
            second = run(script, cwd=work, **settings)
            assert second.returncode == 1 and len(second.stderr.splitlines()) == 1
            assert "another run is at work in" in second.stderr and "wait until it has ended" in second.stderr
            assert first.poll() is None and len(asked) == 1
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            after = run(script, cwd=work, **environment(address) | {"PATH": path})
            assert after.returncode == 0, after.stderr


def test_wrong_arguments_are_a_sentence(work: Path) -> None:
    for script, *arguments in ((DATASET, "--split", "test2015"), (DATASET, "--split"), (DATASET, "x"), (VECTORS, "x")):
        done = run(script, *arguments, cwd=work)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    done = run(DATASET, cwd=work, MS_COCO_COUNT="many")
    assert done.returncode == 2 and "MS_COCO_COUNT must be a number, not many" in done.stderr
    assert run(DATASET, "--help", cwd=work).stdout.startswith("Fetch the photos")
