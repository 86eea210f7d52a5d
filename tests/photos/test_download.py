import gzip
import itertools
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import httpcore
import numpy as np
import pytest
from conftest import ROOT
from http_server import serve, serve_connections

from similar_images.photos import download as downloads
from similar_images.photos.download import download, is_public
from similar_images.photos.images import ImageReadError, read_image

OK = b"HTTP/1.1 200 OK\r\n"
Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What names resolve to; nothing but this is looked up, and nothing but loopback connected to."""
    known: Names = {}
    look_up, connect = socket.getaddrinfo, httpcore.SyncBackend.connect_tcp

    def look_up_known(host: str, *rest: object, **options: object) -> list[object]:
        if host not in known and any(letter in host for letter in "ghijklmnopqrstuvwyz"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in known.get(host, [host]) for found in look_up(address, *rest, **options)]

    def connect_to_loopback(backend: object, host: str, *rest: object) -> httpcore.NetworkStream:
        assert host.startswith("127.") or host == "::1"
        return connect(backend, host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_known)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_to_loopback)
    return known


@pytest.fixture
def public(names: Names, monkeypatch: pytest.MonkeyPatch) -> Names:
    """photos.example at 127.0.0.1, which counts as public; 127.0.0.2 stays private."""
    monkeypatch.setattr(downloads, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
    names |= {"photos.example": ["127.0.0.1"], "inside.example": ["127.0.0.2"]}
    return names


def sending(*parts: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(b"".join(parts))


def dripping(start: bytes, drop: bytes, seconds: float = 0.05) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            time.sleep(seconds)

    return answer


def refusal(url: str, **how: bool) -> str:
    with pytest.raises(ImageReadError) as caught:
        download(url, **how)
    assert str(caught.value) == f"{url}: {caught.value.reason}"
    return caught.value.reason


def test_download_and_read_image_of_an_address_give_the_photo(photo: Path, public: Names) -> None:
    (photo.parent / "ä b.jpg").write_bytes(photo.read_bytes())
    with serve(photo.parent) as (server, _):
        address = server.replace("127.0.0.1", "photos.example")
        for url in (
            f"{address}/photo.jpg",
            f" {address}/ä b.jpg\n",
            address.replace("http", "HTTP") + "/photo.jpg?a=b#c",
        ):
            assert download(url) == photo.read_bytes()
        assert np.array_equal(read_image(f"{address}/photo.jpg"), read_image(photo))
        assert download(f"{address}/redirect/3/photo.jpg") == photo.read_bytes()
        for path, reason in {
            "redirect/4/photo.jpg": "it redirects too often",
            "to-file": "it redirects to file:///etc/hostname, which is not http or https",
            "to-ftp": "it redirects to ftp://127.0.0.1/photo.jpg, which is not http or https",
            "missing.jpg": "the server answered 404 Not Found",
            "endless": "it is larger than 20 MB",
        }.items():
            assert refusal(f"{address}/{path}") == reason
            with pytest.raises(ImageReadError, match=f"/{path}: {reason}"):
                read_image(f"{address}/{path}")


SLOW: dict[str, Callable[[socket.socket], None]] = {
    "headers": dripping(OK, b"X-Header: 1\r\n"),
    "within a header": dripping(OK + b"X-Header: ", b"1"),
    "body": dripping(OK + b"\r\n", b"x"),
    "chunks": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "before the answer": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "silence": lambda connection: time.sleep(5),
}


@pytest.mark.parametrize("where", SLOW)
def test_download_that_drips_ends_at_the_deadline(where: str, public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.4)
    with serve_connections(SLOW[where]) as (port, _):
        began = time.monotonic()
        assert refusal(f"http://photos.example:{port}/a.jpg") == "it did not arrive within 0.4 seconds"
        assert time.monotonic() - began < 3


def test_download_has_one_deadline_over_all_redirects(public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.6)

    def answer(connection: socket.socket) -> None:
        time.sleep(0.25)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")

    with serve_connections(answer) as (port, asked):
        assert refusal(f"http://photos.example:{port}/a.jpg") == "it did not arrive within 0.6 seconds"
    assert 2 <= len(asked) <= 3


def test_download_waits_for_a_look_up_no_longer_than_the_deadline(
    public: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20))
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.3)
    assert refusal("http://photos.example/a.jpg") == "it did not arrive within 0.3 seconds"
    answered.set()


def test_download_reads_no_body_of_a_redirect(photo: Path, public: Names) -> None:
    sent: list[int] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {address}/photo.jpg\r\n\r\n".encode())
        for _ in range(1000):
            sent.append(connection.send(bytes(1 << 20)))

    with serve(photo.parent) as (server, _), serve_connections(answer) as (port, _):
        address = server.replace("127.0.0.1", "photos.example")
        assert download(f"http://photos.example:{port}/a.jpg") == photo.read_bytes()
    assert sum(sent) < 20_000_000  # what fits into the buffers between the two


ENDLESS = {
    "body": (OK + b"\r\n", b"x" * 65536),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "chunk's extension": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Header: 1\r\n" * 5000),
    "headers": (OK, b"X-Header: 1\r\n" * 5000),
    "a header": (OK + b"X-Header: ", b"x" * 65536),
    "answers before the answer": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000),
}


@pytest.mark.parametrize("where", ENDLESS)
def test_download_counts_bytes_wherever_they_are(where: str, public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 2)
    with serve_connections(dripping(*ENDLESS[where], seconds=0)) as (port, _):
        reason = refusal(f"http://photos.example:{port}/a.jpg")
    assert reason.startswith(
        ("it is larger than 20 MB", "it arrived damaged or cut off", "it did not arrive within 2 s")
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OK + b"Content-Length: 100\r\n\r\n" + bytes(60), "it arrived damaged or cut off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + bytes(60), "it arrived damaged or cut off"),
        (OK + b"Content-Length: -1\r\n\r\n", "it arrived damaged or cut off"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "it arrived damaged or cut off"),
        (b"nothing of HTTP\r\n\r\n", "it arrived damaged or cut off"),
        (b"", "it arrived damaged or cut off"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(1 << 20)), "the server sends it compressed"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "it redirects too often"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://a b:c/\r\n\r\n", "it is not an address"),
        (b"HTTP/1.1 302 Found\r\nLocation: //me:secret@photos.example/\r\n\r\n", "addresses with a user name"),
        (b"HTTP/1.1 599 <b>\r\n\r\n", "the server answered 599"),
    ],
)
def test_download_of_a_bad_answer_is_a_sentence(answer: bytes, reason: str, public: Names) -> None:
    with serve_connections(sending(answer)) as (port, _):
        assert refusal(f"http://photos.example:{port}/a.jpg").startswith(reason)


def test_download_of_random_answers_raises_nothing_else(public: Names) -> None:
    answers = (np.random.default_rng(seed) for seed in range(40))
    pieces = [
        OK,
        b"HTTP/1.1 ",
        b"\r\n",
        b"\r\n\r\n",
        b"Location: ",
        b"Transfer-Encoding: chunked",
        b"\xff",
        b"\0",
        b"9",
    ]

    def answer(connection: socket.socket) -> None:
        rng = next(answers)
        connection.sendall(OK[: rng.integers(20)] + b"".join(pieces[at] for at in rng.integers(0, len(pieces), 12)))

    with serve_connections(answer) as (port, _):
        for _ in range(40):
            try:
                download(f"http://photos.example:{port}/a.jpg")
            except ImageReadError as error:
                assert error.reason


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://photos.example/a.jpg", "only http and https addresses are read"),
        ("file:///etc/hostname", "only http and https addresses are read"),
        ("http://me:secret@photos.example/a.jpg", "addresses with a user name or a password are not read"),
        ("javascript:alert(1)", "it is not an address"),
        ("data:image/png;base64,AAAA", "it is not an address"),
        ("two words", "it is not an address"),
        ("http://photos.example:99999/a.jpg", "it is not an address"),
        ("http://\ud800/a.jpg", "it is not an address"),
        ("http:///a.jpg", "it is not an address"),
        ("", "it is not an address"),
        ("http://nowhere.example/a.jpg", "it can't be reached"),
        ("http://a..example/a.jpg", "it can't be reached"),
        ("http://photos.example:9/a.jpg", "it can't be reached"),
    ],
)
def test_download_of_what_is_no_address_is_a_sentence(address: str, reason: str, public: Names) -> None:
    with pytest.raises(ImageReadError) as caught:
        download(address)
    assert caught.value.reason.startswith(reason)
    str(caught.value).encode()


def test_download_uses_no_proxy(photo: Path, public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    with serve(photo.parent) as (address, _):
        assert download(address.replace("127.0.0.1", "photos.example") + "/photo.jpg") == photo.read_bytes()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "0", "[::ffff:127.0.0.1]", "[::1]", "localhost"],
)
def test_download_from_this_machine_is_refused_in_every_spelling(host: str, names: Names) -> None:
    names["localhost"] = ["127.0.0.1"]
    with serve_connections(sending(OK, b"Content-Length: 1\r\n\r\nx")) as (port, asked):
        assert refusal(f"http://{host}:{port}/a.jpg").startswith("it does not lead to the public internet")
        with pytest.raises(ImageReadError, match="public internet"):
            read_image(f"http://{host}:{port}/a.jpg")
        assert asked == []
        if host in ("127.0.0.1", "localhost"):
            assert download(f"http://{host}:{port}/a.jpg", private=True) == b"x" and len(asked) == 1


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::808:808"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "2001::1"),
    ],
)
def test_address_that_is_not_of_the_public_internet_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.167.255.255", "223.255.255.255"),
        *("2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
    ],
)
def test_address_of_the_public_internet_is_known(address: str) -> None:
    assert is_public(address)


def test_download_checks_every_redirect(public: Names) -> None:
    with serve_connections(sending(OK, b"\r\nsecret"), "127.0.0.2") as (port, asked):
        for inside in ("127.0.0.2", "inside.example"):
            redirect = f"HTTP/1.1 302 Found\r\nLocation: http://{inside}:{port}/\r\n\r\n".encode()
            with serve_connections(sending(redirect)) as (outer, _):
                reason = refusal(f"http://photos.example:{outer}/a.jpg")
                assert reason.startswith("it does not lead to the public internet")
    assert asked == []


def test_download_from_a_name_with_one_private_address_is_refused(public: Names) -> None:
    public["both.example"] = ["127.0.0.1", "127.0.0.2"]
    with serve_connections(sending(OK, b"\r\nx")) as (port, asked):
        assert refusal(f"http://both.example:{port}/a.jpg").startswith("it does not lead to the public internet")
    assert asked == []


def test_download_connects_to_the_address_that_was_checked(public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    answers = itertools.chain(["127.0.0.1"], itertools.repeat("127.0.0.2"))
    real = socket.getaddrinfo

    def look_up(host: str, *rest: object, **options: object) -> object:
        if host == "rebound.example":
            looked_up.append(host)
            host = next(answers)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with (
        serve_connections(sending(OK, b"\r\nright")) as (port, asked),
        serve_connections(sending(OK, b"\r\nsecret"), "127.0.0.2", port) as (_, inside),
    ):
        assert download(f"http://rebound.example:{port}/a.jpg") == b"right"
    assert looked_up == ["rebound.example"] and inside == []
    assert f"Host: rebound.example:{port}".encode() in asked[0]


def test_download_goes_on_to_the_next_address_of_a_name(public: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "is_public", lambda address: True)
    public["two.example"] = ["127.0.0.2", "127.0.0.1"]
    with serve_connections(sending(OK, b"\r\nx")) as (port, _):
        assert download(f"http://two.example:{port}/a.jpg") == b"x"


def test_download_from_an_international_name_asks_for_its_ascii_form(public: Names) -> None:
    name = "bilder-schön.example".encode("idna").decode()
    assert name.startswith("xn--")
    public[name] = ["127.0.0.1"]
    with serve_connections(sending(OK, b"\r\nx")) as (port, asked):
        assert download(f"http://Bilder-Schön.example:{port}/ä.jpg") == b"x"
    assert f"Host: {name}:{port}".encode() in asked[0] and asked[0].startswith(b"GET /%C3%A4.jpg ")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of photos.example and its key."""
    if which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    file = tmp_path_factory.mktemp("tls") / "photos.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=photos.example"
    command += " -addext subjectAltName=DNS:photos.example"
    subprocess.run([*command.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_download_without_a_scheme_is_by_https(tls: ssl.SSLContext, public: Names) -> None:
    named: list[str] = []
    tls.sni_callback = lambda _, name, __: named.append(name)
    with serve_connections(sending(OK, b"Content-Length: 1\r\n\r\nx"), tls=tls) as (port, _):
        assert download(f"photos.example:{port}/a.jpg") == b"x"
        assert download(f"HTTPS://photos.example:{port}/a.jpg") == b"x"
        public["other.example"] = ["127.0.0.1"]
        assert "certificate" in refusal(f"https://other.example:{port}/a.jpg")
    assert named == ["photos.example", "photos.example", "other.example"]


def test_download_whose_tls_handshake_drips_ends_at_the_deadline(
    tls: ssl.SSLContext, public: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.4)
    with serve_connections(dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\0")) as (port, _):
        assert refusal(f"https://photos.example:{port}/a.jpg") == "it did not arrive within 0.4 seconds"


def test_importing_images_loads_no_library_for_http() -> None:
    ours = "import sys, similar_images.search.gallery, similar_images.widgets"
    code = f"{ours}; print({{'httpx', 'httpcore'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
