"""An index that follows its vectors, against one that was filled at once, and against exact search."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import faiss
import msgspec
import numpy as np
import pytest
from conftest import write_vectors
from killed_runs import killed_runs

from similar_images.cards import IndexCard, read_card, write_card
from similar_images.files import digest
from similar_images.store.base import EXHAUSTIVE, Among
from similar_images.store.facts import Facts
from similar_images.store.faiss_index import GalleryIndexError
from similar_images.store.faiss_store import FaissStore
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.index_update import update_index, why_build_again
from similar_images.store.vectors import normalise, open_vectors

D = 64
N = 1300
MORE = 200


def points(n: int, seed: int = 0) -> np.ndarray:
    """Return vectors (n, D) float32 in clusters, of no negative values."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((12, D))
    return np.maximum(centres[rng.integers(0, 12, n)] + rng.standard_normal((n, D)), 0).astype(np.float32)


class Files:
    """The files of a gallery, and ways to change its vectors without its index."""

    def __init__(self, folder: Path) -> None:
        self.vectors = folder / "v.saved_predictions.npy"
        self.index = folder / "v.faiss.index"

    def build(self, rows: np.ndarray, **settings: object) -> IndexCard:
        return build_index(open_vectors(write_vectors(self.vectors, rows)), self.index, IndexSettings(**settings))

    def add(self, vectors: np.ndarray, unreadable: tuple[int, ...] = ()) -> list[int]:
        """Append vectors; some of them are zeros, of photos that could not be read."""
        vectors, n = vectors.copy(), len(open_vectors(self.vectors).array)
        vectors[list(unreadable)] = 0
        photos = [Facts(0, f"{n + number}.jpg") for number in range(len(vectors))]
        for number in unreadable:
            photos[number] = Facts(0, f"{n + number}.jpg", state="unreadable", reason="cut off")
        return FaissStore(self.index).add(vectors, photos).tolist()

    def remove(self, rows: list[int]) -> None:
        FaissStore(self.index).remove(rows)

    def update(self) -> IndexCard:
        return update_index(open_vectors(self.vectors), self.index)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def parts(index: faiss.Index) -> Iterator[faiss.Index]:
    """Yield an index and all that it is made of."""
    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "refine_index", "storage"):
        if inside := getattr(index, name, None):
            yield from parts(inside)


def held(index: faiss.Index) -> list[np.ndarray]:
    """Return what an index keeps of each vector, in the order of rows."""
    kept = []
    for part in parts(index):
        if isinstance(part, faiss.IndexIVF):
            by_row = {}
            for number in range(part.nlist):
                size = part.invlists.list_size(number)
                ids = faiss.rev_swig_ptr(part.invlists.get_ids(number), size) if size else []
                codes = faiss.rev_swig_ptr(part.invlists.get_codes(number), size * part.code_size) if size else []
                by_row |= {
                    int(id): [number, *code] for id, code in zip(ids, np.reshape(codes, (size, -1)), strict=True)
                }
            assert sorted(by_row) == list(range(part.ntotal))
            kept.append(np.array([by_row[row] for row in range(part.ntotal)]))
        elif isinstance(part, faiss.IndexFlatCodes):
            codes = faiss.vector_to_array(part.codes).reshape(part.ntotal, -1)
            kept.append(codes.view(f"f{part.code_size // part.d}") if part.code_size > part.d else codes)
    return kept


