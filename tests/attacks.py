"""What strangers with curl get from a public server: `python -m tests.attacks [--no-routes] [handler …]`.

Starts `app.py` in public mode as a process of its own, has Ann make a comparison and vote on it, and lets Eve try every handler with every
attack of `attack_values`, then every route of `attack_routes`. Prints the table handler × attack × answer: `r` refused in words, `a` answered,
`-` nothing to answer. Exit status 1 where an answer broke a rule: a stack trace or status 500, the content of a file, Ann's words or votes, a
request to another server, an answer that took too long, a stored row that was changed, or a handler that is not in ROWS.
"""

import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from attack_values import ATTACKS, Known  # noqa: E402

LONGEST = 15.0  # seconds of an answer, on a loaded machine
CANARY, SECRET = "CANARY-IN-A-FILE", "the quince that only ann has eaten"
API = "/gradio_api/"
JSON = {"Content-Type": "application/json"}
A_SPACE = {"SYSTEM": "spaces", "SPACE_ID": "ann/rgtg", "OAUTH_CLIENT_ID": "the-app", "OAUTH_CLIENT_SECRET": "s" * 32,
           "OAUTH_SCOPES": "openid profile", "OPENID_PROVIDER_URL": "http://127.0.0.1:9"}  # fmt: skip
FILE_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../x.jsonl"\r\n\r\n{}\r\n--x--\r\n',
    {"Content-Type": "multipart/form-data; boundary=x"},
)
SHUT, OWN, OPEN = "shut", "own", "open"  # refuses whatever is sent; refuses what is another's; answers, and says nothing of others

ROWS = {
    "annotate.branch": OWN, "annotate.consent": OPEN, "annotate.erase": OPEN, "annotate.gold": SHUT, "annotate.guidelines": SHUT,
    "annotate.load": OPEN,
    "annotate.mark": OWN, "annotate.more": OWN, "annotate.start": SHUT, "annotate.undo": OWN, "annotate.vote": OWN, "by_hand.chosen": OWN,
    "compare.branch": OWN, "compare.generate": OPEN, "compare.go_on": OWN, "compare.load": OPEN, "compare.measure": OWN,
    "compare.open_another": OWN, "compare.stop": OPEN, "compare.tick": OPEN, "copying.copy": OWN, "data.exclude": SHUT, "data.look": OWN,
    "data.save_html": OWN, "exchanging.look_in": SHUT, "exchanging.take_in": SHUT, "exchanging.write_out": SHUT, "help.load": OPEN,
    "history.find": OPEN, "models.load": OPEN, "models.open_model": OPEN, "models.tick": OPEN, "presets.choose": OPEN, "presets.delete": SHUT,
    "presets.save": SHUT, "presets.take_in": OPEN, "presets.write_out": OPEN, "results.choose": OPEN, "results.load": OPEN, "results.save": OPEN,
    "results.save_one": OWN, "sweeping.start": OPEN, "sweeping.stop": OPEN, "theory.drag": OPEN, "voting.export": SHUT, "voting.undo": OWN,
    "voting.vote": OWN,
}  # fmt: skip


@dataclass
class Answer:
    """What came back: status of the first response, all text, seconds, and whether a handler refused."""

    status: int
    text: str
    seconds: float
    refused: bool = False

    @property
    def mark(self) -> str:
        """`r` where it was refused, by an error or in the words of an answer."""
        in_words = '\\"refused\\"' in self.text or ('\\"pairs\\": [], \\"at\\"' in self.text and '\\"note\\": \\"\\"' not in self.text)
        return "r" if self.refused or self.status >= 400 or in_words else "a"


