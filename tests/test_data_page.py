"""The list of comparisons and the Data page without a browser: what is found, what is shown of one, what is excluded."""

import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page
from store_records import make_comparison, make_vote

from pages import data, temporary, visitors
from pages.exchanging import Exchanging
from pages.history import PAGE, History, HistoryList
from rgtg.config import Settings
from rgtg.errors import BadData
from rgtg.store.exchange import apart
from rgtg.store.exchange.plan import plan
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
    with on_a_page():
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
    with on_a_page():
        page = data._Page(bench, (("Data", "./data"),))
    with pytest.raises(gr.Error, match="no comparison"):
        page.look()(BOB, event(comparison="c3"))
    with pytest.raises(gr.Error, match="public server"):
        page.exclude()(ANN, event(comparison="c3", vote="v1", reason="x"))
    bench.close()


def test_one_comparison_is_shown_with_its_votes_and_pairs_and_pairs_are_excluded_with_a_reason(bench):
    with on_a_page():
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
    with on_a_page():
        page = data._Page(bench, (("Data", "./data"),))
    with pytest.raises(gr.Error):
        page.exclude()(ANN, event(**({"comparison": "c3", "vote": "v1", "reason": "why"} | sent)))
    assert bench.store.exclusions() == {}


# --- import and export --------------------------------------------------------------------------------------------------

NAMED = "prompt=prompt,a=a,b=b,winner=winner,rater=rater"
CSV = "prompt,a,b,winner,rater\nthe food was, good, bad,a,ann\nthe food was, good, bad,b,bob\nmy wife and i, left, stayed,tie,ann\n"


@pytest.fixture
def forms(bench, monkeypatch):
    """The forms, which read files in this process."""
    monkeypatch.setattr(apart, "plan_apart", plan)
    with on_a_page():
        return Exchanging(bench)


def test_a_file_is_read_first_and_stored_on_the_second_press_once(bench, forms, tmp_path):
    (file := tmp_path / "pairs.csv").write_text(CSV)
    shown = json.loads(forms.look_in()(event(file=str(file), columns=NAMED)))
    facts = dict(shown["facts"])
    assert (facts["comparisons"], facts["votes"], facts["raters"], facts["ties"]) == ("2", "3", "2", "1") and not shown["done"]
    assert bench.store.num_comparisons() == 3, "nothing is stored yet"
    stored = json.loads(forms.take_in()(event(file=str(file), columns=NAMED)))
    assert stored["words"] == "imported: 2 comparisons, 3 votes" and bench.store.num_comparisons() == 5 and bench.num_votes() == 5
    assert json.loads(forms.take_in()(event(file=str(file), columns=NAMED)))["words"] == "Nothing new: all of it was there already."
    assert names(found(bench, search="left"))


def test_what_a_file_leaves_open_is_asked(forms, tmp_path):
    rows = [{"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 1, 2], "ratings": [3, 2, 1]}]
    (file := tmp_path / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sent = {"file": str(file)}
    asked = json.loads(forms.look_in()(event(**sent)))
    assert asked["open"] == "columns" and "`ratings`, `scores`" in asked["words"] and "facts" not in asked
    sent |= {"columns": "prompt=prompt,answers=responses,scores=scores"}
    assert json.loads(forms.look_in()(event(**sent)))["open"] == "ties"
    facts = dict(json.loads(forms.look_in()(event(**sent | {"ties": "keep"})))["facts"])
    assert (facts["votes"], facts["ties"]) == ("3", "1")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("sent", [{}, {"file": ""}, {"file": 7}, {"file": "no/such/file.csv"}, {"file": "/"}, {"file": "x", "columns": "x" * 2001}])
def test_an_import_of_nothing_is_refused_in_words(forms, sent: dict):
    with pytest.raises(gr.Error):
        forms.look_in()(event(**sent))


def test_an_export_is_one_archive_with_a_manifest_and_the_same_bytes_again(forms):
    def export(**sent) -> tuple[bytes, dict]:
        updates = forms.write_out()(event(**sent))
        archive = Path(updates[forms.file])
        content = archive.read_bytes()
        temporary.fetched(str(archive))
        return content, json.loads(updates[forms.form])

    content, told = export(formats=["votes", "preference"], types=[".jsonl", ".csv"])
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.namelist() == ["manifest.json", "preference.csv", "preference.jsonl", "votes.csv", "votes.jsonl"]
        assert len(packed.read("preference.jsonl").splitlines()) == 4
    assert told["exported"] == [["preference", "4 rows"], ["votes", "2 rows"]]
    assert export(formats=["votes", "preference"], types=[".jsonl", ".csv"])[0] == content
    for wrong in ({"formats": [], "types": [".csv"]}, {"formats": ["pickle"], "types": [".csv"]}, {"formats": ["votes"], "types": "csv"}, {}):
        with pytest.raises(gr.Error):
            export(**wrong)


@pytest.mark.slow
def test_a_file_is_planned_in_a_process_of_its_own(tmp_path):
    (file := tmp_path / "pairs.csv").write_text(CSV)
    assert apart.plan_apart(file, NAMED) == plan(file, NAMED)
    with pytest.raises(BadData, match="line 2|row 1|Row 1"):
        (tmp_path / "bad.csv").write_text("prompt,chosen,rejected\np,a,b,c\n")
        apart.plan_apart(tmp_path / "bad.csv")


def test_no_event_has_a_field_that_gradio_takes_for_a_file_of_its_own():
    """It refuses an event with a text `path` that is not in its own folder: a path that was typed never arrived."""
    sent = [
        call
        for script in Path(data.__file__).parent.glob("static/*.js")
        for call in re.findall(r"trigger\([\w.\"]+, \{.*?\}\)", script.read_text(), re.DOTALL)
    ]
    assert len(sent) > 10 and not [call for call in sent if re.search(r"[{,] *(path|url)\b *[:,}]", call)]
