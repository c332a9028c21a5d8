"""Configuration as frozen dataclasses: paths and limits, generation, data.

Knows nothing of models, the store or the screen.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rgtg.errors import BadSettings

ROOT = Path(__file__).resolve().parent.parent
CHECKOUT = (ROOT / "app.py").is_file()  # else it is installed, and what ships lies in the package
DATA_DIR = ROOT / "data" if CHECKOUT else Path(__file__).resolve().parent / "data"
STARTER_DIR, PROMPTS_DIR, PRESETS_DIR = DATA_DIR / "starter", DATA_DIR / "prompts", DATA_DIR / "presets"
LOCAL_DIR = DATA_DIR / "local" if CHECKOUT else Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "rgtg"
SPACE_DIR = Path.home() / ".rgtg"  # on a Space: neither below the working directory nor temporary, both of which may be served
_REPOSITORY = r"[\w.-]{1,96}/[\w.-]{1,96}"  # of the Hub
MAX_COLUMNS = 6
COLUMN_NAMES = "ABCDEFGHIJKL"


def setting(default: float | int, help: str, low: float, high: float, unit: str = "") -> Any:
    return field(default=default, metadata={"help": help, "min": low, "max": high, "unit": unit})


def choice(default: str, help: str, choices: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


def other(default: bool | str, help: str) -> Any:
    """A flag, or a text that a person writes."""
    return field(default=default, metadata={"help": help})


def check(config: Any, without_effect: Mapping[str, str] | None = None) -> None:
    """Check the values of all fields. Raises BadSettings naming the field.

    `without_effect` maps fields that have no effect to the setting that would give them one; these must be at their default.
    """
    check_choices(config)
    check_ranges(config)
    for f in fields(config):
        needed, value = (without_effect or {}).get(f.name), getattr(config, f.name)
        if needed and value != f.default:
            raise BadSettings(f"`{f.name}` has no effect without {needed}.", f"Found {value!r}.", f"Leave it out, or choose {needed}.", f.name)


def check_choices(config: Any) -> None:
    """Check fields with `choices` in their metadata, flags and texts. Raises BadSettings naming the field."""
    for f in fields(config):
        value, choices = getattr(config, f.name), f.metadata.get("choices")
        if choices and value not in choices:
            raise BadSettings(f"`{f.name}` has to be one of {', '.join(choices)}.", f"Found `{value}`.", f"The default is {f.default}.", f.name)
        if isinstance(f.default, bool | str) and type(value) is not type(f.default):
            kind = "on or off" if isinstance(f.default, bool) else "text"
            raise BadSettings(f"`{f.name}` has to be {kind}.", f"Found {value!r}.", field=f.name)


def check_ranges(config: Any) -> None:
    """Check that fields with `min` and `max` in their metadata lie between them or in `also`. Raises BadSettings naming the field."""
    for f in fields(config):
        name, value = f.name, getattr(config, f.name)
        if "min" not in f.metadata or value in f.metadata.get("also", ()):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise BadSettings(f"`{name}` has to be a number.", f"Found {value!r}.", field=name)
        if isinstance(f.default, int) and not isinstance(value, int):
            raise BadSettings(f"`{name}` has to be a whole number.", f"Found {value!r}.", field=name)
        if not f.metadata["min"] <= value <= f.metadata["max"]:
            numbers: tuple[Any, ...] = (f.metadata["min"], f.metadata["max"], value, f.default)
            low, high, given, default = map(_in_digits, numbers)
            wrong, do = f"`{name}` has to be between {low} and {high}.", f"Choose a value in that range; the default is {default}."
            raise BadSettings(wrong, f"Found {given}.", do, name)


def _listed(text: str) -> tuple[str, ...]:
    """ "a, b" -> ("a", "b")."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _in_digits(number: float | int) -> str:
    """1000000 -> "1,000,000", 0.5 -> "0.5", 10**400 -> "a number of more than 15 digits"."""
    if isinstance(number, int):
        return f"{number:,}" if abs(number) < 10**15 else "a number of more than 15 digits"
    return f"{number:g}"


