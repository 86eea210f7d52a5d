"""The life of a gallery: photos come, go, move and change, updates are killed, and rows stay what they are."""

import hashlib
import io
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from conftest import ROOT, run, save_small_model
from PIL import Image

from similar_images.encoding.encoders import EncoderSpec, load_or_save_encoder
from similar_images.search.gallery import Gallery
from similar_images.search.query import Row
from similar_images.store.faiss_store import FaissStore
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

VECTORS, INDEX, MODEL = "photos.saved_predictions.npy", "photos.faiss.index", "small.keras"
EXTRACT = ("-d", "photos", "-o", VECTORS, "-m", MODEL, "--precision", "f32")
KILLED = """
import sys
from killed_runs import kill_before_change
from similar_images.extraction import extraction
import extract_image_vectors
extraction.CHECKPOINT_SECONDS = 0
kill_before_change(int(sys.argv[1]))
extract_image_vectors.main(sys.argv[2:])
"""
QUERIES, K = 50, 10
ALL = 10**6
ROUNDING = 5e-5  # of distances: what an untrained model makes of photos is nearly the same
SHARE = 0.02  # of the photos, to which each thing happens in a round


def drawn() -> Iterator[bytes]:
    """Yield photos, each of another content."""
    for seed in range(ALL):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC).save(file, "JPEG")
        yield file.getvalue()


def real(folders: list[Path]) -> Iterator[bytes]:
    """Yield photos of folders, each of another content, in a seeded order, then drawn ones."""
    files = sorted(file for folder in folders for file in folder.rglob("*.jpg"))
    random.Random(0).shuffle(files)
    yield from {hashlib.sha256(content).digest(): content for content in map(Path.read_bytes, files)}.values()
    yield from drawn()


