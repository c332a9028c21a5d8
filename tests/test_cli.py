"""The commands: what they print, what they refuse, and how."""

import json

import pytest

from rgtg.cli.main import main
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.evaluation.peaks import NONE
from rgtg.guidance.methods import parse_run
from rgtg.records import ColumnSpec


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    return tmp_path


def test_pairs_are_labelled_by_a_judge_and_measured_by_several_from_the_terminal(here, folders, capsys):
    rows = [{"prompt": "ask", "chosen": "good", "rejected": "evil"}, {"prompt": "ask", "chosen": "no", "rejected": "perhaps"}]
    (here / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = ["--pairs", str(here / "pairs.jsonl"), "--base-lm", folders["lm"], "--device", "cpu"]
    assert main(["label", *shared, "--judge", folders["judge"], "--out", str(here / "gold.jsonl"), "--prefixes", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    written = [json.loads(line) for line in (here / "gold.jsonl").read_text().splitlines()]
    assert report["num_pairs"] == len(written) == 2 and report["num_changed"] == sum(row["chosen"] in ("evil", "perhaps") for row in written)
    assert all(row["prefix_labels"][-1] == 1 for row in written), "without noise the label of the complete answers is that of the pair"
    of_two = ["--judge", folders["judge"], "--judge", folders["full"], "--out", str(here / "strong.jsonl")]
    assert main(["strength", *shared, *of_two, "--contradictions", "flip"]) == 0
    printed = capsys.readouterr().out
    assert "| tenth | pairs |" in printed and "contradictions flipped" in printed
    assert main(["strength", *shared, *of_two[2:]]) == 2
    assert "two reward models or more" in capsys.readouterr().err
    examined = [
        "--reward-model",
        folders["full"],
        "--reward-model",
        folders["partial"],
        "--judge",
        folders["judge"],
        "--out",
        str(here / "a" / "e.json"),
    ]
    assert main(["examine", *shared, *examined]) == 0
    assert "Accuracy by length of the prefix" in capsys.readouterr().out
    found = json.loads((here / "a" / "e.json").read_text(encoding="utf-8"))
    assert found["num_pairs"] == 2 and list(found["models"]) == ["f", "p", "j"] and found["models"]["f"]["by_length"]["end"]["n"] == 2


def test_a_run_on_the_command_line_is_read_whole():
    assert parse_run("base", GenerationConfig()) == ColumnSpec("base")
    assert parse_run("pargs:beta=2,reward_model=partial,top_k=5", GenerationConfig(max_new_tokens=7)) == ColumnSpec(
        "pargs", (("beta", 2.0),), "partial", GenerationConfig(max_new_tokens=7, top_k=5)
    )
    assert parse_run("best-of-n:n=8", GenerationConfig()).params == (("n", 8),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "no method `nonsense`"),
        ("args:gamma=1", "`gamma=1` is not a setting"),
        ("args:beta=much", "`beta` has to be a number"),
        ("base:top_k=0", "`top_k` has to be between 1 and 200"),
        ("best-of-n:n=2.5", "`n` has to be a whole number"),
    ],
)
def test_a_run_that_cannot_be_read_is_refused(text, words):
    with pytest.raises(BadSettings, match=words):
        parse_run(text, GenerationConfig())


def test_generate_prints_a_json_line_a_column(here, capsys, folders):
    lm, guide = folders["lm"], folders["partial"]
    arguments = ["generate", "--base-lm", lm, "--prompt", "the food", "--json", "--max-new-tokens", "6", "--seed", "3"]
    (here / "mine.json").write_text(json.dumps({"title": "Mine", "columns": ["base", f"pargs:beta=0,reward_model={guide}"]}))
    assert main([*arguments, "--line-up", str(here / "mine.json")]) == 0
    base, guided = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (base["column"], guided["column"], base["method"], guided["reward_models"]) == ("A", "B", "base", ["p"])
    assert [t["id"] for t in base["tokens"]] == [t["id"] for t in guided["tokens"]]
    assert guided["reward_forwards"] > 0 and base["num_tokens"] == len(base["tokens"]) and len(base["tokens"][0]["candidates"]) == 10
    assert "".join(t["text"] for t in base["tokens"]) == base["text"] and base["stop_reason"] in ("eos", "max_new_tokens")
    assert guided["reward_positions"] > guided["observer_positions"] == 0 < base["observer_positions"] == base["reward_positions"]
    assert guided["share_guided"] is None and guided["lm_positions"] == base["lm_positions"] > guided["num_tokens"]
    assert guided["note"] == "" and guided["check_forwards"] >= 0
    assert guided["tokens"][0]["rewards"].keys() == {"p"} and base["tokens"][0]["rewards"].keys() == {"p"}
    assert not (here / "data" / "rgtg.db").exists()


def test_generate_with_save_stores_the_comparison(here, folders):
    from rgtg.store.store import Store

    assert main(["generate", "--base-lm", folders["lm"], "--prompt", "x", "--run", "base", "--max-new-tokens", "3", "--save"]) == 0
    with Store(here / "data" / "rgtg.db") as store:
        assert [c.prompt for c in store.comparisons()] == ["x"]


def test_an_error_is_one_json_line_on_stderr_and_status_2(here, capsys, folders):
    headless = folders["headless"]
    for arguments, words in (
        (["--base-lm", str(here / "nothing"), "--run", "base"], "There is no model"),
        (["--base-lm", folders["lm"], "--run", "args:reward_model=missing"], "no reward model `missing`"),
        (["--base-lm", folders["lm"], "--run", f"args:reward_model={headless}"], "no trained head"),
        (["--base-lm", folders["lm"], "--run", "base", "--line-up", "weights"], "needs models that are not installed"),
        (["--base-lm", folders["lm"], "--run", "base", "--max-new-tokens", "128"], "reads 128 and 128 are kept"),
    ):
        assert main(["generate", "--prompt", "x", *arguments]) == 2
        error = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert words in error["error"] + error["found"] and set(error) == {"error", "found", "do"}


def test_where_every_column_fails_the_status_is_1_and_stderr_says_why(here, capsys, folders):
    lm, failing = folders["lm"], f"pargs:guides={folders['partial']}*1e60"
    arguments = ["generate", "--base-lm", lm, "--prompt", "x", "--max-new-tokens", "4", "--json"]
    assert main([*arguments, "--run", failing, "--run", failing]) == 1
    out, err = (list(map(json.loads, text.splitlines())) for text in capsys.readouterr())
    assert [line["stop_reason"] for line in out] == ["error", "error"] and all(set(line) == {"error", "found", "do"} for line in err)
    assert [line["found"] for line in err] == [f"Column {letter}, `pargs`, of 'x'." for letter in "AB"]
    assert err[0]["error"] == out[0]["error"] and "not finite" in err[0]["error"]
    assert main([*arguments, "--run", failing, "--run", "base"]) == 0  # one came of it


def test_score_prints_a_reward_for_each_token(here, capsys, folders):
    assert main(["score", "--reward-model", folders["partial"], "--prompt", "ab", "--response", "cd"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == ["c", "d"] and len(found["rewards"]) == 2
    assert main(["score", "--reward-model", folders["partial"], "--prompt", "ab", "--response", "cd", "--complete"]) == 0
    complete = json.loads(capsys.readouterr().out)
    assert complete["tokens"] == ["c", "d", ""] and len(complete["rewards"]) == 3


def test_sweep_writes_its_table_and_goes_on_where_it_was(here, capsys, folders, monkeypatch):
    prompts = here / "prompts.txt"
    prompts.write_text("the food was good\nmy wife and i went\nservice was slow\n")
    arguments = ["sweep", "--base-lm", folders["lm"], "--prompts", str(prompts), "--first-words", "2", "--limit", "2", "--max-new-tokens", "5"]
    arguments += ["--run", "base", "--run", f"pargs:beta=2,reward_model={folders['partial']}", "--observe", folders["judge"], "--seeds", "2"]
    assert main([*arguments, "--out", str(here / "out")]) == 0
    table = capsys.readouterr().out
    assert "| base | 4 |" in table and "| pargs · p · beta 2 | 4 |" in table
    assert (here / "out" / "table.md").read_text() == table.rstrip("\n") + "\n"
    assert len((here / "out" / "results.jsonl").read_text().splitlines()) == 8

    def never(*a, **kw):
        raise AssertionError("every cell is kept")

    monkeypatch.setattr("rgtg.evaluation.engines.base.generate", never)
    unprompted = ["sweep", *arguments[1:3], *arguments[9:-2]]  # a folder knows what its sweep is
    assert "--prompts" not in unprompted and "--seeds" not in unprompted
    for given in (arguments, unprompted):
        assert main([*given, "--out", str(here / "out")]) == 0
        assert capsys.readouterr().out == table
    assert main(["sweep", "--table", str(here / "out"), "--plot", str(here / "plot.html"), "--peaks", "--plot-peaks", str(here / "peaks.html")]) == 0
    head, _, base, *_, peaks, _ = capsys.readouterr().out.splitlines()
    assert peaks == NONE, "one weight is no family"
    assert head.endswith("| tokens/s | tokens/processor s |") and all(float(speed) > 0 for speed in base.strip("| ").split("|")[-2:])
    assert all("Plotly.newPlot" in (here / name).read_text(encoding="utf-8") for name in ("plot.html", "peaks.html"))


def test_a_sweep_says_what_it_lacks(here, capsys):
    for arguments, words in (
        (["--out", str(here / "new")], "A sweep needs prompts."),
        (["--table", str(here)], "holds no results of a sweep"),
        (["--table", str(here), "--out", str(here)], "not allowed with"),
        (["--out", str(here / "new"), "--plot-peaks", "peaks.pdf"], "Found `peaks.pdf`."),
    ):
        assert main(["sweep", *arguments]) == 2
        error = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert words in error["error"] + error["found"] and error["do"]


@pytest.mark.parametrize(
    ("run", "place"),
    [
        ("pargs:guides=p*2+*0.5", "of `p*2+*0.5`: a reward model is missing before `*`."),
        ("pargs:guides=p*2+nothing*0.5", "of `p*2+nothing*0.5`: Installed: p."),
        ("pargs:guides=p*x", "of `p*x`: the weight `x` is not a number."),
        ("pargs:guides=p*2,combine=product", "of `pargs:guides=p*2,combine=product`: Known: sum, standardised,"),
        ("pargs:reward_model=nothing", "of `pargs:reward_model=nothing`: Installed:"),
    ],
)
def test_a_bad_mix_is_refused_with_its_place_before_a_model_is_loaded(here, capsys, folders, monkeypatch, run, place):
    monkeypatch.setattr("rgtg.workbench.library.Library._load", lambda *_: pytest.fail("a model was loaded"))
    arguments = ["--base-lm", folders["lm"], "--run", f"args:reward_model={folders['partial']}", "--run", run]
    assert main(["generate", "--prompt", "x", *arguments]) == 2
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["found"].startswith("At character ") and place in error["found"]


def test_a_reward_from_a_file_is_kept_scores_guides_and_is_refused_in_words(here, capsys, folders):
    path = here / "short.json"
    path.write_text('{"name": "short", "kind": "length", "target": 0, "spread": 1, "unit": "characters"}')
    common = ["--base-lm", folders["lm"], "--reward", str(path)]
    assert main(["score", *common, "--prompt", "ab", "--response", "cd"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tokens": ["c", "d"], "rewards": [-1.0, -2.0]}
    run = f"pargs:guides=short*2+{folders['partial']}*0.5"
    assert main(["generate", *common, "--prompt", "ab", "--run", run, "--max-new-tokens", "2", "--json", "--save"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["reward_models"] == ["short", "p"] and made["weights"] == [2.0, 0.5] and set(made["tokens"][0]["rewards"]) == {"short", "p"}
    assert main(["models", "--json", "--base-lm", folders["lm"]]) == 0, "it is there without the file"
    assert "short" in [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    for content, words in (
        ("{", "it is not JSON"),
        ('{"name": "q", "kind": "x"}', "Known: length"),
        ('{"name": "tiny", "kind": "length"}', "is taken"),
    ):
        path.write_text(content)
        assert main(["score", *common, "--response", "cd"]) == 2
        error = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert words in error["error"] + error["found"] and str(path) in error["error"]
    assert main(["score", "--response", "cd"]) == 2 and "no reward model to score with" in capsys.readouterr().err


def test_a_model_that_cannot_be_used_is_listed_with_what_is_wrong(here, capsys):
    (here / "data" / "models" / "bad").mkdir(parents=True)
    (here / "data" / "models" / "bad" / "config.json").write_text("[]")
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "bad" and found["wrong"].endswith("Replace its config.json with the one that belongs to its weights.")
    assert main(["models"]) == 0 and "Its config.json is no JSON object" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["sweep", "export", "train", "examine"])
def test_an_output_below_a_file_is_refused_before_any_model_is_loaded(here, capsys, monkeypatch, folders, command):
    (here / "file").write_text("x")
    (here / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    monkeypatch.setattr("rgtg.workbench.library.Library._load", lambda *_: pytest.fail("a model was loaded"))
    given = {"sweep": ["--prompts", str(here / "rows.jsonl"), "--base-lm", folders["lm"]], "export": []}
    given["train"] = ["--pairs", str(here / "rows.jsonl"), "--base", folders["lm"]]
    given["examine"] = ["--reward-model", folders["full"], "--pairs", str(here / "rows.jsonl"), "--base-lm", folders["lm"]]
    assert main([command, "--out", str(here / "file" / "out"), *given[command]]) == 2
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["error"] == f"`{here / 'file' / 'out'}` cannot be written." and "file" in error["found"] and error["do"]
    assert main(["train", "--out", "/", *given["train"]]) == 2 and "name a new folder" in capsys.readouterr().err


def test_a_root_folder_is_no_model_and_none_is_taken_in_its_place(here, capsys):
    assert main(["generate", "--prompt", "x", "--base-lm", "/", "--run", "base"]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"] == "`/` is not a model folder."
