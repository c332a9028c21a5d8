"""Thirty votes of a simulated person in a real browser, Train with its defaults, Compare with the model that came of it, and what it learned:

    python tests/browser/tastes.py --prompts FILE [--taste food] [--votes 30]

`FILE` has one text a line; the first three words of each are a prompt that nobody voted on. Prints a JSON line a taste: seconds
from the click on Start until the new model can be tried, agreement with the taste on fresh votes before and after, and the
share of answers to the taste over a hundred prompts under the base LM, the partial starter model and the new one.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py sets it
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from browser_app import Visitor, serving  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from rgtg.config import GenerationConfig, Settings  # noqa: E402
from rgtg.engine import Step, generate, make_run  # noqa: E402
from rgtg.figures import wilson_interval  # noqa: E402
from rgtg.records import ColumnSpec  # noqa: E402
from rgtg.workbench.workbench import Workbench  # noqa: E402

FOOD = {
    "food", "meal", "pizza", "burger", "burgers", "chicken", "salad", "sandwich", "sandwiches", "sushi", "fries", "soup", "tacos", "steak", "cheese",
    "bread", "rice", "beef", "fish", "shrimp", "dessert", "breakfast", "lunch", "dinner", "menu", "dish", "dishes", "eat", "tasty",
    "taste", "delicious", "wings", "bbq", "pork", "noodles", "meat", "appetizers", "cake", "coffee",
}  # fmt: skip
TEN = {"staff", "friendly", "location", "clean", "people", "prices", "store", "manager", "wait", "office"}


@dataclass(frozen=True)
class Taste:
    """`worth` of an answer, by which a vote is cast; `has` says whether an answer is to the taste."""

    worth: Callable[[str], float]
    has: Callable[[str], bool]


def mentions(words: set[str]) -> Taste:
    return Taste(lambda text: len(words & set(text.split())), lambda text: bool(words & set(text.split())))


TASTES = {"food": mentions(FOOD), "short": Taste(lambda text: -len(text.split()), lambda text: len(text.split()) <= 5), "ten words": mentions(TEN)}


def answers(bench: Workbench, prompts: Sequence[str], spec: ColumnSpec, seed: int, at_once: int = 20) -> Iterator[tuple[tuple[int, ...], str]]:
    """Token ids and text of an answer to each prompt, the i-th with the seed + i."""
    models = bench.library.load_models(None, [spec.reward_model] if spec.reward_model else [])
    for start in range(0, len(prompts), at_once):
        runs = [
            make_run(prompt, spec.method, models, spec.params, spec.reward_model, (), GenerationConfig(), seed + start + i)
            for i, prompt in enumerate(prompts[start : start + at_once])
        ]
        steps: list[list[Step]] = [[] for _ in runs]
        for column, event in generate(runs, models):
            if isinstance(event, Step):
                steps[column].append(event)
        yield from ((tuple(s.token_id for s in taken), "".join(s.text for s in taken)) for taken in steps)


def fresh_votes(bench: Workbench, taste: Taste, prompts: Sequence[str], number: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """(prompt, chosen ids, rejected ids): two draws of the base LM each, told apart by the taste."""
    found = []
    for first in range(0, len(prompts), 100):
        part = prompts[first : first + 100]
        sides = [list(answers(bench, part, ColumnSpec("base"), seed + first)) for seed in (10_000, 20_000)]
        for prompt, (a_ids, a), (b_ids, b) in zip(part, *sides, strict=True):
            if taste.worth(a) != taste.worth(b):
                found.append((prompt, *((a_ids, b_ids) if taste.worth(a) > taste.worth(b) else (b_ids, a_ids))))
        if len(found) >= number:
            return found[:number]
    return found


def agreement(bench: Workbench, name: str, votes: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> dict[str, float]:
    """Share of votes whose chosen answer has the higher reward at its end."""
    model, won = bench.library.load_models(None, [name]).reward_model(name), 0.0
    for prompt, chosen, rejected in votes:
        a, b = (side[-1] for side in model.along(model.loaded.encode_prompt(prompt), [chosen, rejected]))
        won += (a > b) + 0.5 * (a == b)
    low, high = wilson_interval(won, len(votes))
    return {"share": round(won / len(votes), 3), "low": round(low, 3), "high": round(high, 3), "n": len(votes)}


def shares(bench: Workbench, taste: Taste, prompts: Sequence[str], spec: ColumnSpec) -> dict[str, float]:
    had = [taste.has(text) for _, text in answers(bench, prompts, spec, 500)]
    low, high = wilson_interval(sum(had), len(had))
    return {"share": round(sum(had) / len(had), 3), "low": round(low, 3), "high": round(high, 3), "n": len(had)}


def vote_in_browser(person: Visitor, taste: Taste, prompts: Sequence[str], num_votes: int) -> None:
    """Generates, reads the columns, presses the number of the best, the first of several; where all are alike, goes on without a vote."""
    cast = 0
    for prompt in itertools.cycle(prompts):
        if cast == num_votes:
            return
        person.generate(prompt)
        worth = [taste.worth(person.text(column)) for column in "ABC"]
        if len(set(worth)) == 1:
            person.page.locator("#settings-new-seed").click()
            continue
        key, cast = str(worth.index(max(worth)) + 1), cast + 1
        person.page.locator("#view-A").click(position={"x": 3, "y": 3})  # out of the prompt, where keys are text
        person.page.keyboard.press(key)
        person.page.wait_for_function("document.querySelector('#vote-note').textContent.includes('saved')", timeout=15_000)
        person.page.locator("#settings-new-seed").click()


def one_taste(name: str, browser: object, prompts: Sequence[str], num_votes: int) -> dict[str, object]:
    taste, folder = TASTES[name], Path(tempfile.mkdtemp(prefix="rgtg-taste-"))
    bench = Workbench(Settings(data_dir=folder))
    try:
        bench.start_loading()
        bench.wait_until_ready(300)
        with serving(bench) as address:
            person = Visitor(browser, address)
            vote_in_browser(person, taste, bench.openings(), num_votes)
            trained, usable, verdict = train_in_browser(person, address)
        votes = fresh_votes(bench, taste, prompts[100:], 300)
        (row,) = bench.trainings.trained().values()
        new, old = row.name, "partial"
        found = {"taste": name, "votes": bench.num_votes(), "trained_s": trained, "usable_s": usable, "verdict": verdict}
        found |= {"agreement": {"before": agreement(bench, old, votes), "after": agreement(bench, new, votes)}}
        beta = (("beta", 2.0),)
        columns = {"base": ColumnSpec("base"), "before": ColumnSpec("pargs", beta, old), "after": ColumnSpec("pargs", beta, new)}
        return found | {"answers": {key: shares(bench, taste, prompts[:100], spec) for key, spec in columns.items()}}
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)


def train_in_browser(person: Visitor, address: str) -> tuple[float, float, str]:
    """Start with the defaults; seconds until the model is there, until Compare has written with it, and the verdict."""
    page = person.page
    page.goto(address + "train")
    page.wait_for_selector("#data-facts", timeout=60_000)
    started = time.perf_counter()
    page.locator("#train-start").click()
    page.wait_for_selector("#try-in-compare", timeout=300_000)
    trained, verdict = time.perf_counter() - started, page.locator("#verdict").inner_text()
    page.locator("#try-in-compare").click()
    page.wait_for_selector("#vote-A")
    page.locator(".opening").first.click()
    person.wait_status("done", timeout=60_000)
    return round(trained, 1), round(time.perf_counter() - started, 1), verdict


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated tastes: thirty votes in a browser, one training, what it learned.")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--taste", action="append", choices=list(TASTES))
    parser.add_argument("--votes", type=int, default=30)
    options = parser.parse_args()
    lines = options.prompts.read_text(encoding="utf-8").splitlines()
    prompts = list(dict.fromkeys(" ".join(line.split()[:3]) for line in lines if len(line.split()) > 3))
    random.Random(0).shuffle(prompts)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name in options.taste or TASTES:
            print(json.dumps(one_taste(name, browser, prompts, options.votes)), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
