"""Errors of callbacks, which ipywidgets would swallow, as sentences."""

from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any


def report_errors(report: Callable[[str], None], callback: Callable[..., None]) -> Callable[..., None]:
    """Return a callback that reports its errors instead of raising them.

    Args:
        report: called with a sentence.
        callback: what to call.
    """

    @wraps(callback)
    def reporting(*args: Any) -> None:
        try:
            callback(*args)
        except (ValueError, OSError) as error:
            report(str(error))
        except ImportError as error:
            report(f"{error}: pip install -r requirements.txt")
        except Exception as error:  # a bug, but the panel has to stay usable
            report(f"{type(error).__name__}: {error}")

    return reporting


def alert_html(sentence: str) -> str:
    """Return a sentence on what went wrong as HTML, which screen readers read out at once."""
    return f'<div class="si-status si-error" role="alert">{escape(sentence)}</div>'
