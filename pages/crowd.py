"""How often one visitor, and one address, may ask something of a public server; and where a request comes from.

Knows nothing of what a handler does. Addresses are counted under hashes whose key changes every day, and are kept nowhere.
"""

import ipaddress
from collections import Counter
from collections.abc import MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from pages.browsers import browser_of
from pages.signing_in import account_of
from rgtg.errors import TooMany
from rgtg.system.rate_limits import RateLimits, RotatingHash, network_of
from rgtg.workbench.workbench import Workbench

EACH_VISITOR, EACH_ADDRESS = "300/minute", "3000/minute"  # a page that waits for its models asks twice a second; a school has one address
OPEN = 200  # requests of one address; a page keeps two
ASK = "send requests"


class Crowd:
    """The visitors of one public server."""

    def __init__(self, proxied: bool):
        self.proxied, self.limits, self._name = proxied, RateLimits(), RotatingHash()
        self._open: Counter[str] = Counter()  # requests by address, in the one thread that answers them

    def begun(self, scope: MutableMapping[str, Any]) -> str:
        """Count a request; `ended` is to be called at its end with the name that is returned. Raises TooMany where more requests come from its
        address than are answered, or more are open: each keeps a connection."""
        if not (address := self.address(scope)):
            return ""
        self.limits.check(ASK, address, EACH_ADDRESS)
        if self._open[address] >= OPEN:
            raise TooMany(f"More than {OPEN} requests of your network are open.", "", "Close some pages, then reload this one.")
        self._open[address] += 1
        return address

    def ended(self, address: str) -> None:
        if address:
            self._open[address] -= 1
            self._open += Counter()  # forget who has none

    def address(self, scope: MutableMapping[str, Any]) -> str:
        """A name for the address that a request comes from; "" where that is not known."""
        found = address_of(scope, self.proxied)
        return self._name(network_of(found)) if found else ""

    def check_visitor(self, request: Any) -> None:
        """Count an action. Raises TooMany where whoever asks for it, or his address where he has neither account nor key, did so too often."""
        self.limits.check(ASK, self._who(request), EACH_VISITOR)

    def _who(self, request: Any) -> str:
        if account := account_of(request):
            return self._name(f"account {account.subject}")
        browser = browser_of(request)
        scope = getattr(getattr(request, "request", None), "scope", {})
        return (self.address(scope) if browser.startswith("session ") else "") or self._name(browser)


_CROWDS: WeakKeyDictionary[object, Crowd] = WeakKeyDictionary()


def crowd_of(workbench: Workbench) -> Crowd | None:
    """The visitors of a public server; None on a laptop."""
    if not workbench.settings.public:
        return None
    return _CROWDS.setdefault(workbench, Crowd(bool(workbench.settings.space_hosts)))


def address_of(scope: MutableMapping[str, Any], proxied: bool) -> str:
    """The address that a request comes from; "" for this machine, and where only a proxy knows it.

    Behind a proxy it is the last public address of X-Forwarded-For: what stands further left, the visitor may have written himself.
    """
    client = (scope.get("client") or ("",))[0]
    if not proxied:
        return client if _is(client, "is_loopback") is False else ""
    values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"x-forwarded-for"]
    hops = [hop.strip() for value in values for hop in value.split(",")]
    return next((hop for hop in reversed(hops) if _is(hop, "is_global")), "")


def _is(address: str, what: str) -> bool | None:
    """Whether it is such an address; None for what is none."""
    try:
        return bool(getattr(ipaddress.ip_address(address), what))
    except ValueError:
        return None
