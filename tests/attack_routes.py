"""What Eve sends past the handlers: every route of Gradio and of the app, and requests that are none. Used by `attacks`."""

import gzip
import json
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from attack_values import Known
    from attacks import Answer, Server

FORM = {"Content-Type": "multipart/form-data; boundary=x"}
FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../x.py"\r\n\r\nevil\r\n--x--\r\n'
GET, POST = "GET", "POST"
ALLOWED = {200, 206, 301, 302, 304, 307, 400, 401, 403, 404, 405, 408, 411, 413, 415, 416, 417, 422, 426, 429, 431}


def requests(known: "Known") -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Name -> method, path, body, headers."""
    canary, url, api = str(known.canary), f"http://127.0.0.1:{known.port}/", "/gradio_api/"
    found: dict[str, tuple[str, str, Any, dict[str, str]]] = {"page": (GET, "/", None, {})}
    targets = {
        "path": canary,
        "path, encoded": quote(canary, safe=""),
        "path, encoded twice": quote(quote(canary, safe=""), safe=""),
        "upwards": "../" * 12 + canary.lstrip("/"),
        "upwards, encoded": "%2e%2e%2f" * 12 + canary.lstrip("/"),
        "database": str(known.canary.parent / "rgtg.db"),
        "backslashes": "..\\" * 12 + "etc\\passwd",
        "URL": url,
        "URL, encoded": quote(url, safe=""),
        "no scheme": url.removeprefix("http:"),
        "passwd": "/etc/passwd",
        "environment": "/proc/self/environ",
        "device": "/dev/zero",
        "NUL": canary + "%00.png",
        "dotfile": "/root/.ssh/id_rsa",
        "source": "app.py",
        "itself": "./",
        "semicolon": canary + ";.png",
        "unicode dots": "․․/" * 8 + canary.lstrip("/"),
        "userinfo": f"http://a@127.0.0.1:{known.port}/",
    }
    for name, target in targets.items():
        safe = quote(target, safe="/%:;@")
        for route in ("file=", "file/", "proxy=", "stream/", "custom_component/"):
            found[f"{route} {name}"] = (GET, f"{api}{route}{safe}", None, {})
        for route in ("/static/", "/svelte/", "/assets/", "/file=", "/proxy=", "/pwa_icon/"):
            found[f"{route} {name}"] = (GET, f"{route}{safe}", None, {})
    for route in (
        "run/generate",
        "api/generate",
        "run/predict",
        "component_server",
        "component_server/",
        "process_recording",
        "vibe-edit",
        "undo-vibe-edit",
        "stream/x",
        "stream/x/close",
        "run-history/connect",
        "reload",
        "deep_link",
        "mcp",
        "mcp/sse",
        "login",
        "token",
        "queue/push",
    ):
        found[f"POST {route}"] = (POST, api + route, {"data": [canary], "fn_name": "x", "component_id": 1, "session_hash": "a"}, {})
    for route in (
        "user",
        "token",
        "app_id",
        "dev/reload",
        "openapi.json",
        "info",
        "startup-events",
        "theme.css",
        "vibe-code",
        "runs",
        "mcp/sse",
        "run-history/buckets",
        "run-history/records",
        "queue/status",
        "upload_progress?upload_id=x",
        "deep_link?session_hash=a",
        "login_check",
    ):
        found[f"GET {route}"] = (GET, api + route, None, {})
    for route in (
        "/monitoring",
        "/monitoring/summary",
        "/monitoring/x",
        "/login",
        "/login/huggingface",
        "/logout",
        "/token",
        "/user",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/.env",
        "/.git/config",
        "/config?deep_link=../../x",
        "/?deep_link=..%2f..",
        "/robots.txt",
        "/manifest.json",
        "/health",
        f"/?comparison={known.comparison}",
        f"/data?comparison={known.comparison}",
        "//evil.example/",
        "/%2e%2e/%2e%2e/etc/passwd",
    ):
        found[f"GET {route[:60]}"] = (GET, route, None, {})
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "PROPFIND", "GE T"):
        found[f"method {method}"] = (method.replace(" ", "_"), "/", None, {})
        found[f"method {method}, API"] = (method.replace(" ", "_"), api + "queue/join", None, {})
    return found | uploads() | headers_of(known) | bodies(known)


def uploads() -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    api = "/gradio_api/upload"
    session = "eyJvYXV0aF9pbmZvIjogeyJ1c2VyaW5mbyI6IHsic3ViIjogIjEiLCAicHJlZmVycmVkX3VzZXJuYW1lIjogImFubiJ9fX0="
    return {
        "upload": (POST, api, FILE, FORM),
        "upload/": (POST, api + "/", FILE, FORM),
        "upload, encoded": (POST, "/gradio_api/%75pload", FILE, FORM),
        "upload, two slashes": (POST, "//gradio_api//upload", FILE, FORM),
        "upload, no API": (POST, "/upload", FILE, FORM),
        "upload, case": (POST, "/gradio_api/UPLOAD", FILE, FORM),
        "upload with id": (POST, api + "?upload_id=a", FILE, FORM),
        "upload, session made up": (POST, api, FILE, FORM | {"Cookie": f"session={session}.aaaa.bbbb"}),
        "upload, 60 MB": (POST, api, b"x" * 60_000_000, FORM),
    }


def headers_of(known: "Known") -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Posts that another site makes a browser send, and headers that are made up."""
    join, body = "/gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "a"}
    made = {
        "Origin of another": {"Origin": "http://evil.example"},
        "Origin null": {"Origin": "null"},
        "Origin, port of another": {"Origin": "http://evil.example:80"},
        "Origin that begins alike": {"Origin": "http://localhost.evil.example"},
        "Origin with user": {"Origin": "http://localhost@evil.example"},
        "Referer of another": {"Referer": "http://evil.example/x"},
        "Host of another": {"Host": "evil.example"},
        "Host twice": {"Host": "localhost, evil.example"},
        "forwarded Host": {"X-Forwarded-Host": "evil.example"},
        "Gradio's own Host": {"X-Gradio-Server": "http://evil.example"},
        "cross-site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        "text as body": {"Content-Type": "text/plain", "Origin": "http://evil.example"},
        "upgrade": {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "x",
            "Sec-WebSocket-Version": "13",
            "Origin": "http://evil.example",
        },
    }
    harmless = {
        "forwarded addresses": {"X-Forwarded-For": "1.1.1.1, " * 500 + "x"},
        "forwarded root": {"X-Forwarded-Prefix": "//evil.example"},
        "session of another": {"Cookie": "session=x; session=y"},
        "keys twice": {"Cookie": f"rgtg_rater={'a' * 32}; rgtg_rater={'b' * 32}"},
        "key with lines": {"Cookie": "rgtg_rater=%0d%0aSet-Cookie:x; rgtg_nickname=%0d%0a%00%ff" + "%61" * 900},
        "authorization": {"Authorization": "Bearer hf_x"},
        "a token of Gradio": {"Cookie": "access-token=x; access-token-unsecure-x=y"},
        "range": {"Range": "bytes=0-99999999999,1-,-5"},
    }
    found: dict[str, tuple[str, str, Any, dict[str, str]]] = {f"REFUSED {name}": (POST, join, body, headers) for name, headers in made.items()}
    return found | {name: (POST, join, body, headers) for name, headers in harmless.items()}


