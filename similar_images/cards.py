"""Cards: what a file says of itself, in JSON beside it; typed, checked, and signed by whoever wrote it.

A card may lead to other files: photos, weights, vectors. Those of a stranger's card must lie in the card's own folder
or below; a card that was written on this machine by its user may lead anywhere, since that user said where. The
signature, made with a key that only this user has, tells the two apart.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from similar_images.files import (
    card_path,
    is_half_in_place,
    locked,
    mend,
    part_of,
    put_in_place,
    replacing,
    sealed,
)

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class CardError(ValueError):
    """A card is damaged, or leads where it may not; the message says what to do."""


class Card(Struct, kw_only=True, forbid_unknown_fields=True):
    """What all cards are."""


class Failure(Card, kw_only=True):
    """A photo that could not be read.

    Attributes:
        row: its row in the vectors file, which is zero.
        name: as the file list has it.
        reason: why.
    """

    row: Count
    name: str
    reason: str


class EncoderCard(Card, kw_only=True):
    """What made vectors, see `encoders.Encoder`.

    Attributes:
        encoder: its name; "" for unknown.
        layer: of vgg16, None for all others.
        weights: "imagenet", "none", or a file relative to the card; two joined by "+".
        trained: whether the weights were learnt from photos.
        weights_digest: SHA-256 of all weights, None for unknown.
        model_file: a Keras model relative to the card, None where the encoder is made by its name.
        model_digest: SHA-256 of that file.
        resize: how photos come to the encoder's size.
        size: (width, height) of that, in pixels.
        d: length of a vector.
    """

    encoder: str = ""
    layer: str | None = None
    weights: str = "none"
    trained: bool = True
    weights_digest: Digest | None = None
    model_file: str | None = None
    model_digest: Digest | None = None
    resize: Literal["bilinear", "keras"] = "bilinear"
    size: tuple[Positive, Positive] = (1, 1)
    d: Positive


class ModelCard(EncoderCard, kw_only=True):
    """What a saved encoder's model file holds.

    Attributes:
        digest: SHA-256 of the file.
    """

    digest: Digest


class ConvertedCard(EncoderCard, kw_only=True):
    """What an encoder that was converted for OpenVINO holds.

    Attributes:
        keras: version of Keras that it was made from.
        openvino: version of OpenVINO that made it.
        cosines: by runtime and precision, the cosine to float32 that was measured.
        xml: SHA-256 of its graph.
        bin: SHA-256 of its weights.
        rest: of an int8 model, the precision of what is not in int8.
    """

    keras: str
    openvino: str | None
    cosines: dict[str, float] = {}
    xml: Digest
    bin: Digest
    rest: Annotated[str, Meta(pattern="^(f32|bf16)$")] = "f32"


class VectorsCard(EncoderCard, kw_only=True):
    """What a vectors file holds.

    Attributes:
        n: number of vectors.
        digest: SHA-256 of the file, None for one that came without a card and has not been read yet.
        file_list_digest: SHA-256 of the list of its rows, likewise.
        failures: the photos that could not be read.
        img_dir: folder of the photos, relative to the card; None for unknown.
        made_with: runtimes and precisions that encoded its rows, the latest first: "OpenVINO bf16", say. There are
            several where rows of bf16 or f16 lie beside some of float32, with which they were found to agree.
        agreement: the least cosine of a row's precision to float32 that was measured, 0 for none.
        request: SHA-256 of what the run that wrote it was asked for.
        began_as: digest of the vectors file whose rows these are, with others appended or removed since; None for this
            very file.
        catalogue_digest: SHA-256 of the catalogue, None for vectors that were made before there were any.
    """

    n: Positive
    digest: Digest | None = None
    file_list_digest: Digest | None = None
    failures: list[Failure] = []
    img_dir: str | None = None
    made_with: list[str] = []
    agreement: Annotated[float, Meta(ge=-1, le=1.000001)] = 1
    request: Digest | None = None
    began_as: Digest | None = None
    catalogue_digest: Digest | None = None

    @property
    def lineage(self) -> str | None:
        """What two states of the same gallery have in common: the digest of the vectors file that it began as."""
        return self.began_as or self.digest


class IndexCard(Card, kw_only=True):
    """What an index is made of.

    Attributes:
        index: what Faiss' index factory would call it.
        asked_for: likewise, before it was fitted to the size of the gallery.
        metric: in words.
        n: number of photos that can be found.
        d: dimension of their vectors.
        missing: rows without a vector, which are never found.
        nprobe: inverted lists to search.
        rerank: candidates to compare exactly.
        train_seconds: how long its training took.
        trained_n: how many photos it was built from; those that came later were only added. 0 for an index that was
            built before this was noted.
        vectors: the vectors file, relative to the card.
        vectors_card: what that says of itself.
        self_check: how the index compares with exact search.
        first_check: how it did when it was built, where it was checked again since.
        bytes: size of the index file.
        digest: SHA-256 of it, None before it is written.
    """

    index: str
    asked_for: str
    metric: str
    n: Count
    d: Positive
    missing: list[Count] = []
    nprobe: Positive
    rerank: Count
    train_seconds: float
    trained_n: Count = 0
    vectors: str
    vectors_card: VectorsCard
    self_check: dict[str, Any] = {}
    first_check: dict[str, Any] = {}
    bytes: Count = 0
    digest: Digest | None = None


class CatalogueCard(Card, kw_only=True):
    """What a catalogue is of that was made for vectors whose own card doesn't know of it.

    Attributes:
        vectors_digest: SHA-256 of the vectors file, None for one without a card.
        digest: SHA-256 of the catalogue itself.
    """

    vectors_digest: Digest | None
    digest: Digest | None = None


class MapCard(Card, kw_only=True):
    """What a map of a gallery was made of.

    Attributes:
        method: how.
        vectors_digest: SHA-256 of the vectors file.
        n: number of photos.
        digest: SHA-256 of the map itself.
    """

    method: str
    vectors_digest: Digest
    n: Positive
    digest: Digest | None = None


Kind = TypeVar("Kind", bound=Card)


def write_card(path: Path, card: Card) -> None:
    """Write the card of `path`, signed; a change to a stranger's card is not."""
    signs = not card_path(path).exists() or is_own(path)
    _write(card_path(path), card, signs)


