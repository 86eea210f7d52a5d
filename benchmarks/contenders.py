#!/usr/bin/env python
"""What compare.py measures: each function runs in a process of its own and returns its figures.

Those called `plain_...` are what a user would write otherwise, after the tutorials of Keras and Faiss; the others are
this project's own code. `python benchmarks/contenders.py NAME '{"argument": ...}'` prints the figures as JSON.
"""

import inspect
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BEGAN = time.perf_counter()
Figures = dict[str, float]
WARM_QUERIES = 20


def peak_mb() -> float:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` counts what the parent had when it forked
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def median_ms(run: Callable[[Any], object], queries: Any) -> float:
    """Return the median time of a call, after one that doesn't count."""
    run(queries[0])
    times = []
    for query in queries:
        began = time.perf_counter()
        run(query)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000


def plain_vgg16() -> Any:
    """Return VGG16 up to fc2, seeded: its speed is that of the trained one."""
    from similar_images.encoding.weights import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(0)
    whole = keras.applications.VGG16(weights=None)
    return keras.Model(whole.input, whole.get_layer("fc2").output)


def our_vgg16() -> Any:
    """Return this project's VGG16, seeded."""
    from similar_images.encoding.conversion import converted_before
    from similar_images.encoding.encoders import EncoderSpec, load_encoder

    spec = EncoderSpec(weights="none")
    return converted_before(spec) or load_encoder(spec)


def plain_extraction(images: str, names: list[str]) -> Figures:
    """Encode photos in the usual Keras loop."""
    from similar_images.encoding.weights import import_keras

    keras = import_keras()
    model = plain_vgg16()
    load, preprocess = keras.utils.load_img, keras.applications.vgg16.preprocess_input

    def encode(some: list[str]) -> Any:
        pixels = np.array([np.array(load(f"{images}/{name}", target_size=(224, 224)), np.float32) for name in some])
        return model.predict_on_batch(preprocess(pixels))

    started = time.perf_counter() - BEGAN
    encode(names[:32])
    began = time.perf_counter()
    vectors = np.zeros((0, 4096), np.float32)
    for start in range(0, len(names), 32):
        vectors = np.concatenate([vectors, encode(names[start : start + 32])])
    return {"photos/s": len(names) / (time.perf_counter() - began), "peak MB": peak_mb(), "start s": started}


def our_extraction(
    images: str, names: list[str], output: str, precision: str = "auto", runtime: str = "auto"
) -> Figures:
    """Encode photos as extract_image_vectors.py does."""
    from functools import partial

    from similar_images.encoding.conversion import int8_file
    from similar_images.encoding.runtimes import open_runtime
    from similar_images.extraction.extraction import extract, sample_photos

    encoder, path = our_vgg16(), Path(output)
    photos = partial(sample_photos, names, Path(images), encoder)
    ready = open_runtime(encoder, runtime, precision, photos, int8_file(path, encoder))
    started = time.perf_counter() - BEGAN
    ready.encode(np.zeros((32, 224, 224, 3), np.uint8))
    done = extract(names, Path(images), path, ready, overwrite=True)
    shares = {f"{what} share": share for what, share in done.shares.items()}
    return {"photos/s": done.encoded / done.seconds, "peak MB": peak_mb(), "start s": started, **shares}


def encoder_alone(count: int, precision: str = "auto") -> Figures:
    """Encode pixels that are there already."""
    from similar_images.encoding.runtimes import open_runtime

    ready = open_runtime(our_vgg16(), "openvino", precision)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), np.uint8)
    ready.encode(pixels)
    batches = -(-count // 32)
    began = time.perf_counter()
    for _ in ready.encode_all((number, pixels) for number in range(batches)):
        pass
    return {"photos/s": 32 * batches / (time.perf_counter() - began)}


def matrix_product(precision: str) -> Figures:
    """Multiply matrices of 4096 x 4096 with OpenVINO, 8 times in a row: what this processor can do at best."""
    from similar_images.encoding.openvino_runtime import import_openvino

    openvino = import_openvino()
    ops = openvino.opset13
    side, products = 4096, 8
    constant = ops.constant(np.random.default_rng(0).random((side, side), np.float32) / side)
    given = product = ops.parameter([side, side], np.float32)
    for _ in range(products):
        product = ops.matmul(product, constant, False, False)
    model = openvino.Model([product], [given])
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    ms = median_ms(compiled, [np.ones((side, side), np.float32)] * 3)
    return {"TFLOP/s": products * 2 * side**3 / ms / 1e9}


def plain_start(vectors: str, index: str) -> Figures:
    """Get ready to search as the tutorials do."""
    import faiss

    plain_vgg16()
    np.load(vectors)
    faiss.read_index(index)
    return {"s": time.perf_counter() - BEGAN}


def notebook_start(index: str) -> Figures:
    """Run the notebook's cells up to the panel."""
    import os

    os.environ["SIMILAR_IMAGES_INDEX"] = index
    cells = json.loads((ROOT / "Similar image.ipynb").read_text())["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "SearchPanel(" in "".join(cell["source"]):
            break
    return {"s": time.perf_counter() - BEGAN}


def plain_queries(images: str, names: list[str], vectors: str, index: str) -> Figures:
    """Answer a photo, cold, then more of them warm, as the tutorials do."""
    import faiss

    from similar_images.encoding.weights import import_keras

    model = plain_vgg16()
    keras = import_keras()
    np.load(vectors)
    opened = faiss.read_index(index)

    def query(name: str) -> Any:
        pixels = np.array(keras.utils.load_img(f"{images}/{name}", target_size=(224, 224)), np.float32)[None]
        vector = model.predict(keras.applications.vgg16.preprocess_input(pixels), verbose=0)
        return opened.search(vector / np.linalg.norm(vector), 10)

    query(names[0])
    cold = time.perf_counter() - BEGAN
    return {"cold s": cold, "warm ms": median_ms(query, names[:WARM_QUERIES])}


def our_queries(images: str, names: list[str], index: str) -> Figures:
    """Answer a photo, cold, then more of them warm, and random picks, with Gallery.search."""
    from similar_images.search.gallery import Gallery

    gallery = Gallery.open(index)
    photos = [Path(images, name).read_bytes() for name in names[:WARM_QUERIES]]
    gallery.search(photos[0])
    cold = time.perf_counter() - BEGAN
    warm = median_ms(gallery.search, photos)
    return {"cold s": cold, "warm ms": warm, "random pick ms": median_ms(gallery.search, range(WARM_QUERIES))}


def our_index(vectors: str, queries: str) -> Figures:
    """Build the default index as build_search_db.py does, then search with re-ranking."""
    import faiss

    from similar_images.store.exact_search import exact_neighbours, recall_at_k
    from similar_images.store.faiss_index import GalleryIndex
    from similar_images.store.index_building import IndexSettings, build_index
    from similar_images.store.measure import Comparison
    from similar_images.store.vectors import open_vectors

    opened, output = open_vectors(Path(vectors)), Path(vectors).with_suffix(".faiss.index")
    began = time.perf_counter()
    card = build_index(opened, output, IndexSettings())
    built, peak = time.perf_counter() - began, peak_mb()
    faiss.omp_set_num_threads(1)
    index, asked = GalleryIndex.open(output), np.load(queries)
    units = index.measure.units
    nearest = exact_neighbours(units(asked), opened.chunks(), 10, units)
    exact = [
        index.distances(Comparison(index.measure, query), rows, opened)
        for query, rows in zip(asked, nearest, strict=True)
    ]

    def search(query: Any) -> Any:
        return index.search([Comparison(index.measure, query)], 10, index.nprobe, opened, index.rerank)[0][0]

    recall = recall_at_k(np.array(exact), np.array([search(query) for query in asked]))
    return {"build s": built, "peak MB": peak, "MB": card.bytes / 1e6, "recall@10": recall,
            "ms": median_ms(search, asked)}  # fmt: skip


def plain_index(vectors: str, queries: str, kind: str) -> Figures:
    """Build an index of Faiss and search it as it is."""
    import faiss

    began = time.perf_counter()
    rows = np.load(vectors)
    faiss.normalize_L2(rows)
    d = rows.shape[1]
    index = {
        "IVF100,PQ16": lambda: faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, 100, 16, 8),
        "Flat": lambda: faiss.IndexFlatL2(d),
        "HNSW32": lambda: faiss.IndexHNSWFlat(d, 32),
    }[kind]()
    index.train(rows)
    index.add(rows)
    output = Path(vectors).with_suffix(".plain.index")
    faiss.write_index(index, str(output))
    built, peak = time.perf_counter() - began, peak_mb()
    asked = np.load(queries)
    faiss.normalize_L2(asked)
    exact = faiss.knn(asked, rows, 10)[1]
    faiss.omp_set_num_threads(1)
    if kind.startswith("IVF"):
        index.nprobe = 20  # as ours
    found = np.array([index.search(query[None], 10)[1][0] for query in asked])
    recall = float(np.mean([np.isin(wanted, got).mean() for wanted, got in zip(exact, found, strict=True)]))
    return {"build s": built, "peak MB": peak, "MB": output.stat().st_size / 1e6, "recall@10": recall,
            "ms": median_ms(lambda query: index.search(query[None], 10), asked)}  # fmt: skip


CONTENDERS = {
    name: function
    for name, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    if inspect.signature(function).return_annotation is Figures
}

if __name__ == "__main__":
    print(json.dumps(CONTENDERS[sys.argv[1]](**json.loads(sys.argv[2]))))
