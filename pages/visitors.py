"""Visitors of the pages: each browser profile is one rater, by a key that it keeps in a cookie, and each nickname in it is another; an
account that is signed in is one rater in every browser.

The guard gives a browser its key with the first page; the nickname is a cookie that the page itself writes. Neither is stored: the
database has a keyed hash of both, or of the account's id. Handles of comparisons come from the browser and are checked here.
"""

import re
import secrets
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from pages.browsers import FORM, KEY, browser_of
from pages.handlers import read_id
from pages.signing_in import account_of, administers
from rgtg.errors import BadSettings, StoreError
from rgtg.records import Comparison
from rgtg.workbench.visitors import Visitor, split
from rgtg.workbench.workbench import Workbench

NICKNAME = "rgtg_nickname"
LAST_S = 400 * 24 * 3600  # longest life that browsers give a cookie
MAX_NICKNAME = 40


def visitor_of(workbench: Workbench, request: Any, token: str = "") -> Visitor:
    """Who sent a request. Without cookies every session is a rater of its own. Administrators read everything."""
    reads_all = administers(workbench.settings, request)
    if account := account_of(request):
        return Visitor("oauth", account.subject, token, reads_all)
    subject = browser_of(request)
    if nickname := nickname_of((getattr(request, "cookies", None) or {}).get(NICKNAME, "")):
        subject += f"\n{nickname}"
    return Visitor("anonymous", subject, token, reads_all)


def nickname_of(cookie: object) -> str:
    """The nickname in a cookie's value, "" where there is none."""
    text = unquote(str(cookie), errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_NICKNAME]


def asked(workbench: Workbench, request: Any, value: object) -> tuple[str, Visitor]:
    """Id of the comparison that a handle names, and the visitor who follows it. Raises BadSettings for what is no handle."""
    comparison_id, token = split(value) if isinstance(value, str) else ("", "")
    if token and not re.fullmatch(r"[0-9a-f]{32}", token):
        raise BadSettings("That link is incomplete.", "", "Copy it again, completely.")
    return read_id(comparison_id, "comparison"), visitor_of(workbench, request, token)


def opened(workbench: Workbench, request: Any, value: object) -> Comparison:
    """The comparison that a handle names. Raises UnknownRecord where the visitor may not read it."""
    return workbench.comparison(*asked(workbench, request, value))


def handle_of(workbench: Workbench, comparison_id: str) -> str:
    """The handle of a comparison that its page was allowed to show."""
    with suppress(StoreError):
        return workbench.raters.handle(comparison_id)
    return comparison_id


def new_key(scope: Any, secure: bool) -> list[tuple[bytes, bytes]]:
    """Headers that give a browser its key, [] where it has one. `secure`: the page may be in a frame of another site, over https."""
    cookies = b"; ".join(value for name, value in scope["headers"] if name.lower() == b"cookie").decode("latin-1")
    if re.search(rf"(?:^|;\s*){KEY}={FORM.pattern}(?:;|$)", cookies):
        return []
    site = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    path = scope.get("root_path", "").rstrip("/") or "/"
    return [(b"set-cookie", f"{KEY}={secrets.token_urlsafe(24)}; Path={path}; Max-Age={LAST_S}; HttpOnly; {site}".encode())]