class Life:
    """A gallery, and what is remembered of it.

    Attributes:
        folder: where its files are.
        rows: the row of each photo that is there, by the digest of its content.
        gone: rows of photos that left.
        expected: the vector of each photo that there was, by the digest of its content, from another way of encoding.
    """

    def __init__(self, folder: Path, source: Iterator[bytes], photos: int) -> None:
        self.folder, self.photos, self.source = folder, folder / "photos", source
        self.random = random.Random(0)
        self.rows: dict[str, int] = {}
        self.gone: set[int] = set()
        self.expected: dict[str, np.ndarray] = {}
        self.left: list[bytes] = []
        self.changes = 40  # to the disk, of an update
        save_small_model(folder / MODEL, d=64)
        self.encoder = load_or_save_encoder(EncoderSpec(), folder / MODEL)
        self.photos.mkdir()
        for number in range(photos):
            self.put(f"{number % 7}/first {number}.jpg", next(source))
        for command in (("extract_image_vectors.py", *EXTRACT), ("build_search_db.py", "-i", VECTORS)):
            done = run(*command, cwd=folder)
            assert done.returncode == 0, done.stderr
        self.gallery = Gallery.open(folder / INDEX)
        self.check()

    def put(self, name: str, content: bytes) -> None:
        (self.photos / name).parent.mkdir(exist_ok=True)
        (self.photos / name).write_bytes(content)

    def happen(self, turn: int) -> None:
        """Let photos leave, change, move and come, some that had left before among them."""
        files = sorted(file for file in self.photos.rglob("*") if file.is_file())
        self.random.shuffle(files)
        counts = [self.random.randint(1, max(1, round(2 * SHARE * len(files)))) for _ in range(4)]
        removed, replaced, renamed = (files[sum(counts[:n]) : sum(counts[: n + 1])] for n in range(3))
        back = self.left[: counts[3] // 3]
        self.left = self.left[len(back) :] + [file.read_bytes() for file in removed]
        for file in removed:
            file.unlink()
        for file in replaced:
            file.write_bytes(next(self.source))
        for number, file in enumerate(renamed):
            (self.photos / f"moved {turn}").mkdir(exist_ok=True)
            file.rename(self.photos / f"moved {turn}" / f"{number}.jpg")
        for number in range(counts[3]):
            self.put(f"{turn % 7}/new {turn} {number}.jpg", back[number] if number < len(back) else next(self.source))

    def update(self) -> bool:
        """Update, killed at a random change to the disk, then again; return whether the first run was killed."""
        number = self.random.randint(1, self.changes)
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        killed = run(sys.executable, "-c", KILLED, number, *EXTRACT, "--update", cwd=self.folder, **environment)
        assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
        if not killed.returncode:
            self.changes = max(10, number - 1)
        done = run("extract_image_vectors.py", *EXTRACT, "--update", cwd=self.folder)
        assert (done.returncode, "not brought up to date" in done.stdout) == (0, False), done.stderr + done.stdout
        return killed.returncode != 0

    def check(self) -> list[float]:
        """Compare all with what it was, and hits with exact search; return recalls of the index and of a new one."""
        found = self.gallery.search_many([np.ones(64, np.float32)], k=ALL)[0]  # from now on it has seen the update
        store = self.gallery.store
        known = store.facts(range(len(store)))
        there = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in self.photos.rglob("*.jpg")}
        present = {photo.name: photo.row for photo in known if photo.state == "present"}
        assert present.keys() == {str(file.relative_to(self.photos)) for file in there.values()}
        now = {digest: present[str(file.relative_to(self.photos))] for digest, file in there.items()}
        self.gone |= {row for digest, row in self.rows.items() if digest not in now}
        assert all(now[digest] == row for digest, row in self.rows.items() if digest in now)
        assert not self.gone & {*now.values()} and all(known[row].state == "removed" for row in self.gone)
        self.rows = now
        assert {hit.image_id for hit in found} == {*now.values()}
        self._check_vectors(there)
        return self._check_hits(np.array(sorted(now.values())))

    def _check_vectors(self, there: dict[str, Path]) -> None:
        new = [digest for digest in there if digest not in self.expected]
        for start in range(0, len(new), 256):
            some = new[start : start + 256]
            vectors = self.encoder.model(np.stack([self.encoder.pixels(there[digest]) for digest in some])).numpy()
            self.expected |= dict(zip(some, vectors, strict=True))
        expected = np.stack([self.expected[digest] for digest in self.rows])
        stored = self.gallery.store.vectors(np.array([*self.rows.values()]))
        np.testing.assert_allclose(stored, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).mean())

    def _check_hits(self, there: np.ndarray) -> list[float]:
        asked = there[np.sort(np.random.default_rng(len(self.gone)).choice(len(there), QUERIES, replace=False))]
        exact = exact_distances(self.gallery.store, asked, there)
        nearest = np.sort(exact, axis=1)[:, :K]
        hits = self.gallery.search_many([Row(int(row)) for row in asked], K, nprobe=ALL, rerank=ALL, focus=0)
        np.testing.assert_allclose([[hit.distance for hit in line] for line in hits], nearest, atol=ROUNDING)
        ids = np.array([[hit.image_id for hit in line] for line in hits])
        np.testing.assert_allclose(
            np.take_along_axis(exact, np.searchsorted(there, ids), axis=1), nearest, atol=ROUNDING
        )
        fresh = self.folder / "fresh.faiss.index"
        build_index(open_vectors(self.folder / VECTORS), fresh, IndexSettings())
        return [recall(store, asked, there) for store in (self.gallery.store, FaissStore(fresh))]


def exact_distances(store: FaissStore, asked: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the distances (q, n) of rows to those that have a photo, in float64, by the measure of a store."""
    units = store.vectors(there).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    if store.measure.mean is not None:
        units -= store.measure.mean
        units /= np.linalg.norm(units, axis=1, keepdims=True)
    return 2 - 2 * units[np.searchsorted(there, asked)] @ units.T


def recall(store: FaissStore, asked: np.ndarray, there: np.ndarray) -> float:
    """Return recall@10 of searches by default."""
    exact = exact_distances(store, asked, there)
    found = np.searchsorted(there, store.search(store.vectors(asked), K)[0])
    furthest = np.sort(exact, axis=1)[:, K - 1 : K]
    return float((np.take_along_axis(exact, found, axis=1) <= furthest + ROUNDING).mean())


def live(folder: Path, source: Iterator[bytes], photos: int, rounds: int, say: Callable[[str], None]) -> None:
    """Let a gallery live for some rounds, and check it after each."""
    began = time.monotonic()
    life = Life(folder, source, photos)
    killed, recalls = 0, []
    for turn in range(1, rounds + 1):
        life.happen(turn)
        killed += life.update()
        recalls.append(life.check())
        added, fresh = recalls[-1]
        now = f"{len(life.rows):,} photos, {len(life.gone):,} rows of others"
        say(f"round {turn}: {now}; recall@{K} {added:.3f}, built anew {fresh:.3f}")
        assert added > fresh - 0.05
    say(f"{killed} of {rounds} updates were killed; {time.monotonic() - began:.0f} s")
    assert killed > rounds / 2
    shutil.rmtree(folder)
