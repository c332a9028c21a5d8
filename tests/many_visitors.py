"""Fifty people at once on the app in public mode: `python -m tests.many_visitors [seconds] [clients]`, 120 and 50 unless given.

The real app with the starter models in a process of its own, over HTTP, each client with an address and a cookie of its own: it opens the page,
compares, votes, and begins again; who is refused waits as long as he was told and asks again. Before that three things are timed: how soon
the next one is served after a tab was closed, after Stop, and after sixteen requests whose answers nobody fetches.

Prints the tables; exit status 1 if something that was acknowledged is missing, somebody was never served, the longest wait is far from the mean,
or the memory grows.
"""

import asyncio
import json
import os
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from gradio_client.utils import apply_diff

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from rgtg.store.store import Store  # noqa: E402

API = "/gradio_api"
PATIENCE_S = 300.0
MAX_RATIO, MAX_GROWTH = 4.0, 1.25  # longest wait to the mean; memory at the end to that after a quarter of the time


class Refused(Exception):
    """The server answered with an error; its words."""


class Client:
    """One browser: an address, a cookie, a session, and what it does with the page."""

    def __init__(self, url: str, number: int):
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.{1 + number // 200}.{1 + number % 200}", retries=2)
        self.http = httpx.AsyncClient(base_url=url, transport=transport, timeout=httpx.Timeout(PATIENCE_S))
        self.number, self.session, self.num_tokens = number, secrets.token_hex(6), 0  # tokens of the longest answer so far

    async def open(self) -> None:
        """The page, with the cookie that comes with it, and what its components are."""
        (await self.http.get("/")).raise_for_status()
        config = (await self.http.get("/config")).json()
        components = {one["id"]: one for one in config["components"]}
        named = {one["props"].get("elem_id"): one["id"] for one in config["components"] if one.get("props")}
        self.bar = named["vote"]
        events = config["dependencies"]
        self.generate = next(one for one in events if one["api_name"] == "generate")
        self.voted = next(one for one in events if [self.bar, "vote"] in map(list, one["targets"]))
        self.stop = next(one for one in events if [named["stop"], "click"] in map(list, one["targets"]))
        self.values = [components[one]["props"].get("value") for one in self.generate["inputs"]]
        self.status_at, self.bar_at = (self.generate["outputs"].index(named[name]) for name in ("status", "vote"))

    async def send(self, event: dict, data: list, said: dict | None = None) -> None:
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": said, "trigger_id": event["targets"][0][0]}
        answer = await self.http.post(f"{API}/queue/join", json=body)
        if answer.status_code != 200:
            raise Refused(answer.text)

    async def answers(self) -> AsyncIterator[list]:
        """What comes of the event that was sent, complete each time."""
        values: list[Any] = []
        async with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                output = message.get("output") or {}
                if message.get("msg") == "process_generating" and message.get("success"):
                    sent = output["data"]
                    values = [apply_diff(values[i], one) for i, one in enumerate(sent)] if values else sent
                    yield values
                elif message.get("msg") == "process_completed":
                    if not message.get("success"):
                        raise Refused(str(output.get("error")))
                    yield values or output.get("data", [])
                    return
        raise Refused("the stream ended")

    def asking(self, prompt: str, long: bool = False) -> list:
        """The inputs of Generate; a `long` answer is a random one that seldom meets its end."""
        settings = json.loads(self.values[1]) | ({"max_new_tokens": 500, "temperature": 5.0, "top_k": 100} if long else {})
        return [prompt, json.dumps(settings), *self.values[2:]]

    async def compare(self, prompt: str, long: bool = False) -> AsyncIterator[tuple[str, dict]]:
        """The status, and what the vote bar has, as they change."""
        bar: dict[str, Any] = {}
        await self.send(self.generate, self.asking(prompt, long))
        status = ""
        async with aclosing(self.answers()) as answers:
            async for values in answers:
                if len(values) > self.bar_at:
                    if isinstance(values[self.bar_at], str) and values[self.bar_at].startswith("{"):
                        bar = json.loads(values[self.bar_at])
                    status = values[self.status_at] if isinstance(values[self.status_at], str) else status
                    self.num_tokens = max([self.num_tokens, *(text.count('\n{"t":') for text in values if isinstance(text, str))])
                    yield status, bar

    async def vote(self, bar: dict) -> tuple[str, str]:
        """The comparison and the best answer of a vote that was acknowledged."""
        _, best = secrets.choice(bar["traces"])
        said = {"verdict": "best", "best": best, "seen": [one for _, one in bar["traces"]], "comparison": bar["comparison"], "dwell_ms": 2_000}
        await self.send(self.voted, [], said | {"vote_id": secrets.token_hex(16), "token": bar.get("token")})
        async for values in self.answers():
            answer = json.loads(values[0])
            if answer.get("best") != best:
                raise Refused(answer.get("note", ""))
            return bar["comparison"].partition(".")[0], best
        raise Refused("no answer")


class Tally:
    """What fifty people met with."""

    def __init__(self, number: int, left: dict[str, int]):
        self.left = left
        self.served, self.waits, self.refused = [0] * number, [list[float]() for _ in range(number)], Counter[str]()
        self.compared: set[str] = set()
        self.votes: set[tuple[str, str]] = set()
        self.longest_line = 0
        self.memory: list[tuple[float, float]] = []


async def person(client: Client, tally: Tally, until: float) -> None:
    """Compare, vote, read a little, again."""
    asked_at = time.monotonic()
    while time.monotonic() < until:
        bar, began = {}, 0.0
        try:
            async with aclosing(client.compare(f"the food was {client.number}")) as answers:
                async for status, now in answers:
                    bar = now
                    if found := re.match(r"waiting: (\d+) ahead|waiting: you are (next)", status):
                        tally.longest_line = max(tally.longest_line, int(found[1] or 1))
                    if status.startswith("running") and not began:
                        began = time.monotonic()
            tally.waits[client.number].append(began - asked_at)
            tally.compared.add(bar["comparison"].partition(".")[0])
            tally.served[client.number] += 1
            tally.votes.add(await client.vote(bar))
            asked_at = time.monotonic()
        except Refused as error:
            words = str(error)
            told = re.search(r"about (\d+) s", words)
            tally.refused["is waiting" if "people are waiting" in words else "comes before" if "before you" in words else words] += 1
            await asyncio.sleep(min(float(told[1]) if told else 10.0, 10.0) * (0.5 + secrets.randbelow(100) / 200))


async def watch(process: psutil.Process, tally: Tally, begun: float, until: float) -> None:
    while time.monotonic() < until:
        tally.memory.append((time.monotonic() - begun, process.memory_info().rss / 2**20))
        await asyncio.sleep(max(0.5, (until - begun) / 24))


class Freed(NamedTuple):
    """How long the next one waited once nobody wanted a long answer any more, and how many tokens that had then, by the comparison's id."""

    seconds: float
    left: dict[str, int]


async def freed_after(url: str, how: str) -> Freed:
    first, other, left = Client(url, 300), Client(url, 301), dict[str, int]()
    await first.open()
    await other.open()
    if how == "sixteen that nobody fetches":
        crowd = [Client(url, 310 + i) for i in range(16)]
        await asyncio.gather(*(one.open() for one in crowd))
        for one in crowd:
            await one.send(one.generate, one.asking("the food was", long=True))
    else:
        async with aclosing(first.compare("the food was", long=True)) as answers:
            async for status, bar in answers:
                if status.startswith("running") and bar and first.num_tokens > 3:  # it is at work
                    left[bar["comparison"].partition(".")[0]] = first.num_tokens
                    if how == "Stop":
                        stopper = Client(url, 300)
                        stopper.session = first.session
                        await stopper.send(first.stop, [])
                    break
    left_at = time.monotonic()
    async with aclosing(other.compare("the food was")) as answers:
        async for status, _ in answers:
            if status.startswith("running"):
                return Freed(time.monotonic() - left_at, left)
    raise Refused("it was never served")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(url: str) -> None:
    """Wait for the app and its models: until a comparison was made."""
    async with httpx.AsyncClient(base_url=url) as http:
        while True:
            try:
                await http.get("/config")
                break
            except httpx.HTTPError:
                await asyncio.sleep(0.3)
    client = Client(url, 299)
    await client.open()
    async with aclosing(client.compare("the food was")) as answers:
        async for _ in answers:
            pass


async def visit(url: str, process: psutil.Process, seconds: float, number: int) -> tuple[Tally, list[str]]:
    await ready(url)
    print("no longer wanted because of     next one served after", flush=True)
    wrong, left = [], dict[str, int]()
    for how, limit in (("a closed tab", 3.0), ("Stop", 3.0), ("sixteen that nobody fetches", 30.0)):
        freed = await freed_after(url, how)
        print(f"{how:<30}  {freed.seconds:6.2f} s", flush=True)
        wrong += [f"after {how} the next one waited {freed.seconds:.1f} s"] if freed.seconds > limit else []
        left |= freed.left
    tally, clients = Tally(number, left), [Client(url, i) for i in range(number)]
    for client in clients:
        await client.open()
    begun = time.monotonic()
    until = begun + seconds
    await asyncio.gather(watch(process, tally, begun, until), *(person(client, tally, until) for client in clients))
    return tally, wrong


def check(tally: Tally, folder: Path) -> list[str]:
    """Print the table; what is wrong."""
    waits = [wait for own in tally.waits for wait in own]
    mean, longest = statistics.mean(waits), max(waits)
    quarter = [memory for _, memory in tally.memory[len(tally.memory) // 4 :]]
    growth = statistics.median(quarter[-3:]) / statistics.median(quarter[:3])
    unstopped: list[str] = []
    with Store(folder / "rgtg.db") as store:
        compared = {comparison.id for comparison, _ in store.facts()}
        for comparison_id, num_tokens in tally.left.items():
            stored = max(store.comparison(comparison_id).traces, key=lambda trace: len(trace.steps))
            print(f"an answer that was left at {num_tokens} tokens on screen: stored with {len(stored.steps)}, {stored.stop_reason}")
            unstopped += [comparison_id] if stored.stop_reason != "stopped" else []
        votes = {(vote.comparison_id, vote.best_trace_id) for _, cast in store.facts() for vote in cast}
    lost = len(tally.compared - compared) + len(tally.votes - votes)
    print(f"\ncomparisons {sum(tally.served)}, of a person {min(tally.served)} to {max(tally.served)}; longest line {tally.longest_line} ahead")
    print("refused: " + (", ".join(f"{words} {count}" for words, count in tally.refused.most_common()) or "nobody"))
    print(f"wait to the first token, refusals included: mean {mean:.1f} s, longest {longest:.1f} s ({longest / mean:.1f} times the mean)")
    print("memory (MB): " + "  ".join(f"{at:.0f} s {memory:.0f}" for at, memory in tally.memory[::3]) + f"  (grew {growth:.2f} times)")
    print(f"acknowledged: {len(tally.compared)} comparisons, {len(tally.votes)} votes; missing {lost}")
    wrong = [f"{lost} of what was acknowledged are missing"] if lost else []
    wrong += ["an answer that nobody wanted ran to its end"] if unstopped else []
    wrong += ["somebody was never served"] if not min(tally.served) else []
    wrong += [f"the longest wait is {longest / mean:.1f} times the mean"] if longest > MAX_RATIO * mean else []
    wrong += [f"the memory grew {growth:.2f} times"] if growth > MAX_GROWTH else []
    unknown = [words for words in tally.refused if words not in ("is waiting", "comes before")]
    return wrong + ([f"other refusals: {unknown[:3]}"] if unknown else [])


def main(seconds: float = 120.0, number: float = 50) -> int:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"RGTG_PUBLIC": "1", "RGTG_DATA_DIR": folder, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
        log = Path(folder) / "app.log"
        with log.open("w") as written:
            app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | environment, stdout=written, stderr=subprocess.STDOUT)
        try:
            tally, wrong = asyncio.run(visit(f"http://127.0.0.1:{port}", psutil.Process(app.pid), seconds, int(number)))
        finally:
            app.terminate()
            app.wait(30)
        wrong += check(tally, Path(folder))
        wrong += ["the log has a traceback"] if "Traceback" in log.read_text() else []
    print("\n".join(f"WRONG: {one}" for one in wrong) or "nothing is wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:3])))
