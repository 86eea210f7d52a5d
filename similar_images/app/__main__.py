"""The notebook as an app for visitors: Voila, which gives away the page of the gallery and nothing else.

`python -m similar_images.app "Similar image.ipynb"`; Voila's options follow.
"""

from pathlib import Path
from typing import Any

from traitlets import List, Unicode
from traitlets.config import Config
from voila.app import Voila

from similar_images.app.hosts import is_own

VISITOR_SECONDS = 600  # without a sign of life, until a visitor's kernel ends
ONLY_FROM_HERE = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


class OwnHost:
    """Refuses requests for another host: a foreign page's name, made to resolve to this server (DNS rebinding)."""

    def check_host(self: Any) -> bool:
        """Return whether a request may go on, which `JupyterHandler.prepare` asks, websockets' too."""
        app, host = self.settings["voila"], self.request.host_name.strip("[]")
        allowed = is_own(host, app.ip) or host in app.hosts
        if not allowed:
            self.log.warning("Refused a request for %s. If that is this server, allow it by --App.hosts=%s", host, host)
        return allowed


class App(Voila):
    """Voila for visitors of a gallery.

    Attributes:
        hosts: names, besides its own, that visitors may call this server by.
    """

    hosts = List(Unicode(), config=True, help="names, besides its own, that visitors may call this server by")

    def initialize(self, argv: list[str] | None = None) -> None:
        """Take the command line's options over these."""
        self.update_config(
            Config(
                {
                    "Voila": {"tornado_settings": {"headers": {"Content-Security-Policy": ONLY_FROM_HERE}}},
                    "VoilaConfiguration": {"file_allowlist": [], "allow_template_override": "NO"},
                    "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": ["notebook-only"]},
                    "MappingKernelManager": {
                        "cull_idle_timeout": VISITOR_SECONDS,
                        "cull_interval": VISITOR_SECONDS // 10,
                    },
                }
            )
        )
        super().initialize(argv)

    def setup_template_dirs(self) -> None:
        """Take the templates beside this file over Voila's, which ask a content delivery network for icons."""
        super().setup_template_dirs()
        self.template_paths.insert(0, str(Path(__file__).parent))

    def init_handlers(self) -> list[tuple[Any, ...]]:
        """Let every handler of Voila's look at the host that is asked for."""
        return [
            (route, type(handler.__name__, (OwnHost, handler), {}), *settings)
            for route, handler, *settings in super().init_handlers()
        ]


if __name__ == "__main__":
    App.launch_instance()