@dataclass(frozen=True)
class Settings:
    """Paths, device and mode of one installation."""

    data_dir: Path = LOCAL_DIR
    device: str = "auto"
    dtype: str = "float32"
    reward_dtype: str = ""  # of reward models, where it is another: int8, on a CPU
    tuned: bool = True  # whether a loaded model is tuned by measurements, which may change its last digits from process to process
    public: bool = False
    admins: tuple[str, ...] = ()  # accounts that may train and administer a public server, once signed in
    allowed_models: tuple[str, ...] = ()  # `owner/name@commit`, besides the starter models the only ones on a public server
    votes_dataset: str = ""  # `owner/name` of the private dataset that a public server copies its votes to
    secret: str = field(default="", repr=False)  # keys the hashes of raters and what is signed; "": a key of the database's own
    hosts: tuple[str, ...] = ()  # names by which a browser may ask for the app, besides loopback and the address it listens on
    space_hosts: tuple[str, ...] = ()  # on a Space, its own name
    memory_budget_gb: float = 4.0  # of one comparison, besides the models; on a laptop a person may go beyond after being asked
    time_budget_s: float = 120.0
    deadline_s: float = 60.0  # on a public server the longest that a comparison or a sweep runs

    @property
    def database(self) -> Path:
        return self.data_dir / "rgtg.db"

    @property
    def models_dir(self) -> Path:
        """Folder of the reward models trained here, as an absolute path."""
        return (self.data_dir / "models").absolute()

    @property
    def rewards_dir(self) -> Path:
        """Folder of the rewards made here, as an absolute path."""
        return (self.data_dir / "rewards").absolute()

    @property
    def added_models(self) -> Path:
        """JSON list of the models added by hand."""
        return self.data_dir / "added-models.json"

    @property
    def presets_dir(self) -> Path:
        """Folder of the line-ups saved here."""
        return self.data_dir / "presets"

    @classmethod
    def from_environment(cls, **changes: Any) -> "Settings":
        """RGTG_DATA_DIR, RGTG_PUBLIC (on a Space the default), RGTG_ADMINS, RGTG_MODELS, RGTG_VOTES_DATASET, RGTG_SECRET, RGTG_HOSTS,
        RGTG_MEMORY_BUDGET_GB, RGTG_TIME_BUDGET_S, RGTG_DEADLINE_S and a Space's SPACE_HOST, overridden by `changes` that are not None.
        Raises BadSettings."""
        values: dict[str, Any] = {
            "data_dir": Path(os.environ.get("RGTG_DATA_DIR") or (SPACE_DIR if os.environ.get("SPACE_ID") else cls.data_dir)),
            "public": (os.environ.get("RGTG_PUBLIC") or ("1" if os.environ.get("SPACE_ID") else "0")) != "0",
            "admins": _listed(os.environ.get("RGTG_ADMINS", "")),
            "allowed_models": tuple(map(_pinned, _listed(os.environ.get("RGTG_MODELS", "")))),
            "votes_dataset": _votes_dataset(os.environ.get("RGTG_VOTES_DATASET", "").strip()),
            "secret": os.environ.get("RGTG_SECRET", ""),
            "hosts": _listed(os.environ.get("RGTG_HOSTS", "")),
            "space_hosts": _listed(os.environ.get("SPACE_HOST", "")),
        }
        limits = ("memory_budget_gb", "time_budget_s", "deadline_s")
        values |= {name: _limit(f"RGTG_{name.upper()}") for name in limits if os.environ.get(f"RGTG_{name.upper()}")}
        return cls(**values | {k: v for k, v in changes.items() if v is not None})


def _pinned(model: str) -> str:
    """The model, if it names a commit: a branch or a tag may change after it was allowed. Raises BadSettings."""
    if not re.fullmatch(rf"{_REPOSITORY}@[0-9a-f]{{40}}", model):
        do = "The commit is on the model's page under Files, History: 40 digits from 0 to f."
        raise BadSettings("RGTG_MODELS has to name models as owner/name@commit, separated by commas.", f"Found `{model}`.", do)
    return model


def _votes_dataset(name: str) -> str:
    if name and not re.fullmatch(_REPOSITORY, name):
        raise BadSettings("RGTG_VOTES_DATASET has to be a dataset's id, owner/name.", f"Found `{name}`.", "The dataset is made if there is none.")
    return name


def _limit(name: str) -> float:
    """A limit from an environment variable: a number above 0, `inf` for none."""
    try:
        number = float(os.environ[name])
    except ValueError:
        number = 0.0
    if not number > 0:
        raise BadSettings(f"{name} has to be a number above 0.", f"Found `{os.environ[name]}`.", "`inf` is no limit.")
    return number


