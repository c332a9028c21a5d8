"""The handlers of Compare without a browser: what they accept, what they refuse, what they send."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page

from pages import compare
from pages.columns import default_settings, describe_methods, read_settings, read_spec, setting_fields, write_spec
from pages.handlers import read_number
from pages.waiting_line import Line, LineFull
from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings, OverBudget, RgtgError, StoreError, UnknownRecord
from rgtg.guidance.methods import METHODS
from rgtg.models.catalog import ModelInfo
from rgtg.records import Candidate, ColumnSpec, Comparison, ModelCard, ModelRef, Run, Step, Trace, Vote, new_id
from rgtg.store.queries import check_vote
from rgtg.workbench.columns.line_ups import LineUps
from rgtg.workbench.workbench import ModelStatus

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app
VISITOR = SimpleNamespace(session_hash="visitor")


class StubRunning:
    """Steps without a model; `fails_at` raises there."""

    def __init__(self, comparison: Comparison, num_tokens: int, fails_at: int | None = None):
        self.id, self.comparison, self.num_tokens, self.fails_at = comparison.id, comparison, num_tokens, fails_at
        self.stopped = self.closed = False
        self.not_stored = None

    @property
    def traces(self) -> tuple[Trace, ...]:
        return self.comparison.traces

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True

    def __iter__(self):
        for position in range(self.num_tokens):
            for i, trace in enumerate(self.traces):
                if self.stopped:
                    return
                if position == self.fails_at:
                    raise ZeroDivisionError("a secret of the machine")
                found = Candidate(7, " ok", -0.5, -0.5, 1, 1, 0.6)
                step = Step(position, 7, " ok", -0.5, -0.5, 1, 1, 0.6, 0.6, 0.1, (("judge", 0.5),), (found,))
                traces = list(self.traces)
                traces[i] = replace(trace, steps=(*trace.steps, step), response=trace.response + " ok", stop_reason="max_new_tokens")
                self.comparison = replace(self.comparison, traces=tuple(traces))
                yield i, step


class StubWorkbench:
    """As much of a workbench as the page asks for."""

    def __init__(self, state: str = "ready", fails_at: int | None = None):
        self.settings, self.guide_for = Settings(), lambda key, base_lm=None: METHODS[key].objective or None
        self.raters, self.vote_door = SimpleNamespace(handle=lambda comparison_id: comparison_id), SimpleNamespace(token=lambda *of: "")
        self.library, self.trainings = self, SimpleNamespace(fields=lambda: (), options=dict)
        self.state, self.fails_at, self.line_ups = state, fails_at, LineUps(Path("nowhere"))
        self.asked: list[tuple] = []
        self.votes: list[Vote] = []
        self.comparisons: dict[str, Comparison] = {}
        self.over: OverBudget | None = None

    def status(self) -> ModelStatus:
        return ModelStatus(self.state, {"ready": "models ready · cpu", "loading": "loading partial …"}.get(self.state, "no models"), "")

    def wait_until_ready(self, timeout: float | None = None) -> None:
        if self.state != "ready":
            raise RgtgError("The models could not be loaded.", "The folder is gone.")

    def methods(self):
        return METHODS

    def base_lms(self):
        return [ModelInfo("starter", "base_lm", "starter")]

    def models(self):
        judge = ModelInfo("judge", "judge", "judge", ModelCard("judge", "judge", metrics={"recommended": False}))
        return [*StubWorkbench.base_lms(self), *StubWorkbench.guides(self), judge]

    def guides(self, base_lm=None):
        return [ModelInfo(n, "reward_model", n, ModelCard("reward_model", n, objective=n)) for n in ("full", "partial")]

    trained_for, language_models = guides, lambda self, base_lm=None: StubWorkbench.base_lms(self)

    def default_columns(self):
        return [ColumnSpec("base"), ColumnSpec("args", (("beta", 2.0),), "full"), ColumnSpec("pargs", (("beta", 2.0),), "partial")]

    def openings(self):
        return ["the food was", "my wife and i"]

    def compare(self, prompt, columns, generation, seed, base_lm=None, confirmed=False, **_):
        if self.over and not (confirmed and not self.settings.public):
            raise self.over
        self.asked.append((prompt, tuple(columns), generation, seed, base_lm))
        lm, guides = ModelRef("starter"), [((ModelRef(c.reward_model), 1.0),) if c.reward_model else () for c in columns]
        runs = [Run(prompt, c.method, lm, c.params, guide, generation=generation, seed=seed) for c, guide in zip(columns, guides, strict=True)]
        found = Comparison(new_id(), prompt, tuple(Trace(new_id(), "ABCD"[i], run, place=i) for i, run in enumerate(runs)))
        self.comparisons[found.id] = found
        return StubRunning(found, 3, self.fails_at)

    def running(self, comparison_id):
        return None

    def comparison(self, comparison_id, visitor=None):
        if comparison_id not in self.comparisons:
            raise UnknownRecord("There is no such comparison.", f"Found `{comparison_id}`.")
        return self.comparisons[comparison_id]

    def vote(self, comparison_id, verdict, best_trace_id=None, seen_trace_ids=(), vote_id=None, dwell_ms=None, **_):
        comparison = self.comparison(comparison_id)
        seen = tuple(seen_trace_ids) or tuple(t.id for t in comparison.traces)
        vote = Vote(vote_id, comparison_id, verdict, best_trace_id, seen, dwell_ms=dwell_ms)
        check_vote(vote, comparison.state, {t.id for t in comparison.traces})
        self.votes.append(vote)
        return vote

    def undo(self, comparison_id, visitor=None, vote_id=None):
        if self.current_vote(comparison_id) is None:
            raise StoreError("There is nothing to undo.")
        self.votes.append(Vote(vote_id, comparison_id, "withdrawn"))

    def current_vote(self, comparison_id, visitor=None):
        last = next((v for v in reversed(self.votes) if v.comparison_id == comparison_id), None)
        return last if last and last.verdict != "withdrawn" else None

    def num_votes(self):
        return len(self.votes)


BUILT: list[compare._Page] = []


def a_page(workbench: StubWorkbench) -> compare._Page:
    """One for all tests, since Gradio takes a while to make it: its handlers ask the workbench and the line that it has."""
    if not BUILT:
        with on_a_page():
            BUILT.append(compare._Page(workbench, Line(), (("Compare", "./"),)))
    (page,) = BUILT
    page.line, page.workbench, page.voting.workbench, page.line_ups.workbench = Line(), workbench, workbench, workbench
    return page


def columns_of(workbench: StubWorkbench) -> list[str]:
    return [write_spec(spec) for spec in [*workbench.default_columns(), *[ColumnSpec("base")] * 3]]


def settings_of(workbench: StubWorkbench, **changes) -> str:
    return json.dumps(default_settings(workbench, 3) | {"lock": True} | changes)


def run(page: compare._Page, prompt: str = "the food was", event=None, **changes) -> list[dict]:
    return list(page._generate()(prompt, settings_of(page.workbench, **changes), "", *columns_of(page.workbench), VISITOR, event))


def told(page: compare._Page, updates: list[dict]) -> list[str]:
    return [u[page.status] for u in updates if page.status in u]


def event(**data) -> SimpleNamespace:
    return SimpleNamespace(_data=data)


def a_shown_comparison() -> tuple[compare._Page, StubWorkbench, Comparison]:
    workbench = StubWorkbench()
    page = a_page(workbench)
    run(page)
    return page, workbench, next(iter(workbench.comparisons.values()))


@pytest.fixture(scope="module")
def shown_once() -> tuple[compare._Page, StubWorkbench, Comparison]:
    return a_shown_comparison()


@pytest.fixture
def shown(shown_once) -> tuple[compare._Page, StubWorkbench, Comparison]:
    """One for all the tests that change nothing; the page has its workbench again, where other tests gave it theirs."""
    _, workbench, comparison = shown_once
    return a_page(workbench), workbench, comparison


# ---- generating -------------------------------------------------------------------------------------


def test_a_run_streams_every_column_and_ends_with_curve_and_vote_bar():
    workbench = StubWorkbench()
    page = a_page(workbench)
    updates = run(page)
    texts = [[json.loads(line) for line in updates[-2][page.columns.views[c]].splitlines()] for c in "ABC"]
    for lines in texts:
        assert "".join(line.get("t", "") for line in lines) == " ok ok ok" and lines[-1]["end"] == "max_new_tokens"
    assert told(page, updates) == ["started", "running, seed 17", "done, 3 tokens in 0.0 s"]
    assert page.curve in updates[-2]
    bar = json.loads(next(u[page.voting.bar] for u in updates if page.voting.bar in u))
    assert [letter for letter, _ in bar["traces"]] == ["A", "B", "C"] and bar["verdict"] is None
    assert workbench.asked[0][1][2] == ColumnSpec("pargs", (("beta", 2.0),), "partial")


def test_a_click_on_an_example_uses_its_text():
    workbench = StubWorkbench()
    updates = run(a_page(workbench), "what stood there", event(text="my wife and i"))
    assert workbench.asked[0][0] == "my wife and i" and updates


def test_an_unlocked_seed_is_drawn_anew_and_shown():
    workbench = StubWorkbench()
    page = a_page(workbench)
    shown = [json.loads(next(u[page.settings] for u in run(page, lock=False) if page.settings in u))["seed"] for _ in range(2)]
    assert shown == [asked[3] for asked in workbench.asked] and shown[0] != shown[1]


def test_columns_that_are_not_asked_for_are_emptied_and_branches_forgotten():
    page = a_page(StubWorkbench())
    first = next(u for u in run(page) if page.columns.views["D"] in u)
    assert all(first[page.columns.views[c]] == "" for c in "DEFGH")
    assert all(first[settings]["branch"] == "" for settings in page.columns.inputs)


def test_a_run_that_is_refused_does_not_say_started(monkeypatch):
    page = a_page(StubWorkbench())
    monkeypatch.setattr(page.workbench, "compare", lambda *_, **__: (_ for _ in ()).throw(BadSettings("The prompt is too long.")))
    said = []
    with pytest.raises(gr.Error, match="too long"):
        for update in page._generate()("the food was", settings_of(page.workbench), "", *columns_of(page.workbench), VISITOR):
            said.append(update[page.status])
    assert said == ["started", "not started"]


@pytest.mark.parametrize("prompt", ["", "  \n ", None, 7, "x" * 20_001])
def test_a_prompt_that_cannot_be_read_is_refused_in_words(prompt):
    workbench = StubWorkbench()
    with pytest.raises(gr.Error, match="prompt"):
        run(a_page(workbench), prompt)
    assert not workbench.asked


def test_an_exception_becomes_a_reference_number_and_every_column_says_so():
    page = a_page(StubWorkbench(fails_at=1))
    updates = []
    with pytest.raises(gr.Error) as raised:
        for update in page._generate()("the food was", settings_of(page.workbench), "", *columns_of(page.workbench), VISITOR):
            updates.append(update)
    assert "reference" in str(raised.value.message) and "secret" not in str(raised.value.message)
    last = json.loads(updates[-1][page.columns.views["C"]].splitlines()[-1])
    assert last["end"] == "error" and "reference" in last["note"]
    page.workbench.fails_at = None
    assert told(page, run(page))[-1].startswith("done")  # the line is free again


def test_models_that_failed_to_load_are_named():
    with pytest.raises(gr.Error, match="The models could not be loaded"):
        run(a_page(StubWorkbench(state="failed")))


def test_generate_waits_while_models_load_and_says_so():
    workbench = StubWorkbench(state="loading")
    page = a_page(workbench)
    threading.Timer(0.3, lambda: setattr(workbench, "state", "ready")).start()
    words = told(page, run(page))
    assert words[1].startswith("the models are loading") and words[-1].startswith("done")


def test_stop_while_waiting_begins_nothing():
    workbench = StubWorkbench(state="loading")
    page = a_page(workbench)
    threading.Timer(0.3, lambda: page._stop()(VISITOR)).start()
    assert told(page, run(page))[-1] == "stopped before it started" and not workbench.asked


def test_a_double_click_is_one_run():
    workbench = StubWorkbench()
    page = a_page(workbench)
    first = page._generate()("the food was", settings_of(workbench), "", *columns_of(workbench), VISITOR)
    next(first)
    run(page)
    assert not workbench.asked and list(first) and len(workbench.asked) == 1


# ---- values from the browser ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": "1"}, {"temperature": None}, {"temperature": float("nan")}, {"temperature": 99}, {"max_new_tokens": 2.5},
        {"max_new_tokens": 0}, {"top_k": True}, {"top_p": -1}, {"seed": -1}, {"seed": 1e30}, {"seed": 1.5}, {"columns": 7}, {"columns": "3"},
        {"base_lm": "../../etc/passwd"}, {"base_lm": ["starter"]},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(changes: dict):
    workbench = StubWorkbench()
    with pytest.raises(BadSettings):
        read_settings(settings_of(workbench, **changes), workbench)


@pytest.mark.parametrize("text", [None, 3, "", "[]", "null", "{", "{" * 30_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(BadSettings):
        read_settings(text, StubWorkbench())


def test_settings_in_range_are_read_whole():
    workbench = StubWorkbench()
    found = read_settings(settings_of(workbench, temperature=0, max_new_tokens=40), workbench)
    assert found == {"base_lm": "starter", "columns": 3, "seed": 17, "lock": True, "generation": GenerationConfig(max_new_tokens=40, temperature=0.0)}


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "rm -rf"}, {"method": None}, {"method": ["args"]}, {"method": "args"}, {"method": "args", "reward_model": "judge"},
        *({"method": "args", "reward_model": "full", "params": params} for params in ({"beta": 1e9}, {"beta": float("inf")}, {"pick": "worst"})),
        *({"method": "best-of-n", "reward_model": "full", "params": params} for params in ({"n": 2.5}, {"n": "4"})),
    ],
)  # fmt: skip
def test_a_column_that_makes_no_sense_is_refused(spec: dict):
    with pytest.raises(BadSettings):
        read_spec(json.dumps(spec), "B", StubWorkbench(), "starter")


def test_every_method_can_be_written_and_read_back():
    workbench = StubWorkbench()
    for method in METHODS.values():
        params = tuple((p.name, p.default) for p in method.parameters)
        in_roles = tuple((("starter" if role.language_model else "full") if i == 0 else "", role.weight) for i, role in enumerate(method.roles))
        spec = ColumnSpec(method.key, params, "full" if method.uses_reward and not in_roles else None, guides=in_roles)
        assert read_spec(write_spec(spec), "A", workbench, "starter") == spec


def test_every_parameter_has_what_its_input_needs():
    for method in describe_methods(StubWorkbench()):
        for parameter in method["parameters"]:
            assert parameter["help"] and (
                parameter["text"] or parameter["choices"] or (parameter["min"] is not None and parameter["max"] is not None)
            )
    assert all(field["label"] and field["help"] for field in setting_fields(StubWorkbench()))


def test_a_number_keeps_its_kind():
    assert type(read_number(4.0, "n", 1, 9, whole=True)) is int and read_number(4, "n", 1, 9) == 4.0


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"comparison": "../x"}, {"comparison": "unknown"}, {"trace": "unknown"}, {"trace": None}, {"index": 3}, {"index": -1}, {"index": True},
        {"index": "0"}, {"index": 0, "token_id": 8}, {"index": 0, "token_id": "7"}, {"token_id": 7},  # 7 is what stands there
    ],
)  # fmt: skip
def test_a_branch_from_what_is_not_there_is_refused(asked: dict, shown):
    page, workbench, stored = shown
    step = Step(0, 7, " ok", -0.5, -0.5, 1, 1, 0.6, 0.6, candidates=(Candidate(7, " ok", -0.5, -0.5, 1, 1, 0.6),))
    stored = workbench.comparisons[stored.id] = replace(stored, traces=tuple(replace(t, steps=(step,)) for t in stored.traces))
    good = {"comparison": stored.id, "trace": stored.traces[0].id, "index": 0, "token_id": 7}
    with pytest.raises(gr.Error):
        list(page._branch()("", VISITOR, event(**(good | asked if asked else {}))))


# ---- votes --------------------------------------------------------------------------------------------------


def test_a_vote_is_stored_with_what_was_seen_and_thanked_for():
    page, workbench, comparison = a_shown_comparison()
    best, seen = comparison.traces[1].id, [t.id for t in comparison.traces]
    bar = json.loads(page.voting.vote()(VISITOR, event(comparison=comparison.id, verdict="best", best=best, seen=seen, vote_id="v1", dwell_ms=900)))
    assert workbench.votes == [Vote("v1", comparison.id, "best", best, tuple(seen), dwell_ms=900)]
    assert bar["verdict"] == "best" and bar["best"] == best and bar["note"] == "saved: B is best · 1 vote" and bar["answers"] == "v1"


def test_the_same_answer_twice_is_one_vote_and_undo_takes_it_back():
    page, workbench, comparison = a_shown_comparison()
    for n in range(2):
        page.voting.vote()(VISITOR, event(comparison=comparison.id, verdict="tie", best=None, seen=[], vote_id=f"v{n}"))
    assert len(workbench.votes) == 1
    assert json.loads(page.voting.undo()(VISITOR, event(comparison=comparison.id)))["verdict"] is None
    assert "nothing to undo" in json.loads(page.voting.undo()(VISITOR, event(comparison=comparison.id)))["note"]
    assert [v.verdict for v in workbench.votes] == ["tie", "withdrawn"]


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "withdrawn"},
        {"verdict": "best", "best": "stranger"},
        {"verdict": "best"},
        {"verdict": None},
        {"verdict": "tie", "best": 7},
        {"verdict": "tie", "seen": "A"},
        {"verdict": "tie", "seen": ["stranger"]},
        {"verdict": "tie", "vote_id": "<script>"},
    ],
)
def test_a_vote_that_makes_no_sense_is_not_stored_and_the_bar_says_so(said: dict, shown):
    page, workbench, comparison = shown
    bar = json.loads(page.voting.vote()(VISITOR, event(**{"comparison": comparison.id} | said)))
    assert not workbench.votes and bar["note"].startswith("not saved") and bar["verdict"] is None


# ---- the page as it opens -----------------------------------------------------------------------------------


def test_a_stored_comparison_opens_as_it_was():
    page, workbench, comparison = a_shown_comparison()
    done = replace(
        comparison,
        traces=tuple(replace(t, response=" ok", stop_reason="stopped") for t in comparison.traces),
        created_at="2026-03-12T10:31:00.000+00:00",
    )
    workbench.comparisons[comparison.id] = done
    found = page._load()("{}", SimpleNamespace(query_params={"comparison": comparison.id}))
    assert found[page.prompt] == "the food was" and json.loads(found[page.settings]["value"])["seed"] == 17
    assert json.loads(found[page.columns.settings["B"]]["value"]) == {"method": "args", "reward_model": "full", "params": {"beta": 2.0}}
    assert found[page.columns.views["D"]] == "" and found[page.columns.views["A"]].startswith('{"comparison"')
    assert "12 March 2026, 10:31 UTC" in found[page.status]


@pytest.mark.parametrize("asked", ["unknown", "../../etc/passwd", "x" * 500, "<script>"])
def test_a_link_to_nothing_opens_the_empty_tool(asked: str):
    page = a_page(StubWorkbench())
    found = page._load()("{}", SimpleNamespace(query_params={"comparison": asked}))
    assert page.prompt not in found and page.columns.views["A"] not in found


def test_the_picker_of_colours_marks_a_model_that_is_not_recommended():
    page = a_page(StubWorkbench())
    labels = {"full": "full", "partial": "partial", "judge": "judge (not recommended)"}
    assert page.colour.props["labels"] == labels and page._model_pickers()[page.colour]["labels"] == labels


def test_the_timer_ends_when_the_models_are_there():
    workbench = StubWorkbench(state="loading")
    page = a_page(workbench)
    assert page._tick()() == {page.models: "loading partial …"}
    workbench.state = "ready"
    assert page._tick()()[page.timer].active is False


# ---- the line, errors, the app -------------------------------------------------------------------------------


def test_the_line_is_first_come_first_served_and_has_an_end():
    line = Line(max_waiting=2)
    tickets = [line.enter(name) for name in "abc"]
    assert [line.place(t) for t in tickets] == [0, 1, 2]
    with pytest.raises(LineFull, match="2 people are waiting"):
        line.enter("d")
    line.leave(tickets[0])
    assert line.place(tickets[1]) == 0


def test_stop_reaches_only_ones_own_run():
    line, stopped = Line(), []
    mine, other = line.enter("me"), line.enter("you")
    mine.on_stop, other.on_stop = lambda: stopped.append("mine"), lambda: stopped.append("other")
    assert line.stop("me") == 1 and stopped == ["mine"] and mine.stopped and not other.stopped
    assert line.stop("me") == 0


def test_a_page_without_any_model_opens_and_says_so():
    class Empty(StubWorkbench):
        def base_lms(self):
            return []

        def guides(self, base_lm=None):
            raise RgtgError("No base LM is installed.")

        def default_columns(self):
            raise RgtgError("No base LM is installed.")

    page = a_page(Empty(state="failed"))
    assert page._load()("{}", SimpleNamespace(query_params={}))[page.models] == "no models"
