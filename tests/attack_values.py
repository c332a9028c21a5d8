"""What Eve sends to a handler: for each attack the value of every input, and the data of the event. Used by `attacks`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

FIELDS = (  # of the events of all pages but `path`: with that Gradio takes an event for a file, and refuses it before a handler is asked
    "text", "comparison", "vote_id", "verdict", "best", "seen", "trace", "index", "token_id", "position", "task", "strength", "reasons", "comment",
    "dwell_ms", "broken", "start", "end", "label", "model", "place", "kind", "sure", "columns", "ties", "formats", "types", "key", "title",
    "weights", "seeds", "measure", "job", "reward", "prompt", "response", "by", "control_length", "format", "table", "name", "have", "rejected",
    "reason", "vote", "search", "method", "rater", "since", "until", "before", "limit", "form", "content", "file", "rewards", "q", "token", "value",
)  # fmt: skip


class Known(NamedTuple):
    """What Eve knows of Ann's comparison, though not the token of its link; a file that she wants, and where she listens."""

    comparison: str
    trace_ids: tuple[str, ...]
    best: str
    canary: Path
    port: int
    base_lm: str


@dataclass
class Tried:
    """The value of every input, the data of the event, and what stands behind the `?` of the request."""

    data: Any
    event: Any = None
    query: str = ""


def everywhere(value: Any) -> Callable[[Known], Tried]:
    return lambda known: Tried(value, dict.fromkeys(FIELDS, value))


def of_known(make: Callable[[Known], Any]) -> Callable[[Known], Tried]:
    def tried(known: Known) -> Tried:
        value = make(known)
        return Tried(value, dict.fromkeys(FIELDS, value))

    return tried


def in_settings(make: Callable[[Known], Any]) -> Callable[[Known], Tried]:
    """As names of models and methods, in the JSON of every input and of the event."""

    def tried(known: Known) -> Tried:
        value = make(known)
        fields = {"base_lm": value, "reward_model": value, "method": "pargs", "guides": [[value, 1.0]], "params": {}, "columns": 2, "seed": 1}
        fields |= {"temperature": 1.0, "top_k": 10, "top_p": 1.0, "max_new_tokens": 4, "lock": True, "start": value, "source": "file", "path": value}
        event = dict.fromkeys(FIELDS, value) | {"reward": {"name": "x", "kind": "likelihood", "base_lm": value, "pattern": "(a+)+$"}}
        return Tried(json.dumps(fields), event)

    return tried


def of_a_run(**changes: Any) -> Callable[[Known], Tried]:
    """A prompt, settings and columns that are right in all but these fields."""

    def tried(known: Known) -> Tried:
        fields = {"base_lm": known.base_lm, "columns": 6, "seed": 1, "lock": True, "temperature": 1.0, "top_k": 10, "top_p": 1.0, "max_new_tokens": 4}
        fields |= {"method": "pargs", "params": {}, "weights": "0, 1", "seeds": 1, **changes}
        return Tried(json.dumps(fields), {"text": "the food was", "weights": "0, 1", "seeds": 1, **changes})

    return tried


def of_ann(known: Known, handle: str) -> Tried:
    """An event that is right in all but who sends it."""
    event = {
        "comparison": handle, "vote_id": "f" * 32, "verdict": "best", "best": known.best, "seen": list(known.trace_ids), "trace": known.trace_ids[0],
        "index": 0, "token_id": 5, "position": 1, "task": handle, "form": "command", "measure": "", "format": "html", "vote": "f" * 32, "have": [],
        "start": 0, "end": 1, "label": "good", "text": "x", "dwell_ms": 60_000, "reason": "x", "content": "{}",
    }  # fmt: skip
    return Tried(json.dumps({"comparison": handle, "traces": [["A", known.trace_ids[0]]]}), event, f"?comparison={quote(str(handle))}")


def file(**changes: Any) -> Callable[[Known], Any]:
    def make(known: Known) -> Any:
        return {"path": str(known.canary), "meta": {"_type": "gradio.FileData"}, "orig_name": "x.txt", **changes}

    return make


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


