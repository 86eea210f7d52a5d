"""A real HTTP server on localhost that misbehaves on request."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    """Serves the files of `folder`, with ranges; and /redirect/N/NAME, /slow, /endless, /to-file, /cut/NAME,
    /stall/NAME, /silent."""

    folder: Path
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Range"]))
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "redirect":
            left, _, name = rest.partition("/")
            self._redirect(f"/redirect/{int(left) - 1}/{name}" if int(left) > 1 else f"/{name}")
        elif kind == "to-file":
            self._redirect("file:///etc/hostname")
        elif kind == "to-ftp":
            self._redirect("ftp://127.0.0.1/photo.jpg")
        elif kind == "endless":
            self._endless()
        elif kind == "slow":
            self._slow()
        elif kind == "silent":
            self.connection.recv(1)  # until the client hangs up
        elif kind in ("cut", "stall"):
            self._file(rest, cut=not self.headers["Range"] or kind == "stall")
            if kind == "stall":
                self.connection.recv(1)
        else:
            self._file(self.path.lstrip("/"))

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(400):
            self.wfile.write(bytes(1 << 16))

    def _slow(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def _file(self, name: str, cut: bool = False) -> None:
        path = self.folder / unquote(name.partition("?")[0])
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        rest = data[start:]
        self.wfile.write(rest[: len(rest) // 2] if cut else rest)

    def log_message(self, *_: object) -> None:
        """Keep the terminal quiet."""


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Serve a folder; yield the address, and the (path, range) of every request as they come."""
    asked: list[tuple[str, str | None]] = []
    handler = type("FolderHandler", (Handler,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # clients hang up on purpose
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@contextmanager
def serve_connections(
    answer: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """Answer each connection by a function; yield the port, and what was asked on each of them as they come."""
    asked: list[bytes] = []

    def take(connection: socket.socket) -> None:
        with suppress(OSError), connection:  # clients hang up on purpose
            connection = tls.wrap_socket(connection, server_side=True) if tls else connection
            with connection:
                asked.append(connection.recv(1 << 16))
                answer(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                Thread(target=take, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server((host, port)) as server:
        Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], asked
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
