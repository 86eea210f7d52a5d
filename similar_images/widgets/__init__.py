"""The panel of a gallery in a notebook."""

from similar_images.widgets.panel import SearchPanel

__all__ = ["SearchPanel"]
