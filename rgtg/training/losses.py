"""Losses that train a reward model on preferences or labels: pure functions of tensors.

Knows nothing of models, tokenizers, optimizers or files. Values come as (pairs, positions): entry t belongs to the response's
first t + 1 tokens; the `lengths` (pairs,) are each response's number of tokens. Every loss is a weighted mean over the pairs
(or texts): `sample_weights` (pairs,) are the weights, `total` the divisor where these are only a part of a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

UNEQUAL_LENGTHS = ("hold", "pad", "drop")
WEIGHTS = ("uniform", "linear", "last-heavy")
_PRIME = 2**31 - 1


# --- responses out of rows --------------------------------------------------------------------------------------------


def responses_of(values: Tensor, prompt_lengths: Tensor) -> Tensor:
    """Values without the prompt: (rows, length), (rows,) -> (rows, positions), entry t belongs to t + 1 response tokens."""
    width = values.shape[1]
    at = prompt_lengths.to(values.device)[:, None] + torch.arange(width - int(prompt_lengths.min()), device=values.device)[None]
    return values.gather(1, at.clamp(max=width - 1))


def response_rewards(scores: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(2 * pairs, length), (pairs,) -> chosen and rejected (pairs, positions), without the prompt."""
    cut = responses_of(scores, prompt_lengths.repeat(2))
    return cut[: len(cut) // 2], cut[len(cut) // 2 :]


# --- pairs, a reward for every prefix ---------------------------------------------------------------------------------


def last(rewards: Tensor, lengths: Tensor) -> Tensor:
    """Reward of each complete response: (pairs, positions), (pairs,) -> (pairs,)."""
    return rewards.gather(1, (lengths - 1)[:, None])[:, 0]


def hold(rewards: Tensor, lengths: Tensor, num_positions: int) -> Tensor:
    """Rewards that stay at their final value past the end of the response: (pairs, positions) -> (pairs, num_positions)."""
    at = torch.minimum(torch.arange(num_positions, device=rewards.device)[None], (lengths - 1)[:, None])
    return rewards.gather(1, at)


def preference_loss(gap: Tensor, margin: Tensor | float = 0.0, label_smoothing: Tensor | float = 0.0) -> Tensor:
    """-(1 - e) log sigma(gap - margin) - e log sigma(margin - gap), elementwise.

    Bradley–Terry; margin as in Llama 2 (arXiv 2307.09288, eq. 2), smoothing as in conservative DPO (arXiv 2305.18290, appendix).
    """
    gap = gap - margin
    loss = -F.logsigmoid(gap)
    return (
        loss if isinstance(label_smoothing, float) and label_smoothing == 0 else (1 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-gap)
    )


def weighted_mean(values: Tensor, sample_weights: Tensor | None = None, total: Tensor | float | None = None) -> Tensor:
    """Weighted mean, sum w v / sum w; with `total`, sum w v / total."""
    if sample_weights is not None:
        values = values * sample_weights
        total = sample_weights.sum().clamp(min=1e-12) if total is None else total
    return values.sum() / (max(values.numel(), 1) if total is None else total)


def full_bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    margin: Tensor | float = 0.0,
    label_smoothing: Tensor | float = 0.0,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """-log sigma(r(y_w) - r(y_l) - margin) on complete responses, mean over pairs; a scalar.

    Ziegler et al. 2019 (arXiv 1909.08593), eq. 1; the usual reward-model loss. On values r(y) = logit of the last token at
    the position before it, it is stage (a) of FaRMA (arXiv 2502.04517).
    """
    gap = last(chosen, chosen_lengths) - last(rejected, rejected_lengths)
    return weighted_mean(preference_loss(gap, margin, label_smoothing), sample_weights, total)


def prefix_weights(
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    num_common: Tensor | None = None,
    unequal_lengths: str = "hold",
    weights: str = "uniform",
    stride: int = 1,
) -> Tensor:
    """Weight of each prefix length: (pairs, positions), 0 where the length is not trained on.

    `num_common` is the number of leading tokens that both sides share: there both prefixes are one sequence, so the term has
    no gradient and is omitted. `drop` takes the lengths that both sides have, and the two complete responses. With a
    stride of s every s-th length counts, from the complete one backwards. `linear` weighs length i by i (RAD, arXiv
    2310.09520), `last-heavy` gives the complete responses as much as all shorter ones together.

    Lengths 2 and 4, one common token: hold [[0, 1, 1, 1]], drop [[0, 1, 0, 1]], stride 2 [[0, 1, 0, 1]].
    """
    if unequal_lengths not in UNEQUAL_LENGTHS:
        raise ValueError(f"`unequal_lengths` has to be one of {UNEQUAL_LENGTHS}, but is {unequal_lengths!r}")
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` has to be one of {WEIGHTS}, but is {weights!r}")
    longest = torch.maximum(chosen_lengths, rejected_lengths)[:, None]  # (pairs, 1)
    position = torch.arange(int(longest.max()), device=chosen_lengths.device)[None]  # (1, positions)
    end = position == longest - 1
    counted = (position < longest) & ((longest - 1 - position) % stride == 0)
    if unequal_lengths == "drop":
        counted &= (position < torch.minimum(chosen_lengths, rejected_lengths)[:, None]) | end
    if num_common is not None:
        counted &= position >= num_common[:, None]
    if weights == "linear":
        return counted * (position + 1)
    if weights == "last-heavy":
        return counted * torch.where(end, (counted.sum(1, keepdim=True) - 1).clamp(min=1), 1)
    return counted


def partial_bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    num_common: Tensor | None = None,
    margin: Tensor | float = 0.0,
    unequal_lengths: str = "hold",
    weights: str = "uniform",
    stride: int = 1,
    label_smoothing: Tensor | float = 0.0,
    position_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """-log sigma(r(y_w[:i]) - r(y_l[:i]) - margin) at every prefix length i; weighted mean within a pair, then over pairs.

    PARGS (arXiv 2406.07780), the loss over partial sequences, from one forward of each side. `prefix_weights` are the
    weights of the lengths; `position_weights` (pairs, positions) multiply them, e.g. where a passage was marked. `labels` (pairs, positions)
    are the probability p that the chosen side is the better one at that length, 1 by default: p times the term above, and 1 - p times
    that of the sides in exchange.
    Unequal lengths: with `hold` and `drop` the finished response keeps its final reward; with `pad` it is padded with end
    tokens (as in the released code), whose rewards are used. A pair without a term has weight 0.
    """
    weights_by_length = prefix_weights(chosen_lengths, rejected_lengths, num_common, unequal_lengths, weights, stride).to(chosen.dtype)
    num_positions = weights_by_length.shape[1]
    if position_weights is not None:
        weights_by_length = weights_by_length * position_weights[:, :num_positions]
    if unequal_lengths == "pad":
        gap = chosen[:, :num_positions] - rejected[:, :num_positions]
    else:
        gap = hold(chosen, chosen_lengths, num_positions) - hold(rejected, rejected_lengths, num_positions)
    margin, label_smoothing = (value[:, None] if isinstance(value, Tensor) else value for value in (margin, label_smoothing))
    terms = preference_loss(gap, margin, label_smoothing)
    if labels is not None:
        labels = labels[:, :num_positions]
        terms = labels * terms + (1 - labels) * preference_loss(-gap, margin, label_smoothing)
    total_weights = weights_by_length.sum(1)
    pairs = (terms * weights_by_length).sum(1) / total_weights.clamp(min=1e-12)
    counts = (total_weights > 0).to(chosen.dtype)
    return weighted_mean(pairs, counts if sample_weights is None else counts * sample_weights, total)


def shuffled_labels(ids: Tensor, num_ids: Tensor, lengths: Tensor, num_positions: int) -> Tensor:
    """A label for each prefix of a pair by a toss of a coin, the same whenever the pair is seen: 1 or 0, and 1 at the complete responses.

    The first `num_ids` (pairs,) of `ids` (pairs, length) tell the pairs apart, `lengths` (pairs,) are those of the longer responses
    -> (pairs, num_positions).
    """
    ids = ids.masked_fill(torch.arange(ids.shape[1], device=ids.device)[None] >= num_ids[:, None], 0)
    position = torch.arange(num_positions, device=ids.device)[None]
    mixed = (ids * torch.arange(1, ids.shape[1] + 1, device=ids.device) ** 3).sum(1, keepdim=True) % _PRIME * 48_271 + (position + 1) * 69_621
    for _ in range(2):
        mixed = (mixed % _PRIME) * 16_807 % _PRIME
        mixed = mixed ^ (mixed >> 13)
    return torch.where((mixed >> 7) % 2 == 0, 1.0, 0.0).masked_fill(position >= lengths[:, None] - 1, 1.0)


def temporal_coherence(
    rewards: Tensor, lengths: Tensor, sample_weights: Tensor | None = None, total: Tensor | float | None = None
) -> tuple[Tensor, Tensor]:
    """Mean over the strict prefixes of (r(y[:i]) - r(y))^2, whose gradient does not reach r(y), and of (r(y[:i + 1]) - r(y[:i]))^2; then over
    responses. Two scalars.

    TCRM (arXiv 2604.22981): lookahead consistency and smoothness. A response of one token has no strict prefix: 0.
    """
    strict = torch.arange(rewards.shape[1], device=rewards.device)[None] < (lengths - 1)[:, None]
    number = (lengths - 1).clamp(min=1)
    ahead = ((rewards - last(rewards, lengths).detach()[:, None]) ** 2 * strict).sum(1) / number
    steps = (F.pad(rewards.diff(dim=1), (0, 1)) ** 2 * strict).sum(1) / number
    return weighted_mean(ahead, sample_weights, total), weighted_mean(steps, sample_weights, total)


def reward_centering(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    only_last: bool = False,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """(r(y_w[:i]) + r(y_l[:i]))^2, mean over the prefixes that both sides have, then over pairs. It fixes the offset of each
    length, which the Bradley–Terry loss leaves free, near 0.

    Eisenstein et al. 2023 (arXiv 2312.09244), eq. 2, here at every prefix; with `only_last` as there, on complete responses.
    """
    if only_last:
        return weighted_mean((last(chosen, chosen_lengths) + last(rejected, rejected_lengths)) ** 2, sample_weights, total)
    shortest = torch.minimum(chosen_lengths, rejected_lengths)
    num_positions = int(shortest.max())
    both = torch.arange(num_positions, device=chosen.device)[None] < shortest[:, None]
    pairs = ((chosen[:, :num_positions] + rejected[:, :num_positions]) ** 2 * both).sum(1) / shortest
    return weighted_mean(pairs, sample_weights, total)


# --- a value for every token of the vocabulary ------------------------------------------------------------------------


def token_values(logits: Tensor, ids: Tensor) -> Tensor:
    """The logit of each token at the position before it: (rows, length, vocabulary), (rows, length) -> (rows, length).

    Entry t is logits[t - 1, ids[t]]: the value of the prefix that ends with token t where logits are read as rewards
    (FaRMA), its log probability where they are normalised (GenARM). Entry 0 has no position before it and is 0.
    """
    return F.pad(logits[:, :-1].gather(2, ids[:, 1:, None])[..., 0], (1, 0))


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """log softmax(logits)[t - 1, ids[t]], as `token_values` has it: (rows, length, vocabulary), (rows, length) -> (rows, length).

    One row at a time, so that no normalised copy of all logits is in memory.
    """
    sums = torch.stack([row.logsumexp(-1) for row in logits])  # (rows, length)
    return token_values(logits, ids) - F.pad(sums[:, :-1], (1, 0))


def best_values(logits: Tensor) -> Tensor:
    """max_v V(y + v) at every position: (…, vocabulary) -> (…)."""
    return logits.amax(-1)


def soft_values(logits: Tensor, log_probs: Tensor, tau: float) -> Tensor:
    """tau log sum_v pi_ref(v) exp(V(y + v) / tau): (…, vocabulary), (…, vocabulary) -> (…).

    The soft value of the base LM's next tokens: tau -> 0 is the maximum, tau = 1 / beta the value of RLHF (`docs/methods.md`).
    """
    return tau * torch.logsumexp(log_probs + logits / tau, -1)


def value_constraint(
    values: Tensor, next_values: Tensor, lengths: Tensor, sample_weights: Tensor | None = None, total: Tensor | float | None = None
) -> Tensor:
    """1/2 (V(y[:i]) - max_v V(y[:i] + v))^2 on the strict prefixes of a response, mean within it, then over responses.

    Stage (b) of FaRMA (arXiv 2502.04517, the max-constraint). `values` and `next_values` (responses, positions) are those of
    the same prefix; gradients go through whatever is not detached. A response of one token has no strict prefix: 0.
    """
    strict = torch.arange(values.shape[1], device=values.device)[None] < (lengths - 1)[:, None]
    responses = (0.5 * (values - next_values) ** 2 * strict).sum(1) / (lengths - 1).clamp(min=1)
    return weighted_mean(responses, sample_weights, total)


# --- log probabilities of the response's own tokens -------------------------------------------------------------------


def sequence_sum(token_terms: Tensor, lengths: Tensor) -> Tensor:
    """Sum over a response's tokens: (responses, positions), (responses,) -> (responses,)."""
    inside = torch.arange(token_terms.shape[1], device=token_terms.device)[None] < lengths[:, None]
    return (token_terms * inside).sum(1)


def autoregressive_bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    margin: Tensor | float = 0.0,
    label_smoothing: Tensor | float = 0.0,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """-log sigma(beta [log pi_r(y_w) - log pi_r(y_l)] - margin), mean over pairs; given log pi_r of each token.

    GenARM (arXiv 2410.08193), eq. 6: sums over tokens, no reference model, no length normalisation.
    """
    gap = beta * (sequence_sum(chosen, chosen_lengths) - sequence_sum(rejected, rejected_lengths))
    return weighted_mean(preference_loss(gap, margin, label_smoothing), sample_weights, total)


def implicit_dpo(
    chosen: Tensor,
    rejected: Tensor,
    chosen_reference: Tensor,
    rejected_reference: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    margin: Tensor | float = 0.0,
    label_smoothing: Tensor | float = 0.0,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """-log sigma(r(y_w) - r(y_l) - margin) with r(y) = beta log(pi(y) / pi_ref(y)), given log probabilities of each token.

    DPO (arXiv 2305.18290), eq. 7: GenARM's loss on the log-ratios.
    """
    ratios = chosen - chosen_reference, rejected - rejected_reference
    return autoregressive_bradley_terry(*ratios, chosen_lengths, rejected_lengths, beta, margin, label_smoothing, sample_weights, total)


def implicit_cross_entropy(
    log_probs: Tensor,
    reference: Tensor,
    lengths: Tensor,
    labels: Tensor,
    beta: float = 0.05,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """-l log sigma(r(y)) - (1 - l) log sigma(-r(y)) with r(y) = beta log(pi(y) / pi_ref(y)), mean over responses.

    Free process rewards without process labels (arXiv 2412.01981), eq. 5: one response and its outcome label in [0, 1].
    """
    rewards = beta * sequence_sum(log_probs - reference, lengths)
    return weighted_mean(-labels * F.logsigmoid(rewards) - (1 - labels) * F.logsigmoid(-rewards), sample_weights, total)


# --- labelled texts, a reward for every prefix ------------------------------------------------------------------------


def prefix_regression(
    rewards: Tensor, lengths: Tensor, labels: Tensor, sample_weights: Tensor | None = None, total: Tensor | float | None = None
) -> Tensor:
    """2 / (N (N + 1)) sum_i i (r_i - label)^2 within a text, mean over texts; labels in [0, 1].

    RAD (arXiv 2310.09520), eq. 2: later prefixes weigh more.
    """
    number = torch.arange(1, rewards.shape[1] + 1, device=rewards.device)[None]  # (1, positions)
    weights = number * (number <= lengths[:, None])
    texts = 2 * (weights * (rewards - labels[:, None]) ** 2).sum(1) / (lengths * (lengths + 1))
    return weighted_mean(texts, sample_weights, total)


def soft_value_regression(
    values: Tensor,
    lengths: Tensor,
    scores: Tensor,
    temperature: float = 1.0,
    num_guided: Tensor | None = None,
    sample_weights: Tensor | None = None,
    total: Tensor | float | None = None,
) -> Tensor:
    """τ² [exp(e_i) - e_i - 1] with e_i = (score - V(y[:i])) / τ, summed over the prefixes of a sample, mean over samples; a scalar.

    Its derivative by V is τ [1 - exp(e)], so its minimiser at a prefix has E exp((score - V) / τ) = 1 over the samples that begin with it:
    V = τ log E exp(score / τ), the soft value of whoever wrote what follows. τ -> ∞ is the regression on the mean, ½ (score - V)². The loss is
    that of extreme Q-learning (LINEX, arXiv 2301.02328); the value is the target of Q# (arXiv 2502.20548), which learns it as a distribution.
    A sum and no mean over prefixes: a mean would give a prefix's longer continuations less weight, and is minimal at another value.
    The first `num_guided` (samples,) tokens were written by another policy, so shorter prefixes do not count. Beyond e = 10 the loss goes on
    as a line, so that nothing overflows; at the minimum e is that large with probability e^-10 at most.
    """
    length = torch.arange(1, values.shape[1] + 1, device=values.device)[None]
    first = torch.ones_like(lengths) if num_guided is None else num_guided.clamp(min=1)
    counted = (length >= first[:, None]) & (length <= lengths[:, None])
    error = (scores[:, None].to(values.dtype) - values) / temperature
    near = error.clamp(max=10.0)
    terms = temperature**2 * (near.exp() * (1 + error - near) - error - 1)
    return weighted_mean(torch.where(counted, terms, 0.0).sum(1), sample_weights, total)


def prefix_cross_entropy(
    rewards: Tensor, lengths: Tensor, labels: Tensor, sample_weights: Tensor | None = None, total: Tensor | float | None = None
) -> Tensor:
    """-l log sigma(c_i) - (1 - l) log sigma(-c_i) at every prefix with the text's label l, mean within a text, then over texts.

    FUDGE (arXiv 2104.05218), section 3; there a sum over prefixes, so that long texts weigh more.
    """
    inside = torch.arange(rewards.shape[1], device=rewards.device)[None] < lengths[:, None]
    labels = labels[:, None].to(rewards.dtype)
    terms = -labels * F.logsigmoid(rewards) - (1 - labels) * F.logsigmoid(-rewards)
    return weighted_mean((terms * inside).sum(1) / lengths, sample_weights, total)
