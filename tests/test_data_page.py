"""The list of comparisons and the Data page without a browser: what is found, what is shown of one, what is excluded."""

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from store_records import make_comparison, make_vote

from pages import data, visitors
from pages.history import PAGE, History, HistoryList
from rgtg.config import Settings
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

ANN, BOB = (SimpleNamespace(session_hash=name, cookies={visitors.KEY: name * 32}) for name in "ab")


def event(**sent) -> SimpleNamespace:
    return SimpleNamespace(_data=sent)


def a_workbench(tmp_path: Path, public: bool = False) -> Workbench:
    """Three comparisons that Ann made; on the last, of three answers, she and Bob voted."""
    bench = Workbench(Settings(data_dir=tmp_path, public=public))
    ann, bob = (bench.raters.rater(Visitor("anonymous", who.cookies[visitors.KEY])) for who in (ANN, BOB))
    for name, prompt in (("c1", "the food was"), ("c2", "my wife and i"), ("c3", "the service was")):
        bench.store.add_comparison(make_comparison(name, "ABC", prompt=prompt, rater_id=ann))
    bench.store.add_vote(make_vote("v1", "c3", "B", "ABC", rater_id=ann))
    bench.store.add_vote(make_vote("v2", "c3", "A", "ABC", rater_id=bob))
    return bench


@pytest.fixture
def bench(tmp_path):
    bench = a_workbench(tmp_path)
    yield bench
    bench.close()


def found(bench: Workbench, who=ANN, **sent) -> dict:
    with gr.Blocks():
        return json.loads(History(bench, HistoryList(elem_id="history")).find()(who, event(**sent)))


def names(value: dict) -> list[str]:
    return [entry["comparison"] for entry in value["entries"]]


def test_the_newest_comes_first_with_its_vote_and_what_made_it(bench):
    value = found(bench)
    assert names(value) == ["c3", "c2", "c1"] and not value["more"] and value["filters"]["num"] == 3
    first = value["entries"][0]
    assert (first["prompt"], first["votes"], [answer[0] for answer in first["answers"]]) == ("the service was", 2, ["A", "B", "C"])
    assert [entry["vote"] for entry in value["entries"]] == ["A is best", "", ""]
    (rater,) = value["filters"]["raters"]  # oneself is found as "me"
    assert rater[1].startswith("rater ") and names(found(bench, voted=rater[0])) == ["c3"]


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({"search": "service"}, ["c3"]),
        ({"search": "the"}, ["c3", "c1"]),
        ({"voted": "yes"}, ["c3"]),
        ({"voted": "no"}, ["c2", "c1"]),
        ({"method": "no-such-method"}, []),
        ({"since": "2999-01-01"}, []),
        ({"until": "2999-01-01", "search": " "}, ["c3", "c2", "c1"]),
    ],
)
def test_a_search_and_filters(bench, sent: dict, wanted: list[str]):
    assert names(found(bench, **sent)) == wanted


def test_what_one_voted_on_oneself(bench):
    assert found(bench, voted="me")["entries"][0]["vote"] == "B is best" and found(bench, BOB, voted="me")["entries"][0]["vote"] == "A is best"
    nobody = SimpleNamespace(session_hash="n", cookies={})
    assert names(found(bench, nobody, voted="me")) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "sent", [{"voted": ["me"]}, {"voted": "' OR 1"}, {"search": 7}, {"search": "x" * 501}, {"since": "yesterday"}, {"before": 3}]
)
def test_a_filter_that_is_none_is_refused_in_words(bench, sent: dict):
    with pytest.raises(gr.Error):
        found(bench, **sent)


def test_the_list_goes_on_behind_its_last_entry(bench):
    for i in range(PAGE):
        bench.store.add_comparison(make_comparison(f"n{i:02}", "AB", prompt="more"))
    first = found(bench)
    second = found(bench, before=names(first)[-1])
    assert first["more"] and len(first["entries"]) == PAGE and second["append"] and names(second) == ["c3", "c2", "c1"]


def test_strangers_see_their_own_on_a_public_server(tmp_path):
    bench = a_workbench(tmp_path, public=True)
    assert [name.split(".")[0] for name in names(found(bench))] == ["c3", "c2", "c1"] and names(found(bench, BOB)) == []
    assert found(bench)["filters"]["raters"] == [] and found(bench)["filters"]["num"] is None
    with gr.Blocks():
        page = data._Page(bench, (("Data", "./data"),))
    with pytest.raises(gr.Error, match="no comparison"):
        page.look()(BOB, event(comparison="c3"))
    with pytest.raises(gr.Error, match="public server"):
        page.exclude()(ANN, event(comparison="c3", vote="v1", reason="x"))
    bench.close()


def test_one_comparison_is_shown_with_its_votes_and_pairs_and_pairs_are_excluded_with_a_reason(bench):
    with gr.Blocks():
        page = data._Page(bench, (("Data", "./data"),))
    shown = json.loads(page.look()(ANN, event(comparison="c3")))
    assert (shown["votes"][0]["words"], shown["votes"][0]["rater"]) == ("B is best", "you")
    assert [pair["title"] for pair in shown["pairs"]] == ["B over A", "B over C", "A over B", "A over C"]

    def exclude(**sent) -> dict:
        return json.loads(page.exclude()(ANN, event(comparison="c3", vote="v1", **sent)))

    after = exclude(rejected="c3-A", reason="both are wrong")
    assert [pair["excluded"] for pair in after["pairs"]] == ["both are wrong", None, None, None]
    after = exclude(reason="careless")
    assert [pair["excluded"] for pair in after["pairs"]] == ["careless", "careless", None, None] and after["votes"][0]["excluded"] == "careless"
    assert [pair["excluded"] for pair in exclude(reason=None)["pairs"]] == ["both are wrong", None, None, None]
    assert bench.store.exclusions() == {"v1": {"c3-A": "both are wrong"}} and bench.num_votes() == 2, "nothing is deleted"


def test_what_is_excluded_is_in_no_export_and_on_no_board(bench, tmp_path):
    def counts() -> tuple[int, int, dict]:
        report = bench.export(tmp_path / "out.jsonl", "preference")
        return report.num_pairs, len(bench.store.ballots(lambda run: run.method)[0]), report.skipped

    assert counts() == (4, 2, {})
    bench.store.exclude("v1", "both are wrong", "c3-A")
    assert counts() == (3, 2, {"excluded_pairs": 1})
    bench.store.exclude("v1", "careless")
    assert counts() == (2, 1, {"excluded": 1})
    bench.store.exclude("v1", None)
    bench.store.exclude("v1", None, "c3-A")
    assert counts() == (4, 2, {})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("sent", [{"vote": "v9"}, {"reason": " "}, {"reason": 5}, {"reason": "x" * 301}, {"rejected": "c1-A"}, {"comparison": "c1"}])
def test_an_exclusion_that_is_none_is_refused(bench, sent: dict):
    with gr.Blocks():
        page = data._Page(bench, (("Data", "./data"),))
    with pytest.raises(gr.Error):
        page.exclude()(ANN, event(**({"comparison": "c3", "vote": "v1", "reason": "why"} | sent)))
    assert bench.store.exclusions() == {}
