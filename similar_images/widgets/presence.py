"""The widget that says on the page that its kernel has ended."""

from similar_images.widgets.message_view import MessageView, module


class Presence(MessageView):
    """Nothing, until nobody answers the page any more; then a sentence that says what to do."""

    _esm = module("presence.js")

    def __init__(self) -> None:
        """Make the widget, which hears and tells nothing: the page finds out by itself."""
        super().__init__({})
