"""Accounts: who signed in with Hugging Face, on a Space that has OAuth configured, and the button for it.

Anywhere else Gradio's sign-in is a mock that takes the server's own token for whoever asks, in a session that anybody can forge: there no
button is built and no account is believed.
"""

import importlib.util
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_space

from pages import ids
from rgtg.config import Settings

CONFIGURED = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")  # the secret signs the session, too
LIBRARIES = ("authlib", "itsdangerous")  # of gradio[oauth]
Session = Callable[[MutableMapping[str, Any]], Awaitable[Mapping[str, Any]]]  # what the session of a request's scope holds


class Account(NamedTuple):
    """An account: its id, which stays, and its name, which its owner can change."""

    subject: str
    name: str


def is_configured() -> bool:
    """Whether people can sign in: on a Space with `hf_oauth: true`, where the libraries for it are installed."""
    return not what_is_missing()


def what_is_missing() -> str:
    """Why nobody can sign in; "" where people can."""
    if get_space() is None:
        return "this is not a Space"
    unset = [name for name in CONFIGURED if not os.environ.get(name)]
    missing = [name for name in LIBRARIES if not unset and importlib.util.find_spec(name) is None]
    return f"{', '.join(unset)} not set, see `hf_oauth`" if unset else "gradio[oauth] is not installed" if missing else ""


def button() -> gr.LoginButton | None:
    """The button that signs in and out; None where nobody can."""
    return gr.LoginButton(size="sm", variant="secondary", elem_id=ids.SIGN_IN, min_width=0) if is_configured() else None


def has_admins(settings: Settings) -> bool:
    """Whether there is anybody who may train and administer: on a public server, accounts in its settings that can sign in."""
    return not settings.public or (bool(settings.admins) and is_configured())


def administers(settings: Settings, request: Any) -> bool:
    """Whether whoever sent a request may train and administer: everybody on a laptop, on a public server the accounts of its settings."""
    return not settings.public or is_admin(settings, account_of(request))


def is_admin(settings: Settings, account: Account | None) -> bool:
    """Whether the settings name this account, by its name or its id."""
    return account is not None and not {account.name, account.subject}.isdisjoint(settings.admins)


def account_of(request: Any) -> Account | None:
    """Who sent a request, by its signed session; None where nobody is signed in."""
    request = getattr(request, "request", None) or request  # Gradio's wraps Starlette's
    scope = getattr(request, "scope", None)
    return account_in(scope.get("session")) if isinstance(scope, dict) else None


def account_in(session: object) -> Account | None:
    """The account of a session whose signature was checked; None where it has none or has expired."""
    signed_in = session.get("oauth_info") if isinstance(session, Mapping) and is_configured() else None
    if not isinstance(signed_in, Mapping) or not isinstance(signed_in.get("userinfo"), Mapping):
        return None
    expires_at, user = signed_in.get("expires_at"), signed_in["userinfo"]
    subject, name = user.get("sub"), user.get("preferred_username")
    if not isinstance(expires_at, int | float) or not expires_at > time.time():  # NaN, too
        return None
    return Account(subject, name) if isinstance(subject, str) and subject and isinstance(name, str) and name else None


async def no_session(scope: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The session of a request to an app that has none."""
    return {}


def session_of(app: Any) -> Session:
    """A function that reads the signed session of a request before it reaches the app, with the middleware of the app itself."""
    reader = next((one for one in app.user_middleware if one.cls.__name__ == "SessionMiddleware"), None)
    if reader is None:
        return no_session

    async def session(scope: MutableMapping[str, Any]) -> Mapping[str, Any]:
        read: dict[str, Any] = {}

        async def keep(inner: MutableMapping[str, Any], *_: Any) -> None:
            read.update(inner["session"])

        await reader.cls(keep, *reader.args, **reader.kwargs)({**scope}, None, None)
        return read

    return session
