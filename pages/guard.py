"""A guard in front of Gradio that decides which requests reach it.

An ASGI middleware that checks the host and origin (`pages.hosts`), the route, the size and nesting of the body, and on a public server who
uploads and how much comes from an address; knows nothing of what a page does with a request. A refused request is answered with one JSON
object, {"error", "found", "do"}.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import accumulate
from typing import Any

from pages import signing_in, temporary, visitors
from pages.crowd import Crowd
from pages.hosts import Hosts, Refused
from pages.uploads import OneFile
from rgtg.config import Settings
from rgtg.errors import BadData, TooMany

log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY = 1_000_000  # bytes of a request that is no upload; the longest prompt and all settings take a third of it
MAX_DEPTH, MAX_PARTS = 32, 10_000  # of a JSON body: objects and lists in one another, and with what is in them in all
MAX_UPLOAD, MAX_PUBLIC_UPLOAD = 50_000_000, 2_000_000  # bytes of one file, on a laptop and on a public server
SWEEP_EVERY = 300.0  # seconds
MAX_WAIT = 30.0  # seconds for a body to arrive
LAPTOP = Settings()

FAILED = ("The request could not be answered.", "It may ask for something that this app does not have.", "Reload the page; the log has the reason.")

API = "/gradio_api/"
FILE = "file="
FILES = ("/assets/", "/static/", "/svelte/")  # of Gradio, a hundred to a page
# What the pages and a client in Python ask of Gradio. The rest stays shut: it fetches addresses, calls server functions, records, edits.
ROUTES = re.compile(
    r"(?:queue/(?:join|data)|call/(?:v2/)?[^/]+(?:/[^/]+)?|heartbeat/[^/]+|upload(?:_progress)?|cancel|reset|info|startup-events|theme\.css"
    r"|login_check|app_id)/?"
)
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)  # possessive: one pass, whatever comes
SESSION = re.compile(r"[!-~]{1,100}")
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Guard:
    """The middleware: passes allowed requests on to `app`. `session` is what of a request's session is signed, see `signing_in.Session`."""

    def __init__(self, app: App, hosts: Hosts, settings: Settings = LAPTOP, session: signing_in.Session = signing_in.no_session):
        self.app, self.hosts, self.settings, self._session = app, hosts, settings, session
        self._crowd = Crowd(hosts.proxied) if settings.public else None
        self._arriving = 0  # bytes of uploads on their way

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        address = ""
        try:
            path = self._route(scope)
            address = self._count(path, scope)
            if path.startswith(API + "upload"):
                await self._check_uploads(scope)
            if scope["type"] == "websocket":
                return await self.app(scope, receive, send)
            if path == API + "upload":
                return await self._upload(scope, receive, send)
            await self._pass_on(path, scope, await _body_in_time(scope, receive), receive, send)
        except Refused as refused:
            await _refuse(scope, receive, send, refused)
        finally:
            if self._crowd is not None:
                self._crowd.ended(address)

    def _route(self, scope: MutableMapping[str, Any]) -> str:
        """The path below the app's own root; raises Refused for one that is shut, or for who may not ask."""
        method, path = scope.get("method", "GET"), scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if not path.startswith("/"):
            raise Refused(400, "The address of a request has to be a path of this app.", "", "Open the app by its address.")
        self.hosts.check(scope["headers"], method, path)
        if not path.startswith(API):
            if method not in ("GET", "HEAD", "OPTIONS"):
                raise Refused(403, "This address accepts no data.", f"The method is {method:.20}.")
            return path
        name = path.removeprefix(API)
        if name.startswith(FILE):
            if re.match(r"\s*[\\/]{2}|\s*[A-Za-z][A-Za-z0-9+.-]+:", name.removeprefix(FILE)):  # Gradio would fetch it; a letter is a drive
                raise Refused(403, "This app does not fetch files from other servers.", "", "Request a file of this app.")
        elif not ROUTES.fullmatch(name):
            raise Refused(403, "This route is closed.", "", "Use the pages of the app.")
        return path.rstrip("/")

    def _count(self, path: str, scope: MutableMapping[str, Any]) -> str:
        """Count a request until it ends, under the name that is returned. Raises Refused where its address asks for more than is answered."""
        try:
            return self._crowd.begun(scope) if self._crowd is not None and not path.startswith(FILES) else ""
        except TooMany as often:
            raise Refused(429, often.wrong, often.found, often.do) from None

    async def _check_uploads(self, scope: MutableMapping[str, Any]) -> None:
        """Raises Refused where a stranger uploads to a public server."""
        if self.settings.public and not signing_in.is_admin(self.settings, signing_in.account_in(await self._session(scope))):
            raise Refused(403, "Visitors of a public server cannot upload files.", "", "Sign in as one of its administrators.")

    async def _pass_on(self, path: str, scope: MutableMapping[str, Any], body: bytes | None, receive: Receive, send: Send) -> None:
        """With the body that was read; a download that was sent to its end goes."""
        waiting, status, ended = [body] if body is not None else [], 0, False

        async def receive_body() -> Message:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

        async def watch(message: Message) -> None:
            nonlocal status, ended
            status = message.get("status", status)
            if status == 500:  # what Gradio says then is no sentence, and the reason is in the log; nearly always a body names what is not there
                if message["type"] == "http.response.start":
                    await _refuse(scope, receive, send, Refused(500 if body is None else 400, *FAILED))
                return
            if message["type"] == "http.response.start" and not path.startswith(API) and _is_page(message):
                message = {**message, "headers": [*message["headers"], *visitors.new_key(scope, self._is_secure(scope))]}
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await self.app(scope, receive_body, watch)
        if path.startswith(API + FILE) and scope["method"] == "GET" and status == 200 and ended:
            await asyncio.to_thread(temporary.fetched, path.removeprefix(API + FILE))

    def _is_secure(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether the browser speaks https to a public server, on which the page may stand in a frame."""
        return self.settings.public and b"https" in (*_values(scope, b"x-forwarded-proto"), scope.get("scheme", "").encode())

    async def _upload(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One upload within the quota; it says beforehand how long it is, and the server reads no more of it than that."""
        length = _length(scope)
        if length is None:
            raise Refused(400, "An upload has to state its size.", "The header `Content-Length` is missing.")
        limit, do = (MAX_PUBLIC_UPLOAD, "Upload a part of it.") if self.settings.public else (MAX_UPLOAD, "Enter its path instead.")
        if length > limit + 10_000:  # with what stands around the file
            raise Refused(413, f"The file is too large; the limit is {limit:,} bytes.", f"Found {length:,}.", do)
        file, refused = OneFile(b"".join(_values(scope, b"content-type")).decode("latin-1")), False

        async def receive_file() -> Message:
            nonlocal refused
            message = await receive()
            try:
                file.look(message.get("body", b""))
            except Refused:
                refused = True
                raise
            return message

        async def answer(message: Message) -> None:
            if not refused:  # else what Gradio says of it is no sentence
                await send(message)

        self._arriving += length
        try:
            await asyncio.to_thread(temporary.check_room, self._arriving)
            await self.app(scope, receive_file, answer)
        except BadData as full:
            raise Refused(413, full.wrong, full.found, full.do) from None
        finally:
            self._arriving -= length


async def _body_in_time(scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
    try:
        async with asyncio.timeout(MAX_WAIT):
            return await _body(scope, receive)
    except TimeoutError:
        found = f"The limit is {MAX_WAIT:.0f} seconds."
        raise Refused(408, "The request did not arrive in time.", found, "Send it again.") from None


async def _body(scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
    """The body, read before anything is made of it, None where there is none; raises Refused where it is too long, too deep or no text."""
    length = _length(scope)
    if length is not None and length > MAX_BODY:
        raise _too_long(length)
    if length is None and not _values(scope, b"transfer-encoding"):
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended before its body did.")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _too_long(len(body))
        if not message.get("more_body"):
            break
    check_json(bytes(body))
    return bytes(body)


def check_json(body: bytes) -> None:
    """Raises Refused for a body that is no JSON in UTF-8, that would be costly to read, that names a file, or a session as none is named."""
    if b"\0" in body:  # JSON has none, but UTF-16, which Python would read as well, has
        raise Refused(400, "The request contains NUL.", "", "Send JSON in UTF-8.")
    unquoted = STRING.sub(b"", body)
    brackets = unquoted.translate(None, NOT_BRACKETS)
    parts = unquoted.count(b",") + len(brackets) // 2
    depth = max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets[: 2 * MAX_PARTS]), default=0)
    if depth > MAX_DEPTH or parts > MAX_PARTS:
        found, do = f"Found {depth:,} levels, {parts:,} parts.", f"Send at most {MAX_DEPTH} and {MAX_PARTS:,}."
        raise Refused(400, "The JSON of the request is nested too deeply or has too many parts.", found, do)
    try:
        fields = json.loads(body, object_hook=_no_file)
    except ValueError as error:
        found = f"{error}." if isinstance(error, json.JSONDecodeError) else "A byte is not UTF-8, or a number has too many digits."
        raise Refused(400, "The request is not JSON.", found, "Send a JSON object in UTF-8.") from None
    session = fields.get("session_hash") if isinstance(fields, dict) else fields
    if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):  # Gradio keeps it for the figures of its queue
        raise Refused(400, "The session name of the request is invalid.", "A name has up to 100 letters, digits and signs.", "Reload the page.")