ATTACKS: dict[str, Callable[[Known], Tried]] = {
    "nothing": lambda known: Tried(None),
    "no event, empty texts": lambda known: Tried("", {}),
    "an event that is a list": lambda known: Tried("{}", [1, 2]),
    "true": everywhere(True),
    "not a number": everywhere(float("nan")),
    "infinite": everywhere(float("inf")),
    "huge number": everywhere(10**300),
    "negative": everywhere(-1),
    "nested lists": everywhere([[[["x"]]]]),
    "nested objects": everywhere({"__proto__": {"admin": True}, "constructor": {"prototype": {}}}),
    "proto in JSON": everywhere('{"__proto__": {"public": false}, "public": false, "administers": true}'),
    "15,000 characters each": everywhere("A" * 15_000),
    "100,000 characters in one": lambda known: Tried("A" * 100_000, {"text": "A" * 100_000, "prompt": "A" * 100_000, "comparison": "A" * 100_000}),
    "deep JSON as text": everywhere(deep(5_000)),
    "deep JSON": everywhere(json.loads(deep(40))),
    "NUL": everywhere("a\0b"),
    "half a character": everywhere("\ud83d"),
    "right to left, zero width": everywhere("\u202e\u200b\u2066x\ufeff"),
    "markup": everywhere("<img src=x onerror=alert(1)><script>alert(1)</script>${7*7}{{7*7}}"),
    "SQL": everywhere("' OR 1=1; DROP TABLE votes; --"),
    "header injection": everywhere("x\r\nSet-Cookie: rgtg_rater=eve\r\n\r\n"),
    "path": of_known(lambda known: str(known.canary)),
    "path in the event": lambda known: Tried(str(known.canary), {"path": str(known.canary), "columns": "", "ties": ""}),
    "path upwards": of_known(lambda known: "../" * 12 + str(known.canary).lstrip("/")),
    "path, encoded": of_known(lambda known: "%2e%2e%2f" * 12 + "etc%2fpasswd"),
    "path of the database": of_known(lambda known: str(known.canary.parent / "rgtg.db")),
    "path of the process": everywhere("/proc/self/environ"),
    "device without end": everywhere("/dev/zero"),
    "URL": of_known(lambda known: f"http://127.0.0.1:{known.port}/x.jsonl"),
    "URL of a file": of_known(lambda known: f"file://{known.canary}"),
    "UNC path": of_known(lambda known: f"//127.0.0.1:{known.port}/share"),
    "file": of_known(file()),
    "file by URL": of_known(lambda known: file(url=f"http://127.0.0.1:{known.port}/x", path=f"http://127.0.0.1:{known.port}/x")(known)),
    "file, type alone": of_known(lambda known: {"path": str(known.canary), "_type": "gradio.FileData"}),
    "file, path alone": of_known(lambda known: {"path": str(known.canary), "url": f"http://127.0.0.1:{known.port}/y", "orig_name": "x"}),
    "file in JSON": of_known(lambda known: json.dumps(file()(known))),
    "files in a list": of_known(lambda known: [{"path": str(known.canary)}, str(known.canary)]),
    "model by path": in_settings(lambda known: str(known.canary.parent)),
    "model of the Hub": in_settings(lambda known: "eve/evil"),
    "model at a commit": in_settings(lambda known: "eve/evil@" + "0" * 40),
    "model by URL": in_settings(lambda known: f"http://127.0.0.1:{known.port}/model"),
    "model upwards": in_settings(lambda known: "../../etc"),
    "model that is a list": in_settings(lambda known: ["x"]),
    "guide by path": of_a_run(reward_model="/etc"),
    "guide of the Hub": of_a_run(reward_model="eve/evil", guides=[["eve/evil@" + "0" * 40, 1.0], ["../..", 1.0]]),
    "guides without end": of_a_run(guides=[["full", 1.0]] * 400, combine="sum"),
    "work without end": of_a_run(method="best-of-n", params={"n": 64}, max_new_tokens=1024, top_k=200, weights=",".join(["1"] * 50), seeds=50),
    "method that is none": of_a_run(method="__class__", params={"__class__": 1}),
    "another's, by id": lambda known: of_ann(known, known.comparison),
    "another's, wrong token": lambda known: of_ann(known, f"{known.comparison}.{'0' * 32}"),
    "another's, odd token": lambda known: of_ann(known, f"{known.comparison}.{'é' * 32}"),
    "another's, in a list": lambda known: of_ann(known, [known.comparison]),  # type: ignore[arg-type]
    "an id that is none": lambda known: of_ann(known, "f" * 32),
    "an id upwards": lambda known: of_ann(known, "../../data"),
}
