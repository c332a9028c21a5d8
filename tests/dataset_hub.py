"""A stand-in for the Hub that speaks its HTTP: as much of it as private datasets need. Nothing of it is the Hub's code."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub(BaseHTTPRequestHandler):
    """One dataset, `ann/votes`. The server keeps its `files` and its `history`, all contents that it was ever sent and still has; it is `private`,
    and answers with an error's `status`, as the test says."""

    protocol_version = "HTTP/1.1"
    server: "HubServer"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, **{"Content-Type": "application/json"} | headers)

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def is_refused(self) -> bool:
        """Answer where the Hub is down, or the dataset is not there or not this visitor's."""
        path = urlsplit(self.path).path
        if self.server.status:
            self.answer({"error": "You cannot do that now"}, self.server.status)
        elif not path.endswith(("/repos/create", "/validate-yaml")) and (not self.server.exists or not self.headers.get("Authorization")):
            self.answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
        else:
            return False
        return True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.is_refused():
            return None
        path = unquote(urlsplit(self.path).path)
        if "/tree/" in path:
            return self.answer([{"type": "file", "path": name, "size": len(content), "oid": "0" * 40} for name, content in self.server.files.items()])
        if path.endswith("/lfs-files"):
            return self.answer([{"fileOid": name, "filename": name, "oid": name, "pushedAt": "2026-11-26T12:00:00.000Z", "ref": None, "size": 1}
                                for name in self.server.large])  # fmt: skip
        if "/resolve/" in path:
            content = self.server.files.get(path.partition("/resolve/main/")[2])
            if content is None:
                return self.answer({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
            return self.send(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', **{"X-Repo-Commit": "1" * 40})
        return self.answer({"id": "ann/votes", "private": self.server.private, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        sent = self.body()
        if self.is_refused():
            return
        self.server.authorised.append(self.headers.get("Authorization"))
        if self.path.endswith("/repos/create"):
            self.server.made.append(json.loads(sent))
            self.server.exists = True
            self.answer({"url": "https://huggingface.co/datasets/ann/votes", "name": "ann/votes"})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(sent)["files"]]})
        elif "/commit/" in self.path:
            self.server.commit([json.loads(line) for line in sent.splitlines()])
            self.answer({"commitUrl": "https://huggingface.co/datasets/ann/votes/commit/1", "commitOid": "1" * 40, "success": True})
        elif "/super-squash/" in self.path:
            self.server.history = [*self.server.files.values()]
            self.answer({})
        elif self.path.endswith("/lfs-files/batch"):
            gone = {*json.loads(sent)["deletions"]["sha"]}
            self.server.large = [name for name in self.server.large if name not in gone]
            self.answer({})
        else:
            self.answer({"error": "no such address"}, 404)


class HubServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.files: dict[str, bytes] = {}
        self.history: list[bytes] = []
        self.large: list[str] = []  # what Git LFS still has
        self.made: list[dict] = []
        self.authorised: list[str | None] = []
        self.private, self.exists, self.num_commits = True, False, 0
        self.status = 0  # where it is not 0, all that it answers: 500 is tried again by the client for some seconds, 403 is not

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, lines: list[dict]) -> None:
        self.num_commits += 1
        for line in lines:
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.files[line["value"]["path"]] = content
                self.history.append(content)
            elif line["key"] == "deletedFile":
                del self.files[line["value"]["path"]]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    server = HubServer()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
