"""Preference losses against a slow, literal reading of their formula, in values and gradients."""

import math

import pytest
import torch

from rgtg.training import losses
from rgtg.training.losses import full_bradley_terry, hold, last, partial_bradley_terry, reward_centering

CHOSEN_LENGTHS, REJECTED_LENGTHS = [5, 2, 4, 1], [3, 6, 4, 1]
MARGINS = [0.0, 0.5, 1.0, 0.25]


def rewards(seed: int) -> torch.Tensor:
    found = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    return found.requires_grad_()


def tensors(*lists: list) -> list[torch.Tensor]:
    return [torch.tensor(values) for values in lists]


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.log1p(torch.exp(x))  # -log sigma(-x), plainly


def truncated_pairs(num_chosen: int, num_rejected: int, common: int, unequal_lengths: str) -> list[tuple[int, int]]:
    """Lengths of the two prefixes of each term, enumerated."""
    pairs = []
    for i in range(1, max(num_chosen, num_rejected) + 1):
        shorter_is_over = i > min(num_chosen, num_rejected)
        is_last = i == max(num_chosen, num_rejected)
        if i > common and (unequal_lengths == "hold" or not shorter_is_over or is_last):
            pairs.append((min(i, num_chosen), min(i, num_rejected)))
    return pairs


def literal_partial(chosen, rejected, common: list[int], margins: list[float], unequal_lengths: str) -> torch.Tensor:
    means = []
    for row in range(len(common)):
        terms = [
            softplus(-(chosen[row, a - 1] - rejected[row, b - 1] - margins[row]))
            for a, b in truncated_pairs(CHOSEN_LENGTHS[row], REJECTED_LENGTHS[row], common[row], unequal_lengths)
        ]
        if terms:
            means.append(sum(terms) / len(terms))
    return sum(means) / len(means)


def same_value_and_gradient(found, wanted, *inputs) -> None:
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-10)
    for a, b in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("unequal_lengths", ["hold", "drop"])
@pytest.mark.parametrize("common", [[0, 0, 0, 0], [2, 1, 3, 0], [0, 2, 4, 1], [3, 2, 4, 1]])
@pytest.mark.parametrize("margins", [[0.0] * 4, MARGINS])
def test_the_partial_loss_is_that_of_all_truncated_pairs(unequal_lengths, common, margins):
    chosen, rejected = rewards(0), rewards(1)
    wanted = literal_partial(chosen, rejected, common, margins, unequal_lengths)
    lengths = tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS, common)
    found = partial_bradley_terry(chosen, rejected, *lengths, margin=torch.tensor(margins, dtype=torch.float64), unequal_lengths=unequal_lengths)
    same_value_and_gradient(found, wanted, chosen, rejected)


def test_the_terms_of_two_lengths_are_these():
    assert truncated_pairs(2, 4, 0, "hold") == [(1, 1), (2, 2), (2, 3), (2, 4)]
    assert truncated_pairs(2, 4, 0, "drop") == [(1, 1), (2, 2), (2, 4)]
    assert truncated_pairs(4, 4, 0, "drop") == truncated_pairs(4, 4, 0, "hold") == [(i, i) for i in (1, 2, 3, 4)]
    assert truncated_pairs(2, 3, 2, "hold") == [(2, 3)]


def test_one_pair_by_hand():
    chosen, rejected = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    lengths = tensors([2], [3])
    # lengths 1, 2, 3: gaps 0, 1, 0
    log_sigma = math.log(1 + math.exp(-1))
    assert float(partial_bradley_terry(chosen, rejected, *lengths)) == pytest.approx((2 * math.log(2) + log_sigma) / 3)
    assert float(partial_bradley_terry(chosen, rejected, *lengths, torch.tensor([1]))) == pytest.approx((math.log(2) + log_sigma) / 2)
    assert float(full_bradley_terry(chosen, rejected, *lengths)) == pytest.approx(math.log(2))


