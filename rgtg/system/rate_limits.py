"""Rate limits: how often somebody may do something in a span of time, counted in memory alone.

`who` is any text that stays the same for a person, such as the id of a rater; an address is given as a `RotatingHash` of it. Knows nothing
of requests, raters or pages.
"""

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from rgtg.errors import TooMany

if TYPE_CHECKING:
    from limits import RateLimitItem

MAX_COUNTERS = 100_000  # beyond it all begin anew, so that nobody fills the memory under ever new names
ROTATE_EVERY = 24 * 3600.0  # seconds


class RateLimits:
    """Counters of one server. Thread-safe; a start of the server begins anew."""

    def __init__(self) -> None:
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        self._storage = MemoryStorage()  # its moving windows keep an entry a name for ever, its counters do not
        self._limiter, self._lock = SlidingWindowCounterRateLimiter(self._storage), threading.Lock()

    def check(self, action: str, who: str, limit: str) -> None:
        """Count one `action` of `who`. Raises TooMany, and counts nothing, once there were as many as `limit` allows: "10/minute; 200/day".

        `action` completes the sentence "You cannot … more than 10 times per minute".
        """
        items = _parsed(limit)
        with self._lock:
            if len(self._storage.storage) > MAX_COUNTERS:
                self._storage.reset()
            for item in items:
                if not self._limiter.test(item, action, who):
                    wait = max(1, round(self._limiter.get_window_stats(item, action, who).reset_time - time.time()))
                    raise TooMany(f"You cannot {action} more than {_words(item)}.", "", f"Try again in {_span(wait)}.")
            for item in items:
                self._limiter.hit(item, action, who)


class RotatingHash:
    """Names for addresses that say nothing of them: keyed hashes, of a key that is in memory alone and is replaced every day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._key, self._made_at = secrets.token_bytes(32), clock()

    def __call__(self, text: str) -> str:
        with self._lock:
            if self._clock() - self._made_at >= ROTATE_EVERY:
                self._key, self._made_at = secrets.token_bytes(32), self._clock()
            return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]


def network_of(address: str) -> str:
    """What one customer of a provider has: an IPv4 address, or the first 64 bits of an IPv6 address, in one spelling.

    >>> network_of("::ffff:9.9.9.9"), network_of("2001:db8::1:2"), network_of("nobody")
    ('9.9.9.9', '2001:db8::', 'nobody')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)).network_address)
    return str(ip)


@cache
def _parsed(limit: str) -> "list[RateLimitItem]":
    from limits import parse_many

    return parse_many(limit)


def _words(item: "RateLimitItem") -> str:
    """ "10 times per minute", "once per 5 seconds"."""
    times = "once" if item.amount == 1 else f"{item.amount:,} times"
    return f"{times} per {item.GRANULARITY.name if item.multiples == 1 else f'{item.multiples} {item.GRANULARITY.name}s'}"


def _span(seconds: int) -> str:
    """ "40 seconds", "3 minutes", "2 hours"."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{-(-seconds // length)} {unit}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