SETTINGS = {
    "default": {},
    "raw": {"pca": None},
    "flat": {"flat": True},
    "odd": {"pca": 30, "m": 8},
    "PQ8": {"factory": "PQ8"},
    "HNSW16": {"factory": "HNSW16"},
    "PCA32,HNSW16": {"factory": "PCA32,HNSW16"},
    "IVF16,PQ8x4,RFlat": {"factory": "IVF16,PQ8x4,RFlat"},
    "IVF16,SQ8": {"factory": "IVF16,SQ8"},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_update_adds_what_the_trained_index_would_keep_of_all_rows(files: Files, kind: str) -> None:
    n = 300 if kind == "flat" else N
    first, later = points(n), points(MORE, seed=1)
    card = files.build(first, **SETTINGS[kind] if kind != "flat" else {})
    at_once = faiss.read_index(str(files.index))
    at_once.reset()
    files.add(later, unreadable=(5, 199))
    files.remove([7, n + 10])
    updated = files.update()
    rows = open_vectors(files.vectors).array
    everything = np.concatenate([first, later])  # an index keeps what it got of those that were removed before
    everything[[n + 5, n + 10, n + 199]] = 0
    at_once.add(normalise(everything))
    left = [7, n + 5, n + 10, n + 199]
    for kept, expected in zip(held(faiss.read_index(str(files.index))), held(at_once), strict=True):
        atol = 2e-3 if kept.dtype == np.float16 else 1e-5 if kept.dtype == np.float32 else 0
        same = np.isclose(kept.astype(float), expected, atol=atol).all(axis=1)
        same[left] = True  # of zeros, whatever
        assert same.mean() > 0.995  # Faiss' own transforms round otherwise
    assert (updated.n, updated.missing, updated.trained_n) == (n + MORE - 4, left, n)
    assert updated.train_seconds == card.train_seconds
    assert updated.index == ("Center,PCA64,Flat" if kind == "flat" else card.index)
    assert updated.vectors_card == open_vectors(files.vectors).card
    store = FaissStore(files.index)
    query = points(5, seed=2)
    units = centred_as(store, rows)
    distances = ((centred_as(store, query)[:, None] - units[None]) ** 2).sum(axis=2)
    distances[:, left] = np.inf
    found, away = store.search(query, n + MORE, effort=EXHAUSTIVE)
    np.testing.assert_allclose(away[:, :-4], np.sort(distances, axis=1)[:, :-4], atol=2e-6)
    assert (found[:, -4:] == -1).all() and not np.isin(found, left).any()
    by_default = store.search(query, 10)[0]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(by_default, found[:, :10], strict=True)]) > 0.8


def centred_as(store: FaissStore, rows: np.ndarray) -> np.ndarray:
    """Return the units of vectors (n, D) in float64, about the mean that a store's index keeps."""
    units = np.zeros(rows.shape)
    known = rows.any(axis=1)
    units[known] = rows[known] / np.linalg.norm(rows[known].astype(np.float64), axis=1, keepdims=True)
    if store.measure.mean is not None:
        units[known] -= store.measure.mean
        units[known] /= np.linalg.norm(units[known], axis=1, keepdims=True)
    return units


def test_update_of_an_exact_index_goes_on_finding_all(tmp_path: Path) -> None:
    """It holds as many components as it was built from photos, which don't tell all of others."""
    rows = np.random.default_rng(0).random((400, 1000), np.float32)
    file = write_vectors(tmp_path / "v.saved_predictions.npy", rows[:100])
    assert build_index(open_vectors(file), tmp_path / "i.faiss.index", IndexSettings()).index == "Center,Flat"
    store = FaissStore(tmp_path / "i.faiss.index")
    store.remove([3])
    update_index(open_vectors(file), tmp_path / "i.faiss.index")
    assert store.search(rows[:1], 1)[0] == 0 and store.finds_all
    store.add(rows[100:], [Facts(0, f"{row}.jpg") for row in range(100, 400)])
    card = update_index(open_vectors(file), tmp_path / "i.faiss.index")
    assert card.index == "Center,PCA100,Flat" and why_build_again(card) == "each search compares all of 399 photos"
    exact = centred_as(store, rows) @ centred_as(store, rows[200:240]).T
    exact[3] = -np.inf
    assert np.array_equal(store.search(rows[200:240], 10)[0], np.argsort(-exact, axis=0)[:10].T)
    assert not store.finds_all and store.label == "Center,PCA100,Flat"


def test_update_of_nothing_new_writes_nothing(files: Files) -> None:
    files.build(points(50))
    before = os.stat(files.index), os.stat(f"{files.index}.json")
    assert files.update() == read_card(files.index, IndexCard)
    assert before == (os.stat(files.index), os.stat(f"{files.index}.json"))


def test_update_in_many_steps_keeps_what_one_step_does(files: Files, tmp_path: Path) -> None:
    first, later = points(N), points(30, seed=1)
    files.build(first)
    (tmp_path / "other").mkdir()
    other = Files(tmp_path / "other")
    other.build(first)
    for start in range(0, 30, 10):
        files.add(later[start : start + 10])
        files.update()
    other.add(later)
    other.update()
    one, many = (held(faiss.read_index(str(index))) for index in (files.index, other.index))
    assert all(np.mean(a == b) > 0.999 for a, b in zip(one, many, strict=True))


