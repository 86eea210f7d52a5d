import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from simulation import simulated, write_simulated


def real(n: int = 300, d: int = 256) -> np.ndarray:
    """Vectors that are half zeros, with a falling spectrum."""
    rng = np.random.default_rng(0)
    return np.maximum(rng.standard_normal((n, d), np.float32) * np.geomspace(1, 0.05, d, dtype=np.float32), 0)


def spectrum(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(np.cov(vectors.T))[::-1]


def test_simulated_vectors_are_seeded_and_keep_the_spectrum_of_the_real_ones() -> None:
    chunks = list(simulated(real(), 9_000))
    vectors = np.concatenate(chunks)
    assert vectors.shape == (9_000, 256) and vectors.dtype == np.float32 and (vectors >= 0).all()
    assert np.array_equal(vectors, np.concatenate(list(simulated(real(), 9_000))))
    assert not np.array_equal(vectors[:300], np.concatenate(list(simulated(real(), 300, seed=1))))
    wanted, got = spectrum(real())[:50], spectrum(vectors)[:50]
    assert np.corrcoef(wanted, got)[0, 1] > 0.95


@pytest.mark.parametrize(("contender", "kind"), [("our_index", {}), ("plain_index", {"kind": "IVF100,PQ16"})])
def test_index_contenders_measure_themselves(tmp_path: Path, contender: str, kind: dict) -> None:
    write_simulated(real(), 4_000, tmp_path / "v.npy")
    write_simulated(real(), 50, tmp_path / "q.npy", seed=1)
    arguments = {"vectors": str(tmp_path / "v.npy"), "queries": str(tmp_path / "q.npy"), **kind}
    command = [sys.executable, ROOT / "benchmarks" / "contenders.py", contender, json.dumps(arguments)]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert figures.keys() == {"build s", "peak MB", "MB", "recall@10", "ms"}
    assert 0.2 < figures["recall@10"] <= 1 and all(value > 0 for value in figures.values())


def test_scale_measures_real_vectors_held_out_and_simulated_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", real(700, 32))
    command = [
        sys.executable,
        ROOT / "benchmarks" / "scale.py",
        "--vectors",
        tmp_path / "v.npy",
        "--sizes",
        "real,1200",
    ]
    subprocess.run([*command, "-o", tmp_path / "scale.md"], capture_output=True, check=True)
    *_, small, large = (tmp_path / "scale.md").read_text().splitlines()
    assert "| 400 real | Center,Flat |" in small and small.count("| 1.000, ") == 3  # it is exact
    assert "| 1,200 simulated | Center,PCA32,IVF30,PQ16x8,Refine(SQfp16) |" in large


def test_drift_lets_a_gallery_grow_by_its_own_kind_and_by_others(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", real(700, 32))
    command = [sys.executable, ROOT / "benchmarks" / "drift.py", tmp_path / "v.npy", "-o", tmp_path / "drift.md"]
    subprocess.run(command, capture_output=True, check=True)
    *_, same, _, _, others = (tmp_path / "drift.md").read_text().strip().splitlines()
    assert same.startswith("| 700 v | the same | 100% | 1.000, 1.000 |")  # all are compared
    assert others.startswith("| 700 v | others | 100% | 1.000, 1.000 |")


def test_notebook_start_reaches_the_panel(index_file: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "contenders.py", "notebook_start"]
    done = subprocess.run(
        [*command, json.dumps({"index": str(index_file)})], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1])["s"] > 0


def test_benchmark_of_updates_encodes_only_what_is_new(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "update.py", "--photos", "20", "--unchanged", "130"]
    done = subprocess.run([*command, "--folder", tmp_path], capture_output=True, text=True, check=True)
    cells = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [int(encoded) for _, encoded, *_ in cells] == [20, 100, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []
