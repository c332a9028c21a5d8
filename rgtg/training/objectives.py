"""What a reward model can be trained for: one class an objective, with its options, its loss, and how its rewards are read.

An objective says what it needs of a model; `Criterion` (`criterion.py`) brings model and data. Knows nothing of optimizers, files or
processes, and loads torch only once a loss or a reward is asked for, so that a form and a command line can list the options at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check, choice, setting
from rgtg.errors import BadSettings

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.preferences.batches import PairBatch, TextBatch

    Forward = Callable[[Tensor], Tensor]  # ids (rows, length) -> rewards (rows, length), or logits (rows, length, vocabulary)

AT_EVERY_PREFIX, AT_THE_END = "at every prefix length", "at the end only"


@dataclass(frozen=True)
class Objective:
    """What every objective is. Its fields are its options; the first line of its docstring is its help on screen.

    `scalar` says whether it trains a scalar head (else a causal LM), `kind` how its reward model is loaded (a key of
    `rewards.cards.KINDS`), `sums` whether `token_rewards` are shares that add up to the reward of a prefix, `is_ratio` whether the
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
        return AT_EVERY_PREFIX

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

    margin: float = setting(1.0, "Factor on the margin that a strong vote asks for; 0 = none", 0.0, 10.0)
    label_smoothing: float = setting(0.0, "Share of the votes taken for mistakes", 0.0, 0.49)


@dataclass(frozen=True)
class OnPrefixes(OnPairs):
    """Options of the Bradley–Terry loss at every prefix length."""

    unequal: str = choice("hold", "Where an answer is over: it keeps its reward, goes on with end tokens, or is left out", ("hold", "pad", "drop"))
    weights: str = choice("uniform", "Weight of each prefix length", ("uniform", "linear", "last-heavy"))
    stride: int = setting(1, "Every how many tokens a prefix is trained on", 1, 64)
    mark_weight: float = setting(3.0, "How much more a prefix counts under a mark that agrees with the vote", 1.0, 100.0)

    @property
    def pads(self) -> bool:
        return self.unequal == "pad"

    def loss_at_every_prefix(self, chosen: "Tensor", rejected: "Tensor", batch: "PairBatch", total: float) -> "Tensor":
        from rgtg.training import losses

        return losses.partial_bradley_terry(
            chosen, rejected, batch.chosen_lengths, batch.rejected_lengths, batch.num_common, batch.margins,
            self.unequal, self.weights, self.stride, self.label_smoothing, batch.marks, batch.weights, total,
        )  # fmt: skip


@dataclass(frozen=True)
class Centred:
    """The option of a scalar head on pairs."""

    # 0: at 0.01 it pressed all good prefixes to one value and weakened guidance (92 % to 84 % judged positive at beta 2)
    centring: float = setting(0.0, "Pull of the two rewards of a pair towards opposite numbers", 0.0, 10.0)


# --- a scalar head ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Partial(Centred, OnPrefixes, Objective):
    """A scalar head, pairs compared at every prefix length (PARGS, arXiv 2406.07780)."""

    key: ClassVar[str] = "partial"
    paper: ClassVar[str] = "PARGS"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        chosen, rejected = losses.response_rewards(forward(batch.ids), batch.prompt_lengths)
        sides = chosen, rejected, batch.chosen_lengths, batch.rejected_lengths
        centring = losses.centring(*sides, sample_weights=batch.weights, total=total)
        return self.loss_at_every_prefix(chosen, rejected, batch, total) + self.centring * centring


@dataclass(frozen=True)
class Full(Centred, OnPairs, Objective):
    """A scalar head, pairs compared as complete responses (ARGS, arXiv 2402.01694)."""

    key: ClassVar[str] = "full"
    paper: ClassVar[str] = "ARGS"

    @property
    def where(self) -> str:
        return AT_THE_END

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        sides = *losses.response_rewards(forward(batch.ids), batch.prompt_lengths), batch.chosen_lengths, batch.rejected_lengths
        loss = losses.full_bradley_terry(*sides, batch.margins, self.label_smoothing, batch.weights, total)
        return loss + self.centring * losses.centring(*sides, only_last=True, sample_weights=batch.weights, total=total)


@dataclass(frozen=True)
class OnTexts(Objective):
    """What a scalar head on labelled texts is."""

    @property
    def takes_texts(self) -> bool:
        return True


