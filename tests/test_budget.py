"""What a request would take is known before it begins: figures by hand, refusals in words, and who may go beyond."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from test_compare_page import StubWorkbench, a_page, run, told
from tiny_models import FAMILIES, OTHERS, tiny_lm, tiny_reward, tiny_token_reward

from pages import compare
from rgtg.cli.main import main
from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Models, make_run
from rgtg.errors import BadSettings, OverBudget
from rgtg.guidance.methods import METHODS
from rgtg.records import ColumnSpec
from rgtg.workbench import budget as module
from rgtg.workbench.budget import Budget, Load, Pace
from rgtg.workbench.workbench import Workbench


def models() -> Models:
    return Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one"), "two": tiny_reward("llama", 2, "two")})


def a_run(method: str, tokens: int = 10, top_k: int = 10, observers=(), **params):
    guide = "one" if METHODS[method].uses_reward else None
    return make_run("the food", method, models(), tuple(params.items()), guide, observers, GenerationConfig(max_new_tokens=tokens, top_k=top_k))


PROMPT = 9  # tokens of "the food", <s> included


@pytest.mark.parametrize(
    ("runs", "wanted"),
    [
        ([("base", {})], {"": Load(1, PROMPT + 10, 10, 1, PROMPT + 12)}),
        ([("pargs", {})], {"": Load(1, PROMPT + 10, 10, 1, PROMPT + 12), "one": Load(1, PROMPT + 110, 10, 11, PROMPT + 32)}),
        ([("best-of-n", {"n": 4})], {"": Load(4, PROMPT + 40, 10, 1, PROMPT + 12), "one": Load(4, PROMPT + 40, 10, 1, PROMPT + 12)}),
        (
            [("particles", {"m": 3, "proposal": "pargs"})],
            {"": Load(3, PROMPT + 30, 10, 1, PROMPT + 12), "one": Load(3, PROMPT + 330, 10, 11, PROMPT + 32)},
        ),
        ([("cards", {"tries": 2})], {"": Load(1, PROMPT + 30, 30, 1, PROMPT + 12), "one": Load(1, PROMPT + 30, 30, 1, PROMPT + 12)}),
        ([("base", {}), ("base", {})], {"": Load(2, 2 * PROMPT + 20, 10, 1, PROMPT + 12)}),
    ],
)
def test_what_each_model_has_to_do_is_counted(runs, wanted):
    assert module._loads([a_run(name, **params) for name, params in runs], models()) == wanted


def test_an_observer_reads_one_row():
    assert module._loads([a_run("best-of-n", n=8, observers=("two",))], models())["two"] == Load(1, PROMPT + 10, 10, 1, PROMPT + 12)


def test_base_samples_of_a_standardised_mix_count_until_they_are_known():
    asked = replace(a_run("pargs"), combine="standardised")
    assert module._loads([asked], models())[""].rows == 33 and module._loads([asked], models())["one"].positions == 33 * PROMPT + 32 * 10 + 110
    known = replace(asked, standards=(("one", (0.0,), (1.0,)),))
    assert module._loads([known], models()) == module._loads([a_run("pargs")], models())


def test_every_method_says_whether_it_scores_candidates():
    scoring = {key for key, m in METHODS.items() if m.make(()).scores_candidates}
    assert scoring == {key for key, m in METHODS.items() if m.uses_reward and m.make(()).rescores} - {"transfer-q"}  # which scores rollouts
    assert METHODS["particles"].make((("proposal", "pargs"),)).scores_candidates


def test_seconds_are_those_of_the_measured_forwards():
    found, there = Budget(Settings()), models()
    for model in (there.base_lm, there.reward_models["one"]):
        found._paces[model] = [Pace(0.01, 0.001)]
    estimate = found.estimate([a_run("best-of-n", n=4)], there)
    assert estimate.seconds == pytest.approx(2 * (10 * 0.01 + (PROMPT + 40) * 0.001))


def test_the_cache_is_counted_in_bytes_of_the_config():
    (network,) = module._networks(tiny_lm())  # 2 layers, 2 heads of 8 for keys and values, float32, a vocabulary of 99
    assert module._entry_bytes(network) == 2 * 2 * 2 * 8 * 4
    assert module._kept_bytes(network, Load(rows=3, positions=0, rounds=0, width=1, length=20)) == 3 * 20 * 256 + 3 * 99 * 4


def test_a_reward_that_is_a_ratio_counts_both_of_its_networks():
    assert len(list(module._networks(tiny_token_reward("implicit")))) == 2
    assert [network.num_outputs for network in module._networks(tiny_token_reward("vocabulary"))] == [99]
    assert [network.num_outputs for network in module._networks(tiny_reward())] == [1]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [({}, 0), ({"num_attention_heads": 4}, 4), ({"num_key_value_heads": [2, 8], "num_attention_heads": 9}, 8), ({"num_key_value_heads": None}, 0)],
)
def test_a_config_says_its_sizes_in_several_ways(config, wanted):
    assert module._size(SimpleNamespace(**config), "num_key_value_heads", "num_attention_heads") == wanted


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_every_family_can_be_estimated(family):
    there = Models(tiny_lm(family), {"one": tiny_reward(family, 1, "one")})
    run = make_run("the", "pargs", there, (), "one", (), GenerationConfig(max_new_tokens=3))
    estimate = Budget(Settings()).estimate([run], there)
    assert estimate.seconds > 0 and 0 < estimate.gigabytes < 0.1


def test_a_model_is_measured_once():
    found, there = Budget(Settings()), models()
    found.estimate([a_run("pargs")], there)
    before = dict(found._paces)
    found.estimate([a_run("pargs")], there)
    assert dict(found._paces) == before and all(pace.first > 0 for paces in before.values() for pace in paces)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"time_budget_s": 1e-6},
            r"This would take up to .*, and the limit is 0 s\. Asked for: 2 columns, 9 answers at once, 20 tokens, 10 candidates\.",
        ),
        (
            {"memory_budget_gb": 1e-6},
            r"This would need up to 0\.0 GB of memory, and the limit is 1e-06 GB\. .* Lower `max_new_tokens`, `top_k` or `n`\.",
        ),
        ({"memory_budget_gb": 1e-6, "time_budget_s": 1e-6}, r"need up to .* GB; it would take up to"),
    ],
)
def test_a_request_over_a_limit_is_refused_with_figure_limit_and_what_to_lower(limits, words):
    runs = [a_run("best-of-n", tokens=20, n=8), a_run("pargs", tokens=20)]
    with pytest.raises(OverBudget, match=words):
        Budget(replace(Settings(), **limits)).check(runs, models())
    Budget(replace(Settings(), **limits)).check(runs, models(), confirmed=True)
    with pytest.raises(OverBudget):
        Budget(replace(Settings(public=True), **limits)).check(runs, models(), confirmed=True)


def test_what_is_lowered_first_is_the_largest():
    assert module._to_lower([[a_run("best-of-n", tokens=20, n=64)]]) == ["`n`", "`max_new_tokens`"]
    assert module._to_lower([[a_run("pargs", tokens=8, top_k=50)]]) == ["`top_k`", "`max_new_tokens`"]
    assert module._to_lower([[a_run("cards", tokens=8, tries=100)]]) == ["`tries`", "`max_new_tokens`"]
    assert module._to_lower([[a_run("base", tokens=8)] * 4]) == ["`max_new_tokens`", "the number of columns"]


def test_of_batches_one_after_another_the_times_add_up_and_the_largest_memory_counts(monkeypatch):
    monkeypatch.setattr(Budget, "estimate", lambda self, runs, models, at_once=None, **more: module.Estimate(50.0 * len(runs), 3.0))
    batches = [[a_run("base")], [a_run("base")], [a_run("best-of-n", n=8)]]
    Budget(Settings()).check_batches(batches[:2], models())
    words = (
        "This would take up to 2 minutes, and the limit is 120 s. Asked for: 3 columns in 3 batches, 8 answers at once, 10 tokens, 10 candidates. "
    )
    with pytest.raises(OverBudget) as refused:
        Budget(Settings()).check_batches(batches, models())
    assert str(refused.value) == words + "Lower `max_new_tokens`, `n` or the number of prompts, seeds or settings."
    Budget(Settings()).check_batches([], models())


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (120, "120 s"), (600, "10 minutes"), (36_000, "10.0 hours")])
def test_durations_read_well(seconds, words):
    assert module._duration(seconds) == words


def test_limits_come_from_the_environment(monkeypatch):
    assert (Settings().memory_budget_gb, Settings().time_budget_s) == (4.0, 120.0)
    monkeypatch.setenv("RGTG_TIME_BUDGET_S", "inf")
    monkeypatch.setenv("RGTG_MEMORY_BUDGET_GB", "0.5")
    assert (Settings.from_environment().memory_budget_gb, Settings.from_environment().time_budget_s) == (0.5, float("inf"))
    for wrong in ("much", "0", "nan", "-1"):
        monkeypatch.setenv("RGTG_TIME_BUDGET_S", wrong)
        with pytest.raises(BadSettings, match=f"RGTG_TIME_BUDGET_S has to be a number above 0. Found `{wrong}`"):
            Settings.from_environment()


def test_nothing_is_generated_before_the_answer(folders, tmp_path: Path):
    bench = Workbench(Settings(data_dir=tmp_path, device="cpu", time_budget_s=1e-6), [folders["lm"]], [folders["full"]])
    columns = [ColumnSpec("best-of-n", (("n", 4),), "f")]
    with pytest.raises(OverBudget, match="Lower `max_new_tokens` or `n`"):
        bench.compare("the", columns, GenerationConfig(max_new_tokens=5))
    assert [index for index, _ in bench.compare("the", columns, GenerationConfig(max_new_tokens=5), confirmed=True)]
    bench.close()


def test_the_first_click_does_not_pay_for_the_measurement(folders, tmp_path: Path):
    bench = Workbench(Settings(data_dir=tmp_path, device="cpu"), [folders["lm"]], [folders["full"]])
    bench.start_loading()
    bench.wait_until_ready(60)
    models = bench.library.load_models(None, ["f"])
    assert models.base_lm in bench.budget._paces and models.reward_models["f"] in bench.budget._paces
    bench.close()


def test_the_terminal_goes_on_with_yes(folders, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RGTG_TIME_BUDGET_S", "0.000001")
    arguments = ["generate", "--base-lm", folders["lm"], "--prompt", "the food", "--json", "--max-new-tokens", "3", "--run", "base"]
    assert main(arguments) == 2
    assert json.loads(capsys.readouterr().err)["do"] == "Lower `max_new_tokens`. Or add `--yes` to run it anyway."
    assert main([*arguments, "--yes"]) == 0 and json.loads(capsys.readouterr().out)["method"] == "base"
    monkeypatch.setenv("RGTG_PUBLIC", "1")
    assert main([*arguments, "--yes"]) == 2 and "--yes" not in capsys.readouterr().err


def test_a_sweep_is_held_against_the_limits_before_its_first_cell_and_goes_on_with_yes(folders, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RGTG_TIME_BUDGET_S", "0.000001")
    (tmp_path / "prompts.txt").write_text("the food\nmy wife\n")
    arguments = ["sweep", "--base-lm", folders["lm"], "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out")]
    arguments += ["--observe", folders["judge"], "--run", "base", "--run", "best-of-n:n=30,reward_model=" + folders["full"], "--max-new-tokens", "3"]
    assert main(arguments) == 2
    said = json.loads(capsys.readouterr().err)
    assert "Asked for: 4 columns in 2 batches, 60 answers at once, 3 tokens" in said["found"] and "Or add `--yes`" in said["do"]
    assert not (tmp_path / "out" / "sweep.json").exists()
    assert main([*arguments, "--yes"]) == 0
    assert main(arguments) == 0  # nothing is left to be made


OVER = OverBudget("This would take up to 9 minutes, and the limit is 120 s.", "Asked for: 4 columns.", "Lower `n`.")


def test_a_request_over_the_limits_is_asked_back_once_and_runs_when_it_is_asked_again(monkeypatch):
    monkeypatch.setattr(compare, "DOUBLE_CLICK", 0.0)
    workbench = StubWorkbench()
    page, workbench.over = a_page(workbench), OVER
    for prompt in ("the food was", "another prompt"):  # another request is asked about anew
        with pytest.raises(gr.Error, match=r"up to 9 minutes.*Lower `n`\. Or press Generate again to run it unchanged\."):
            run(page, prompt)
    assert not workbench.asked and told(page, run(page, "another prompt"))[-1].startswith("done")
    with pytest.raises(gr.Error, match="Or press Generate again"):
        run(page, "another prompt")


def test_on_a_public_server_a_request_over_the_limits_is_refused_for_good(monkeypatch):
    monkeypatch.setattr(compare, "DOUBLE_CLICK", 0.0)
    workbench = StubWorkbench()
    page, workbench.over, workbench.settings = a_page(workbench), OVER, Settings(public=True)
    for _ in range(2):
        with pytest.raises(gr.Error, match=r"Lower `n`\.'?$"):
            run(page)
    assert not workbench.asked
