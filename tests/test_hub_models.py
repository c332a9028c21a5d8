"""Models of the Hub, fetched from a stand-in that speaks its HTTP: what is refused before a weight comes, and what is loaded, at its commit."""

import json
import pickle
from pathlib import Path

import pytest
from model_hub import COMMIT, Repository, hub
from tiny_models import save_tiny, save_with_head
from transformers import AutoModelForSequenceClassification

from rgtg.cli.main import main
from rgtg.config import Settings
from rgtg.errors import ModelNotFound, ModelRefused, RgtgError
from rgtg.models.loading import load_causal_lm, resolve
from rgtg.workbench.library import Library, size

OTHER = "ab" * 20


@pytest.fixture(scope="module")
def lm(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("saved") / "lm")


@pytest.fixture
def server(tmp_path, monkeypatch):
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


class Harm:
    def __reduce__(self):
        return Path("/harm-done").touch, ()


def changed(lm: Path, **changes: object) -> Repository:
    """The base LM with these entries of its config.json changed."""
    repository = Repository.of(lm)
    repository.files["config.json"] = json.dumps(json.loads(repository.files["config.json"]) | changes).encode()
    return repository


def test_a_model_is_fetched_at_its_commit_with_what_is_needed_and_no_more(server, lm):
    files = Repository.of(lm).files | {
        "pytorch_model.bin": pickle.dumps(Harm()), "modeling_evil.py": b"raise SystemExit", "run.sh": b"x", "../../outside.json": b"{}",
        "sub/model.safetensors": b"x", "[a].json": b"{}", ".hidden.json": b"{}", "original/params.json": b"{}",
    }  # fmt: skip
    server.repositories["ann/tiny"] = Repository(files)
    found = load_causal_lm(f"ann/tiny@{COMMIT}", device="cpu")
    assert (found.ref.name, found.ref.revision) == (f"ann/tiny@{COMMIT}", COMMIT)
    assert set(server.fetched()) == {path.name for path in lm.iterdir()}
    assert all(COMMIT in one for one in server.asked), "every request names the commit"
    assert {path.name for path in found.folder.iterdir()} == {path.name for path in lm.iterdir()}