@dataclass
class Server:
    """A public server and what surrounds it."""

    port: int
    data_dir: Path
    canary: Path
    listener: int
    heard: list[str]
    log: Path
    problems: list[str] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, key: str = "", cookies: str = "") -> Answer:
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST * 2)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
        try:
            connection.request(method, path, sent, {**JSON, **cookie(key, cookies), **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return Answer(answer.status, text, time.perf_counter() - began)
        except TimeoutError:
            return Answer(504, "no answer", time.perf_counter() - began)
        except (http.client.HTTPException, OSError) as error:
            return Answer(400, f"closed: {error}", time.perf_counter() - began)
        finally:
            connection.close()

    def call(self, fn_index: int, data: list[Any], event_data: Any = None, key: str = "", query: str = "", cookies: str = "") -> Answer:
        """Call a handler as a page does: join the queue, then read to the end."""
        session, began = secrets.token_hex(6), time.perf_counter()
        sent = {"data": data, "event_data": event_data, "fn_index": fn_index, "trigger_id": None, "session_hash": session}
        joined = self.request("POST", f"{API}queue/join{query}", sent, key=key, cookies=cookies)
        if joined.status != 200:
            return joined
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST * 2)
        lines, refused = [], False
        try:
            connection.request("GET", f"{API}queue/data?session_hash={session}", headers=cookie(key, cookies))
            answer = connection.getresponse()
            while line := answer.readline():
                text = line.decode("utf-8", "replace")
                if not text.startswith("data:"):
                    continue
                lines.append(text)
                message = json.loads(text[5:])
                if message["msg"] == "process_completed":
                    refused = not message["success"]
                    break
                if message["msg"] in ("unexpected_error", "server_stopped"):
                    refused = True
                    break
                if time.perf_counter() - began > LONGEST * 2:
                    break
        except (TimeoutError, OSError):
            lines.append("no answer")
        finally:
            connection.close()
        return Answer(200, "".join(lines), time.perf_counter() - began, refused)

    def judge(self, what: str, answer: Answer, known: Known | None = None) -> None:
        """Note each rule that an answer broke."""
        signs = {
            "Traceback": "a stack trace", CANARY: "the content of a file", "root:x:0": "the content of a file", SECRET: "another's words",
            str(ROOT): "a path of the server", "(reference ": "an exception that nobody expected",
        }  # fmt: skip
        for sign, means in signs.items():
            if sign in answer.text:
                self.problems.append(f"{what}: {means}: …{answer.text[max(0, answer.text.index(sign) - 80) :][:200]!r}")
        if answer.status == 500 or answer.seconds > LONGEST or "no answer" in answer.text:
            self.problems.append(f"{what}: status {answer.status} after {answer.seconds:.1f} s: {answer.text[:200]!r}")


def cookie(key: str, cookies: str = "") -> dict[str, str]:
    return {"Cookie": cookies or f"rgtg_rater={key}"} if key or cookies else {}


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port on which nothing may be heard."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        closing = threading.Event()

        def listen() -> None:
            while not closing.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connection.settimeout(0.5)
                try:
                    heard.append(connection.recv(200).decode("latin-1"))
                except OSError:
                    heard.append("a connection")
                connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        closing.set()
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def public_server(**environment: str) -> Iterator[Server]:
    """`app.py` as a public server in a process of its own, with its models loaded."""
    with tempfile.TemporaryDirectory() as name, listening() as (listener, heard):
        folder, port = Path(name), free_port()
        (folder / "data").mkdir()
        canaries = [folder / "data" / "canary.txt", folder / "canary.txt", folder / "data" / "canary.safetensors"]
        for path in canaries:
            path.write_text(f'{CANARY}\n{{"prompt": "{CANARY}"}}\n')
        settings = {
            "RGTG_PUBLIC": "1", "RGTG_DATA_DIR": str(folder / "data"), "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "temporary"),
            "GRADIO_SERVER_NAME": "127.0.0.1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment,
        }  # fmt: skip
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=out, stderr=out, start_new_session=True
            )
        try:
            server = Server(port, folder / "data", canaries[0], listener, heard, log)
            deadline = time.monotonic() + 120
            while server.request("GET", "/").status != 200 or "models ready" not in log.read_text(errors="replace"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text(errors="replace"))
                time.sleep(0.2)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def handlers() -> dict[int, tuple[str, int]]:
    """fn_index -> name and number of inputs of every handler of a public server, private ones included."""
    import app
    from pages import access
    from rgtg.config import Settings
    from rgtg.workbench.workbench import Workbench

    with tempfile.TemporaryDirectory() as folder:
        workbench = Workbench(Settings.from_environment(data_dir=Path(folder), public=True))
        demo = app.build_app(workbench)
        workbench.close()
    return {number: (access.name_of(fn.fn), len(fn.inputs)) for number, fn in demo.fns.items() if fn.fn is not None}


def handlers_in(environment: dict[str, str]) -> dict[int, tuple[str, int]]:
    """`handlers` in this environment, which Gradio reads when it is imported."""
    command = [sys.executable, "-c", "import sys, json; sys.path[:0] = ['.', 'tests']; import attacks; print(json.dumps(attacks.handlers()))"]
    told = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True).stdout
    return {int(number): tuple(one) for number, one in json.loads(told.splitlines()[-1]).items()}


def ann_and_her_comparison(server: Server, found: dict[int, tuple[str, int]]) -> Known:
    """Ann makes a comparison with a secret in its prompt, and votes on it."""
    key, by_name = "ann" + secrets.token_urlsafe(24), {name: number for number, (name, _) in reversed(found.items())}
    settings = {"base_lm": base_lm(server), "columns": 2, "seed": 5, "lock": True, "max_new_tokens": 4, "temperature": 1.0, "top_k": 10, "top_p": 1.0}
    column = json.dumps({"method": "base", "params": {}})
    made = server.call(by_name["compare.generate"], [SECRET, json.dumps(settings), "", *[column] * 6], key=key)
    bar = next(value for value in strings_in(made.text) if '"traces"' in value and '"comparison"' in value)
    shown = json.loads(bar)
    vote = {"comparison": shown["comparison"], "verdict": "best", "best": shown["traces"][0][1], "seen": [t for _, t in shown["traces"]]}
    for _ in range(2):
        token = {name: value for name, value in shown.items() if "token" in name}
        server.call(by_name["voting.vote"], [], vote | token | {"vote_id": secrets.token_hex(16), "dwell_ms": 60_000}, key=key)
    comparison_id, trace_ids = shown["comparison"].partition(".")[0], tuple(trace for _, trace in shown["traces"])
    return Known(comparison_id, trace_ids, vote["best"], server.canary, server.listener, settings["base_lm"])


