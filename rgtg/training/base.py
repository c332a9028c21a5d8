"""The base class of training objectives, and options that several of them share.

Knows no objective by name, and imports torch only to compute a loss or a reward, so that a form and a command line can list the
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
    """Base class of an objective. Its fields are its options; the first line of its docstring is its help on screen.

    `scalar` is whether it trains a scalar head (else a causal LM), `kind` how its reward model is loaded (a key of
    `rewards.kinds.KINDS`), `frozen` whether that head alone is trained, on the states of a base LM that stays as it is, `sums` whether
    `token_rewards` add up to the reward of a prefix, `is_ratio` whether the reward is a log-ratio to a reference model, and `reads` which of its
    options are needed to compute rewards with a trained model.
    """

    key: ClassVar[str]
    paper: ClassVar[str] = ""  # the method's name in the literature
    scalar: ClassVar[bool] = True
    kind: ClassVar[str] = "scalar"
    frozen: ClassVar[bool] = False
    sums: ClassVar[bool] = False
    is_ratio: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    on_texts: ClassVar[str] = ""  # how to choose it for labelled texts; "" where it needs pairs
    takes_scores: ClassVar[bool] = False  # whether scored answers are texts with a score, of any size; else they are compared

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
        """Options that the other options disable, each with the setting that would enable it."""
        return {}

    @property
    def options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def vote_weights(self) -> dict[str, float]:
        """Its weights of the margin and the marks of a pair, for `preferences.dataset.prepare`."""
        return {name: value for name, value in self.options.items() if name in ("margin", "mark_weight")}

    @property
    def takes_texts(self) -> bool:
        """Whether it trains on single answers with a label; a pair then counts as two of them."""
        return False

    @property
    def pads(self) -> bool:
        """Whether the shorter response of a pair is padded with end tokens."""
        return False

    @property
    def needs_prefix_labels(self) -> bool:
        """Whether every prefix of a pair has to have a label of its own, beside that of the pair."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the loss needs a frozen copy of the initial model."""
        return self.is_ratio

    @property
    def log_odds(self) -> float | None:
        """Factor from a difference of two rewards to the log-odds of the preference, as in the loss; None where the loss has no
        such reading."""
        return 1.0

    @property
    def where(self) -> str:
        """The part of a response that is trained on, for the card."""
        return "at every prefix length"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        """Weighted sum of the losses of these pairs, divided by `total`; `step` counts from 0. A scalar."""
        raise NotImplementedError(f"`{self.key}` is not trained on pairs")

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        """Weighted sum of the losses of these texts, divided by `total`. A scalar."""
        raise NotImplementedError(f"`{self.key}` is not trained on texts")

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        """The reward of each prefix, or with `sums` each token's part of it: (rows, length)."""
        return forward(ids)


# --- shared options ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnPairs:
    """Options of the Bradley–Terry loss."""

    margin: float = setting(1.0, "Factor on the margin of strong votes; 0 = no margin", 0.0, 10.0)
    label_smoothing: float = setting(0.0, "Label smoothing: assumed share of wrong votes", 0.0, 0.49)

    def smoothing(self, batch: "PairBatch") -> "Tensor":
        """Probability that the label of each pair is wrong, (pairs,): by the pair's own and by the option's, which are independent."""
        return batch.smoothings + self.label_smoothing - 2 * batch.smoothings * self.label_smoothing


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

    def labels_of(self, batch: "PairBatch", num_positions: int) -> "Tensor | None":
        """The label of each prefix, as `losses.partial_bradley_terry` takes it; None for that of the pair."""
        return None

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        return self.loss_at_every_prefix(*losses.response_rewards(forward(batch.ids), batch.prompt_lengths), batch, total)

    def loss_at_every_prefix(self, chosen: "Tensor", rejected: "Tensor", batch: "PairBatch", total: float) -> "Tensor":
        from rgtg.training import losses

        return losses.partial_bradley_terry(
            chosen, rejected, batch.chosen_lengths, batch.rejected_lengths, batch.num_common, batch.margins,
            self.unequal_lengths, self.weights, self.stride, self.smoothing(batch), batch.marks, batch.weights, total,
            self.labels_of(batch, chosen.shape[1]),
        )  # fmt: skip


@dataclass(frozen=True)
class RewardCentering:
    """Option of a scalar head that is trained on pairs."""

    # 0: at 0.01 it pressed all good prefixes to one value and weakened guidance (92 % to 84 % judged positive at beta 2)
    center_rewards_coefficient: float = setting(0.0, "Reward centering: weight of (r_chosen + r_rejected)²", 0.0, 10.0)


@dataclass(frozen=True)
class OnTexts(Objective):
    """Base class of a scalar head that is trained on labelled texts."""

    @property
    def takes_texts(self) -> bool:
        return True


@dataclass(frozen=True)
class ByLogProbs(OnPairs, Objective):
    """Base class of a causal LM whose rewards are sums of log probabilities."""

    scalar: ClassVar[bool] = False
    sums: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = setting(0.1, "Factor on log probabilities, as in DPO", 0.001, 10.0)
