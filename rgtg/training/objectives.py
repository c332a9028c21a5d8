"""Training objectives of reward models: one class each, with its options, its loss, and how its rewards are computed.

A new objective is a class and one line in OBJECTIVES; `Criterion` (`criterion.py`) applies it to a model and data. Knows nothing of
optimizers, files or processes, and imports torch only to compute a loss or a reward.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rgtg.config import choice, setting
from rgtg.errors import BadSettings
from rgtg.training.base import ByLogProbs, Objective, OnPairs, OnPrefixes, OnTexts, RewardCentering

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.preferences.batches import PairBatch, TextBatch
    from rgtg.training.base import Forward

AT_THE_END = "at the end only"


# --- a scalar head ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Partial(RewardCentering, OnPrefixes, Objective):
    """A scalar head, pairs compared at every prefix length (PARGS, arXiv 2406.07780).

    Formula: −Σ_i ω_i·log σ(r(y^w_{≤i}) − r(y^l_{≤i}) − margin), the mean within a pair first. All prefixes of a response come from one forward.
    Pitfall: a prefix inherits the label of its pair, so early prefixes are near 50 % by nature: read the accuracy by prefix length.
    """

    key: ClassVar[str] = "partial"
    paper: ClassVar[str] = "PARGS"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        chosen, rejected = losses.response_rewards(forward(batch.ids), batch.prompt_lengths)
        sides = chosen, rejected, batch.chosen_lengths, batch.rejected_lengths
        centering = losses.reward_centering(*sides, sample_weights=batch.weights, total=total)
        return self.loss_at_every_prefix(chosen, rejected, batch, total) + self.center_rewards_coefficient * centering


@dataclass(frozen=True)
class Probe(Partial):
    """A scalar head on the frozen states of the base LM, pairs compared at every prefix length (SWIFT, arXiv 2505.12225).

    Formula: the loss of PARGS (arXiv 2406.07780) with r(y_{≤i}) = wᵀ·h_i, where h_i is the base LM's last hidden state at token i; only w is trained.
    Pitfall: w can only use what the base LM's state already shows to a linear map, and it fits these weights of the base LM alone.
    """

    key: ClassVar[str] = "probe"
    paper: ClassVar[str] = "SWIFT"
    kind: ClassVar[str] = "probe"
    frozen: ClassVar[bool] = True


@dataclass(frozen=True)
class Full(RewardCentering, OnPairs, Objective):
    """A scalar head, pairs compared as complete responses (ARGS, arXiv 2402.01694).

    Formula: −log σ(r(y^w) − r(y^l) − margin), Bradley–Terry (arXiv 1909.08593).
    Pitfall: nothing is said about the reward of an unfinished response.
    """

    key: ClassVar[str] = "full"
    paper: ClassVar[str] = "ARGS"

    @property
    def where(self) -> str:
        return AT_THE_END

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        sides = *losses.response_rewards(forward(batch.ids), batch.prompt_lengths), batch.chosen_lengths, batch.rejected_lengths
        loss = losses.full_bradley_terry(*sides, batch.margins, self.smoothing(batch), batch.weights, total)
        return loss + self.center_rewards_coefficient * losses.reward_centering(*sides, only_last=True, sample_weights=batch.weights, total=total)


@dataclass(frozen=True)
class Coherent(OnPairs, Objective):
    """A scalar head, pairs compared as complete responses, whose prefixes predict the final reward (TCRM, arXiv 2604.22981).

    Formula: the loss of ARGS + λ_c·mean_i (r(y_{≤i}) − r(y))² + λ_s·mean_i (r(y_{≤i+1}) − r(y_{≤i}))², the mean of both responses; no gradient
    of the first square reaches r(y).
    Pitfall: both weights pull all rewards together, and too much of them costs accuracy at the end.
    """

    key: ClassVar[str] = "coherent"
    paper: ClassVar[str] = "TCRM"

    consistency: float = setting(0.1, "Weight of lookahead consistency: each prefix predicts the final reward", 0.0, 100.0)
    smoothness: float = setting(0.1, "Weight of smoothness: neighbouring prefixes have similar rewards", 0.0, 100.0)

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        sides = losses.response_rewards(forward(batch.ids), batch.prompt_lengths)
        lengths = batch.chosen_lengths, batch.rejected_lengths
        loss = losses.full_bradley_terry(*sides, *lengths, batch.margins, self.smoothing(batch), batch.weights, total)
        for rewards, ends in zip(sides, lengths, strict=True):
            ahead, steps = losses.temporal_coherence(rewards, ends, batch.weights, total)
            loss = loss + (self.consistency * ahead + self.smoothness * steps) / 2
        return loss


@dataclass(frozen=True)
class Shuffled(OnPrefixes, Objective):
    """A scalar head, pairs compared at every prefix length with shuffled labels: a control, not a reward to guide by (of PARGS, arXiv 2406.07780).

    Formula: that of PARGS with the label of every strict prefix tossed as a coin, once for each pair and length; complete responses keep theirs.
    Pitfall: what it gains on `full` is regularisation, since its prefix labels say nothing.
    """

    key: ClassVar[str] = "shuffled"
    paper: ClassVar[str] = "control of PARGS"

    def labels_of(self, batch: "PairBatch", num_positions: int) -> "Tensor":
        from rgtg.training import losses

        longest = batch.chosen_lengths.maximum(batch.rejected_lengths)
        num_ids = batch.prompt_lengths.to(longest.device) + batch.chosen_lengths
        return losses.shuffled_labels(batch.ids[: len(longest)], num_ids, longest, num_positions)


@dataclass(frozen=True)
class Judged(Partial):
    """A scalar head, pairs compared at every prefix length with the labels that a judge gave these prefixes (of PARGS, arXiv 2406.07780).

    Formula: that of PARGS with a label p_i for each length: −Σ_i ω_i·[p_i·log σ(Δ_i − margin) + (1 − p_i)·log σ(−Δ_i − margin)] with
    Δ_i = r(y^w_{≤i}) − r(y^l_{≤i}). The labels are in the file of the pairs: `rgtg label --prefixes`.
    Pitfall: a judge trained on complete answers may be no judge of unfinished ones, and what it prefers at a prefix is not what usually follows.
    """

    key: ClassVar[str] = "judged"
    paper: ClassVar[str] = "PARGS by a judge"

    @property
    def needs_prefix_labels(self) -> bool:
        return True

    def labels_of(self, batch: "PairBatch", num_positions: int) -> "Tensor":
        return batch.labels


@dataclass(frozen=True)
class Regression(OnTexts):
    """A scalar head, the reward of every prefix is the label of its text (RAD, arXiv 2310.09520).

    Formula: 2 / (N(N + 1))·Σ_i i·(r(y_{≤i}) − label)², with labels in [0, 1].
    Pitfall: rewards lie between 0 and 1, so β has to be far larger than for a reward model on pairs.
    """

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
    """A scalar head, the reward of every prefix is the log-odds of its text's label (FUDGE, arXiv 2104.05218).

    Formula: −l·log σ(r(y_{≤i})) − (1 − l)·log σ(−r(y_{≤i})), the mean over the prefixes of a text, with its label l in [0, 1].
    Pitfall: an accurate classifier is sure of itself: log-odds of ±10 move far more than rewards on pairs do, at the same β.
    """

    key: ClassVar[str] = "bce"
    paper: ClassVar[str] = "FUDGE"
    on_texts: ClassVar[str] = f"`{key}`"

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        rewards = losses.responses_of(forward(batch.ids), batch.prompt_lengths)
        return losses.prefix_cross_entropy(rewards, batch.lengths, batch.labels, batch.weights, total)


@dataclass(frozen=True)
class SoftValue(OnTexts):
    """A scalar head, the reward of every prefix is the soft value of its completions by the base LM (Q#, arXiv 2502.20548).

    Formula: Σ_i τ²·[exp(e_i) − e_i − 1] with e_i = (score − r(y_{≤i})) / τ, which is minimal at r(y_{≤i}) = τ·log E exp(score / τ).
    Pitfall: the answers have to be the base LM's own samples: on others it is the soft value of whoever wrote them.
    """

    key: ClassVar[str] = "soft-value"
    paper: ClassVar[str] = "Q#"
    on_texts: ClassVar[str] = f"`{key}`"
    takes_scores: ClassVar[bool] = True

    temperature: float = setting(1.0, "Temperature τ of the soft value: guidance is exact at β = 1 / τ; larger: nearer to the mean", 0.01, 1000.0)

    @property
    def log_odds(self) -> None:
        return None

    def text_loss(self, forward: "Forward", batch: "TextBatch", total: float, reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        values = losses.responses_of(forward(batch.ids), batch.prompt_lengths)
        return losses.soft_value_regression(values, batch.lengths, batch.labels, self.temperature, batch.num_guided, batch.weights, total)


# --- a causal model, which says the reward of every next token --------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary(OnPrefixes, Objective):
    """A causal LM whose logits are the rewards of all next tokens (FaRMA, arXiv 2502.04517).

    Formula: the loss on pairs with r(y) = the logit of the last token at the position before it, in turn with the value constraint
    ½(V(y_{≤i}) − max_v V(y_{≤i} + v))² on prefixes; with τ > 0 the soft value under the start model replaces the maximum.
    Pitfall: the maximum is over the complete vocabulary, most of which never occurs in the data.
    """

    key: ClassVar[str] = "vocabulary"
    paper: ClassVar[str] = "FaRMA"
    scalar: ClassVar[bool] = False
    kind: ClassVar[str] = "vocabulary"

    compare: str = choice("complete", "Compare pairs as complete answers (FaRMA) or at every prefix length (PARGS)", ("complete", "prefixes"))
    constraint: str = choice("alternate", "Pair loss and value constraint on alternate steps, or their sum", ("alternate", "sum"))
    constraint_weight: float = setting(1.0, "Weight of the value constraint in the sum; 0 = none", 0.0, 100.0)
    constraint_on: str = choice("chosen", "Value constraint on prefixes of the chosen answer, as in FaRMA's code, or of both", ("chosen", "both"))
    tau: float = setting(0.0, "Temperature of the soft value; 0 = the maximum, as in FaRMA", 0.0, 100.0)

    def without_effect(self) -> dict[str, str]:
        idle = {} if self.compare == "prefixes" else dict.fromkeys(("unequal_lengths", "weights", "stride", "mark_weight"), "compare=prefixes")
        idle |= {} if self.constraint == "sum" else {"constraint_weight": "constraint=sum"}
        if self.constraint == "sum" and self.constraint_weight == 0:
            idle |= dict.fromkeys(("constraint_on", "tau"), "a constraint_weight above 0")
        return idle

    @property
    def needs_reference(self) -> bool:
        return self.tau > 0

    @property
    def where(self) -> str:
        return f"{super().where if self.compare == 'prefixes' else AT_THE_END}, as values of all next tokens"

    def pair_loss(self, forward: "Forward", batch: "PairBatch", total: float, step: int, reference: "Forward") -> "Tensor":
        """Pair loss on even and value constraint on odd steps, or their sum. FaRMA alternates by epoch; alternating by step trains
        both also within a single epoch."""
        from rgtg.training import losses

        logits, lengths = forward(batch.ids), (batch.chosen_lengths, batch.rejected_lengths)
        values = losses.response_rewards(losses.token_values(logits, batch.ids), batch.prompt_lengths)
        if self.compare == "prefixes":
            on_pairs = self.loss_at_every_prefix(*values, batch, total)
        else:
            on_pairs = losses.full_bradley_terry(*values, *lengths, batch.margins, self.smoothing(batch), batch.weights, total)
        if self.constraint == "alternate":
            return on_pairs if step % 2 == 0 else self._value_loss(logits, values, batch, total, reference)
        if self.constraint_weight == 0:
            return on_pairs
        return on_pairs + self.constraint_weight * self._value_loss(logits, values, batch, total, reference)

    def _value_loss(self, logits: "Tensor", values: "tuple[Tensor, Tensor]", batch: "PairBatch", total: float, reference: "Forward") -> "Tensor":
        """Value constraint: a prefix has the value of its best next token, or with `tau` the soft value under the reference."""
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
class Autoregressive(ByLogProbs):
    """A causal LM whose log probabilities add up to the reward (GenARM, arXiv 2410.08193).

    Formula: −log σ(β[log π_r(y^w) − log π_r(y^l)] − margin), with sums over tokens.
    Pitfall: nothing normalises by length, so pairs whose chosen response is the longer one work against the sum.
    """

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
        return losses.autoregressive_bradley_terry(*sides, *lengths, self.beta, batch.margins, self.smoothing(batch), batch.weights, total)

    def token_rewards(self, forward: "Forward", ids: "Tensor", reference: "Forward") -> "Tensor":
        from rgtg.training import losses

        return losses.token_log_probs(forward(ids), ids)


@dataclass(frozen=True)
class Implicit(ByLogProbs):
    """A causal LM whose log-ratio to its start is the reward (DPO, arXiv 2305.18290; arXiv 2412.01981).

    Formula: with r(y) = β·log(π(y) / π_ref(y)): −log σ(r(y^w) − r(y^l) − margin) on pairs, or −l·log σ(r) − (1 − l)·log σ(−r) on labelled answers.
    Pitfall: two models are needed wherever it is used, and the reference has to have the very weights that training started from.
    """

    key: ClassVar[str] = "implicit"
    paper: ClassVar[str] = "DPO"
    kind: ClassVar[str] = "implicit"
    is_ratio: ClassVar[bool] = True
    on_texts: ClassVar[str] = f"`{key}` with `ce`"

    implicit: str = choice("dpo", "Loss: DPO on pairs, or cross-entropy on single answers", ("dpo", "ce"))

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
        return losses.implicit_dpo(*sides, self.beta, batch.margins, self.smoothing(batch), batch.weights, total)

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
    Coherent.key: Coherent,
    Shuffled.key: Shuffled,
    Judged.key: Judged,
    Vocabulary.key: Vocabulary,
    Autoregressive.key: Autoregressive,
    Implicit.key: Implicit,
    Regression.key: Regression,
    BCE.key: BCE,
    SoftValue.key: SoftValue,
    Probe.key: Probe,
}
DEFAULT = Partial


def objective_of(key: object) -> type[Objective]:
    """The class of an objective. Raises BadSettings, which lists the keys, where there is none."""
    if not isinstance(key, str) or key not in OBJECTIVES:
        raise BadSettings(f"`objective` has to be one of {', '.join(OBJECTIVES)}.", f"Found `{key}`.", f"The default is {DEFAULT.key}.")
    return OBJECTIVES[key]
