"""Who asks: the rater of a request, and what he may read. Every verb of the workbench takes a visitor.

A comparison is read by whoever made it and by whoever was given its link, whose token cannot be guessed; on a laptop everybody reads
everything, and still votes as himself. Knows nothing of cookies, pages or models.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rgtg.errors import StoreError, UnknownRecord
from rgtg.records import Comparison

if TYPE_CHECKING:
    from rgtg.store.store import Store

SEPARATOR = "."  # between the id of a comparison and the token of its link


@dataclass(frozen=True)
class Visitor:
    """A rater by `kind` (`local`, `anonymous`, `oauth`) and `subject`, which only he knows, e.g. a key that his browser keeps; and the `token`
    of the link that he follows. Without `reads_all` he reads what is his or was shared with him."""

    kind: str = "local"
    subject: str = ""
    token: str = ""
    reads_all: bool = True

    def with_token(self, token: str) -> "Visitor":
        return replace(self, token=token)


LOCAL = Visitor()  # in the terminal and in Python: the one local rater


class Raters:
    """Visitors as raters of the database, which `store` opens."""

    def __init__(self, store: "Callable[[], Store]", public: bool):
        self._store, self.public = store, public

    def rater(self, visitor: Visitor) -> str:
        """Id of the visitor's rater, made where he has none yet. Raises StoreError."""
        return self.find(visitor) or self._store().rater(visitor.kind, visitor.subject)

    def find(self, visitor: Visitor) -> str | None:
        """Id of the visitor's rater; None where he has neither voted nor made a comparison. Raises StoreError.

        On a laptop the first visitor with a browser takes over what the local rater did."""
        store = self._store()
        known = store.known_rater(visitor.kind, visitor.subject)
        return known if known or self.public or visitor.kind == "local" else store.adopt(visitor.kind, visitor.subject)

    def maker(self, visitor: Visitor) -> str | None:
        """Id of the rater for a new comparison; None where there is no database."""
        try:
            return self.rater(visitor)
        except StoreError:
            return None

    def check_reads(self, comparison: Comparison, visitor: Visitor) -> Comparison:
        """The comparison, if the visitor may read it. Raises UnknownRecord, as for one that does not exist."""
        if visitor.reads_all or (comparison.rater_id and comparison.rater_id == self.find(visitor)):
            return comparison
        if not visitor.token or not hmac.compare_digest(visitor.token.encode(), self._store().token(comparison.id).encode()):
            raise unknown(comparison.id)
        return comparison

    def handle(self, comparison_id: str) -> str:
        """What a link names the comparison by: its id, and on a public server the token that lets others read it."""
        return f"{comparison_id}{SEPARATOR}{self._store().token(comparison_id)}" if self.public else comparison_id


def unknown(comparison_id: str) -> UnknownRecord:
    return UnknownRecord(f"There is no comparison `{comparison_id}` that you can open.", "", "Ask for its complete link.")


def split(handle: str) -> tuple[str, str]:
    """Comparison id and token of a handle; "" where it has no token."""
    comparison_id, _, token = handle.partition(SEPARATOR)
    return comparison_id, token
