"""The servers that `make demo` and `make app` start: how they begin and end, and what they give away."""

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from jupyter_page import app_server, notebook_server

from similar_images.app.hosts import is_own
from similar_images.app.servers import ServerError, serve, working_copy

FOREIGN = "photos.example"
PRETENDER = """
import http.server, sys, time
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
server.server_bind()
server.server_port = server.socket.getsockname()[1]
print("noise", file=sys.stderr)
address = f"http://127.0.0.1:{server.server_port}/page?token=1"
print(f"[I 2026 App] Pretender is running at:\\n[I 2026 App] {address}", flush=True)
time.sleep(0.5)
server.server_activate()
server.serve_forever()
"""
SERVING = f"""
import sys
from pathlib import Path
from similar_images.app.servers import serve
serve([sys.executable, "-c", {PRETENDER!r}], Path("server.log"), lambda address: print(address, flush=True))
print("ended", flush=True)
"""


def notebook(path: Path, *sources: str, **metadata: object) -> Path:
    cells = [{"cell_type": "code", "source": source, "outputs": [], "metadata": {}} for source in sources]
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


def change(path: Path, what: str, *to: object) -> None:
    """Save a notebook as Jupyter does, with something changed in its first cell."""
    content = json.loads(path.read_text())
    content["cells"][0][what] = list(to)
    content["cells"].append({"cell_type": "code", "source": [], "outputs": [], "metadata": {}})
    path.write_text(json.dumps(content, indent=1))


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return notebook(tmp_path / "a notebook.ipynb", "1 + 1", kernelspec={"name": "python3"})


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


def test_working_copy_is_made_and_leaves_the_original_alone(original: Path, copies: Path) -> None:
    before = original.read_bytes()
    copy = working_copy(original, copies)
    assert copy == copies / "a notebook.ipynb" and sources(copy) == ["1 + 1"] and original.read_bytes() == before
    assert json.loads(copy.read_text())["metadata"]["kernelspec"] == {"name": "python3"}


def test_working_copy_that_was_run_is_kept_until_the_original_changes(original: Path, copies: Path) -> None:
    copy = working_copy(original, copies)
    change(copy, "outputs", {"output_type": "stream", "name": "stdout", "text": "2"})
    run = copy.read_bytes()
    assert working_copy(original, copies).read_bytes() == run
    notebook(original, "1 + 2")
    assert sources(working_copy(original, copies)) == ["1 + 2"]


@pytest.mark.parametrize("edited", ["2 + 2", ""])
def test_working_copy_that_was_edited_is_kept(original: Path, copies: Path, edited: str) -> None:
    change(working_copy(original, copies), "source", edited)
    notebook(original, "1 + 2")
    assert sources(working_copy(original, copies))[0] == edited


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": []}', '{"cells": [{}], "metadata": {}}'])
def test_working_copy_that_is_somebody_elses_is_kept(original: Path, copies: Path, content: str) -> None:
    (copies / original.name).write_text(content)
    assert working_copy(original, copies).read_text() == content


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_server_tells_its_address_and_ends_with_its_parent(tmp_path: Path, sign: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVING], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        address = urlsplit(serving.stdout.readline().strip())
        assert (address.path, address.query) == ("/page", "token=1")
        socket.create_connection((address.hostname, address.port)).close()
        (child,) = psutil.Process(serving.pid).children()
        serving.send_signal(sign)
        assert serving.stdout.read() == "ended\n" and serving.wait() == 0
    assert not child.is_running()
    log = tmp_path / "server.log"
    assert "noise" in log.read_text() and stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.fixture
def signals() -> Iterator[None]:
    """Gives this process back what it does about signals."""
    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for sign, handler in handlers.items():
        signal.signal(sign, handler)


@pytest.mark.usefixtures("signals")
def test_server_that_does_not_start_is_a_sentence_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"the server ended before it could be used; .*server\.log says why"):
        serve([sys.executable, "-c", "print('no room')"], tmp_path / "server.log", lambda address: None)
    assert (tmp_path / "server.log").read_text() == "no room\n"


