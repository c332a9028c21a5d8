"""Settings made once and passed down whole: where things are, how to generate, how to train.

Knows nothing of models, the store or the screen.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rgtg.errors import BadSettings

ROOT = Path(__file__).resolve().parent.parent
STARTER_DIR = ROOT / "data" / "starter"
PROMPTS_DIR = ROOT / "data" / "prompts"
MAX_COLUMNS = 4
COLUMN_NAMES = "ABCDEFGH"


def _setting(default: float | int, help: str, low: float, high: float):
    return field(default=default, metadata={"help": help, "min": low, "max": high})


def check_ranges(config) -> None:
    """Every field with `min` and `max` in its metadata has to lie between them, or be one of `also`; raises BadSettings naming the field."""
    for name, f in config.__dataclass_fields__.items():
        value = getattr(config, name)
        if "min" not in f.metadata or value in f.metadata.get("also", ()):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise BadSettings(f"`{name}` has to be a number.", f"Found {value!r}.")
        if isinstance(f.default, int) and not isinstance(value, int):
            raise BadSettings(f"`{name}` has to be a whole number.", f"Found {value!r}.")
        if not f.metadata["min"] <= value <= f.metadata["max"]:
            low, high, found, usual = map(_in_digits, (f.metadata["min"], f.metadata["max"], value, f.default))
            wrong, do = f"`{name}` has to be between {low} and {high}.", f"Choose a value in that range; the default is {usual}."
            raise BadSettings(wrong, f"Found {found}.", do)


def _in_digits(number: float | int) -> str:
    """1000000 -> "1,000,000", 0.5 -> "0.5"."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


@dataclass(frozen=True)
class Settings:
    """Paths, device and mode of one installation."""

    data_dir: Path = ROOT / "data" / "local"
    device: str = "auto"
    dtype: str = "float32"
    public: bool = False

    @property
    def database(self) -> Path:
        return self.data_dir / "rgtg.db"

    @property
    def models_dir(self) -> Path:
        """Of the reward models that were trained here; a whole path."""
        return (self.data_dir / "models").absolute()

    @property
    def added_models(self) -> Path:
        """Which models were added by hand: JSON."""
        return self.data_dir / "added-models.json"

    @classmethod
    def from_environment(cls, **changes) -> "Settings":
        """RGTG_DATA_DIR and RGTG_PUBLIC, overridden by `changes` that are not None."""
        found = {"data_dir": Path(os.environ.get("RGTG_DATA_DIR") or cls.data_dir), "public": os.environ.get("RGTG_PUBLIC", "") not in ("", "0")}
        return cls(**found | {k: v for k, v in changes.items() if v is not None})


@dataclass(frozen=True)
class GenerationConfig:
    """What all columns of one comparison share. `top_k` = 10 is the candidate set of ARGS and PARGS; `top_p` 1 = off."""

    max_new_tokens: int = _setting(24, "Longest answer, in tokens", 1, 1024)
    temperature: float = _setting(1.0, "0 = always the highest score", 0.0, 5.0)
    top_k: int = _setting(10, "Candidates at each step", 1, 200)
    top_p: float = _setting(1.0, "Keep the most probable candidates up to this mass; 1 = off", 0.01, 1.0)

    def __post_init__(self):
        check_ranges(self)


SCALAR = ("partial", "full", "regression", "bce")  # objectives of a scalar head
CAUSAL = ("vocabulary", "autoregressive", "implicit")  # objectives of a causal model, which says the reward of every next token
OBJECTIVES = ("partial", "full", *CAUSAL, "regression", "bce")


def _choice(default: str, help: str, choices: tuple[str, ...]):
    return field(default=default, metadata={"help": help, "choices": choices})


def _other(default: bool | str, help: str):
    return field(default=default, metadata={"help": help})


def check_choices(config) -> None:
    """Every field with `choices` in its metadata has to be one of them, a switch on or off, a text a text; raises BadSettings."""
    for name, f in config.__dataclass_fields__.items():
        value, choices = getattr(config, name), f.metadata.get("choices")
        if choices and value not in choices:
            raise BadSettings(f"`{name}` has to be one of {', '.join(choices)}.", f"Found `{value}`.", f"The default is {f.default}.")
        if isinstance(f.default, bool | str) and type(value) is not type(f.default):
            raise BadSettings(f"`{name}` has to be {'on or off' if isinstance(f.default, bool) else 'text'}.", f"Found {value!r}.")


