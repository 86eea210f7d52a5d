"""The encoder as an OpenVINO model on disk: made once from Keras, then loaded in a fraction of a second without it.

It is kept beside the encoder's model file, else in `cache_folder()`, as NAME-KEY.xml and .bin with a card. KEY is a
hash of all that a converted model depends on, so that one which is found is never stale.
"""

import contextlib
import hashlib
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import asdict

from similar_images.cards import CardError, ConvertedCard, read_card, write_card
from similar_images.encoding.encoders import NAMED_WEIGHTS, Encoder, EncoderSpec, default_layer, encoder_of_card
from similar_images.encoding.openvino_runtime import import_openvino
from similar_images.encoding.weights import EncoderError, encoder_errors
from similar_images.files import cache_folder, card_path, digest, flush, is_unchanged, note_digest
from similar_images.locks import one_at_a_time
from similar_images.photos.images import Pixels

CALIBRATION_PHOTOS = 300
# The first convolutions stay out of int8, up to this fraction of multiplications: 1 of VGG16, 3 of MobileNetV2. With
# these recall@10 of MobileNetV2's neighbours against those of float32 becomes 0.915 instead of 0.889.
SPARED_FRACTION = 0.1


@one_at_a_time
def converted(encoder: Encoder) -> Any:
    """Return the encoder as an `openvino.Model`, (b, height, width, 3) uint8 -> (b, d) float32 for any b.

    It is read from disk, or else made from the Keras model and kept where that is possible.

    Raises:
        EncoderError: the Keras model can't be loaded any more, or not converted.
    """
    for folder in _folders(encoder):
        if is_whole(converted_file(encoder, folder)):
            return read(converted_file(encoder, folder))
    model = _convert(encoder)
    for folder in _folders(encoder):
        with contextlib.suppress(OSError, RuntimeError):  # no room, or not ours to write to: converted again next time
            folder.mkdir(parents=True, exist_ok=True)
            keep(model, converted_file(encoder, folder), encoder)
            _remove_older(encoder, folder)
            return read(converted_file(encoder, folder))
    return model


def converted_file(encoder: Encoder, folder: Path) -> Path:
    """Return where `converted` keeps an encoder in a folder."""
    key = _key(*_identity(encoder), _openvino_version())
    label = "-".join(filter(None, (encoder.spec.name, encoder.spec.layer)))
    safe = re.sub(r"[^\w.+-]", "_", label, flags=re.ASCII)
    return folder / f"{safe[:100]}-{key}.xml"


def converted_before(spec: EncoderSpec) -> Encoder | None:
    """Return an encoder that was converted before, without loading it; None where it has to be loaded.

    Only encoders with named weights can be known again without a look at their weights, and only while Keras, which
    makes them, is the same.
    """
    if spec.model_file or not all(weights in NAMED_WEIGHTS for _, weights in spec.parts):
        return None
    asked = {"encoder": spec.name, "layer": default_layer(spec), "weights": spec.weights, "keras": version("keras")}
    for found in sorted(cache_folder().glob("*.xml.json")):
        card = _card(file := found.with_suffix(""))
        if card and all(getattr(card, key) == value for key, value in asked.items()) and is_whole(file):
            return replace(encoder_of_card(card, file), spec=replace(spec, layer=card.layer))
    return None


def agreement(encoder: Encoder, precision: str) -> float | None:
    """Return the cosine to float32 that `keep_agreement` noted for a precision."""
    for folder in _folders(encoder):
        if card := _card(converted_file(encoder, folder)):
            return card.cosines.get(precision)
    return None


def keep_agreement(encoder: Encoder, precision: str, cosine: float) -> None:
    """Note how well vectors of a precision agree with float32 ones, so that it is measured once."""
    for folder in _folders(encoder):
        if card := _card(file := converted_file(encoder, folder)):
            card.cosines[precision] = cosine
            with contextlib.suppress(OSError):  # not ours to write to: measured again next time
                write_card(file, card)


def int8_file(vectors_path: Path, encoder: Encoder) -> Path:
    """Return where the int8 model of a gallery lies, beside its vectors, whose photos it was calibrated on."""
    return vectors_path.with_name(f"{vectors_path.name}.int8-{_key(*_identity(encoder))}.xml")


