"""The benchmark of sweeps makes the same answers in every way, on tiny models; their speed is not judged here."""

from dataclasses import replace

from test_engine import models as tiny_models

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


def _named(loaded, name: str):
    return replace(loaded, ref=replace(loaded.ref, name=name))