def test_what_lies_past_the_ends_changes_nothing():
    chosen, rejected = rewards(0), rewards(1)
    lengths = tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS)
    spoiled = chosen.detach().clone()
    for row, length in enumerate(CHOSEN_LENGTHS):
        spoiled[row, length:] = 1e6
    for loss in (partial_bradley_terry, full_bradley_terry, reward_centering):
        assert float(loss(spoiled, rejected, *lengths).detach()) == float(loss(chosen, rejected, *lengths).detach())


def test_pairs_that_are_the_same_throughout_teach_nothing_and_do_not_weigh():
    chosen = rewards(0)
    lengths = torch.tensor(CHOSEN_LENGTHS)
    found = partial_bradley_terry(chosen, chosen.detach().clone(), lengths, lengths, lengths)
    assert float(found.detach()) == 0.0
    assert float(torch.autograd.grad(found, chosen)[0].abs().max()) == 0.0


def test_very_large_gaps_stay_finite():
    chosen = torch.tensor([[-1e4]], requires_grad=True)
    found = partial_bradley_terry(chosen, torch.tensor([[1e4]]), *tensors([1], [1]))
    assert float(found.detach()) == 2e4 and float(torch.autograd.grad(found, chosen)[0]) == -1.0


def test_the_full_loss_reads_complete_responses_alone():
    chosen, rejected = rewards(0), rewards(1)
    margins = torch.tensor(MARGINS, dtype=torch.float64)
    ends = [(chosen[i, n - 1], rejected[i, m - 1]) for i, (n, m) in enumerate(zip(CHOSEN_LENGTHS, REJECTED_LENGTHS, strict=True))]
    wanted = sum(softplus(-(a - b - m)) for (a, b), m in zip(ends, MARGINS, strict=True)) / 4
    same_value_and_gradient(full_bradley_terry(chosen, rejected, *tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS), margins), wanted, chosen, rejected)


def test_on_responses_of_one_token_both_losses_are_one():
    chosen, rejected = rewards(0), rewards(1)
    lengths = tensors([1] * 4, [1] * 4)
    same_value_and_gradient(partial_bradley_terry(chosen, rejected, *lengths), full_bradley_terry(chosen, rejected, *lengths), chosen, rejected)


def test_the_same_offset_on_both_sides_changes_no_preference_loss():
    chosen, rejected = rewards(0).detach(), rewards(1).detach()
    lengths = tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS)
    for loss in (partial_bradley_terry, full_bradley_terry):
        assert float(loss(chosen + 5, rejected + 5, *lengths)) == pytest.approx(float(loss(chosen, rejected, *lengths)), abs=1e-12)


def test_centring_is_zero_for_opposite_rewards_and_the_square_of_their_sum_otherwise():
    chosen = rewards(0).detach()
    lengths = tensors(CHOSEN_LENGTHS, CHOSEN_LENGTHS)
    assert float(reward_centering(chosen, -chosen, *lengths)) == 0.0
    found = reward_centering(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[1.0, 0.0, 9.0]]), *tensors([2], [3]))
    assert float(found) == 4.0  # (2 ** 2 + 2 ** 2) / 2: the lengths that both sides have


def test_the_helpers_pick_the_final_reward():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    lengths = torch.tensor([2, 3])
    assert last(values, lengths).tolist() == [2.0, 6.0]
    assert hold(values, lengths, 4).tolist() == [[1.0, 2.0, 2.0, 2.0], [4.0, 5.0, 6.0, 6.0]]


def test_an_unknown_way_with_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="`unequal_lengths` has to be one of"):
        partial_bradley_terry(rewards(0), rewards(1), *tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS), unequal_lengths="cut")


# --- every way of weighing lengths, marks, smoothing; parts of a batch -------------------------------------------------


