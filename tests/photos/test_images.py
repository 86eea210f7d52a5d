import io
import os
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from bad_files import BLUE, RED, bad_files, encoded, two_halves
from PIL import Image

from similar_images.photos.images import ImageReadError, area_weights, read_image, resize, thumbnail

WHITE = (255, 255, 255)


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 12) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= by)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF", "MPO"])
def test_read_image_of_every_format_gives_rgb(kind: str) -> None:
    pixels = read_image(encoded(two_halves(), kind))
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert near(pixels[24, 8], RED, 20) and near(pixels[24, 56], BLUE, 20)


@pytest.mark.parametrize("source", ["path", "str", "bytes", "pil"])
def test_read_image_of_every_kind_of_source_is_equal(photo: Path, source: str) -> None:
    opened = {"path": photo, "str": str(photo), "bytes": photo.read_bytes(), "pil": Image.open(photo)}[source]
    assert np.array_equal(read_image(opened), np.array(Image.open(photo)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_with_exif_orientation_is_upright(orientation: int) -> None:
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])
    stored = two_halves()
    for operation in undo:  # what a camera held that way would store
        stored = stored.transpose(Image.Transpose(operation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read_image(encoded(stored, "JPEG", exif=exif, quality=95))
    assert pixels.shape == (48, 64, 3)
    assert near(pixels[24, 8], RED) and near(pixels[24, 56], BLUE)


def test_read_image_with_damaged_exif_is_read_as_stored() -> None:
    data = encoded(two_halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(data).shape == (48, 64, 3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "YCbCr", "1"])
def test_read_image_of_other_modes_keeps_the_look(mode: str) -> None:
    expected = np.array(two_halves(mode).convert("RGB"))
    assert np.abs(read_image(two_halves(mode)).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_read_image_with_alpha_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    assert np.all(read_image(image) == 255)


def test_read_image_of_palette_png_with_transparent_colour_lies_over_white() -> None:
    data = encoded(Image.new("P", (4, 4), 0), "PNG", transparency=0)
    assert np.all(read_image(data) == 255)


def test_read_image_of_cmyk_jpeg_is_right_with_and_without_adobe_marker() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    adobe = encoded(image, "JPEG", quality=95)
    assert b"Adobe" in adobe and near(read_image(adobe)[8, 8], RED)
    start = adobe.index(b"\xff\xee")
    length = struct.unpack(">H", adobe[start + 2 : start + 4])[0]
    inverted = Image.eval(image, lambda value: 255 - value)
    plain = encoded(inverted, "JPEG", quality=95)
    plain = plain[:start] + plain[start + 2 + length :]
    assert b"Adobe" not in plain and near(read_image(plain)[8, 8], RED)


def test_read_image_of_16_bit_grey_scales_to_8() -> None:
    values = np.full((4, 4), 32768, np.uint16)
    assert np.all(np.abs(read_image(encoded(Image.fromarray(values), "PNG")).astype(int) - 128) <= 1)


def test_read_image_of_float_tiff_between_0_and_1_scales_to_255() -> None:
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    pixels = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert pixels[0, 0, 0] == 0 and pixels[3, 3, 0] == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_read_image_of_animation_gives_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert near(read_image(data)[4, 4], RED, 20)


def test_read_image_of_heic_is_read_with_the_package_for_it() -> None:
    data = io.BytesIO()
    pillow_heif.from_pillow(two_halves()).save(data, quality=90)
    assert near(read_image(data.getvalue())[24, 8], RED, 20)


def test_read_image_with_target_decodes_jpeg_at_reduced_scale() -> None:
    data = encoded(Image.new("RGB", (1600, 1200), RED), "JPEG")
    assert read_image(data, (224, 224)).shape == (600, 800, 3)
    assert read_image(data).shape == (1200, 1600, 3)


def test_read_image_of_bad_files_names_file_and_reason(tmp_path: Path) -> None:
    for name, reason in bad_files(tmp_path).items():
        with pytest.raises(ImageReadError, match=reason) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value) and name not in caught.value.reason


def test_read_image_of_odd_name_can_be_printed(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError) as caught:
        read_image(tmp_path / os.fsdecode(b"caf\xe9\n.jpg"))
    assert "caf\\xe9\\n.jpg" in str(caught.value)
    str(caught.value).encode()


def test_resize_bilinear_is_antialiased_and_keras_is_nearest() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.all(np.abs(resize(stripes, (1, 1)).astype(int) - 128) < 20)
    assert set(np.unique(resize(stripes, (3, 3), "keras"))) <= {0, 255}
    assert resize(stripes, (5, 3)).shape == (3, 5, 3)


def test_resize_keras_equals_keras_load_img(photo: Path) -> None:
    import keras

    published = np.array(keras.utils.load_img(photo, target_size=(30, 20)))
    assert np.array_equal(resize(read_image(photo), (20, 30), "keras"), published)


def test_area_weights_average_and_keep_the_mean() -> None:
    assert np.allclose(area_weights(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert np.allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    values = np.random.default_rng(0).random(8)
    assert (area_weights(8, 7) @ values).mean() == pytest.approx(values.mean())


def test_thumbnail_is_small_jpeg_in_proportion(photo: Path) -> None:
    small = Image.open(io.BytesIO(thumbnail(photo, 32)))
    assert (small.format, small.size) == ("JPEG", (32, 24))