@dataclass(frozen=True)
class Regression(OnTexts):
    """A scalar head, the reward of every prefix is the label of its text (RAD, arXiv 2310.09520)."""

    key: ClassVar[str] = "regression"
    paper: ClassVar[str] = "RAD"
    on_texts: ClassVar[str] = f"`{key}`"

    @property
    def log_odds(self) -> None:
        return None

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        rewards = losses.responses_of(forward(batch.ids), batch.prompt_lengths)
        return losses.prefix_regression(rewards, batch.lengths, batch.labels, batch.weights, total)


@dataclass(frozen=True)
class BCE(OnTexts):
    """A scalar head, the reward of every prefix is the log-odds of its text's label (FUDGE, arXiv 2104.05218)."""

    key: ClassVar[str] = "bce"
    paper: ClassVar[str] = "FUDGE"
    on_texts: ClassVar[str] = f"`{key}`"

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        rewards = losses.responses_of(forward(batch.ids), batch.prompt_lengths)
        return losses.prefix_cross_entropy(rewards, batch.lengths, batch.labels, batch.weights, total)


# --- a causal model, which says the reward of every next token --------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary(OnPrefixes, Objective):
    """A causal LM whose logits are the rewards of all next tokens (FaRMA, arXiv 2502.04517)."""

    key: ClassVar[str] = "vocabulary"
    paper: ClassVar[str] = "FaRMA"
    scalar: ClassVar[bool] = False
    kind: ClassVar[str] = "vocabulary"

    compare: str = choice("complete", "Complete answers, as in FaRMA, or every prefix length, as in PARGS", ("complete", "prefixes"))
    constraint: str = choice("alternate", "Pairs and values in turn, step by step, or as a sum", ("alternate", "sum"))
    constraint_weight: float = setting(1.0, "Weight of the value constraint in the sum; 0 = none", 0.0, 100.0)
    constraint_on: str = choice("chosen", "Whose prefixes get values, as in FaRMA's code, or of both answers", ("chosen", "both"))
    tau: float = setting(0.0, "Temperature of the soft value; 0 = the maximum, as in FaRMA", 0.0, 100.0)

    def without_effect(self) -> dict[str, str]:
        idle = {} if self.compare == "prefixes" else dict.fromkeys(("unequal", "weights", "stride", "mark_weight"), "compare=prefixes")
        idle |= {} if self.constraint == "sum" else {"constraint_weight": "constraint=sum"}
        if self.constraint == "sum" and self.constraint_weight == 0:
            idle |= dict.fromkeys(("constraint_on", "tau"), "a constraint_weight above 0")
        return idle

    @property
    def needs_reference(self) -> bool:
        return self.tau > 0

    @property
    def where(self) -> str:
        return f"{AT_EVERY_PREFIX if self.compare == 'prefixes' else AT_THE_END}, as values of all next tokens"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        """Pairs and the value constraint in turn, in even and odd steps, or both. FaRMA's turns are whole passes; by the step both
        are learnt also where there is one pass alone."""
        from rgtg.training import losses

        logits, lengths = forward(batch.ids), (batch.chosen_lengths, batch.rejected_lengths)
        values = losses.response_rewards(losses.token_values(logits, batch.ids), batch.prompt_lengths)
        if self.compare == "prefixes":
            on_pairs = self.loss_at_every_prefix(*values, batch, total)
        else:
            on_pairs = losses.full_bradley_terry(*values, *lengths, batch.margins, self.label_smoothing, batch.weights, total)
        if self.constraint == "alternate":
            return on_pairs if step % 2 == 0 else self._value_loss(logits, values, batch, total, reference)
        if self.constraint_weight == 0:
            return on_pairs
        return on_pairs + self.constraint_weight * self._value_loss(logits, values, batch, total, reference)

    def _value_loss(self, logits: "Tensor", values: "tuple[Tensor, Tensor]", batch: "PairBatch", total: float, reference: "Forward") -> "Tensor":
        """The value of a prefix is that of its best next token, or the soft one under the reference."""
        from rgtg.training import losses

        num_sides = 2 if self.constraint_on == "both" else 1
        rows = num_sides * len(batch.ids) // 2
        if self.tau == 0:
            following = losses.best_values(logits[:rows])
        else:
            following = losses.soft_values(logits[:rows].detach(), reference(batch.ids[:rows]).log_softmax(-1), self.tau)
        following = losses.responses_of(following, batch.prompt_lengths.repeat(num_sides))
        sides = zip(values, following.chunk(num_sides), (batch.chosen_lengths, batch.rejected_lengths), strict=False)  # chosen first
        return sum((losses.value_constraint(*side, batch.weights, total) for side in sides), start=logits.new_zeros(())) / num_sides

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        return losses.token_values(forward(ids), ids)


