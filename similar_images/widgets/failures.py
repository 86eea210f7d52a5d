"""Failures of callbacks, which ipywidgets would swallow, as sentences."""

from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any


def telling(tell: Callable[[str], None], callback: Callable[..., None]) -> Callable[..., None]:
    """Return a callback that tells what it raises, and then is done.

    Args:
        tell: called with a sentence.
        callback: what to call.
    """

    @wraps(callback)
    def told(*args: Any) -> None:
        try:
            callback(*args)
        except (ValueError, OSError) as error:
            tell(str(error))
        except ImportError as error:
            tell(f"{error}: pip install -r requirements.txt")
        except Exception as error:  # a bug, but the panel has to stay usable
            tell(f"{type(error).__name__}: {error}")

    return told


def alert_html(sentence: str) -> str:
    """Return a sentence on what went wrong as HTML, which screen readers read out at once."""
    return f'<div class="si-status si-error" role="alert">{escape(sentence)}</div>'
