"""Destinations: which URLs a user may enter, by their text alone. Where a name leads is looked at when something is sent there.

A host is a name of the public DNS. So whatever some parser takes for an address (decimal, octal, hexadecimal, shortened, in
brackets, in full-width digits) is refused before anybody parses it, and what is left is read the same way by everybody.
"""

import re
from dataclasses import dataclass

from upshot.errors import Fault

LENGTH = 2_000
PORTS = (443, 8443, 9443)
_SCHEME = "https://"
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Ends of names that the public DNS never answers (RFC 6761, 6762, 7686, 8375; `internal` is reserved by ICANN).
_INSIDE = frozenset({"localhost", "local", "internal", "arpa", "onion", "invalid", "test"})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a URL leads: the host's name in lower case, the port, and path and query as they are sent."""

    host: str
    port: int
    target: str


def check_url(url: str, pointer: str = "/url") -> Fault | None:
    """The fault of a URL that something is to be sent to, or None."""
    found = _read(url)
    return None if isinstance(found, Destination) else Fault(pointer, *found)


def destination_of(url: str) -> Destination | None:
    """Where a URL leads, or None for one that has a fault."""
    found = _read(url)
    return found if isinstance(found, Destination) else None


def _read(url: str) -> Destination | tuple[str, str]:
    """The destination, or code and message of what is wrong."""
    if len(url) > LENGTH:
        return "too_long", f"must be at most {LENGTH:,} characters long"
    if not _CHARACTERS.fullmatch(url):
        return "bad_character", "must consist of the ASCII characters of a URL; other names are written as xn--…"
    if url[: len(_SCHEME)].lower() != _SCHEME:
        return "bad_scheme", "must begin with https://"
    beyond, number_sign, _ = url[len(_SCHEME) :].partition("#")
    authority = re.split("[/?]", beyond, maxsplit=1)[0]
    if "@" in authority:
        return "user_info", "must not hold a user name or a password"
    if number_sign:
        return "fragment", "must not hold a fragment (#)"
    host, colon, port = authority.lower().partition(":")
    if fault := _fault_of_host(host):
        return fault
    if colon and port not in map(str, PORTS):
        return "bad_port", f"must use port {', '.join(map(str, PORTS[:-1]))} or {PORTS[-1]}"
    target = beyond[len(authority) :]
    return Destination(host, int(port) if colon else PORTS[0], target if target.startswith("/") else f"/{target}")


def _fault_of_host(host: str) -> tuple[str, str] | None:
    *labels, last = host.split(".")
    if host.startswith("[") or last[:1].isdigit():
        return "address", "must name its host, not give an address"
    if last in _INSIDE:
        return "inside_name", "must name a host of the public internet"
    if not labels or len(host) > 253 or not all(map(_LABEL.fullmatch, (*labels, last))):
        return "bad_host", "must name a host of the public internet, such as hooks.example.com"
    return None
