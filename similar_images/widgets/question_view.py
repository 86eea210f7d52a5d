"""The widget that shows the query."""

from collections.abc import Callable, Sequence

from similar_images.photos.images import Box, Source
from similar_images.search.question import Question
from similar_images.widgets.message_view import MessageView, module
from similar_images.widgets.pictures import picture

SIDE = 640
MARK_SIDE = 96


class QuestionView(MessageView):
    """Example photos, each with its selected part, and marked hits."""

    _esm = module("question_view.js")

    def __init__(
        self,
        on_crop: Callable[[int, Box | None], None],
        on_remove: Callable[[int], None],
        on_mark: Callable[[int, bool], None],
    ) -> None:
        """Make an empty view.

        Args:
            on_crop: called with the position of an example and its selected part, None for the whole photo.
            on_remove: called with the position of an example.
            on_mark: called with a marked row whose mark is to go, and whether it was relevant.
        """
        super().__init__(
            {
                "crop": lambda content, _: on_crop(content["at"], content["box"] and tuple(content["box"])),
                "remove": lambda content, _: on_remove(content["at"]),
                "mark": lambda content, _: on_mark(content["row"], content["relevant"]),
            }
        )

    def show_question(self, question: Question, marks: Sequence[tuple[int, str, Source, bool]]) -> None:
        """Show a question.

        Args:
            question: the query with its marks.
            marks: row, name, photo and relevance of each marked hit.
        """
        pictures = [picture(example.photo, SIDE) for example in question.examples]
        small = [picture(photo, MARK_SIDE) for _, _, photo, _ in marks]
        examples = [
            {"name": example.name, "box": example.box, "reason": reason}
            for example, (_, reason) in zip(question.examples, pictures, strict=True)
        ]
        marked = [{"row": row, "name": name, "relevant": relevant} for row, name, _, relevant in marks]
        content = {"kind": "question", "examples": examples, "marks": marked}
        self.show(content, [picture for picture, _ in [*pictures, *small]])
