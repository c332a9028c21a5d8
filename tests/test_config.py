"""Settings: ranges, messages, environment."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from rgtg.config import ROOT, GenerationConfig, LMTrainingConfig, Settings
from rgtg.errors import BadSettings
from rgtg.training.config import TrainingConfig, shared_fields

RANGED = [f for f in fields(GenerationConfig) if "min" in f.metadata]


def test_defaults_are_those_of_the_design():
    assert GenerationConfig() == GenerationConfig(max_new_tokens=24, temperature=1.0, top_k=10, top_p=1.0)
    assert Settings().database == ROOT / "data" / "local" / "rgtg.db"


def test_every_generation_setting_has_help_and_a_range_that_holds_its_default():
    assert [f.name for f in RANGED] == [f.name for f in fields(GenerationConfig)]
    for f in RANGED:
        assert f.metadata["help"] and f.metadata["min"] <= f.default <= f.metadata["max"]


def in_digits(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


@pytest.mark.parametrize("name", [f.name for f in RANGED])
def test_both_ends_of_a_range_are_allowed_and_what_lies_beyond_is_refused_by_name(name):
    low, high = (GenerationConfig.__dataclass_fields__[name].metadata[end] for end in ("min", "max"))
    assert getattr(GenerationConfig(**{name: low}), name) == low
    assert getattr(GenerationConfig(**{name: high}), name) == high
    for beyond in (low - 1, high + 1):
        with pytest.raises(BadSettings, match=f"`{name}` has to be between {in_digits(low)} and {in_digits(high)}. Found {in_digits(beyond)}."):
            GenerationConfig(**{name: beyond})


@pytest.mark.parametrize("value", [float("nan"), "1", None, True, [1]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(BadSettings, match="`temperature` has to be a number"):
        GenerationConfig(temperature=value)


@pytest.mark.parametrize("name", ["max_new_tokens", "top_k"])
def test_counts_are_whole_numbers(name):
    with pytest.raises(BadSettings, match=f"`{name}` has to be a whole number. Found 2.5."):
        GenerationConfig(**{name: 2.5})


def test_a_whole_number_serves_as_a_temperature():
    assert GenerationConfig(temperature=0).temperature == 0


def test_infinity_is_out_of_range():
    with pytest.raises(BadSettings, match="Found inf"):
        GenerationConfig(temperature=float("inf"))


def test_the_message_says_what_was_wrong_what_was_found_and_what_to_do():
    with pytest.raises(BadSettings) as caught:
        GenerationConfig(top_k=0)
    assert (caught.value.wrong, caught.value.found) == ("`top_k` has to be between 1 and 200.", "Found 0.")
    assert caught.value.do == "Choose a value in that range; the default is 10."


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        GenerationConfig().top_k = 3


def test_settings_come_from_the_environment_and_what_is_given_goes_before(monkeypatch, tmp_path):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RGTG_PUBLIC", "1")
    assert Settings.from_environment() == Settings(data_dir=tmp_path, public=True)
    assert Settings.from_environment(public=False, device="cpu", dtype=None) == Settings(data_dir=tmp_path, device="cpu")
    monkeypatch.setenv("RGTG_DATA_DIR", "")
    monkeypatch.setenv("RGTG_PUBLIC", "0")
    assert Settings.from_environment() == Settings()


def test_a_space_is_public_by_itself_and_its_settings_are_read(monkeypatch):
    commit = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("SPACE_ID", "ann/rgtg")
    monkeypatch.setenv("RGTG_ADMINS", "ann, bob")
    monkeypatch.setenv("RGTG_MODELS", f"ann/lm@{commit},ann/reward@{commit}")
    monkeypatch.setenv("RGTG_VOTES_DATASET", "ann/votes")
    monkeypatch.setenv("RGTG_SECRET", "hidden")
    settings = Settings.from_environment()
    assert settings.public and settings.admins == ("ann", "bob") and settings.votes_dataset == "ann/votes"
    assert settings.allowed_models == (f"ann/lm@{commit}", f"ann/reward@{commit}") and settings.secret == "hidden"
    assert "hidden" not in repr(settings)
    monkeypatch.setenv("RGTG_PUBLIC", "0")
    assert not Settings.from_environment().public


@pytest.mark.parametrize(
    ("name", "value"),
    [("RGTG_MODELS", "ann/lm"), ("RGTG_MODELS", "ann/lm@main"), ("RGTG_MODELS", "https://x.org/lm@" + "0" * 40), ("RGTG_VOTES_DATASET", "votes")],
)
def test_models_without_a_commit_and_what_is_no_repository_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=f"{name} has to"):
        Settings.from_environment()


@pytest.mark.parametrize(("name", "value"), [("objective", "dpo"), ("unequal_lengths", "fold")])
def test_training_refuses_what_it_does_not_know(name, value):
    with pytest.raises(BadSettings, match=f"`{name}` has to be .* Found `{value}`"):
        TrainingConfig.of({name: value})


@pytest.mark.parametrize("listed", [shared_fields(), fields(LMTrainingConfig)])
def test_every_training_setting_has_help_and_says_what_it_may_be(listed):
    for f in listed:
        known = f.metadata
        assert known["help"], f.name
        if isinstance(f.default, bool):
            continue
        if isinstance(f.default, str):
            assert f.name in ("system_prompt", "columns") or f.default in known["choices"], f.name
        else:
            assert known["min"] <= f.default <= known["max"], f.name


@pytest.mark.parametrize(("name", "value", "said"), [("lora", "yes", "on or off"), ("system_prompt", 3, "text"), ("stride", 0, "between 1 and 64")])
def test_training_refuses_values_that_cannot_be(name, value, said):
    with pytest.raises(BadSettings, match=f"`{name}` has to be {said}"):
        TrainingConfig.of({name: value})


def test_a_number_of_hundreds_of_digits_is_refused_in_few_words():
    with pytest.raises(BadSettings) as refused:
        TrainingConfig.of({"stride": 10**400})
    assert refused.value.found == "Found a number of more than 15 digits."


def test_on_a_space_data_lies_in_the_home_unless_it_is_named(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/rgtg")
    monkeypatch.delenv("RGTG_DATA_DIR", raising=False)
    assert Settings.from_environment().data_dir == Path.home() / ".rgtg" and Settings.from_environment().public
    monkeypatch.setenv("RGTG_DATA_DIR", "/somewhere")
    assert Settings.from_environment().data_dir == Path("/somewhere")