def refusals(lm: Path) -> dict[str, tuple[Repository, str]]:
    files, weights = Repository.of(lm).files, "model.safetensors"
    without = {name: content for name, content in files.items() if name != weights}
    return {
        "pickle only": (Repository(without | {"pytorch_model.bin": pickle.dumps(Harm())}), "Found pytorch_model.bin, which can hold code"),
        "safetensors in a folder": (Repository(without | {"sub/model.safetensors": files[weights]}), "no safetensors weights"),
        "auto_map": (changed(lm, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"}), "needs remote code"),
        "auto_map of a known family with its code": (
            Repository(changed(lm, auto_map={"AutoConfig": "ann/other--evil.Evil"}).files | {"evil.py": b"raise SystemExit"}), "needs remote code",
        ),
        "unknown family": (changed(lm, model_type="evil_of_its_own"), "does not know the family"),
        "no family": (changed(lm, model_type=None), "has no `model_type`"),
        "family that is a list": (changed(lm, model_type=["gpt2"]), "does not know the family"),
        "no config": (Repository({weights: files[weights]}), "no config.json"),
        "config that is no JSON": (Repository(files | {"config.json": b"\x80\x04."}), "config.json"),
        "config that is a list": (Repository(files | {"config.json": b"[]"}), "config.json"),
        "config that is deep": (Repository(files | {"config.json": b'{"a":' * 100_000}), "config.json"),
        "config that is huge": (Repository(files, sizes={"config.json": 10**10}), "too large"),
        "tokenizer that is huge": (Repository(files, sizes={"tokenizer.json": 10**12}), "too large"),
        "weights beyond the disk": (Repository(files, sizes={weights: 10**16}), "does not fit on the disk"),
        "weights beyond memory": (Repository(files, total=10**14), "does not fit into memory"),
        "files without end": (Repository(files | {f"a{number}.json": b"{}" for number in range(2_001)}), "too many files"),
        "an adapter": (Repository({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}), "holds an adapter"),
        "gated": (Repository(files, gated=True), "log in if it is gated"),
        "another commit": (Repository(files, commit=OTHER), "could not be downloaded"),
    }  # fmt: skip


def test_what_the_hub_lists_is_refused_before_any_weight_comes(server, lm):
    for number, (name, (repository, words)) in enumerate(refusals(lm).items()):
        server.repositories = {f"ann/model-{number}": repository}
        server.asked.clear()
        with pytest.raises((ModelNotFound, ModelRefused)) as refused:
            resolve(f"ann/model-{number}@{COMMIT}")
        assert words in str(refused.value), (name, str(refused.value))
        assert set(server.fetched()) <= {"config.json"}, name
    assert not Path("/harm-done").exists()


@pytest.mark.parametrize(
    "name",
    ["ann/none", "../..", "../../etc", "ann/../../etc/passwd", "http://127.0.0.1:9/x", "https://huggingface.co/ann/tiny", "ann/tiny@main",
     "ann/tiny@" + "g" * 40, "/etc", "//host/share", "ann/tiny?x=1", "ann/tiny#x", "datasets/ann/tiny", "ann\\tiny", "ann/tiny\0", "", "a" * 100_000],
)  # fmt: skip
def test_a_name_that_is_none_reaches_no_server(server, lm, name: str):
    server.repositories["ann/tiny"] = Repository.of(lm)
    with pytest.raises(RgtgError):
        resolve(name)
    assert not server.fetched() and (name == "ann/none" or not server.asked)


def test_a_reward_model_with_a_head_is_one(server, tmp_path):
    server.repositories["ann/reward"] = Repository.of(save_tiny(tmp_path / "rm", AutoModelForSequenceClassification))
    assert resolve("ann/reward")[1] == COMMIT


def test_allowed_models_are_there_at_their_commit_and_one_that_fails_is_named(server, lm, folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    reward = save_tiny(tmp_path / "rm", AutoModelForSequenceClassification)
    server.repositories = {"ann/lm": Repository.of(lm), "ann/rm": Repository.of(reward), "eve/evil": changed(lm, auto_map={"AutoConfig": "x.Y"})}
    allowed = tuple(f"{name}@{COMMIT}" for name in ("ann/lm", "eve/evil", "ann/none", "ann/rm")) + (f"ann/lm@{OTHER}",)
    library = Library(Settings(data_dir=tmp_path, public=True, device="cpu", allowed_models=allowed), [folders["lm"]])
    library.load_allowed()
    assert [(m.name, m.kind) for m in library.models()] == [("tiny", "base_lm"), ("ann/lm", "base_lm"), ("ann/rm", "reward_model")]
    assert {"ann/lm", "ann/rm"} <= {*library.in_memory()} and library.default_base_lm() == "tiny"
    assert library.base_lm("ann/lm").loaded.ref.revision == COMMIT and size(library.catalog.get("ann/lm"))
    wrong = {m.folder_or_id: m.wrong for m in library.unusable()}
    assert set(wrong) == {f"eve/evil@{COMMIT}", f"ann/none@{COMMIT}", f"ann/lm@{OTHER}"}
    assert "needs remote code" in wrong[f"eve/evil@{COMMIT}"] and not any(str(tmp_path) in reason for reason in wrong.values())


def test_models_that_are_allowed_on_a_server_are_not_fetched_on_a_laptop(server, folders, tmp_path):
    library = Library(Settings(data_dir=tmp_path, device="cpu", allowed_models=(f"ann/lm@{COMMIT}",)), [folders["lm"]])
    library.load_allowed()
    assert not server.asked


def test_the_terminal_takes_a_reward_model_and_a_judge_by_their_hub_id(server, lm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    server.repositories["ann/reward"] = Repository.of(save_with_head(lm, tmp_path / "reward"))
    assert main(["score", "--base-lm", str(lm), "--reward-model", "ann/reward", "--prompt", "ab", "--response", "cd"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rewards"]) == 2
    sweep = ["sweep", "--base-lm", str(lm), "--prompt", "ab", "--max-new-tokens", "3", "--out", str(tmp_path / "sweep")]
    assert main([*sweep, "--observe", "ann/reward", "--run", "pargs:beta=2,reward_model=ann/reward"]) == 0
    assert "| pargs · ann/reward · beta 2 | 1 |" in capsys.readouterr().out
    assert main([*sweep, "--observe", "ann/missing"]) == 2
    assert json.loads(capsys.readouterr().err)["error"] == "`ann/missing` could not be downloaded from the Hub."
