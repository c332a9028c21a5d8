"""Votes pushed to the Hub: to a local stand-in that speaks its HTTP, private, with a card, and never onto a public data set."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from huggingface_hub import HfApi
from store_records import make_comparison, make_vote

from rgtg.errors import BadSettings
from rgtg.store.exchange.hub import card, push
from rgtg.store.export import export_folder
from rgtg.store.store import Store


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload asks for; keeps what was sent in `server.files`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
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

    def do_GET(self) -> None:
        self.answer({"id": "ann/votes", "private": self.server.private, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        sent = self.body()
        self.server.authorised.append(self.headers.get("Authorization"))
        if self.path.endswith("/repos/create"):
            self.server.made.append(json.loads(sent))
            self.answer({"url": "https://huggingface.co/datasets/ann/votes", "name": "ann/votes"})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(sent)["files"]]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in sent.splitlines()]
            self.server.files |= {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
            self.answer({"commitUrl": "https://huggingface.co/datasets/ann/votes/commit/1", "commitOid": "1" * 40, "success": True})
        else:
            self.answer({"error": "no such address"}, 404)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.made, server.authorised, server.private = {}, [], [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_of_ann")
    server.shutdown()


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", "AB"))
        export_folder(store, tmp_path / "out", ("preference", "stepwise"), (".jsonl", ".csv"))
    return tmp_path / "out"


def test_an_export_is_pushed_to_a_private_data_set_with_its_card(hub, folder):
    server, api = hub
    assert push(folder, "ann/votes", api) == f"{api.endpoint}/datasets/ann/votes"
    (made,) = server.made
    assert (
        (made.get("private") is True or made.get("visibility") == "private")
        and made["type"] == "dataset"
        and set(server.authorised) == {"Bearer hf_of_ann"}
    )
    written = {f"{format}{kind}" for format in ("preference", "stepwise") for kind in (".jsonl", ".csv")}
    assert set(server.files) == {"README.md", "manifest.json", *written}
    assert server.files["preference.jsonl"] == (folder / "preference.jsonl").read_bytes()
    head = yaml.safe_load(server.files["README.md"].decode().split("---")[1])
    assert head["configs"] == [{"config_name": "preference", "data_files": "preference.jsonl"}], "a format without rows cannot be loaded"


def test_a_public_data_set_is_refused(hub, folder):
    server, api = hub
    server.private = False
    with pytest.raises(BadSettings, match="is public"):
        push(folder, "ann/votes", api)
    assert not server.files


@pytest.mark.parametrize("name", ["votes", "../x", "a/b/c", "", "ann/", "https://hub/ann/votes"])
def test_a_name_that_is_none_is_refused(folder, name: str):
    with pytest.raises(BadSettings, match="owner/name"):
        push(folder, name)


def test_a_hub_that_is_away_is_said(folder):
    with pytest.raises(BadSettings, match="was not uploaded"):
        push(folder, "ann/votes", HfApi(endpoint="http://127.0.0.1:9", token="x"))


def test_a_card_says_what_was_left_out():
    entry = {"about": "pairs", "rows": 3, "left_out": {"tie": 2}, "files": {"preference.csv": {}, "preference.parquet": {}}}
    text = card({"formats": {"preference": entry}}, "ann/votes")
    assert "data_files: preference.parquet" in text and "| `preference` | pairs | 3 | tie: 2 |" in text