def literal_weighted(chosen, rejected, common, unequal_lengths, weights, stride, smoothing, marks, samples) -> torch.Tensor:
    """Every truncated pair on its own: (lengths of the two prefixes, weight), as the options say."""
    total, mass = 0.0, 0.0
    for row in range(len(common)):
        n, m = CHOSEN_LENGTHS[row], REJECTED_LENGTHS[row]
        longest = max(n, m)
        lengths = [i for i in range(1, longest + 1) if i > common[row] and (longest - i) % stride == 0]
        if unequal_lengths == "drop":
            lengths = [i for i in lengths if i <= min(n, m) or i == longest]
        terms = []
        for i in lengths:
            a, b = (i, i) if unequal_lengths == "pad" else (min(i, n), min(i, m))
            factor = {"uniform": 1, "linear": i, "last-heavy": max(1, len(lengths) - 1) if i == longest else 1}[weights]
            gap = chosen[row, a - 1] - rejected[row, b - 1]
            terms.append((factor * marks[row][i - 1], (1 - smoothing) * softplus(-gap) + smoothing * softplus(gap)))
        if terms:
            total = total + samples[row] * sum(w * loss for w, loss in terms) / sum(w for w, _ in terms)
            mass += samples[row]
    return total / mass


@pytest.mark.parametrize("unequal_lengths", losses.UNEQUAL_LENGTHS)
@pytest.mark.parametrize("weights", losses.WEIGHTS)
@pytest.mark.parametrize(("stride", "smoothing"), [(1, 0.0), (2, 0.1), (3, 0.0)])
def test_every_way_of_weighing_is_that_of_all_truncated_pairs(unequal_lengths, weights, stride, smoothing):
    chosen, rejected, common, samples = rewards(0), rewards(1), [1, 0, 3, 0], [1.0, 0.5, 2.0, 1.0]
    marks = torch.rand(4, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.5
    wanted = literal_weighted(chosen, rejected, common, unequal_lengths, weights, stride, smoothing, marks.tolist(), samples)
    found = partial_bradley_terry(
        chosen, rejected, *tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS, common), 0.0, unequal_lengths, weights, stride, smoothing, marks,
        torch.tensor(samples, dtype=torch.float64),
    )  # fmt: skip
    same_value_and_gradient(found, wanted, chosen, rejected)


def test_lengths_weigh_as_the_docstring_says():
    lengths = tensors([2], [4], [1])
    assert losses.prefix_weights(*lengths).tolist() == [[0, 1, 1, 1]]
    assert losses.prefix_weights(*lengths, "drop").tolist() == [[0, 1, 0, 1]]
    assert losses.prefix_weights(*lengths, stride=2).tolist() == [[0, 1, 0, 1]]
    assert losses.prefix_weights(*lengths, weights="linear").tolist() == [[0, 2, 3, 4]]
    assert losses.prefix_weights(*lengths, weights="last-heavy").tolist() == [[0, 1, 1, 2]]
    with pytest.raises(ValueError, match="`weights` has to be one of"):
        losses.prefix_weights(*lengths, weights="first")


def test_parts_of_a_batch_add_up_to_the_batch():
    chosen, rejected, lengths = rewards(0), rewards(1), tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS)
    samples = torch.tensor([1.0, 2.0, 0.5, 1.5], dtype=torch.float64)
    labels = torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    terms = {
        "partial": lambda i, **k: partial_bradley_terry(chosen[i], rejected[i], *(n[i] for n in lengths), **k),
        "full": lambda i, **k: full_bradley_terry(chosen[i], rejected[i], *(n[i] for n in lengths), **k),
        "reward_centering": lambda i, **k: reward_centering(chosen[i], rejected[i], *(n[i] for n in lengths), **k),
        "autoregressive": lambda i, **k: losses.autoregressive_bradley_terry(chosen[i], rejected[i], *(n[i] for n in lengths), **k),
        "constraint": lambda i, **k: losses.value_constraint(chosen[i], rejected[i], lengths[0][i], **k),
        "regression": lambda i, **k: losses.prefix_regression(chosen[i], lengths[0][i], labels[i], **k),
        "bce": lambda i, **k: losses.prefix_cross_entropy(chosen[i], lengths[0][i], labels[i], **k),
        "ce": lambda i, **k: losses.implicit_cross_entropy(chosen[i], rejected[i], lengths[0][i], labels[i], **k),
    }
    for name, loss in terms.items():
        whole = loss(slice(0, 4), sample_weights=samples)
        parts = [loss(i, sample_weights=samples[i], total=float(samples.sum())) for i in (slice(0, 1), slice(1, 4))]
        assert float(sum(parts).detach()) == pytest.approx(float(whole.detach()), abs=1e-12), name


