"""Downloads photos, within limits of time and size, and by default from the public internet only."""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterable
from http.client import responses
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpcore
import httpx

from similar_images.photos.errors import ImageReadError, UnreadableError, printable

TIMEOUT_SECONDS = 10.0
MAX_BYTES = 20_000_000
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = (("User-Agent", "similar-images/1.0"), ("Accept", "image/*,*/*"), ("Accept-Encoding", "identity"))
HOST = re.compile(r"[a-z\d._~-]+|[\da-f:.]+(%\w+)?", re.ASCII)
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def download(url: str, *, private: bool = False) -> bytes:
    """Return what lies at an address: at most 20 MB, within 10 seconds from the DNS look-up on.

    Nothing of the environment is used: no proxy, no cookie, no password.

    Args:
        url: an http or https address; https is meant where it doesn't say.
        private: whether it may lead to this machine or into a private network.

    Raises:
        ImageReadError: it can't be had; the message names the address and the reason.
    """
    try:
        return fetch(url, private=private)
    except UnreadableError as error:
        raise ImageReadError(printable(url), str(error)) from error


def fetch(url: str, *, private: bool = False) -> bytes:
    """Return what lies at an address, as `download` does.

    Raises:
        UnreadableError: it can't be had.
    """
    try:
        return _fetch(url if "://" in url else f"https://{url}", _Connections(_Budget(), private))
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise UnreadableError(f"it did not arrive within {TIMEOUT_SECONDS:g} seconds") from error
    except httpcore.RemoteProtocolError as error:
        raise UnreadableError(f"it arrived damaged or cut off ({error})") from error
    except (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise UnreadableError(f"it can't be reached ({error})") from error


def is_public(address: str) -> bool:
    """Tell whether an IP address is of the public internet; one of IPv6 that stands for one of IPv4 is as that is.

    Source: the IANA registries of special-purpose addresses, as `ipaddress` has them, and RFC 6052 for NAT64.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        meant = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(ip.packed[-4:]) if ip in NAT64 else None)
        if meant:
            return is_public(str(meant))
        if ip not in GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


class _Budget:
    """What a download may still take."""

    def __init__(self) -> None:
        self._until, self._bytes = time.monotonic() + TIMEOUT_SECONDS, MAX_BYTES

    def seconds(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def spend(self, count: int) -> None:
        self._bytes -= count
        if self._bytes < 0:
            raise UnreadableError(f"it is larger than {MAX_BYTES // 1_000_000} MB")


class _Connections(httpcore.NetworkBackend):
    """Connects only to addresses that were looked up and are allowed."""

    def __init__(self, budget: _Budget, private: bool) -> None:
        self._budget, self._private = budget, private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _look_up(host, port, self._budget.seconds())
        if not self._private and not all(map(is_public, addresses)):
            raise UnreadableError("it does not lead to the public internet: save the photo, and give the file")
        return _Stream(self._connected(addresses, port), self._budget)

    def _connected(self, addresses: list[str], port: int) -> httpcore.NetworkStream:
        errors: list[httpcore.ConnectError | httpcore.ConnectTimeout] = []
        for at, address in enumerate(addresses):
            seconds = self._budget.seconds() / (len(addresses) - at)
            try:
                return httpcore.SyncBackend().connect_tcp(address, port, seconds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.append(error)
        raise errors[0]


class _Stream(httpcore.NetworkStream):
    """A connection within the budget."""

    def __init__(self, stream: httpcore.NetworkStream, budget: _Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._budget.seconds())
        self._budget.spend(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._budget.seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._budget.seconds())
        return _Stream(encrypted, self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _fetch(url: str, connections: _Connections) -> bytes:
    address = _address(url)
    with httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=connections) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            target = httpcore.URL(
                scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path
            )
            with pool.stream("GET", target, headers=[*HEADERS, ("Host", address.netloc)]) as response:
                headers = httpx.Headers(response.headers)
                if response.status not in REDIRECTS:
                    return _body(response, headers)
            address = _address(headers.get("Location", ""), address)
    raise UnreadableError("it redirects too often")


def _address(url: str, redirected_by: httpx.URL | None = None) -> httpx.URL:
    try:
        address = redirected_by.join(url) if redirected_by else httpx.URL(url.strip())
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UnreadableError(f"it is not an address ({error})") from error
    if address.scheme not in ("http", "https"):
        redirect = f"it redirects to {printable(url)[:200]}, which is not http or https"
        raise UnreadableError(redirect if redirected_by else "only http and https addresses are read")
    if address.userinfo:
        raise UnreadableError("addresses with a user name or a password are not read")
    if not HOST.fullmatch(address.raw_host.decode()) or (address.port or 1) > 65535:
        raise UnreadableError("it is not an address")
    return address


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """Return a host's IP addresses; the look-up itself knows no deadline, so a thread waits for it."""
    answers: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def look() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in found)))
        except Exception as error:
            answers.put(error)

    Thread(target=look, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _body(response: httpcore.Response, headers: httpx.Headers) -> bytes:
    if not 200 <= response.status < 300:
        raise UnreadableError(f"the server answered {response.status} {responses.get(response.status, '')}".rstrip())
    if headers.get("Content-Encoding", "identity") != "identity":
        raise UnreadableError("the server sends it compressed, which was not asked for")
    return b"".join(response.iter_stream())