def ask(server: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body of an answer."""
    connection = HTTPConnection(urlsplit(server).netloc, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = "" if answer.status == 101 else answer.read().decode(errors="replace")
    connection.close()
    return answer.status, dict(answer.getheaders()), body


@pytest.fixture(scope="module")
def demo(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "photo.jpg").write_bytes(b"a photo")
    with notebook_server(folder, index_file) as address:
        yield address


@pytest.fixture(scope="module")
def app(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with app_server(tmp_path_factory.mktemp("app"), index_file) as address:
        yield address


def test_demo_shows_no_file_without_its_token(demo: str) -> None:
    assert ask(demo, "/files/photo.jpg?token=token")[2] == "a photo"
    for path in ("/files/photo.jpg", "/voila/files/photo.jpg", "/tree/photo.jpg", "/api/contents", "/api/kernels"):
        status, _, body = ask(demo, path)
        assert status in (302, 403, 404) and "a photo" not in body, path


def test_demo_answers_no_foreign_host(demo: str) -> None:
    assert ask(demo, "/tree?token=token", Host=FOREIGN)[0] == 403


def test_demo_asks_nobody_for_news_or_updates(demo: str) -> None:
    for path in ("/lab/api/news?token=token", "/lab/api/update?token=token"):
        assert ask(demo, path)[0] == 200  # what it tried to connect to is found when it ends


@pytest.mark.parametrize(
    "path", ["docs/phone.jpg", "Similar%20image.ipynb", "README.md", ".git/HEAD", "../x/docs/a.jpg"]
)
def test_app_serves_no_file(app: str, path: str) -> None:
    assert ask(app, f"/voila/files/{path}")[0] == 403


@pytest.mark.parametrize(
    "path", ["/voila/api/contents", "/voila/tree", "/api/kernels", "/api/contents", "/files/README.md"]
)
def test_app_has_nothing_but_its_page(app: str, path: str) -> None:
    status, headers, _ = ask(app, path)
    assert status == 404 or (status == 302 and headers["Location"] == f"/voila/files{path}")


@pytest.mark.parametrize(
    "path", ["/", "/?template=classic", "/?template=reveal", "/?theme=dark", "/voila/files/missing"]
)
def test_app_has_no_address_of_another_host_on_its_pages(app: str, path: str) -> None:
    _, headers, page = ask(app, path)
    assert re.findall(r"""(?:href|src)=["']?(?:https?:)?//[^"'> ]+""", page) == []
    if path.startswith("/?"):
        assert "default-src 'self'" in headers["Content-Security-Policy"]


def kernel_of(app: str) -> str:
    found = re.search(r'"kernelId": "([^"]+)"', ask(app, "/")[2])
    assert found
    return found[1]


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_app_answers_no_foreign_host_and_no_foreign_page(app: str) -> None:
    kernel = f"/api/kernels/{kernel_of(app)}"
    own = urlsplit(app).netloc
    for path in ("/", kernel, f"{kernel}/channels", "/voila/api/themes/x"):
        assert ask(app, path, Host=FOREIGN)[0] == 403, path
    for host, origin, status in [
        (own, f"http://{own}", 101),
        (own, f"http://{FOREIGN}", 403),
        (FOREIGN, f"http://{FOREIGN}", 403),  # as after DNS rebinding
        (FOREIGN, f"http://{own}", 403),
    ]:
        assert ask(app, f"{kernel}/channels", **WEBSOCKET, Host=host, Origin=origin)[0] == status, (host, origin)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:80", "[::1]:8866", "LOCALHOST"])
def test_app_answers_its_own_host(app: str, host: str) -> None:
    assert ask(app, "/voila/api/themes/x", Host=host)[0] == 404


@pytest.mark.parametrize(
    ("host", "ip", "own"),
    [
        ("localhost", "localhost", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "localhost", True),
        ("192.168.1.5", "localhost", False),
        (socket.gethostname().lower(), "localhost", socket.gethostname().lower() == "localhost"),
        ("photos.example", "localhost", False),
        ("localhost.photos.example", "localhost", False),
        ("127.0.0.1.photos.example", "localhost", False),
        ("", "localhost", False),
        ("192.168.1.5", "192.168.1.5", True),
        ("192.168.1.6", "192.168.1.5", False),
        ("photos.example", "192.168.1.5", False),
        ("photos.lan", "photos.lan", True),
        ("192.168.1.5", "0.0.0.0", True),
        ("fe80::1", "::", True),
        (socket.gethostname().lower(), "0.0.0.0", True),
        (f"{socket.gethostname().lower()}.local", "0.0.0.0", True),
        ("photos.example", "0.0.0.0", False),
    ],
)
def test_is_own_knows_the_names_that_a_server_has(host: str, ip: str, own: bool) -> None:
    assert is_own(host, ip) is own


def test_app_answers_a_host_that_it_was_told(index_file: Path, tmp_path: Path) -> None:
    with app_server(tmp_path, index_file, f"--App.hosts={FOREIGN}") as address:
        assert ask(address, "/voila/api/themes/x", Host=FOREIGN)[0] == 404
        assert ask(address, "/voila/api/themes/x", Host="other.example")[0] == 403
