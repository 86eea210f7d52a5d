"""Which names are a server's own, so that no foreign page can reach it by a name that it has resolve to it."""

import socket
from ipaddress import ip_address

EVERYWHERE = {"", "0.0.0.0", "::"}  # what a server listens on that lets others in


def is_own(host: str, ip: str) -> bool:
    """Return whether a host, as a browser calls it in lower case and without port, is the server that listens on `ip`.

    Names that only others resolve are not. An address is no name, and so can't be made to resolve to anything.
    """
    try:
        address = ip_address(host)
    except ValueError:
        machine = socket.gethostname().lower()
        return host in {"localhost", ip} or (ip in EVERYWHERE and host in {machine, f"{machine}.local"})
    return host == ip or address.is_loopback or ip in EVERYWHERE