def base_lm(server: Server) -> str:
    config = json.loads(server.request("GET", "/config").text)
    texts = strings_in(json.dumps(config))
    return next(json.loads(text)["base_lm"] for text in texts if text.startswith("{") and '"base_lm"' in text)


def strings_in(text: str) -> Iterator[str]:
    """Every string in JSON, or in lines of `data: …` JSON."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from walk(item)

    for line in text.splitlines():
        yield from walk(json.loads(line.removeprefix("data:")))


def stored(server: Server) -> dict[str, str]:
    """What is stored of Ann's comparison: what has to stay as it is."""
    from rgtg.store.store import Store

    store = Store(server.data_dir / "rgtg.db")  # read-only beside the app
    return {comparison.id: repr((comparison, votes)) for comparison, votes in store.facts() if comparison.prompt == SECRET}


def try_handlers(
    server: Server, known: Known, found: dict[int, tuple[str, int]], only: tuple[str, ...], attacks: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    """Every handler with every attack; handler -> attack -> mark."""
    table: dict[str, dict[str, str]] = {}

    def one(job: tuple[int, str, int, str]) -> None:
        number, name, num_inputs, attack = job
        tried = ATTACKS[attack](known)
        answer = server.call(number, [tried.data] * num_inputs, tried.event, key=f"eve{secrets.token_urlsafe(24)}", query=tried.query)
        what = f"{name} × {attack}"
        server.judge(what, answer)
        if ROWS.get(name) == SHUT and answer.mark != "r":
            server.problems.append(f"{what}: answered a stranger: {answer.text[:300]!r}")
        if ROWS.get(name) == OWN and attack == "another's, by id" and answer.mark != "r":
            server.problems.append(f"{what}: not refused: {answer.text[:300]!r}")
        if known.trace_ids[0] in answer.text and known.trace_ids[0] not in json.dumps([tried.data, tried.event]):
            server.problems.append(f"{what}: told of another's answers: {answer.text[:300]!r}")
        row = table.setdefault(name, {})
        row[attack] = max(row.get(attack, ""), answer.mark) if attack in row else answer.mark

    jobs = [(number, name, inputs, attack) for number, (name, inputs) in found.items() for attack in attacks if not only or name in only]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, jobs))
    return table


def print_table(table: dict[str, dict[str, str]], names: list[str], about: str) -> None:
    print(f"\n{about}: r refused, a answered harmlessly, - not tried")
    for number, name in enumerate(names, 1):
        print(f"  {number:2} {name}")
    width = max(map(len, table))
    print(" " * width, *(f"{number:2}" for number in range(1, len(names) + 1)))
    for handler, row in sorted(table.items()):
        print(handler.ljust(width), *(f"{row.get(name, '-'):>2}" for name in names))


def attack(only: tuple[str, ...] = (), routes: bool = True, attacks: tuple[str, ...] = tuple(ATTACKS)) -> list[str]:
    """Try everything, print the tables; what broke a rule."""
    from attack_routes import try_routes

    found = handlers()
    missing = {name for name, _ in found.values()} ^ set(ROWS)
    with public_server() as server:
        known = ann_and_her_comparison(server, found)
        before = stored(server)
        assert len(before) == 1 and "verdict='best'" in "".join(before.values()), "Ann's comparison and her vote are stored"
        server.problems += [f"{name}: no row in ROWS, or a row without a handler" for name in sorted(missing)]
        table = try_handlers(server, known, found, only, attacks)
        print_table(table, list(attacks), "handler × attack")
        if routes:
            tried = try_routes(server, known)
            print_table({name: {"answer": mark} for name, mark in tried.items()}, ["answer"], "routes")
        if stored(server) != before:
            server.problems.append("Ann's comparison or votes were changed")
        server.problems += [f"another server was asked: {line!r}" for line in server.heard]
        if server.request("GET", "/").status != 200:
            server.problems.append("the server no longer answers")
        print(f"\n{sum(map(len, table.values())):,} calls; {len(server.problems)} problems. Exceptions in the log:")
        lines = server.log.read_text(errors="replace").splitlines()
        kinds = Counter(line[:110] for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line))
        print(*(f"{number:5} {kind}" for kind, number in kinds.most_common(12)), sep="\n")
        return server.problems


if __name__ == "__main__":
    arguments = sys.argv[1:]
    wrong = attack(tuple(one for one in arguments if not one.startswith("--")), "--no-routes" not in arguments)
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))