def _no_file(fields: dict[str, Any]) -> dict[str, Any]:
    """An object of a request; raises Refused for what Gradio takes for a file, at an address of which it would fetch it, whatever the input is."""
    if "path" in fields and "meta" in fields:
        raise Refused(400, "A request must not name a file.", "", "Upload it on a page that takes files.")
    return fields


def _too_long(length: int) -> Refused:
    return Refused(413, f"The request is too long; the limit is {MAX_BODY:,} bytes.", f"Found {length:,}.", "Shorten what you send.")


def _values(scope: MutableMapping[str, Any], name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _is_page(message: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])


def _length(scope: MutableMapping[str, Any]) -> int | None:
    """Content-Length; None where the body is sent in chunks, or there is none."""
    lengths = _values(scope, b"content-length")
    if not lengths or _values(scope, b"transfer-encoding"):
        return None
    if len(set(lengths)) > 1 or not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise Refused(400, "The length of the request is not a number.")
    return int(lengths[0])


async def _refuse(scope: MutableMapping[str, Any], receive: Receive, send: Send, refused: Refused) -> None:
    log.warning("refused %s %.80r: %s", scope.get("method", scope["type"]), scope["path"], refused)
    if scope["type"] == "websocket":
        await receive()  # its connect
        return await send({"type": "websocket.close", "code": 1008, "reason": refused.wrong})
    body = json.dumps({"error": refused.wrong, "found": refused.found, "do": refused.do}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def lifespan(hosts: Hosts, settings: Settings) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The lifespan of the app: puts the guard in front of Gradio's own middleware and deletes old files while the app runs.

    Given to `launch` as `app_kwargs={"lifespan": …}`; it is entered before the server takes its first request.
    """

    @asynccontextmanager
    async def guarded(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = Guard(app.middleware_stack, hosts, settings, signing_in.session_of(app))
        if settings.public and settings.admins and (missing := signing_in.what_is_missing()):
            log.warning("nobody administers this server, as nobody can sign in: %s", missing)
        sweeping = asyncio.create_task(_sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    return guarded


async def _sweep() -> None:
    while True:
        try:
            await asyncio.to_thread(temporary.sweep)
        except OSError:
            log.warning("old files could not be removed", exc_info=True)
        await asyncio.sleep(SWEEP_EVERY)