@dataclass(frozen=True)
class TrainingConfig:
    """How a reward model is taught preferences. A 0 in steps, batch or learning rate stands for: by the number of pairs
    (and of weights), see `training.reward_trainer.schedule`."""

    objective: str = _choice("partial", "What is taught: partial is PARGS, vocabulary FaRMA, autoregressive GenARM", OBJECTIVES)
    num_steps: int = _setting(0, "Steps of the optimizer; 0 = by the number of pairs", 0, 1_000_000)
    pairs_per_batch: int = _setting(0, "Pairs a step; 0 = by the number of pairs", 0, 4096)
    learning_rate: float = _setting(0.0, "Highest learning rate; 0 = by the size of the model", 0.0, 1.0)
    held_out: float = _setting(0.15, "Share of the prompts that is kept out to measure on", 0.0, 0.9)

    unequal: str = _choice("hold", "Where an answer is over: it keeps its reward, goes on with end tokens, or is left out", ("hold", "pad", "drop"))
    weights: str = _choice("uniform", "Weight of each prefix length", ("uniform", "linear", "last-heavy"))
    stride: int = _setting(1, "Every how many tokens a prefix is taught", 1, 64)
    mark_weight: float = _setting(3.0, "How much more a prefix counts under a mark that agrees with the vote", 1.0, 100.0)
    margin: float = _setting(1.0, "Factor on the margin that a strong vote asks for; 0 = none", 0.0, 10.0)
    label_smoothing: float = _setting(0.0, "Share of the votes taken for mistakes", 0.0, 0.49)
    # 0: at 0.01 it pressed all good prefixes to one value and weakened guidance (92 % to 84 % judged positive at beta 2)
    centring: float = _setting(0.0, "Pull of the two rewards of a pair towards opposite numbers", 0.0, 10.0)
    beta: float = _setting(0.1, "Factor on log probabilities: autoregressive and implicit", 0.001, 10.0)
    implicit: str = _choice("dpo", "Loss of the implicit reward: on pairs, or on single answers", ("dpo", "ce"))
    compare: str = _choice("complete", "Vocabulary: complete answers, as in FaRMA, or every prefix length, as in PARGS", ("complete", "prefixes"))
    constraint: str = _choice("alternate", "Vocabulary: pairs and values in turn, step by step, or as a sum", ("alternate", "sum"))
    constraint_weight: float = _setting(1.0, "Weight of the value constraint in the sum; 0 = none", 0.0, 100.0)
    constraint_on: str = _choice("chosen", "Vocabulary: whose prefixes get values, as in FaRMA's code, or of both answers", ("chosen", "both"))
    tau: float = _setting(0.0, "Temperature of the soft value; 0 = the maximum, as in FaRMA", 0.0, 100.0)

    template: str = _choice("plain", "How a prompt becomes text: as it is, or in the tokenizer's chat template", ("plain", "chat"))
    system_prompt: str = _other("", "System prompt of the chat template")
    max_length: int = _setting(1024, "Longest prompt and answer together, in tokens", 8, 131_072)
    over_long: str = _choice("truncate", "What becomes of longer answers", ("truncate", "drop"))

    weight_decay: float = _setting(0.0, "Weight decay of AdamW", 0.0, 1.0)
    warmup: float = _setting(0.05, "Share of the steps in which the learning rate rises", 0.0, 1.0)
    # 0.3: on 26 pairs it agreed with 300 fresh votes for short answers in 85 of 100 cases, 0.1 in 77; with other tastes alike
    dropout: float = _setting(0.3, "Share of what layers add that is dropped", 0.0, 0.9)
    autocast: bool = _other(True, "Multiply in bfloat16, where the hardware can")
    lora: bool = _other(False, "Train small matrices beside the weights (LoRA)")
    lora_rank: int = _setting(8, "Rank of these matrices", 1, 512)
    checkpointing: bool = _other(False, "Compute activations twice to save memory")
    seed: int = _setting(0, "Order of the pairs, dropout", 0, 2**31 - 1)
    report_every: int = _setting(5, "Steps between two lines of progress", 1, 10_000)
    checkpoint_every: int = _setting(0, "Steps between two checkpoints; 0 = one a minute", 0, 1_000_000)

    def __post_init__(self):
        check_choices(self)
        check_ranges(self)


@dataclass(frozen=True)
class LMTrainingConfig:
    """How the starter's language model is trained, on texts: cross-entropy, Muon for the matrices inside the layers."""

    num_epochs: int = _setting(4, "Passes over the texts", 1, 1000)
    tokens_per_batch: int = _setting(4096, "Tokens a step", 1, 1_000_000)
    learning_rate: float = _setting(3e-3, "Highest learning rate of AdamW", 0.0, 1.0)
    muon: bool = _other(True, "Muon for the matrices inside the layers")
    muon_learning_rate: float = _setting(0.02, "Highest learning rate of Muon", 0.0, 1.0)
    weight_decay: float = _setting(0.1, "Weight decay of Muon", 0.0, 1.0)
    warmup: float = _setting(0.05, "Share of the steps in which the learning rate rises", 0.0, 1.0)
    dropout: float = _setting(0.1, "Share of what layers add that is dropped", 0.0, 0.9)
    autocast: bool = _other(True, "Multiply in bfloat16, where the hardware can")
    seed: int = _setting(0, "Order of the texts, dropout", 0, 2**31 - 1)
    report_every: int = _setting(20, "Steps between two lines of progress", 1, 10_000)

    def __post_init__(self):
        check_choices(self)
        check_ranges(self)
