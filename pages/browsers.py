"""Who sent a request, by the key that each browser keeps in a cookie. Knows nothing of raters or of the workbench."""

import re
from typing import Any

KEY = "rgtg_rater"
FORM = re.compile(r"[0-9A-Za-z_-]{22,64}")


def browser_of(request: Any) -> str:
    """The key of the browser that sent a request. Without cookies every session is one of its own."""
    key = str((getattr(request, "cookies", None) or {}).get(KEY, ""))
    return key if FORM.fullmatch(key) else f"session {getattr(request, 'session_hash', '')}"
