from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from similar_images.photos.images import ImageReadError, cropped, read_image
from similar_images.search.gallery import Gallery
from similar_images.search.question import MAX_STEPS, Example, History, Question
from similar_images.store.vectors import normalise


def example(gallery: Gallery, row: int) -> Example:
    return Example(gallery.names[row], gallery.photo_path(row), gallery.vector(row), row)


def test_question_of_one_photo_searches_with_its_vector(gallery: Gallery) -> None:
    np.testing.assert_array_equal(Question((example(gallery, 4),)).vector(gallery), gallery.vector(4))


def test_question_of_several_photos_is_between_them(gallery: Gallery) -> None:
    vector = Question((example(gallery, 4), example(gallery, 50))).vector(gallery)
    mean = gallery.units([4, 50]).mean(axis=0)
    np.testing.assert_allclose(gallery.measure.units(vector[None])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_marks_are_set_changed_and_taken_back(gallery: Gallery) -> None:
    question = Question((example(gallery, 0),)).marked(5, True).marked(6, False)
    assert (question.relevant, question.irrelevant) == ((5,), (6,))
    changed = question.marked(6, True)
    assert (changed.relevant, changed.irrelevant) == ((5, 6), ())
    assert changed.marked(5, True).marked(6, True).relevant == ()


def test_boxed_example_means_a_part_and_then_all_again(gallery: Gallery) -> None:
    whole = example(gallery, 10)
    box = (0.25, 0.0, 1.0, 0.5)
    part = whole.boxed(gallery, box)
    np.testing.assert_array_equal(part.vector, gallery.vector(cropped(whole.photo, box)))
    assert not np.allclose(normalise(part.vector[None]), normalise(whole.vector[None]), atol=1e-3)
    np.testing.assert_array_equal(part.boxed(gallery, None).vector, whole.vector)


def test_cropped_is_the_part_of_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees: red is left
    image = Image.new("RGB", (100, 40), "blue")
    image.paste("red", (50, 0, 100, 40))
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(cropped(tmp_path / "turned.png", (0, 0, 0.5, 1))).tolist() == [[[255, 0, 0]] * 50] * 40
    with pytest.raises(ImageReadError, match="nothing in the part"):
        cropped(tmp_path / "turned.png", (0.5, 0, 0.5, 1))


def test_history_goes_back_and_forward_and_forgets_what_was_ahead(gallery: Gallery) -> None:
    history = History()
    assert history.current is None and (history.behind, history.ahead) == (0, 0)
    first, second, third, other = (Question((example(gallery, row),)) for row in range(4))
    for question in (first, second, third):
        history.add(question)
    history.move(-1)
    history.move(-1)
    assert history.current is first and (history.behind, history.ahead) == (0, 2)
    history.move(-1)
    assert history.current is first
    history.move(1)
    history.add(other)
    assert history.current is other and (history.behind, history.ahead) == (2, 0)


def test_history_forgets_the_oldest(gallery: Gallery) -> None:
    history = History()
    questions = [Question((example(gallery, 0),)) for _ in range(MAX_STEPS + 10)]
    for question in questions:
        history.add(question)
    assert history.current is questions[-1] and history.behind == MAX_STEPS - 1