def test_update_masks_all_and_takes_photos_again(files: Files) -> None:
    files.build(points(N))
    files.remove(list(range(N)))
    assert (files.update().n, len(files.update().missing)) == (0, N)
    assert (FaissStore(files.index).search(points(1), 5)[0] == -1).all()
    added = files.add(points(3, seed=1))
    assert files.update().n == 3
    assert sorted(FaissStore(files.index).search(points(1), 5)[0][0].tolist()) == [-1, -1, *added]


def test_update_without_the_vectors_file_tells_nothing_of_removed_photos(files: Files) -> None:
    files.build(points(N))
    files.remove([3, 4])
    files.update()
    files.vectors.unlink()
    store = FaissStore(files.index)
    assert np.isinf(store.distances(points(1)[0], np.array([3, 4]))).all()
    assert not store.vectors(np.array([3, 4])).any() and store.vectors(np.array([5])).any()
    assert not np.isin(store.search(points(4), N)[0], [3, 4]).any()


def test_update_of_an_index_of_other_vectors_is_refused(files: Files, tmp_path: Path) -> None:
    files.build(points(50))
    (tmp_path / "other").mkdir()
    other = write_vectors(tmp_path / "other" / "v.saved_predictions.npy", points(60, seed=1))
    before = digest(files.index)
    with pytest.raises(GalleryIndexError, match=r"no index of earlier rows of .*: build it with --overwrite"):
        update_index(open_vectors(other), files.index)
    assert digest(files.index) == before


def saved(files: Files) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files.vectors.parent.glob("v.*") if "faiss" not in file.name}


def put_back(backup: dict[Path, bytes]) -> None:
    for file, content in backup.items():
        file.write_bytes(content)


@pytest.mark.parametrize("then", ["shorter", "with what was removed", "grown otherwise"])
def test_update_by_vectors_that_went_back_to_an_earlier_state_is_refused(files: Files, then: str) -> None:
    files.build(points(50))
    before = saved(files)
    if then == "with what was removed":
        files.remove([7])
    else:
        files.add(points(10, seed=1))
    files.update()
    put_back(before)
    if then == "grown otherwise":
        (files.vectors.parent / "other").mkdir()
        index = files.vectors.parent / "other.faiss.index"
        build_index(open_vectors(files.vectors), index, IndexSettings())
        FaissStore(index).add(points(20, seed=2), [Facts(0, f"{row}.jpg") for row in range(20)])
    with pytest.raises(GalleryIndexError, match=r"no index of earlier rows of .*: build it with --overwrite"):
        files.update()


def test_update_of_an_index_that_left_rows_of_zeros_out_is_refused(files: Files) -> None:
    rows = points(50)
    rows[3] = 0
    files.build(rows)
    card, known = read_card(files.index, IndexCard), np.flatnonzero(rows.any(axis=1))
    older = faiss.IndexIDMap2(faiss.IndexFlatL2(D))
    older.add_with_ids(normalise(rows[known]), known)
    faiss.write_index(older, str(files.index))
    card.missing, card.digest, card.index = [], digest(files.index), "Flat"
    write_card(files.index, card)
    files.add(points(2, seed=1))
    with pytest.raises(GalleryIndexError, match="no index of earlier rows"):
        files.update()


def test_update_where_nothing_can_be_written_says_so(files: Files, tmp_path: Path) -> None:
    with pytest.raises(GalleryIndexError, match="there is no index"):
        files.build(points(50)) and update_index(open_vectors(files.vectors), tmp_path / "missing" / "v.faiss.index")
    files.add(points(2, seed=1))
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(GalleryIndexError, match="is no folder that you may write to"):
            files.update()
    finally:
        tmp_path.chmod(0o700)


def test_update_checks_itself_once_it_has_grown_by_a_tenth(files: Files) -> None:
    built = files.build(points(N))
    files.add(points(100, seed=1))
    assert files.update().self_check == built.self_check and not files.update().first_check
    files.add(points(100, seed=2))
    updated = files.update()
    assert updated.first_check == built.self_check and updated.self_check["n"] == N + 200
    assert updated.self_check["recall_reranked"] > 0.9 and not updated.self_check["trained_on_queries"]