def commit(path: Path, card: VectorsCard | IndexCard | CatalogueCard | MapCard) -> None:
    """Put what has been written of a file, its list and its catalogue in place, with its card.

    Args:
        path: the file; the caller holds the lock on it.
        card: its card, whose digest is filled in where `part_of(path)` was written.
    """
    if part_of(path).exists():
        card.digest = sealed(part_of(path))
    _write(part_of(card_path(path)), card, signs=True)
    put_in_place(path)


@contextlib.contextmanager
def replacing_with_card(path: Path, card: IndexCard | CatalogueCard | MapCard) -> Iterator[Path]:
    """Yield where to write `path`; on success it gets its name together with its card, on failure nothing is left.

    Raises:
        BusyError: another run is writing it.
    """
    mend(path)
    with locked(path):
        try:
            yield part_of(path)
            commit(path, card)
        finally:
            if not is_half_in_place(path):
                part_of(path).unlink(missing_ok=True)


def read_card(path: Path, kind: type[Kind]) -> Kind | None:
    """Return the card of `path`, or None where it has none.

    Raises:
        CardError: it is damaged, or not of this kind.
    """
    saved = _read_object(path)
    if saved is None:
        return None
    content = {name: value for name, value in saved.items() if name not in ("checksum", "signature")}
    try:
        if saved.get("checksum", _checksum(content)) != _checksum(content):
            raise ValueError("its checksum is another: it was damaged, or changed by hand")
        return msgspec.convert(content, kind)
    except ValueError as error:
        raise CardError(f"{card_path(path)} can't be used ({error}): make {path} again") from error


def is_own(path: Path) -> bool:
    """Tell whether the card of `path` was written by this user on this machine."""
    saved = _read_object(path) or {}
    made = _signature(str(saved.get("checksum")))
    return made is not None and hmac.compare_digest(made, str(saved.get("signature")))


def check_links(path: Path, files: Iterable[Path]) -> None:
    """Find out whether the card of `path`, a stranger's, leads only to files in its folder or below.

    Raises:
        CardError: it does not; the message says what to do.
    """
    folder = path.resolve().parent
    outside = [file for file in files if not file.resolve().is_relative_to(folder)]
    if outside:
        raise CardError(
            f"{card_path(path)} was not written by you on this machine, and leads to {outside[0]}, outside of its "
            "folder: say yourself where the photos are (img_dir), or make the gallery again"
        )


def relative_to_card(target: Path, path: Path) -> str:
    """Return `target` as the card of `path` names it: relative to its folder, so that both can move together."""
    return os.path.relpath(target.resolve(), path.resolve().parent)


def from_card(name: str, path: Path) -> Path:
    """Return the file that the card of `path` calls `name`; the inverse of `relative_to_card`."""
    return Path(os.path.normpath(path.resolve().parent / name))


def _write(file: Path, card: Card, signs: bool) -> None:
    content = msgspec.to_builtins(card)
    checksum = _checksum(content)
    signature = _signature(checksum) if signs else None
    with replacing(file) as temporary:
        text = json.dumps(content | {"checksum": checksum, "signature": signature}, indent=2)
        temporary.write_text(text + "\n", encoding="ascii")


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        saved = json.loads(card_path(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        saved = None
    if not isinstance(saved, dict):
        raise CardError(f"{card_path(path)} is damaged: it is not a JSON object; make {path} again")
    return saved


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _signature(checksum: str) -> str | None:
    """Return a checksum signed with this user's key, None where there can be no key."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "similar_images"
    key = _key(folder)
    return hmac.digest(key, checksum.encode(), "sha256").hex() if key else None


@cache
def _key(folder: Path) -> bytes | None:
    """Return the secret that a folder keeps, made when it is first asked for."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "key").exists():
            with tempfile.NamedTemporaryFile(dir=folder) as made, contextlib.suppress(FileExistsError):
                made.write(secrets.token_bytes(32))
                made.flush()
                os.link(made.name, folder / "key")  # whole, and only if no other process was quicker
        return (folder / "key").read_bytes()
    return None