@dataclass(frozen=True)
class Limits:
    """Limits for an unknown model: while it is loaded for the first time, and while its chat template renders one prompt."""

    door_seconds: float = 20.0  # of processor time; three times as much by the clock
    door_memory_gb: float = 4.0  # besides the libraries
    render_seconds: float = 2.0
    render_memory_gb: float = 1.0

    @classmethod
    def from_environment(cls) -> "Limits":
        """RGTG_DOOR_SECONDS, RGTG_DOOR_MEMORY_GB, RGTG_RENDER_SECONDS, RGTG_RENDER_MEMORY_GB. Raises BadSettings."""
        return cls(**{f.name: _limit(name) for f in fields(cls) if os.environ.get(name := f"RGTG_{f.name.upper()}")})


@dataclass(frozen=True)
class GenerationConfig:
    """Settings shared by all columns of a comparison. `top_k` = 10 is the candidate set of ARGS and PARGS; `top_p` = 1 is off."""

    max_new_tokens: int = setting(24, "Longest answer, in tokens", 1, 1024)
    temperature: float = setting(1.0, "0 = always the highest score", 0.0, 5.0)
    top_k: int = setting(10, "Candidates at each step", 1, 200)
    top_p: float = setting(1.0, "Keep the most probable candidates up to this mass; 1 = off", 0.01, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)


# Earlier versions' names of training options, as stored jobs and cards have them, and those of transformers and trl.
NEW_NAMES = {
    "centring": "center_rewards_coefficient", "checkpointing": "gradient_checkpointing", "autocast": "bf16", "warmup": "warmup_ratio",
    "num_steps": "max_steps", "num_epochs": "num_train_epochs", "pairs_per_batch": "batch_size", "held_out": "eval_fraction",
    "unequal": "unequal_lengths", "lora_rank": "lora_r", "report_every": "logging_steps", "checkpoint_every": "save_steps",
}  # fmt: skip


def with_new_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a training as they were stored, under today's names.

    >>> with_new_names({"num_steps": 7, "seed": 1})
    {'max_steps': 7, 'seed': 1}
    """
    return {NEW_NAMES.get(name, name): value for name, value in options.items()}


def refuse_old_name(name: str, spelled: Callable[[str], str] = str) -> None:
    """Raise BadSettings where the option was renamed; `spelled` writes a name as the caller does, such as a flag."""
    if name in NEW_NAMES:
        new = NEW_NAMES[name]
        raise BadSettings(f"`{spelled(name)}` is now `{spelled(new)}`.", "", "Use the new name; the meaning is the same.", new)


@dataclass(frozen=True)
class DataConfig:
    """How preferences become token ids, and how many prompts are held out."""

    eval_fraction: float = setting(0.15, "Share of the prompts that is held out for evaluation", 0.0, 0.9)
    template: str = choice("plain", "Prompt template: the plain text, or the tokenizer's chat template", ("plain", "chat"))
    system_prompt: str = other("", "System prompt of the chat template")
    max_length: int = setting(1024, "Longest prompt and answer together, in tokens", 8, 131_072)
    over_long: str = choice("truncate", "Longer answers: truncate them or drop the pair", ("truncate", "drop"))
    columns: str = other("", "Column mapping, where the names are not recognised: prompt=…,a=…,b=…,winner=…")
    max_bad_rows: int = setting(0, "Unreadable rows to drop and count before the file is refused; 0 = none", 0, 1_000_000_000)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LMTrainingConfig:
    """Pretraining of the starter's language model: cross-entropy, Muon for the matrices inside the layers."""

    num_train_epochs: int = setting(4, "Epochs over the texts", 1, 1000)
    tokens_per_batch: int = setting(4096, "Tokens per step", 1, 1_000_000)
    learning_rate: float = setting(3e-3, "Peak learning rate of AdamW", 0.0, 1.0)
    muon: bool = other(True, "Muon for the matrices inside the layers")
    muon_learning_rate: float = setting(0.02, "Peak learning rate of Muon", 0.0, 1.0)
    weight_decay: float = setting(0.1, "Weight decay of Muon", 0.0, 1.0)
    warmup_ratio: float = setting(0.05, "Share of the steps in which the learning rate warms up", 0.0, 1.0)
    dropout: float = setting(0.1, "Dropout on the output of attention and MLP layers", 0.0, 0.9)
    bf16: bool = other(True, "Mixed precision in bfloat16, where the hardware supports it")
    seed: int = setting(0, "Random seed of the order of the texts and of dropout", 0, 2**31 - 1)
    logging_steps: int = setting(20, "Steps between two reports of progress", 1, 10_000)

    def __post_init__(self) -> None:
        check(self)
