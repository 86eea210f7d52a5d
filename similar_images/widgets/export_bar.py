"""The widget that exports hits."""

from collections.abc import Callable

from similar_images.widgets.errors import report_errors
from similar_images.widgets.message_view import MessageView, module


class ExportBar(MessageView):
    """Buttons for files and code."""

    _esm = module("export_bar.js")

    def __init__(self, on_export: Callable[[str], None]) -> None:
        """Make the buttons, hidden until `show_buttons`; `on_export` is called with "csv", "json", "png" or "py"."""
        super().__init__({"export": lambda content, _: report_errors(self.show_error, on_export)(content["format"])})
        self.show_buttons(False)

    def show_buttons(self, visible: bool) -> None:
        """Show the buttons, or hide them while there is nothing to export."""
        self.show({"kind": "visible", "visible": visible})

    def download(self, name: str, type_: str, data: bytes) -> None:
        """Let the page save a file."""
        self.send({"kind": "file", "name": name, "type": type_}, [data])

    def show_code(self, text: str) -> None:
        """Show code to copy."""
        self.send({"kind": "code", "text": text})
