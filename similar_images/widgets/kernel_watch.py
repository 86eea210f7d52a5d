"""The widget that shows on the page that its kernel has ended."""

from similar_images.widgets.message_view import MessageView, module


class KernelWatch(MessageView):
    """Empty while the kernel answers; then a sentence that says what to do."""

    _esm = module("kernel_watch.js")

    def __init__(self) -> None:
        """Make the widget; the page watches the kernel by itself."""
        super().__init__({})