@dataclass(frozen=True)
class ByLogProbs(OnPairs, Objective):
    """What a causal LM is whose rewards are sums of log probabilities."""

    scalar: ClassVar[bool] = False
    sums: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = setting(0.1, "Factor on log probabilities", 0.001, 10.0)


@dataclass(frozen=True)
class Autoregressive(ByLogProbs):
    """A causal LM whose log probabilities add up to the reward (GenARM, arXiv 2410.08193)."""

    key: ClassVar[str] = "autoregressive"
    paper: ClassVar[str] = "GenARM"
    kind: ClassVar[str] = "autoregressive"

    @property
    def log_odds(self) -> float:
        return self.beta

    @property
    def where(self) -> str:
        return "as log probabilities of next tokens"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        sides = losses.response_rewards(losses.token_log_probs(forward(batch.ids), batch.ids), batch.prompt_lengths)
        lengths = batch.chosen_lengths, batch.rejected_lengths
        return losses.autoregressive_bradley_terry(*sides, *lengths, self.beta, batch.margins, self.label_smoothing, batch.weights, total)

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        return losses.token_log_probs(forward(ids), ids)


@dataclass(frozen=True)
class Implicit(ByLogProbs):
    """A causal LM whose log-ratio to its start is the reward (DPO, arXiv 2305.18290; arXiv 2412.01981)."""

    key: ClassVar[str] = "implicit"
    paper: ClassVar[str] = "DPO"
    kind: ClassVar[str] = "implicit"
    is_ratio: ClassVar[bool] = True
    on_texts: ClassVar[str] = f"`{key}` with `ce`"

    implicit: str = choice("dpo", "Loss: on pairs, or on single answers", ("dpo", "ce"))

    def without_effect(self) -> dict[str, str]:
        return dict.fromkeys(("margin", "label_smoothing"), "implicit=dpo") if self.takes_texts else {}

    @property
    def takes_texts(self) -> bool:
        return self.implicit == "ce"

    @property
    def where(self) -> str:
        return "as the log-ratio to its start"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        of_both = (losses.token_log_probs(model(batch.ids), batch.ids) for model in (forward, reference))
        own, of_reference = (losses.response_rewards(values, batch.prompt_lengths) for values in of_both)
        sides = *own, *of_reference, batch.chosen_lengths, batch.rejected_lengths
        return losses.implicit_dpo(*sides, self.beta, batch.margins, self.label_smoothing, batch.weights, total)

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        of_both = (losses.token_log_probs(model(batch.ids), batch.ids) for model in (forward, reference))
        log_probs, of_reference = (losses.responses_of(values, batch.prompt_lengths) for values in of_both)
        return losses.implicit_cross_entropy(log_probs, of_reference, batch.lengths, batch.labels, self.beta, batch.weights, total)

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        log_probs = losses.token_log_probs(forward(ids), ids)  # its logits are gone before the reference's are there
        return self.beta * (log_probs - losses.token_log_probs(reference(ids), ids))


# --- the list -----------------------------------------------------------------------------------------------------------

OBJECTIVES: dict[str, type[Objective]] = {
    Partial.key: Partial,
    Full.key: Full,
    Vocabulary.key: Vocabulary,
    Autoregressive.key: Autoregressive,
    Implicit.key: Implicit,
    Regression.key: Regression,
    BCE.key: BCE,
}
DEFAULT = Partial


def objective_of(key: object) -> type[Objective]:
    """The class of that key; raises BadSettings with the keys there are."""
    if not isinstance(key, str) or key not in OBJECTIVES:
        raise BadSettings(f"`objective` has to be one of {', '.join(OBJECTIVES)}.", f"Found `{key}`.", f"The default is {DEFAULT.key}.")
    return OBJECTIVES[key]
