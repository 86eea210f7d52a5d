"""What a gallery refuses."""


class GalleryError(ValueError):
    """A gallery can't be opened or searched as asked; the message says why and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Let a notebook show the sentence alone."""
        return [str(self)]