@one_at_a_time
def quantise(encoder: Encoder, photos: Pixels, file: Path, rest: str) -> None:
    """Write an int8 model of an encoder.

    Args:
        encoder: what to quantise.
        photos: (s, height, width, 3) uint8, photos of the gallery that the ranges of activations are learnt from.
        file: the .xml to write.
        rest: "f32" or "bf16", the precision of what is not quantised.

    Raises:
        EncoderError: NNCF is not installed.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):  # NNCF's progress
            import_openvino()
            import nncf

            nncf.set_log_level(logging.ERROR)
            model = converted(encoder)
            quantised = nncf.quantize(
                model,
                nncf.Dataset([photo[None] for photo in photos]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(photos),
                fast_bias_correction=False,
                ignored_scope=nncf.IgnoredScope(names=_first_convolutions(model)),
            )
    except ImportError:
        raise EncoderError("--precision int8 needs one more package: pip install -r requirements-int8.txt") from None
    keep(quantised, file, encoder, rest)


def rest_of_int8(file: Path) -> str:
    """Return the precision of what an int8 model leaves out, see `quantise`."""
    card = _card(file)
    return card.rest if card else "f32"


def _first_convolutions(model: Any) -> list[str]:
    """Return the names of the convolutions that int8 spares."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "GroupConvolution")]
    costs = [np.prod(node.input_value(1).shape) * _spatial_positions(node.output(0)) for node in found]
    spared = np.cumsum(costs) <= SPARED_FRACTION * sum(costs)
    return [node.get_friendly_name() for node, out in zip(found, spared, strict=True) if out]


def _spatial_positions(output: Any) -> int:
    """Return the height times the width of a (b, channels, height, width) output."""
    height, width = list(output.partial_shape)[2:]
    return int(height.get_length() * width.get_length())


def is_whole(file: Path) -> bool:
    """Tell whether a converted model is there and as it was written."""
    card = _card(file)
    return bool(card and _is_unchanged(file, card.xml) and _is_unchanged(file.with_suffix(".bin"), card.bin))


def _is_unchanged(file: Path, known: str) -> bool:
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        return is_unchanged(opened, known)
    return False


def _card(file: Path) -> ConvertedCard | None:
    with contextlib.suppress(CardError):  # a damaged card vouches for nothing
        return read_card(file, ConvertedCard)
    return None


def read(file: Path) -> Any:
    """Return the `openvino.Model` that a file holds."""
    with encoder_errors(f"OpenVINO can't read {file}", "remove it, and it is made again"):
        return import_openvino().Core().read_model(file)


def keep(model: Any, file: Path, encoder: Encoder, rest: str = "f32") -> None:
    """Write an `openvino.Model` with its card, which comes last and so vouches for the rest."""
    card_path(file).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".converting-") as folder:
        written = Path(folder) / file.name
        import_openvino().save_model(model, written, compress_to_fp16=False)
        weights = _put(written.with_suffix(".bin"), file.parent)
        graph = _put(written, file.parent)
    made_by = {"keras": version("keras"), "openvino": _openvino_version()}
    write_card(file, ConvertedCard(**asdict(encoder.card(file)) | made_by, xml=graph, bin=weights, rest=rest))


def _put(written: Path, folder: Path) -> str:
    """Move a file that was written into a folder; return its SHA-256."""
    flush(written)
    os.replace(written, folder / written.name)
    with open(folder / written.name, "rb") as file:
        known = digest(file)
        note_digest(file, known)
    return known


def _convert(encoder: Encoder) -> Any:
    openvino, keras_model = import_openvino(), encoder.model
    with (
        encoder_errors(f"OpenVINO can't convert {encoder.spec.name}", "run it with --runtime tensorflow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # Keras says that OpenVINO calls the model with a tuple
        model = openvino.convert_model(keras_model)
    width, height = encoder.size
    model.reshape([-1, height, width, 3])
    whole = openvino.preprocess.PrePostProcessor(model)
    whole.input().tensor().set_element_type(openvino.Type.u8)
    whole.output().tensor().set_element_type(openvino.Type.f32)
    return whole.build()


def _remove_older(encoder: Encoder, folder: Path) -> None:
    """Remove what an older OpenVINO made of the same encoder."""
    for found in folder.glob("*.xml.json"):
        card = _card(file := found.with_suffix(""))
        same = card and (card.encoder, card.weights_digest) == (encoder.spec.name, encoder.weights_digest)
        if card and same and card.openvino != _openvino_version():
            for part in (found, file, file.with_suffix(".bin")):
                part.unlink(missing_ok=True)


def _folders(encoder: Encoder) -> list[Path]:
    beside = [encoder.spec.model_file.parent] if encoder.spec.model_file else []
    return [*beside, cache_folder()]


def _openvino_version() -> str | None:
    try:
        return version("openvino")
    except PackageNotFoundError:  # TensorFlow runs without it
        return None


def _identity(encoder: Encoder) -> tuple[object, ...]:
    return encoder.weights_digest, encoder.spec.name, encoder.spec.layer, encoder.size


def _key(*depends_on: object) -> str:
    return hashlib.sha256(repr(depends_on).encode()).hexdigest()[:16]
