"""Encoders: named Keras models from RGB pixels to a vector, preprocessing included.

An encoder is one Keras graph from (b, height, width, 3) uint8 RGB to (b, d) float32, so that no caller can get the
preprocessing wrong. TensorFlow and Keras are imported inside functions: they take seconds.
"""

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from similar_images.cards import CardError, EncoderCard, ModelCard, from_card, read_card, relative_to_card, write_card
from similar_images.encoding.efficientnet_lite0 import efficientnet_lite0
from similar_images.encoding.weights import EncoderError, build_network, digest_of_weights, encoder_errors, import_keras
from similar_images.files import digest, is_unchanged, replacing
from similar_images.locks import one_at_a_time
from similar_images.photos.images import Pixels, Resize, Source, area_weights, read_resized

VGG16_LAYERS = ("fc2", "fc1")
NAMED_WEIGHTS = ("imagenet", "none")
DEFAULT_SIDE = 224
SIDES = {
    "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380,
    "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600,
    "EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480,
    "InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331,
}  # fmt: skip


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder to make.

    Attributes:
        name: "efficientnet_lite0", whose weights come through pip, or a model of `keras.applications` in lower case
            ("vgg16", "resnet50", "efficientnet_b0"), or two of these joined by "+": their L2-normalised vectors,
            concatenated. With `model_file`, the name to show.
        layer: "fc2" or "fc1" of vgg16; None for its default, and for all others, which are global average pooled.
        weights: "imagenet" (Keras' download, or through pip), "none" (seeded, untrained), or a weights file that fits
            the model. Two joined by "+" give each half of a joined encoder its own.
        resize: how photos are resized to the model's input, see `images.resize`.
        model_file: a Keras model file from RGB pixels to a vector, loaded instead of building `name`.
        model_digest: the SHA-256 that this file must have to be loaded; None for any.
    """

    name: str = "vgg16"
    layer: str | None = None
    weights: str = "imagenet"
    resize: Resize = "bilinear"
    model_file: Path | None = None
    model_digest: str | None = None

    @cached_property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Name and weights of each encoder that is joined; what a model file holds is one, whatever it is called.

        Raises:
            EncoderError: it names more than two encoders, or not weights for each.
        """
        if self.model_file or "+" not in self.name:
            return ((self.name, self.weights),)
        names, weights = self.name.split("+"), self.weights.split("+")
        if len(names) != 2 or len(weights) > 2:
            raise EncoderError(
                f"{self.name} with weights {self.weights}: two encoders can be joined, each with one weights, whose "
                "file has no '+' in its path"
            )
        return tuple(zip(names, weights * 2, strict=False))

    @property
    def is_trained(self) -> bool:
        """Whether all weights were learnt from photos, rather than seeded."""
        return all(weights != "none" for _, weights in self.parts)


@dataclass(frozen=True)
class Encoder:
    """An encoder, known from its card or loaded.

    Attributes:
        spec: what it is made from.
        size: (width, height) in pixels that it takes.
        dimension: d of a vector.
        weights_digest: SHA-256 of all weights, in order; of the file, where that is somebody's own model.
    """

    spec: EncoderSpec
    size: tuple[int, int]
    dimension: int
    weights_digest: str
    _loaded: Any = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> Any:
        """The Keras graph, (b, height, width, 3) RGB values of 0 to 255 -> (b, d) float32.

        Raises:
            EncoderError: it has to be loaded first, and can't, or has other weights by now.
        """
        if self._loaded is not None:
            return self._loaded
        loaded = load_encoder(self.spec)
        if loaded.weights_digest != self.weights_digest:
            raise EncoderError(
                f"the weights of {self.spec.name} are not those that made the vectors any more: put back the old ones, "
                "or extract the vectors again with --overwrite"
            )
        return loaded.model

    def pixels(self, source: Source) -> Pixels:
        """Read a photo as the model takes it: (height, width, 3) uint8.

        Raises:
            ImageReadError: see `images.read_image`.
        """
        return read_resized(source, self.size, self.spec.resize)

    def card(self, path: Path) -> EncoderCard:
        """Return what the card of `path` says of this encoder, for `spec_of_card` to read."""
        file = self.spec.model_file
        return EncoderCard(
            encoder=self.spec.name,
            layer=self.spec.layer,
            weights=_weights_on_card(self.spec, path),
            trained=self.spec.is_trained,
            weights_digest=self.weights_digest,
            model_file=relative_to_card(file, path) if file else None,
            model_digest=self.spec.model_digest,
            resize=self.spec.resize,
            size=self.size,
            d=self.dimension,
        )


def _weights_on_card(spec: EncoderSpec, path: Path) -> str:
    return _with_weights(spec, lambda file: relative_to_card(Path(file), path)).weights


def _with_weights(spec: EncoderSpec, put: Callable[[str], str]) -> EncoderSpec:
    """Return a spec with its weights files renamed; weights that joined encoders share stand once."""
    each = dict.fromkeys(weights if weights in NAMED_WEIGHTS else put(weights) for _, weights in spec.parts)
    return replace(spec, weights="+".join(each))


def label(card: EncoderCard) -> str:
    """Return the encoder of a card for the screen: name, layer, and whether it is untrained."""
    name = " ".join(filter(None, (card.encoder, card.layer)))
    return name if card.trained else f"{name}, UNTRAINED weights"


def spec_of_card(card: EncoderCard, path: Path) -> EncoderSpec:
    """Return the spec of the encoder that the card of `path` describes."""
    file = from_card(card.model_file, path) if card.model_file else None
    spec = EncoderSpec(card.encoder, card.layer, card.weights, card.resize, file, card.model_digest)
    if file and not file.exists() and card.weights in NAMED_WEIGHTS:
        spec = replace(spec, model_file=None, model_digest=None)  # it can be made again
    return _with_weights(spec, lambda name: str(from_card(name, path)))


def files_of(spec: EncoderSpec) -> list[Path]:
    """Return the files that an encoder is loaded from."""
    weights = [Path(weights) for _, weights in spec.parts if weights not in NAMED_WEIGHTS]
    return weights + ([spec.model_file] if spec.model_file else [])


def encoder_of_card(card: EncoderCard, path: Path) -> Encoder:
    """Return the encoder that the card of `path` describes, which is loaded when its model is first asked for.

    Raises:
        EncoderError: it is one that is no longer part of the project.
    """
    assert card.weights_digest
    spec = spec_of_card(card, path)
    _refuse_compact(spec)
    return Encoder(spec, card.size, card.d, card.weights_digest)


def _refuse_compact(spec: EncoderSpec) -> None:
    if any(name == "compact" for name, _ in spec.parts):
        raise EncoderError(
            "the compact encoder is no longer part of this project, its successor is efficientnet_lite0: 'make demo' "
            "makes a gallery again, or extract the vectors again with --encoder efficientnet_lite0 --overwrite"
        )


@one_at_a_time
def load_encoder(spec: EncoderSpec) -> Encoder:
    """Build an encoder, or load it from `spec.model_file`.

    Raises:
        WeightsUnavailableError: trained weights could not be downloaded.
        EncoderError: unknown name or layer, or a file that doesn't fit.
    """
    _refuse_compact(spec)
    if file := spec.model_file:
        spec = replace(spec, model_digest=_checked_digest(file, spec.model_digest))
        return _encoder(spec, _load_model(file))
    if spec.layer and spec.name != "vgg16":
        raise EncoderError(f"{spec.name} has no layer {spec.layer}: only vgg16 has a choice, fc2 or fc1")
    with encoder_errors(f"{spec.name} can't be made by this Keras", "give another --encoder"):
        models = [_build(name, spec.layer, weights) for name, weights in spec.parts]
        return _encoder(spec, _join(models) if len(models) > 1 else models[0])


def _checked_digest(file: Path, known: str | None) -> str:
    """Return the SHA-256 of a model file, before anything else is done with it."""
    if not file.is_file():
        raise EncoderError(f"there is no model file {file}")
    found = digest(file)
    if known not in (None, found):
        raise EncoderError(
            f"{file} is not the model that made the vectors any more: put back the old one, or extract the vectors "
            "again with --overwrite"
        )
    return found


@one_at_a_time
def load_or_save_encoder(spec: EncoderSpec, file: Path) -> Encoder:
    """Load the encoder that `file` holds, or make it from `spec` and save it there with a card.

    A model file without a card is somebody's own model: it is taken as it is, and named after the file. A file that is
    still the one that was saved is not loaded before its model is asked for.

    Raises:
        EncoderError: `file` holds another encoder than `spec` asks for, or see `load_encoder`.
    """
    card = _model_card(file)
    if not file.exists():
        encoder = load_encoder(spec)
        _save_model(encoder.model, file)
        made = ModelCard(**asdict(encoder.card(file)), digest=digest(file))
        write_card(file, made)
        return replace(encoder, spec=replace(encoder.spec, model_file=file, model_digest=made.digest))
    if card is None:
        return load_encoder(replace(spec, name=file.name, layer=None, weights=str(file), model_file=file))
    held = (card.encoder, card.layer, card.weights)
    wanted = (spec.name, default_layer(spec), _weights_on_card(spec, file))
    if held != wanted:
        raise EncoderError(
            f"{file} holds {_description(held)}, not {_description(wanted)}: give another --model_filename, "
            "or remove it"
        )
    spec = replace(spec, layer=default_layer(spec), model_file=file)
    with open(file, "rb") as opened:
        is_the_same = is_unchanged(opened, card.digest)
    if is_the_same:
        return replace(encoder_of_card(card, file), spec=replace(spec, model_digest=card.digest))
    return load_encoder(spec)


def _model_card(file: Path) -> ModelCard | None:
    try:
        return read_card(file, ModelCard)
    except CardError as error:
        raise EncoderError(str(error)) from error


def _description(held: tuple[str, str | None, str]) -> str:
    name, layer, weights = held
    return f"{name} {layer} with weights {weights}" if layer else f"{name} with weights {weights}"


def default_layer(spec: EncoderSpec) -> str | None:
    """Return the layer of a spec: by default fc2 for vgg16."""
    return spec.layer or (VGG16_LAYERS[0] if spec.name == "vgg16" else None)


def _encoder(spec: EncoderSpec, model: Any) -> Encoder:
    height, width = model.input_shape[1:3]
    size = (width or DEFAULT_SIDE, height or DEFAULT_SIDE)
    layer = spec.layer if spec.model_file else default_layer(spec)
    return Encoder(replace(spec, layer=layer), size, int(model.output_shape[1]), _weights_digest(spec, model), model)


def _weights_digest(spec: EncoderSpec, model: Any) -> str:
    if spec.model_digest and spec.weights == str(spec.model_file):  # its graph is not ours: it must be the same too
        return spec.model_digest
    return digest_of_weights(variable.numpy() for variable in model.weights)


def _application(name: str) -> Any:
    functions: dict[str, Any] = dict(inspect.getmembers(import_keras().applications, inspect.isfunction))
    functions["EfficientNetLite0"] = efficientnet_lite0
    usual = {known.lower(): known for known in functions}
    known = usual.get(name.lower().replace("_", "").replace("-", ""))
    if known is None:
        choice = ", ".join(sorted(usual))
        raise EncoderError(f"there is no encoder {name!r}: choose one of {choice}, or two joined by '+'")
    return functions[known]


def _build(name: str, layer: str | None, weights: str) -> Any:
    """Return the graph from uint8 pixels to a vector for one encoder."""
    keras = import_keras()
    application = _application(name)
    side = SIDES.get(application.__name__, DEFAULT_SIDE)
    shape = (side, side, 3)
    if application.__name__ == "VGG16":
        network = build_network(application, weights, include_top=True, input_shape=shape)
        network = keras.Model(network.input, _vgg16_layer(network, layer).output)
    else:
        network = build_network(application, weights, include_top=False, pooling="avg", input_shape=shape)
    pixels = keras.Input(shape, dtype="uint8", name="pixels")
    preprocess = importlib.import_module(application.__module__).preprocess_input
    return keras.Model(
        pixels, network(preprocess(keras.ops.cast(pixels, "float32"))), name=application.__name__.lower()
    )


def _vgg16_layer(network: Any, layer: str | None) -> Any:
    if layer not in (None, *VGG16_LAYERS):
        raise EncoderError(f"vgg16 has no layer {layer!r}: choose fc2 or fc1")
    return network.get_layer(layer or VGG16_LAYERS[0])


def _join(models: list[Any]) -> Any:
    """Return one graph whose vector is the L2-normalised vectors of all models, concatenated."""
    layers, ops = import_keras().layers, import_keras().ops
    side = max(model.input_shape[1] for model in models)
    pixels = import_keras().Input((side, side, 3), dtype="uint8", name="pixels")
    halves = []
    for model in models:
        fitted = pixels
        if model.input_shape[1] < side:  # OpenVINO can't convert a resizing layer that is antialiased
            weights = area_weights(side, model.input_shape[1])
            fitted = ops.round(ops.einsum("ph,bhwc,qw->bpqc", weights, ops.cast(pixels, "float32"), weights))
        halves.append(layers.UnitNormalization()(model(fitted)))
    return import_keras().Model(pixels, layers.Concatenate()(halves))


def _load_model(file: Path) -> Any:
    with encoder_errors(f"{file} is not a Keras model that can be loaded here", "save it as .keras with this Keras"):
        model = import_keras().models.load_model(file, compile=False, safe_mode=True)
    taken, given = model.input_shape, model.output_shape
    if not (isinstance(taken, tuple) and len(taken) == 4 and taken[-1] == 3):
        raise EncoderError(f"{file} does not take RGB pixels: its input is {taken}, not (None, height, width, 3)")
    if not (isinstance(given, tuple) and len(given) == 2 and given[1]):
        raise EncoderError(f"{file} does not give a vector: its output is {given}; end it with GlobalAveragePooling2D")
    return model


def _save_model(model: Any, file: Path) -> None:
    if file.suffix != ".keras":
        raise EncoderError(f"the encoder can't be saved as {file}: give a --model_filename that ends in .keras")
    with replacing(file) as temporary:
        whole = temporary.with_name(temporary.name + ".keras")  # Keras insists on the suffix
        model.save(whole)
        os.replace(whole, temporary)