def bodies(known: "Known") -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Bodies of requests that no page sends."""
    join, call, api = "/gradio_api/queue/join", "/gradio_api/call/generate", "/gradio_api/"
    packed = gzip.compress(b'{"data": "' + b"x" * 50_000_000 + b'"}')
    sent: dict[str, Any] = {
        "gzip bomb": packed,
        "nothing": b"",
        "list": b"[]",
        "NaN": b"NaN",
        "text": b'"x"',
        "deep": b"[" * 900_000,
        "2 MB": b"x" * 2_000_000,
        "UTF-16": "{}".encode("utf-16"),
        "fn_index beyond": {"data": [], "fn_index": 10**6},
        "fn_index negative": {"data": [], "fn_index": -1},
        "fn_index text": {"data": [], "fn_index": "__class__"},
        "fn_index list": {"data": [], "fn_index": [1]},
        "fn_index NaN": b'{"data": [], "fn_index": NaN}',
        "fn_index 1e400": b'{"data": [], "fn_index": 1e400}',
        "no data": {"fn_index": 0},
        "data object": {"data": {"a": 1}, "fn_index": 0},
        "data long": {"data": [0] * 9_000, "fn_index": 0},
        "session odd": {"data": [], "fn_index": 0, "session_hash": "../../x"},
        "session long": {"data": [], "fn_index": 0, "session_hash": "x" * 5_000},
        "trigger_id odd": {"data": [], "fn_index": 0, "session_hash": "a", "trigger_id": "__proto__"},
        "simple_format": {"data": [], "fn_index": 0, "simple_format": True},
        "batched": {"data": [[], []], "fn_index": 0, "batched": True, "session_hash": "a"},
        "request": {"data": [], "fn_index": 0, "request": {"username": "ann"}},
        "event_id of another": {"data": [], "fn_index": 0, "event_id": "x", "session_hash": "a"},
        "file in the event": {
            "data": [],
            "fn_index": 0,
            "session_hash": "a",
            "event_data": {"path": str(known.canary), "meta": {"_type": "gradio.FileData"}},
        },
    }
    found: dict[str, tuple[str, str, Any, dict[str, str]]] = {}
    for name, body in sent.items():
        headers = {"Content-Encoding": "gzip"} if "gzip" in name else {}
        found[f"join: {name}"] = (POST, join, body, headers)
        found[f"call: {name}"] = (POST, call, body, headers)
    for name in ("__init__", "vote", "export", "load", "%2e%2e", "a" * 5_000, "generate/../export", "v2/export", "v2/generate"):
        found[f"call of {name[:30]}"] = (POST, f"{api}call/{name}", {"data": []}, {})
        found[f"answer of {name[:30]}"] = (GET, f"{api}call/{name}/{'f' * 32}", None, {})
    other = {"session_hash": "a", "fn_index": 0, "event_id": "f" * 32}
    found |= {f"{name}": (POST, api + name, other, {}) for name in ("cancel", "reset", "reset/")}
    return found


HEAD = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\n"
RAW = {  # bytes that are hardly HTTP
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "no Host": b"GET / HTTP/1.0\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "chunk that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "absolute address": b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5_000)) + b"\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n evil: b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "query without end": b"GET /?" + b"a=1&" * 15_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "expect": HEAD + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
    "websocket": b"GET /gradio_api/queue/data HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


def raw(server: "Server", sent: bytes, patience: float = 10.0) -> "Answer":
    from attacks import Answer

    began, received = time.perf_counter(), b""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=patience) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while (part := connection.recv(65_536)) and len(received) < 2_000_000:
                received += part
    except OSError:
        pass
    text = received.decode("utf-8", "replace")
    status = int(text[9:12]) if text[:5] == "HTTP/" and text[9:12].isdigit() else 400
    return Answer(status, text, time.perf_counter() - began)


def try_routes(server: "Server", known: "Known") -> dict[str, str]:
    """Every request; its name -> status."""
    tried: dict[str, str] = {}
    for name, (method, path, body, headers) in requests(known).items():
        answer = server.request(method, path, body, headers)
        server.judge(f"{method} {path[:100]} ({name})", answer)
        tried[name] = str(answer.status)
        if answer.status not in ALLOWED or ((name.startswith(("REFUSED", "upload"))) and answer.status < 400):
            server.problems.append(f"{name}: status {answer.status}: {answer.text[:200]!r}")
        if answer.status >= 400 and answer.text.startswith("{") and not isinstance(json.loads(answer.text), dict):
            server.problems.append(f"{name}: no JSON object: {answer.text[:200]!r}")
    for name, sent in RAW.items():
        answer = raw(server, sent)
        server.judge(name, answer)
        tried[name] = str(answer.status)
        if answer.status not in ALLOWED:
            server.problems.append(f"{name}: status {answer.status}: {answer.text[:200]!r}")
    return tried
