"""The benchmark of sweeps makes the same answers in every way, on tiny models; their speed is not judged here."""

from dataclasses import replace

from test_engine import models as tiny_models

from rgtg.evaluation.engines.base import IN_PROCESS
from rgtg.tools import bench_sweep


def test_every_way_gives_the_same_answers(monkeypatch):
    models = tiny_models()
    models = replace(
        models, reward_models={"guide": replace(models.reward_models["one"], loaded=_named(models.reward_models["one"].loaded, "guide"))}
    )
    for name, value in {"TURNS": 1, "TOKENS": 5, "LENGTHS": (1, 3), "AT_ONCE": 2}.items():
        monkeypatch.setattr(bench_sweep, name, value)
    lines = list(bench_sweep.sweep(models=models, num_answers=4))
    assert [(line["method"], line["way"]) for line in lines] == [(key, way) for key in ("base", "pargs") for way in bench_sweep.WAYS]
    assert all(line["same_tokens"] and line["over_one_by_one"] > 0 and line["tokens_per_second"] > 0 for line in lines)
    low, high = map(int, lines[0]["prompt_tokens"].split("–"))
    assert low < high, "prompts differ in length"


def test_engines_give_the_same_answers_as_one_by_one(monkeypatch):
    models = tiny_models()
    guide, judge = (replace(models.reward_models["one"], loaded=_named(models.reward_models["one"].loaded, name)) for name in ("guide", "judge"))
    loaded = replace(models, reward_models={"guide": guide}, num_threads=1), judge
    for name, value in {"TOKENS": 5, "LENGTHS": (1, 3)}.items():
        monkeypatch.setattr(bench_sweep, name, value)
    alone, process = bench_sweep.engines({"process": IN_PROCESS}, lambda: loaded, num_cells=12)
    assert (alone["way"], alone["cells"], alone["prompts"]) == ("one by one", 12, 6)
    assert process["way"] == "process" and process["same_tokens"] and process["same_bytes"] and process["over_one_by_one"] > 0


def _named(loaded, name: str):
    return replace(loaded, ref=replace(loaded.ref, name=name))