def interrupt(at: str, step: str, done: int, total: int) -> None:
    if step == at:
        raise KeyboardInterrupt


def test_update_that_ctrl_c_stops_leaves_the_index_and_is_finished_by_the_same_call(files: Files) -> None:
    files.build(points(N))
    files.add(points(MORE, seed=1))
    before = sorted(files.index.parent.iterdir()), digest(files.index)
    for stopped in ("adding", "checking"):
        with pytest.raises(KeyboardInterrupt):
            update_index(open_vectors(files.vectors), files.index, partial(interrupt, stopped))
        assert (sorted(files.index.parent.iterdir()), digest(files.index)) == before
    assert files.update().n == N + MORE


def test_update_killed_at_any_change_is_finished_by_the_same_command(files: Files) -> None:
    files.build(points(60))
    files.add(points(20, seed=1), unreadable=(3,))
    files.remove([0, 70])
    states = killed_runs(files.index.parent, "build_search_db", "-i", files.vectors.name, "--update")
    assert len(states) > 4 and not states[-1].killed
    for state in states:
        assert (state.opened, state.opened_again, state.code) == (0, 0, 0), state
        assert state.files[files.index.name] == states[-1].files[files.index.name]
        assert state.files.keys() - states[-1].files.keys() <= {f"{files.index.name}.lock"}


def test_searches_by_threads_never_fail_nor_find_what_has_been_removed(files: Files) -> None:
    rows = points(N)
    files.build(rows)
    store, gone, stop = FaissStore(files.index), set[int](), threading.Event()

    def search(seed: int) -> int:
        rng, searches = np.random.default_rng(seed), 0
        while not stop.is_set():
            row, removed = int(rng.integers(120, N)), set(gone)  # the first are removed in turn
            among = Among(pattern="1") if searches % 3 == 0 else None
            found, away = store.search(rows[row][None], 5, among)
            assert not removed & {*found[0].tolist()} and np.isfinite(away).all()
            assert among or away[0, 0] < 1e-5
            store.facts(found[0])
            store.components(found[0])
            assert len(store.matching(among or Among())) <= len(store)
            searches += 1
        return searches

    with ThreadPoolExecutor(8) as threads:
        searching = [threads.submit(search, seed) for seed in range(8)]
        try:
            for turn in range(4):
                leaving = list(range(turn * 20, turn * 20 + 20))
                FaissStore(files.index).remove(leaving) if turn % 2 else store.remove(leaving)
                gone.update(leaving)
                (added,) = store.add(points(1, seed=10 + turn), [Facts(0, f"new {turn}.jpg")])
                assert store.search(points(1, seed=10 + turn), 1)[0][0, 0] == added
                files.update()
                assert store.search(points(1, seed=10 + turn), 1)[0][0, 0] == added
        finally:
            stop.set()
        assert min(future.result() for future in searching) > 10


def card(**changes: object) -> IndexCard:
    vectors_card = {"n": 100, "d": 4}
    usual = {"index": "IVF", "asked_for": "IVF", "metric": "", "n": 200, "d": 4, "nprobe": 1, "rerank": 0}
    usual |= {"train_seconds": 0, "trained_n": 100, "vectors": "v", "vectors_card": vectors_card}
    return msgspec.convert(usual | changes, IndexCard)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, None),
        ({"first_check": {"recall_reranked": 0.99}, "self_check": {"recall_reranked": 0.975, "k": 10}}, None),
        (
            {"first_check": {"recall_reranked": 0.99}, "self_check": {"recall_reranked": 0.96, "k": 10}},
            "recall@10 has fallen from 0.990 to 0.960",
        ),
        ({"index": "Center,Flat", "asked_for": "Center,PCA128,IVF100,PQ16x8", "n": 199}, None),
        (
            {"index": "Center,Flat", "asked_for": "Center,PCA128,IVF100,PQ16x8"},
            "each search compares all of 200 photos",
        ),
        ({"index": "Center,Flat", "asked_for": "Center,PCA128,IVF100,PQ16x8", "trained_n": 0}, None),  # an older one
        ({"index": "Flat", "asked_for": "Flat"}, None),
        ({"index": "PCA8,Flat", "asked_for": "PCA8,Flat"}, None),
    ],
)
def test_why_build_again(said: dict, reason: str | None) -> None:
    assert why_build_again(card(**said)) == reason
