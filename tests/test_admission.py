"""The door before the door: what never ends or grows beyond measure is refused in words, in a child process; what ships is not tried."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_models import byte_tokenizer, save_tiny

from rgtg.config import ROOT
from rgtg.errors import BadSettings, LimitPassed, ModelRefused
from rgtg.models import loading
from rgtg.models.admission import admit as admission
from rgtg.models.admission import trial
from rgtg.models.weights import check_counts
from rgtg.prompts import encode_prompt

LOOPS = "{% for a in range(10**5) %}{% for b in range(10**5) %}x{% endfor %}{% endfor %}"
MACRO = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
BOMB = "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}"
GOOD = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("admission") / "lm")


@pytest.fixture
def lm(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "lm")


def edit(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("template", "how", "seconds"), [(LOOPS, "takes too long", "0.2"), pytest.param(BOMB, "needs too much memory", "20", marks=pytest.mark.slow)]
)
def test_a_template_that_never_ends_or_grows_is_ended_when_it_writes_a_prompt(template, how, seconds, monkeypatch):
    monkeypatch.setenv("RGTG_RENDER_SECONDS", seconds)
    monkeypatch.setenv("RGTG_RENDER_MEMORY_GB", "0.2")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(BadSettings, match=f"The chat template of this tokenizer {how}"):
        encode_prompt(tokenizer, "ab", "chat")


def test_the_folders_that_ship_are_known_and_asked_of_nobody(monkeypatch):
    monkeypatch.setattr(admission, "ask", lambda *_, **__: pytest.fail("a child was asked"))
    folders = [path.parent for path in sorted((ROOT / "data" / "starter").glob("*/config.json"))]
    assert len(folders) == 9
    for folder in folders:
        admission.admit(folder.name, folder)


def test_what_passed_is_not_tried_again_until_what_decides_changes(lm, monkeypatch):
    asked = []
    monkeypatch.setattr(admission, "ask", lambda function, folder, *_, **__: asked.append(folder))
    admission.admit("lm", lm)
    (lm / "card.json").write_text("{}")
    admission.admit("lm", lm)
    assert asked == [str(lm)]
    (lm / "chat_template.jinja").write_text(GOOD)
    admission.admit("lm", lm)
    assert asked == [str(lm)] * 2


def test_a_step_that_passes_a_limit_is_named_in_the_refusal(lm, monkeypatch):
    def ask(*_: object, **__: object) -> None:
        raise LimitPassed("its chat template", "takes too long", "It was ended after 20 seconds.")

    monkeypatch.setattr(admission, "ask", ask)
    monkeypatch.setattr(loading, "admit", admission.admit)
    with pytest.raises(ModelRefused, match="`lm` could not be loaded: its chat template takes too long. It was ended after 20 seconds") as raised:
        loading.load_causal_lm(str(edit(lm, extra=1)), device="cpu")
    assert "RGTG_DOOR_SECONDS" in raised.value.do


def test_files_that_are_too_large_or_none_are_refused(lm, monkeypatch):
    monkeypatch.setattr(admission, "MAX_BYTES", 5)
    with pytest.raises(ModelRefused, match=r"`config.json` has 0 MB; the maximum is 0 MB"):
        admission.admit("lm", lm)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_hidden_layers", 0, "`num_hidden_layers` is 0"),
        ("hidden_size", -32, "`hidden_size` is -32"),
        ("vocab_size", 99.0, "`vocab_size` is 99.0"),
        ("num_attention_heads", "4", "`num_attention_heads` is '4'"),
        ("max_position_embeddings", True, "`max_position_embeddings` is True"),
        ("max_position_embeddings", 10**9, "is 1,000,000,000; no model reads more than 100,000,000 tokens"),
        ("n_positions", 10**400, "is a number of more than 18 digits"),
        ("text_config", {"num_hidden_layers": -1}, "`num_hidden_layers` is -1"),
    ],
)
def test_a_size_that_is_none_is_refused_by_its_name(key, value, said):
    with pytest.raises(ModelRefused, match=f"its config cannot be read. .*{said}"):
        check_counts("lm", {key: value})


def test_numbers_far_beyond_the_checkpoint_and_huge_tables_are_refused(lm):
    with torch.device("meta"):
        wide, tables = torch.nn.Linear(10_000, 10_000), torch.nn.Linear(2, 2)
        tables.register_buffer("mask", torch.empty(30_000, 30_000, dtype=torch.bool), persistent=False)
    with pytest.raises(ModelRefused, match=r"asks for 100,010,000 numbers, `weight` \(10000, 10000\) among them; the weights hold"):
        trial.check_numbers("lm", wide, lm, False)
    with pytest.raises(ModelRefused, match=r"`mask` would be \(30000, 30000\), and all buffers together 0.9 GB"):
        trial.check_numbers("lm", tables, lm, False)
    trial.check_numbers("lm", torch.nn.Linear(10, 10), lm, False)


@pytest.mark.slow  # each child that is ended has to load the libraries anew
@pytest.mark.parametrize(
    ("template", "said", "seconds"), [(LOOPS, "takes too long", "4"), (MACRO, "takes too long", "4"), (BOMB, "needs too much memory", "60")]
)
def test_a_hostile_template_is_refused_at_the_door_and_another_model_loads_meanwhile(lm, saved, tmp_path, monkeypatch, template, said, seconds):
    monkeypatch.setenv("RGTG_DOOR_SECONDS", seconds)
    monkeypatch.setenv("RGTG_DOOR_MEMORY_GB", "1")
    monkeypatch.setattr(loading, "admit", admission.admit)
    (lm / "chat_template.jinja").write_text(template)
    with ThreadPoolExecutor() as threads:
        hostile = threads.submit(loading.load_causal_lm, str(lm), device="cpu")
        assert loading.load_causal_lm(str(saved), device="cpu").vocabulary_size == 99
        with pytest.raises(ModelRefused, match=f"`lm` could not be loaded: its chat template {said}"):
            hostile.result(240)
