"""The door of votes on a public server: a vote comes with a token that was given out with the answers, is stored once, and has read its answers
for no longer than the clock of the server allows.

On a laptop nothing is asked for. Knows nothing of pages or of what a vote is about.
"""

import base64
import binascii
import hmac
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rgtg.errors import StoreError, TooMany
from rgtg.records import Vote, new_id
from rgtg.workbench.visitors import Raters, Visitor

if TYPE_CHECKING:
    from rgtg.store.store import Store

LIFETIME_S = 24 * 3600.0
MAX_A_DAY = 500  # votes of a rater
MAX_TOKEN = 8_000  # characters
MOST_READ_S = 600.0  # reading time that is saved up between votes
REMEMBERED = 10_000
RELOAD = "Reload the page, then vote again."


@dataclass(frozen=True)
class Token:
    """What a token says: the vote that it is for, the comparison, the hash of its rater, the answers that were shown, when it was given out."""

    vote_id: str
    comparison_id: str
    rater: str
    shown: tuple[str, ...]
    given_at: float


class VoteDoor:
    """Tokens and limits of votes; nothing is limited unless `public`."""

    def __init__(self, store: "Callable[[], Store]", raters: Raters, public: bool, clock: Callable[[], float] = time.time):
        self._store, self._raters, self.public, self._clock = store, raters, public, clock
        self._reading: OrderedDict[str, float] = OrderedDict()  # rater -> up to when his reading time is used up
        self._dwell: OrderedDict[str, int] = OrderedDict()  # vote -> what was counted, so that one that is sent again says the same
        self._lock = threading.Lock()

    def token(self, comparison_id: str, shown: Sequence[str], visitor: Visitor) -> str:
        """A token for one vote of this visitor on these answers; "" on a laptop."""
        if not self._asks(visitor):
            return ""
        content = [new_id(), comparison_id, self._name(visitor), list(shown), round(self._clock(), 3)]
        payload = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def admit(self, vote: Vote, token: str, visitor: Visitor) -> tuple[Vote, Vote | None]:
        """The vote as it may be stored; and the stored one, where its token was used for the same vote already.

        Raises StoreError where the token is missing, forged, foreign, too old or used for another vote, TooMany after `MAX_A_DAY`.
        """
        if not self._asks(visitor):
            return vote, None
        read = self._read(token)
        if not hmac.compare_digest(read.rater, self._name(visitor)):
            raise _refused("Its token was given to another visitor.")
        if read.comparison_id != vote.comparison_id:
            raise _refused("Its token belongs to another comparison.")
        if self._clock() - read.given_at > LIFETIME_S:
            raise _refused(f"Its token is older than {LIFETIME_S / 3600:.0f} hours.")
        if not set(vote.seen_trace_ids) <= set(read.shown):
            raise _refused("It names an answer that this page had not been given.")
        store = self._store()
        if stored := store.annotation.vote(read.vote_id):
            if _says(stored) != _says(vote):
                raise _refused("Its token was used for another vote.")
            return stored, stored
        assert vote.rater_id is not None
        since = datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=1)
        if store.annotation.num_votes_since(vote.rater_id, since.isoformat(timespec="milliseconds")) >= MAX_A_DAY:
            raise TooMany("The vote was not stored.", f"You have voted {MAX_A_DAY} times within a day.", "Thank you; go on tomorrow.")
        return replace(vote, id=read.vote_id, dwell_ms=self._counted(read, vote)), None

    def _asks(self, visitor: Visitor) -> bool:
        return self.public and visitor.kind != "local"  # who works in the server's own terminal or in Python comes by no request

    def _name(self, visitor: Visitor) -> str:
        return self._store().signature(visitor.kind, visitor.subject)[:16]

    def _signature(self, payload: str) -> str:
        return self._store().signature("vote", payload)[:32]

    def _read(self, token: str) -> Token:
        if not token:
            raise _refused("It came without the token that this server gives out with the answers.")
        payload, _, signature = token.partition(".")
        if len(token) > MAX_TOKEN or not token.isascii() or not hmac.compare_digest(self._signature(payload), signature):
            raise _refused("Its token is not one of this server's.")
        try:
            vote_id, comparison_id, rater, shown, given_at = json.loads(base64.urlsafe_b64decode(payload))
        except (ValueError, binascii.Error):  # signed by another version
            raise _refused("Its token is not one of this version.") from None
        return Token(vote_id, comparison_id, rater, tuple(shown), given_at)

    def _counted(self, token: Token, vote: Vote) -> int:
        """Reading time in ms: what the page says, as far as the rater's time since the token, less that of his other votes, allows it.

        Votes that wait for the connection and come together keep their times; a script that sends many at once has none for them.
        """
        with self._lock:
            if token.vote_id not in self._dwell:
                now, rater = self._clock(), token.rater
                begun = max(self._reading.get(rater, token.given_at), now - MOST_READ_S)
                allowed = max(0, round(1000 * (now - begun)))
                claimed = allowed if vote.dwell_ms is None else min(vote.dwell_ms, allowed)
                _put(self._reading, rater, begun + claimed / 1000)
                _put(self._dwell, token.vote_id, claimed)
            return int(self._dwell[token.vote_id])


def _says(vote: Vote) -> tuple:
    return vote.verdict, vote.best_trace_id, vote.strength, vote.reasons, vote.comment, vote.ranking


def _refused(found: str) -> StoreError:
    return StoreError("The vote was not stored.", found, RELOAD)


def _put(kept: OrderedDict, key: str, value: float) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
