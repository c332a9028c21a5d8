"""The waiting line: generations run one at a time, in order of arrival.

Knows nothing of models, of requests or of the screen. A ticket is left in `finally`, so a closed tab frees its place.
"""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from rgtg.errors import RgtgError

MAX_WAITING = 16
PER_PERSON, PER_ADDRESS = 2, 8  # one that runs and one that waits; an address may be that of a school
COMES_BACK_S = 30.0  # who was refused and asks again within this time is let in before those who were served since
REMEMBERED = 1_000  # people who were refused or served
TURNS = 20  # the last ones, which the expected wait is estimated from


class LineFull(RgtgError):
    """Too many people are waiting, or this one waits already; the prompt is kept."""


@dataclass(eq=False)
class Ticket:
    """One place in the line. `stopped` is set by the Stop button; `on_stop` is called once if the run has begun.

    `owner` is the page that asked; `person` and `address` are "" where nothing is limited by them. `listens` says whether anybody still waits
    for the answer.
    """

    owner: str | None
    person: str = ""
    address: str = ""
    listens: Callable[[], bool] = lambda: True
    started_at: float = field(default_factory=time.monotonic)
    stopped: bool = False
    on_stop: Callable[[], None] | None = None
    turn_at: float | None = None  # when it became the first

    def stop(self) -> None:
        """End what it runs, or its waiting."""
        if not self.stopped:
            self.stopped = True
            if self.on_stop:
                self.on_stop()

    def stop_unheard(self) -> bool:
        """Stop where nobody waits for the answer any more; whether it is stopped."""
        if not self.stopped and not self.listens():
            self.stop()
        return self.stopped


class Line:
    """First come, first served: one ticket runs and at most `max_waiting` wait.

    Of a person there is one that runs and one that waits, of an address somewhat more. When it is full, whoever was refused has the next place
    that becomes free, before those who were served meanwhile: nobody is refused for ever.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, clock: Callable[[], float] = time.monotonic):
        self.max_waiting, self._clock = max_waiting, clock
        self._tickets: list[Ticket] = []
        self._turns: deque[float] = deque(maxlen=TURNS)
        self._refused: OrderedDict[str, tuple[float, float]] = OrderedDict()  # person -> when first, when last
        self._served: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, owner: str | None, person: str = "", address: str = "", listens: Callable[[], bool] = lambda: True) -> Ticket:
        """A ticket at the end of the line; raises LineFull."""
        with self._lock:
            self._check_own(person, address)
            free = self.max_waiting + 1 - len(self._tickets)
            before = self._refused_before(person) if person in self._served or person in self._refused else 0
            if free <= before:
                self._note_refused(person)
                num_waiting = max(0, len(self._tickets) - 1)
                raise LineFull(
                    f"{num_waiting} people are waiting." if free <= 0 else "Others who were refused before you have the next places.", "",
                    f"Your prompt is kept; try again in {_about(self._expected(max(1, num_waiting)))}.",
                )  # fmt: skip
            self._refused.pop(person, None)
            ticket = Ticket(owner, person, address, listens, self._clock())
            self._tickets.append(ticket)
            self._first()
            return ticket

    def _check_own(self, person: str, address: str) -> None:
        active = [ticket for ticket in self._tickets if not ticket.stopped]
        if person and sum(ticket.person == person for ticket in active) >= PER_PERSON:
            wait = _about(self._expected(1 + max(i for i, ticket in enumerate(self._tickets) if ticket.person == person)))
            raise LineFull("One of your requests is running and one is waiting.", "", f"Your prompt is kept; try again in {wait}, or stop one.")
        if address and Counter(ticket.address for ticket in active)[address] >= PER_ADDRESS:
            wait = _about(self._expected(len(self._tickets)))
            raise LineFull(f"{PER_ADDRESS} requests from your network are waiting.", "", f"Your prompt is kept; try again in {wait}.")

    def _refused_before(self, person: str) -> int:
        """How many others are owed a place before this person."""
        now = self._clock()
        for other, (_, last) in list(self._refused.items()):
            if now - last > COMES_BACK_S:
                del self._refused[other]
        mine = self._refused.get(person, (now, now))[0]
        return sum(first < mine for other, (first, _) in self._refused.items() if other != person)

    def _note_refused(self, person: str) -> None:
        if person:
            now = self._clock()
            self._refused[person] = (self._refused.get(person, (now, now))[0], now)
            while len(self._refused) > REMEMBERED:
                self._refused.popitem(last=False)

    def _first(self) -> None:
        if self._tickets and self._tickets[0].turn_at is None:
            self._tickets[0].turn_at = self._clock()

    def place(self, ticket: Ticket) -> int:
        """The number of tickets ahead of this one; 0 when its turn has come."""
        with self._lock:
            return self._tickets.index(ticket)

    def expected(self, ticket: Ticket) -> float | None:
        """Seconds until its turn, by the last turns; None before there was one."""
        with self._lock:
            return self._expected(self._tickets.index(ticket))

    def _expected(self, place: int) -> float | None:
        if not self._turns:
            return None
        running = self._clock() - self._tickets[0].turn_at if self._tickets and self._tickets[0].turn_at is not None else 0.0
        mean = sum(self._turns) / len(self._turns)
        return mean * max(0, place - 1) + max(mean - running, 0.0) if place else 0.0

    def started_within(self, owner: str | None, seconds: float) -> bool:
        """Whether this visitor entered less than `seconds` ago and was not stopped: a double click."""
        with self._lock:
            return any(t.owner == owner and not t.stopped and self._clock() - t.started_at < seconds for t in self._tickets)

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket not in self._tickets:
                return
            self._tickets.remove(ticket)
            if ticket.turn_at is not None:
                self._turns.append(self._clock() - ticket.turn_at)
                if ticket.person:
                    self._served[ticket.person] = None
                    while len(self._served) > REMEMBERED:
                        self._served.popitem(last=False)
            self._first()

    def stop(self, owner: str | None) -> int:
        """Stop what this visitor runs or waits for; returns the number of tickets."""
        with self._lock:
            mine = [t for t in self._tickets if t.owner == owner and not t.stopped]
        for ticket in mine:
            ticket.stop()
        return len(mine)

    def __len__(self) -> int:
        with self._lock:
            return len(self._tickets)


def _about(seconds: float | None) -> str:
    """ "about 20 s", "about 3 minutes", and "about a minute" where nothing is known."""
    if seconds is None:
        return "about a minute"
    return f"about {max(5, 5 * round(seconds / 5))} s" if seconds < 90 else f"about {round(seconds / 60)} minutes"


def wait_words(place: int, seconds: float | None) -> str:
    """ "waiting: you are next", "waiting: 3 ahead of you, about 20 s"."""
    words = "waiting: you are next" if place == 1 else f"waiting: {place} ahead of you"
    return words if seconds is None or seconds < 3 else f"{words}, {_about(seconds)}"


_LINES: WeakKeyDictionary[object, Line] = WeakKeyDictionary()


def line_of(workbench: object) -> Line:
    """The line of an installation, which all pages share."""
    return _LINES.setdefault(workbench, Line())