# --- the other objectives, read literally -------------------------------------------------------------------------------


def test_the_autoregressive_loss_sums_log_probabilities_over_tokens():
    chosen, rejected = rewards(0), rewards(1)
    wanted = 0.0
    for row, (n, m) in enumerate(zip(CHOSEN_LENGTHS, REJECTED_LENGTHS, strict=True)):
        gap = 0.3 * (sum(chosen[row, t] for t in range(n)) - sum(rejected[row, t] for t in range(m)))
        wanted = wanted + softplus(-(gap - 0.5)) / 4
    found = losses.autoregressive_bradley_terry(chosen, rejected, *tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS), beta=0.3, margin=0.5)
    same_value_and_gradient(found, wanted, chosen, rejected)


def test_dpo_is_that_loss_on_log_ratios_and_starts_at_log_two():
    chosen, rejected, lengths = rewards(0), rewards(1), tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS)
    references = rewards(2).detach(), rewards(3).detach()
    found = losses.implicit_dpo(chosen, rejected, *references, *lengths, beta=0.2)
    wanted = losses.autoregressive_bradley_terry(chosen - references[0], rejected - references[1], *lengths, beta=0.2)
    same_value_and_gradient(found, wanted, chosen, rejected)
    assert float(losses.implicit_dpo(chosen, rejected, chosen, rejected, *lengths).detach()) == pytest.approx(math.log(2))


def test_the_implicit_cross_entropy_is_that_of_a_coin_whose_bias_is_the_ratio():
    log_probs, reference = rewards(0), rewards(1).detach()
    labels = torch.tensor([1.0, 0.0, 0.25, 1.0], dtype=torch.float64)
    wanted = 0.0
    for row, n in enumerate(CHOSEN_LENGTHS):
        ratio = 0.05 * sum(log_probs[row, t] - reference[row, t] for t in range(n))
        wanted = wanted + (labels[row] * softplus(-ratio) + (1 - labels[row]) * softplus(ratio)) / 4
    same_value_and_gradient(losses.implicit_cross_entropy(log_probs, reference, torch.tensor(CHOSEN_LENGTHS), labels), wanted, log_probs)


def test_the_value_constraint_asks_each_strict_prefix_for_its_best_next_value():
    values, following = rewards(0), rewards(1)
    wanted = sum(
        sum(0.5 * (values[row, t] - following[row, t]) ** 2 for t in range(n - 1)) / max(n - 1, 1) for row, n in enumerate(CHOSEN_LENGTHS)
    ) / 4  # fmt: skip
    same_value_and_gradient(losses.value_constraint(values, following, torch.tensor(CHOSEN_LENGTHS)), wanted, values, following)


def test_the_value_of_a_token_stands_at_the_position_before_it():
    logits = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    ids = torch.tensor([[0, 3, 1], [2, 2, 0]])
    assert losses.token_values(logits, ids).tolist() == [[0, 3, 5], [0, 14, 16]]
    assert losses.best_values(logits)[0].tolist() == [3, 7, 11]


def test_the_soft_value_lies_between_mean_and_maximum():
    logits, log_probs = torch.tensor([10.0, -10.0, -10.0]), torch.full((3,), 1 / 3).log()
    assert float(losses.soft_values(logits, log_probs, 1.0)) == pytest.approx(8.9014, abs=1e-4)  # methods, D4: "soft 8.90"
    assert float(losses.soft_values(logits, log_probs, 1e-3)) == pytest.approx(10.0, abs=1e-2)
    assert float(losses.soft_values(logits, log_probs, 1e5)) == pytest.approx(-10 / 3, abs=1e-2)


