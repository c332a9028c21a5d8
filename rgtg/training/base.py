"""What every objective is, and the options that several of them have.

Knows no objective by name, and loads torch only once a loss or a reward is asked for, so that a form and a command line can list the
options at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check, choice, refuse_old_name, setting
from rgtg.errors import BadSettings

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.preferences.batches import PairBatch, TextBatch

    Forward = Callable[[Tensor], Tensor]  # ids (rows, length) -> rewards (rows, length), or logits (rows, length, vocabulary)


@dataclass(frozen=True)
class Objective:
    """What every objective is. Its fields are its options; the first line of its docstring is its help on screen.

    `scalar` says whether it trains a scalar head (else a causal LM), `kind` how its reward model is loaded (a key of
    `rewards.kinds.KINDS`), `sums` whether `token_rewards` are shares that add up to the reward of a prefix, `is_ratio` whether the
    reward is one to a reference, and `reads` which of its options are needed to read a trained model.
    """

    key: ClassVar[str]
    paper: ClassVar[str] = ""  # under what name it is known
    scalar: ClassVar[bool] = True
    kind: ClassVar[str] = "scalar"
    sums: ClassVar[bool] = False
    is_ratio: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    on_texts: ClassVar[str] = ""  # how it is chosen for labelled texts; "" where it needs pairs

    def __new__(cls, *values: Any, **options: Any) -> "Objective":
        names = [f.name for f in fields(cls)]
        if unknown := [name for name in options if name not in names]:
            for name in unknown:
                refuse_old_name(name)
            lacks = f"`{cls.key}` has no option {', '.join(f'`{name}`' for name in unknown)}."
            raise BadSettings(lacks, f"It has: {', '.join(names) or 'none'}.", "Leave it out, or choose another objective.")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check(self, self.without_effect())

    def without_effect(self) -> dict[str, str]:
        """Options that the others leave without effect, each with what would give it one."""
        return {}

    @property
    def options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def vote_weights(self) -> dict[str, float]:
        """What of its options weighs the margin and the marks of a pair, for `preferences.dataset.prepare`."""
        return {name: value for name, value in self.options.items() if name in ("margin", "mark_weight")}

    @property
    def takes_texts(self) -> bool:
        """Whether single answers with a label are trained on; a pair is two of them then."""
        return False

    @property
    def pads(self) -> bool:
        """Whether the shorter response of a pair goes on with end tokens."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the loss asks a frozen copy of the model as it is at the start."""
        return self.is_ratio

    @property
    def log_odds(self) -> float | None:
        """What a difference of two rewards is to be multiplied by for the log-odds of the preference, as the loss has it; None where
        rewards are none."""
        return 1.0

    @property
    def where(self) -> str:
        """What of a response is trained on, for the card."""
        return "at every prefix length"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        """The part of these pairs in the mean over pairs of weight `total`; `step` is the number of steps before."""
        raise NotImplementedError(f"`{self.key}` is not trained on pairs")

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        """The part of these texts in the mean over texts of weight `total`."""
        raise NotImplementedError(f"`{self.key}` is not trained on texts")

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        """(rows, length): the reward of each prefix, or with `sums` each token's share of it."""
        return forward(ids)


# --- options that several have ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnPairs:
    """Options of the Bradley–Terry loss."""

    margin: float = setting(1.0, "Factor on the margin of strong votes; 0 = no margin", 0.0, 10.0)
    label_smoothing: float = setting(0.0, "Label smoothing: assumed share of wrong votes", 0.0, 0.49)


@dataclass(frozen=True)
class OnPrefixes(OnPairs):
    """Options of the Bradley–Terry loss at every prefix length."""

    unequal_lengths: str = choice(
        "hold", "Beyond the end of the shorter answer: hold its last reward, pad with end tokens, or drop", ("hold", "pad", "drop")
    )
    weights: str = choice("uniform", "Weight of each prefix length", ("uniform", "linear", "last-heavy"))
    stride: int = setting(1, "Train on every n-th prefix length only", 1, 64)
    mark_weight: float = setting(3.0, "Factor on prefixes under a mark that agrees with the vote", 1.0, 100.0)

    @property
    def pads(self) -> bool:
        return self.unequal_lengths == "pad"

    def loss_at_every_prefix(self, chosen: "Tensor", rejected: "Tensor", batch: "PairBatch", total: float) -> "Tensor":
        from rgtg.training import losses

        return losses.partial_bradley_terry(
            chosen, rejected, batch.chosen_lengths, batch.rejected_lengths, batch.num_common, batch.margins,
            self.unequal_lengths, self.weights, self.stride, self.label_smoothing, batch.marks, batch.weights, total,
        )  # fmt: skip


@dataclass(frozen=True)
class RewardCentering:
    """Option of a scalar head that is trained on pairs."""

    # 0: at 0.01 it pressed all good prefixes to one value and weakened guidance (92 % to 84 % judged positive at beta 2)
    center_rewards_coefficient: float = setting(0.0, "Reward centering: weight of (r_chosen + r_rejected)²", 0.0, 10.0)


@dataclass(frozen=True)
class OnTexts(Objective):
    """What a scalar head on labelled texts is."""

    @property
    def takes_texts(self) -> bool:
        return True


@dataclass(frozen=True)
class ByLogProbs(OnPairs, Objective):
    """What a causal LM is whose rewards are sums of log probabilities."""

    scalar: ClassVar[bool] = False
    sums: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = setting(0.1, "Factor on log probabilities, as in DPO", 0.001, 10.0)
