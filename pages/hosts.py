"""The host names under which this app answers, and the origins that may send requests to it.

A page elsewhere can have its own name point at this machine (DNS rebinding), so that a browser takes the app for a part of that page.
What gives it away is the name in `Host`, so a name that nobody gave to this app is refused. Works on headers alone; knows nothing of Gradio
or of what a request wants.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rgtg.config import Settings
from rgtg.errors import BadSettings, RgtgError

EVERYWHERE = ("", "0.0.0.0", "::")  # what a server is told to listen on where all addresses of its machine are meant
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+))(?::[0-9]{0,5})?")
FORWARDED = (b"x-forwarded-host", b"x-gradio-server")  # Gradio builds its addresses from these
Headers = Iterable[tuple[bytes, bytes]]  # as ASGI has them, names in lower case


class Refused(RgtgError):
    """A request that is not passed on, with its HTTP status."""

    def __init__(self, status: int, wrong: str, found: str = "", do: str = ""):
        super().__init__(wrong, found, do)
        self.status = status


def host_of(authority: str) -> str | None:
    """The host of `host:port` in one spelling: lower case, without port and trailing dot; None where it is malformed.

    "LocalHost.:7860" -> "localhost", "[0:0::1]:80" -> "::1", "a@b" -> None
    """
    match = AUTHORITY.fullmatch(authority)
    if not match:
        return None
    address, name = match.groups()
    try:
        ip = ipaddress.ip_address(address or name)
    except ValueError:
        return name.lower().removesuffix(".") or None if name else None
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def host_of_url(url: str) -> str | None:
    """The host of "http://host:port/…"; None for `null`, for other schemes and where it is malformed."""
    match = re.match(r"https?://([^/?#]*)", url, re.IGNORECASE)
    return host_of(match[1]) if match else None


def is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


@dataclass(frozen=True)
class Hosts:
    """Which hosts are this app's own, besides loopback.

    `everywhere`: it listens on all addresses of its machine, so it may be asked for by any address. An address is safe where a name is not:
    nobody can make a browser reach this machine by an address of another. `proxied`: on a Space the proxy says which host was asked for.
    """

    names: frozenset[str] = frozenset()
    everywhere: bool = False
    proxied: bool = False

    @classmethod
    def of(cls, settings: Settings, listens_on: str = "127.0.0.1") -> "Hosts":
        """From the settings and the address that the server listens on, which is a name of its own unless it means all addresses.

        Raises BadSettings where one of them is no host.
        """
        listens_on, names = listens_on.strip("[]").partition("%")[0], set()  # without the zone of an address
        for name in (*settings.hosts, *settings.space_hosts, *(() if listens_on in EVERYWHERE else (listens_on,))):
            host = host_of(f"[{name}]" if is_address(name) and ":" in name else name) or host_of_url(name)
            if host is None:
                raise BadSettings("That is not a valid host name.", f"Found `{name}`.", "Give names as in RGTG_HOSTS=rgtg.example.org.")
            names.add(host)
        return cls(frozenset(names), listens_on in EVERYWHERE or bool(settings.space_hosts), bool(settings.space_hosts))

    def check(self, headers: Headers, method: str = "GET", path: str = "/") -> None:
        """Raises Refused where the host is not this app's own, or where a page elsewhere asks."""
        headers = list(headers)
        own = self._own(headers)
        origins = _values(headers, b"origin")
        if not origins and method not in ("GET", "HEAD", "OPTIONS"):
            origins = _values(headers, b"referer")[:1]  # old browsers, which say less
        for origin in origins:
            host = host_of_url(origin)
            if host is None or not (host in own or host in self.names or (is_loopback(host) and any(map(is_loopback, own)))):
                raise Refused(403, "Another site may not use this app.", f"The request comes from `{_quoted(origin)}`.", _allow(host))
        self._check_fetch(headers, path)

    def _own(self, headers: Headers) -> list[str]:
        """The hosts that the request names, each of them known here."""
        hosts_named, forwarded = _values(headers, b"host"), [host for name in FORWARDED for host in _values(headers, name)]
        if len(hosts_named) != 1:
            raise Refused(400, "A request has to name exactly one host.", f"Found {len(hosts_named)} `Host` headers.")
        forwarded = [part.strip() for value in forwarded for part in value.split(",")]
        if self.proxied and forwarded:
            hosts_named, forwarded = forwarded[:1], []  # behind the proxy `Host` may be anything
        own_hosts = []
        for value in (*hosts_named, *forwarded):
            host = host_of(value) if "://" not in value else host_of_url(value)
            if host is None:
                raise Refused(400, "The host of the request is invalid.", f"Found `{_quoted(value)}`.", "Open the app by its address.")
            if not (is_loopback(host) or host in self.names or (self.everywhere and is_address(host))):
                raise Refused(403, "This app does not answer under that name.", f"The request asks for `{_quoted(value)}`.", _allow(host))
            own_hosts.append(host)
        return own_hosts

    def _check_fetch(self, headers: Headers, path: str) -> None:
        """A browser says of a request without `Origin`, too, that a page elsewhere makes it. Such a page may link here and no more."""
        site, mode, target = (_values(headers, b"sec-fetch-" + part) for part in (b"site", b"mode", b"dest"))
        if site != ["cross-site"] or any(host_of_url(origin) in self.names for origin in _values(headers, b"origin")):
            return
        framed = not self.proxied and target not in ([], ["document"])  # a Space is shown in a frame of the hub
        if mode != ["navigate"] or framed or path.startswith("/gradio_api/"):
            raise Refused(403, "Another site may not use this app.", "The browser says that the request is cross-site.", "Open the app directly.")


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _quoted(value: str) -> str:
    """Short, and nothing that a terminal or a page would act on."""
    return re.sub(r"[^ -~]|[<>&`]", "?", value[:80])


def _allow(host: str | None) -> str:
    return "Open the app by its address" + (f", or allow this name: RGTG_HOSTS={_quoted(host)}" if host else "") + "."
