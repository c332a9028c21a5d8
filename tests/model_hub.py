"""A stand-in of the Hub for models that speaks its HTTP: repositories are made up, and what was asked for is kept.

Speaks as much as `huggingface_hub` asks for when a model is looked up and fetched.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class Repository:
    """Files of one model at one commit; `sizes` are what the Hub says of them where it is not what they have."""

    def __init__(self, files: dict[str, bytes], commit: str = COMMIT, gated: bool = False, sizes: dict[str, int] | None = None, total: int = 0):
        self.files, self.commit, self.gated, self.sizes, self.total = files, commit, gated, sizes or {}, total

    @classmethod
    def of(cls, folder: Path, **more: Any) -> "Repository":
        return cls({path.name: path.read_bytes() for path in folder.iterdir()}, **more)


class ModelHub(ThreadingHTTPServer):
    """The server: `repositories` by id; `asked` holds the method and path of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> list[str]:
        """Names of the files that were fetched."""
        return [unquote(one.rpartition("/")[2]) for one in self.asked if one.startswith("GET") and "/resolve/" in one]


@contextmanager
def hub() -> Iterator[ModelHub]:
    server = ModelHub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet, so that nobody waits for an acknowledgement
    server: ModelHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, send: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {self.path}")
        api, parts = path.startswith("/api/models/"), path.removeprefix("/api/models/").strip("/").split("/")
        repository = self.server.repositories.get("/".join(parts[:2]))
        if repository is None:
            return self._send(404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}', send)
        revision = parts[3] if len(parts) > 3 else ""
        if repository.gated:
            return self._send(403, {"X-Error-Code": "GatedRepo"}, b'{"error": "Access to this model is restricted"}', send)
        if revision not in ("", "main", repository.commit):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b'{"error": "Revision not found"}', send)
        if api and parts[2:3] == ["tree"]:
            tree = [{"type": "file", "path": name, "size": len(content), "oid": "0" * 40} for name, content in repository.files.items()]
            return self._send(200, {}, json.dumps(tree).encode(), send)
        if api:
            return self._send(200, {}, json.dumps(self._listing("/".join(parts[:2]), repository)).encode(), send)
        content = repository.files.get("/".join(parts[4:]))
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"", send)
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": repository.commit}
        self._send(200, headers, content, send)

    @staticmethod
    def _listing(name: str, repository: Repository) -> dict[str, Any]:
        siblings = [{"rfilename": file, "size": repository.sizes.get(file, len(content))} for file, content in repository.files.items()]
        listing: dict[str, Any] = {"id": name, "sha": repository.commit, "private": False, "gated": False, "tags": [], "siblings": siblings}
        return listing | ({"safetensors": {"parameters": {"F32": repository.total}, "total": repository.total}} if repository.total else {})

    def _send(self, status: int, headers: dict[str, str], body: bytes, send: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)
