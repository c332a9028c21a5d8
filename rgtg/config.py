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
    """Every field with `min` and `max` in its metadata has to lie between them; raises BadSettings naming the field."""
    for name, f in config.__dataclass_fields__.items():
        value = getattr(config, name)
        if "min" not in f.metadata:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise BadSettings(f"`{name}` has to be a number.", f"Found {value!r}.")
        if isinstance(f.default, int) and not isinstance(value, int):
            raise BadSettings(f"`{name}` has to be a whole number.", f"Found {value!r}.")
        if not f.metadata["min"] <= value <= f.metadata["max"]:
            wrong = f"`{name}` has to be between {f.metadata['min']:g} and {f.metadata['max']:g}."
            raise BadSettings(wrong, f"Found {value:g}.", f"Choose a value in that range; the default is {f.default:g}.")


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


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. `objective` is for reward models; the language model's loss is cross-entropy."""

    objective: str = "partial"
    unequal: str = "hold"
    centring: float = 0.01
    num_steps: int = 600
    pairs_per_batch: int = 64
    num_epochs: int = 4
    tokens_per_batch: int = 4096
    learning_rate: float = 1e-3
    muon: bool = False
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.1
    warmup: float = 0.05
    dropout: float = 0.1
    autocast: bool = True
    seed: int = 0
    report_every: int = 20

    def __post_init__(self):
        if self.objective not in ("partial", "full"):
            raise BadSettings("`objective` has to be `partial` or `full`.", f"Found `{self.objective}`.")
        if self.unequal not in ("hold", "drop"):
            raise BadSettings("`unequal` has to be `hold` or `drop`.", f"Found `{self.unequal}`.")