def test_regression_weighs_later_prefixes_more_and_cross_entropy_does_not():
    values, labels = rewards(0), torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    squares, entropies = 0.0, 0.0
    for row, n in enumerate(CHOSEN_LENGTHS):
        squares = squares + sum((t + 1) * (values[row, t] - labels[row]) ** 2 for t in range(n)) * 2 / (n * (n + 1)) / 4
        entropies = entropies + sum(labels[row] * softplus(-values[row, t]) + (1 - labels[row]) * softplus(values[row, t]) for t in range(n)) / n / 4
    lengths = torch.tensor(CHOSEN_LENGTHS)
    same_value_and_gradient(losses.prefix_regression(values, lengths, labels), squares, values)
    same_value_and_gradient(losses.prefix_cross_entropy(values, lengths, labels), entropies, values)


def test_smoothing_and_margin_move_the_least_loss_to_a_finite_gap():
    gaps = torch.linspace(-4, 8, 1201, dtype=torch.float64)
    least = lambda **k: float(gaps[losses.preference_loss(gaps, **k).argmin()])  # noqa: E731
    assert least(label_smoothing=0.1) == pytest.approx(math.log(9), abs=0.01)
    assert least(label_smoothing=0.1, margin=1.0) == pytest.approx(math.log(9) + 1, abs=0.01)


def test_a_coherent_response_has_one_reward_and_only_prefixes_are_pulled_to_its_end():
    flat, rising = torch.tensor([[2.0, 2.0, 2.0, 9.0]]), torch.tensor([[0.0, 1.0, 3.0, 9.0]], requires_grad=True)
    three = torch.tensor([3])
    assert [part.item() for part in losses.temporal_coherence(flat, three)] == [0.0, 0.0], "what lies behind the end does not count"
    ahead, steps = losses.temporal_coherence(rising, three)
    assert (ahead.item(), steps.item()) == ((9 + 4) / 2, (1 + 4) / 2)
    (gradient,) = torch.autograd.grad(ahead, rising)
    assert gradient.tolist() == [[-3.0, -2.0, 0.0, 0.0]]
    assert [part.item() for part in losses.temporal_coherence(rising, torch.tensor([1]))] == [0.0, 0.0]


def test_labels_of_prefixes_weigh_the_two_orders_of_the_sides():
    chosen, rejected = rewards(0), rewards(1)
    common, labels = [2, 0, 1, 0], torch.rand(4, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    means = []
    for row in range(4):
        terms = []
        for a, b in truncated_pairs(CHOSEN_LENGTHS[row], REJECTED_LENGTHS[row], common[row], "hold"):
            gap, p = chosen[row, a - 1] - rejected[row, b - 1], labels[row, max(a, b) - 1]
            terms.append(p * softplus(MARGINS[row] - gap) + (1 - p) * softplus(MARGINS[row] + gap))
        means.append(sum(terms) / len(terms))
    lengths = tensors(CHOSEN_LENGTHS, REJECTED_LENGTHS, common)
    found = partial_bradley_terry(chosen, rejected, *lengths, torch.tensor(MARGINS, dtype=torch.float64), labels=labels)
    same_value_and_gradient(found, sum(means) / 4, chosen, rejected)
    ones = partial_bradley_terry(chosen, rejected, *lengths, labels=torch.ones(4, 7))
    assert float(ones.detach()) == float(partial_bradley_terry(chosen, rejected, *lengths).detach()), "the label of the pair everywhere"


def test_shuffled_labels_are_a_fair_coin_that_falls_the_same_each_time_and_spares_the_end():
    ids = torch.randint(0, 5000, (400, 30), generator=torch.Generator().manual_seed(0))
    lengths = torch.full((400,), 20)
    num_ids = lengths + 5
    labels = losses.shuffled_labels(ids, num_ids, lengths, 24)
    assert labels.unique().tolist() == [0.0, 1.0] and bool((labels[:, 19:] == 1).all())
    assert torch.equal(labels[7:9], losses.shuffled_labels(ids[7:9, :25], num_ids[7:9], lengths[7:9], 24)), "whatever else is in the batch"
    tossed = 2 * labels[:, :19] - 1
    assert abs(float(tossed.mean())) < 0.04, "7,600 tosses: three standard errors are 0.034"
    pairs = [tossed[:, :-1] * tossed[:, 1:], tossed[:-1] * tossed[1:]]
    assert max(abs(float(each.mean())) for each in pairs) < 0.04, "neither neighbours in length nor in the data agree"
