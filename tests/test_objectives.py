"""One forward gives what many would: losses and rewards of every prefix, on every family, for every objective."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from tiny_models import FAMILIES, TOKEN_KINDS, VOCABULARY, tiny, tiny_reward, tiny_token_reward
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import BadSettings
from rgtg.preferences.batches import TokenPair, TokenText, collate_pairs
from rgtg.rewards.kinds import KINDS
from rgtg.training.base import Objective
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import Criterion, Scorer, criterion_for
from rgtg.training.losses import (
    autoregressive_bradley_terry,
    full_bradley_terry,
    implicit_cross_entropy,
    implicit_dpo,
    partial_bradley_terry,
    prefix_cross_entropy,
    prefix_regression,
    reward_centering,
    shuffled_labels,
    soft_value_regression,
    value_constraint,
)
from rgtg.training.objectives import OBJECTIVES, Autoregressive, Full, Implicit, Partial, Vocabulary

CPU = torch.device("cpu")


def pairs() -> list[TokenPair]:
    """Prompts of 6 and 9 tokens, responses of 8 and 5, of 3 and 11; the second pair shares two tokens."""
    draw = torch.Generator().manual_seed(0)
    ids = lambda n: tuple(torch.randint(2, VOCABULARY, (n,), generator=draw).tolist())  # noqa: E731
    shared = ids(2)
    labels = (0.0, 0.25, 0.75, 0.5), (1.0, 0.0, 0.0, 0.4)  # further ones are 1
    return [TokenPair(ids(6), ids(8), ids(5), labels=labels[0]), TokenPair(ids(9), shared + ids(1), shared + ids(9), labels=labels[1])]


def last_reward(model, row: tuple[int, ...]) -> torch.Tensor:
    return model.score(model.base_model(torch.tensor([row]), use_cache=False).last_hidden_state)[0, -1, 0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unequal_lengths", ["hold", "pad", "drop"])
def test_one_forward_is_every_truncated_pair_in_value_and_gradient(family, unequal_lengths):
    model = tiny(family, AutoModelForSequenceClassification, 1).requires_grad_(True)
    found = criterion_for(model, Partial(unequal_lengths=unequal_lengths), 2, 1).loss(Scorer(model), pairs(), 2.0, 0, CPU)
    wanted = 0.0
    for pair in pairs():
        n, m = len(pair.chosen_ids), len(pair.rejected_ids)
        lengths = [i for i in range(pair.num_common + 1, max(n, m) + 1) if unequal_lengths != "drop" or i <= min(n, m) or i == max(n, m)]
        filled = [side + (1,) * (max(n, m) if unequal_lengths == "pad" else 0) for side in (pair.chosen_ids, pair.rejected_ids)]
        for i in lengths:
            gap = last_reward(model, pair.prompt_ids + filled[0][:i]) - last_reward(model, pair.prompt_ids + filled[1][:i])
            wanted = wanted - F.logsigmoid(gap) / len(lengths) / 2
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    weights = [w for w in model.parameters() if w.requires_grad]
    for a, b in zip(torch.autograd.grad(found, weights, allow_unused=True), torch.autograd.grad(wanted, weights, allow_unused=True), strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(b.abs().max())))


def test_rewards_along_are_those_that_guide():
    reward_model = tiny_reward("llama")
    criterion = criterion_for(reward_model.loaded.model, Partial(), 1, 1)
    for pair in pairs():
        sides = [pair.chosen_ids, pair.rejected_ids]
        found = criterion.rewards(reward_model.loaded.model, [pair.prompt_ids] * 2, sides)
        for row, wanted in zip(found, reward_model.along(pair.prompt_ids, sides), strict=True):
            assert row[: len(wanted)].tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_rewards_along_are_those_that_guide_of_models_that_score_all_tokens(kind):
    reward_model = tiny_token_reward(kind)
    objective = OBJECTIVES[kind](**{"beta": 0.5} if "beta" in OBJECTIVES[kind].reads else {})
    criterion = Criterion(objective, 1, 1, reward_model.reference.loaded.model if reward_model.reference else None)
    for pair in pairs():
        sides = [pair.chosen_ids, pair.rejected_ids]
        found = criterion.rewards(reward_model.loaded.model, [pair.prompt_ids] * 2, sides)
        for row, wanted in zip(found, reward_model.along(pair.prompt_ids, sides), strict=True):
            assert row[: len(wanted)].tolist() == pytest.approx(wanted, abs=1e-4)


def test_rewards_of_causal_models_are_read_at_the_position_before():
    model = tiny("llama", AutoModelForCausalLM, 0)
    prompt, response = (0, 5, 6), (7, 8, 1)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0]
    values = [float(logits[2 + t, token]) for t, token in enumerate(response)]
    log_probs = [float(logits[2 + t].log_softmax(-1)[token]) for t, token in enumerate(response)]
    rewards = lambda objective: criterion_for(model, objective, 1, 1).rewards(model, [prompt], [response])[0].tolist()  # noqa: E731
    assert rewards(Vocabulary()) == pytest.approx(values, abs=1e-4)
    assert rewards(Autoregressive(beta=0.5)) == pytest.approx([sum(log_probs[: t + 1]) for t in range(3)], abs=1e-4)
    assert rewards(Implicit()) == pytest.approx([0.0] * 3, abs=1e-5), "a model is its own reference"


def test_the_vocabulary_objective_takes_pairs_and_values_in_turn_or_as_a_sum():
    model = tiny("llama", AutoModelForCausalLM, 0)

    def loss(number: int, items: list[TokenPair] = pairs(), **options) -> float:  # noqa: B008
        return float(criterion_for(model, Vocabulary(**options), 1, 1).loss(Scorer(model), items, 2.0, number, CPU))

    on_pairs, on_values = loss(0), loss(1)
    assert on_pairs != on_values
    assert loss(0, constraint="sum", constraint_weight=0.5) == pytest.approx(on_pairs + 0.5 * on_values, rel=1e-5)
    swapped = [replace(p, chosen_ids=p.rejected_ids, rejected_ids=p.chosen_ids) for p in pairs()]
    assert loss(1, constraint_on="both") == pytest.approx((on_values + loss(1, items=swapped)) / 2, rel=1e-5) != pytest.approx(on_values)
    criterion = criterion_for(model, Vocabulary(), 1, 1)
    assert loss(0, constraint="sum", constraint_weight=0.0) == on_pairs
    wanted = 0.0
    for pair in pairs():
        lengths = range(pair.num_common + 1, max(len(pair.chosen_ids), len(pair.rejected_ids)) + 1)
        a, b = (criterion.rewards(model, [pair.prompt_ids], [side])[0].tolist() for side in (pair.chosen_ids, pair.rejected_ids))
        gaps = [a[min(i, len(a)) - 1] - b[min(i, len(b)) - 1] for i in lengths]
        wanted -= sum(float(F.logsigmoid(torch.tensor(gap))) for gap in gaps) / len(gaps) / 2
    assert loss(0, compare="prefixes") == pytest.approx(wanted, rel=1e-4)
    assert loss(1, tau=1e-3) == pytest.approx(on_values, rel=1e-2), "the soft value at no temperature is the maximum"
    assert loss(1, tau=1.0) != pytest.approx(on_values, rel=1e-2)


MODEL_OF = {key: AutoModelForSequenceClassification if kind.scalar else AutoModelForCausalLM for key, kind in OBJECTIVES.items()}
OPTIONS = {f.name: f for kind in OBJECTIVES.values() for f in fields(kind)}


def another(name: str):
    """A value that is not the default: the next choice, or the middle between the default and the largest."""
    f = OPTIONS[name]
    if choices := f.metadata.get("choices"):
        return choices[(choices.index(f.default) + 1) % len(choices)]
    return type(f.default)((f.default + f.metadata["max"]) / 2)


SETTINGS = [kind() for kind in OBJECTIVES.values()]
SETTINGS += [
    Vocabulary(constraint="sum"),
    Vocabulary(compare="prefixes"),
    Vocabulary(constraint="sum", constraint_weight=0.0),
    Implicit(implicit="ce"),
]


@pytest.mark.parametrize("objective", SETTINGS, ids=repr)
def test_an_option_changes_the_loss_or_is_refused(objective):
    """Margins and marks are in the pairs already: `margin` and `mark_weight` act there, so here the pairs are made with them."""
    model, other = tiny("llama", MODEL_OF[objective.key], 1), tiny("llama", MODEL_OF[objective.key], 2)

    def losses(objective: Objective) -> list[float]:
        weights = {"margin": 1.0, "mark_weight": 3.0} | objective.vote_weights
        marks = (1.0, weights["mark_weight"], weights["mark_weight"])
        items = [replace(p, margin=0.5 * weights["margin"], marks=marks) for p in pairs()]
        return [float(Criterion(objective, 1, 1, other).loss(Scorer(model), items, 2.0, step, CPU)) for step in (0, 1)]

    for name in OPTIONS:
        if name not in objective.options or name in objective.without_effect():
            with pytest.raises(BadSettings, match=name):
                replace(objective, **{name: another(name)})
        elif objective.options[name] == OPTIONS[name].default:
            assert losses(replace(objective, **{name: another(name)})) != losses(objective), name


@pytest.mark.parametrize(
    "objective", [Partial(center_rewards_coefficient=0.5, unequal_lengths="pad"), Full(center_rewards_coefficient=0.5), *SETTINGS], ids=repr
)
def test_the_loss_of_a_step_is_the_sum_of_its_parts(objective):
    criterion = Criterion(objective, 2, 1, tiny("llama", MODEL_OF[objective.key], 2))
    scorer = Scorer(tiny("llama", MODEL_OF[objective.key], 1))
    for step in (0, 1):
        whole, *parts = (float(criterion.loss(scorer, items, 2.5, step, CPU)) for items in (weighed(), weighed()[:1], weighed()[1:]))
        assert sum(parts) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("key", OBJECTIVES)
def test_an_option_that_an_objective_lacks_names_those_it_has(key):
    kind, known = OBJECTIVES[key], kind_options(OBJECTIVES[key])
    for name in OPTIONS.keys() - set(known):
        has = ", ".join(known) or "none"
        for given in (lambda name=name: kind(**{name: another(name)}), lambda name=name: TrainingConfig.of({"objective": key, name: another(name)})):
            with pytest.raises(BadSettings) as caught:
                given()
            assert (caught.value.wrong, caught.value.found) == (f"`{key}` has no option `{name}`.", f"It has: {has}.")


def kind_options(kind: type[Objective]) -> list[str]:
    return [f.name for f in fields(kind)]


@pytest.mark.parametrize("key", OBJECTIVES)
def test_every_objective_has_help_a_model_that_can_be_loaded_and_words_for_its_card(key):
    kind = OBJECTIVES[key]
    assert kind.key == key and kind.paper and kind.kind in KINDS and kind().where
    first, *more = (kind.__doc__ or "").splitlines()
    assert first.endswith(".") and "arXiv" in first and (not more or more[0] == "") and set(kind.reads) <= set(kind_options(kind))
    assert bool(kind.on_texts) >= kind().takes_texts
    for f in fields(kind):
        assert f.metadata["help"], f.name
        assert f.default in f.metadata["choices"] if isinstance(f.default, str) else f.metadata["min"] <= f.default <= f.metadata["max"], f.name


def weighed() -> list[TokenPair]:
    """With a margin, a weight and marks of their own."""
    changes = (
        {"margin": 0.5, "weight": 2.0, "marks": (1.0, 1.0, 3.0, 3.0)},
        {"margin": 0.25, "weight": 0.5, "branch": 3, "marks": (1.0,) * 3 + (5.0,)},
    )
    return [replace(pair, **change) for pair, change in zip(pairs(), changes, strict=True)]


OF_PAPERS = ["partial", "full", "coherent", "shuffled", "judged", "vocabulary", "autoregressive", "implicit", "regression", "bce", "soft-value"]


@pytest.mark.parametrize("objective", [*OF_PAPERS, "implicit ce", "vocabulary prefixes", "vocabulary sum"])
def test_the_loss_is_the_objective_of_these_rewards_with_every_option(objective):
    name, *more = objective.split()
    options = {"unequal_lengths": "drop", "weights": "linear", "stride": 2}
    changes = {"ce": {"implicit": "ce"}, "prefixes": {"compare": "prefixes"}, "sum": {"constraint": "sum", "constraint_weight": 0.5}}
    chosen_options = {key: value for word in more for key, value in changes[word].items()}
    wanted_options = options | {"label_smoothing": 0.2, "center_rewards_coefficient": 0.5, "beta": 0.3, "tau": 0.7, "constraint_on": "both"}
    wanted_options |= {"consistency": 0.4, "smoothness": 0.7, "temperature": 0.5}
    kind, idle = OBJECTIVES[name], OBJECTIVES[name](**chosen_options).without_effect()
    config = kind(**chosen_options, **{key: value for key, value in wanted_options.items() if key in kind_options(kind) and key not in idle})
    model, other = tiny("llama", MODEL_OF[name], 1), tiny("llama", MODEL_OF[name], 2)
    criterion = Criterion(config, 1, 1, other)
    prompts = [p.prompt_ids for p in pairs()]
    chosen, rejected = (criterion.rewards(model, prompts, side) for side in ([p.chosen_ids for p in pairs()], [p.rejected_ids for p in pairs()]))
    if name in ("autoregressive", "implicit"):  # rewards are sums of the tokens' terms, beta in those of a ratio
        chosen, rejected = (F.pad(r, (1, 0)).diff(dim=1) / (0.3 if name == "implicit" else 1.0) for r in (chosen, rejected))
    sides = chosen, rejected, torch.tensor([8, 3]), torch.tensor([5, 11])
    margins, shared = torch.tensor([0.5, 0.25]), {"sample_weights": torch.tensor([2.0, 0.5]), "total": 2.5}
    marks = torch.tensor([[1.0, 1.0, 3.0, 3.0] + [1.0] * 7, [1.0, 1.0, 1.0, 5.0] + [1.0] * 7])
    labelled = [(r, n, torch.full((2,), label)) for r, n, label in ((chosen, sides[2], 1.0), (rejected, sides[3], 0.0))]

    def of_texts(loss, **more) -> torch.Tensor:
        return sum(loss(r, n, label, sample_weights=shared["sample_weights"], total=5.0, **more) for r, n, label in labelled)

    def at_prefixes(**more) -> torch.Tensor:
        common = torch.tensor([0, 3])
        return partial_bradley_terry(*sides, common, margins, label_smoothing=0.2, position_weights=marks, **options, **shared, **more)

    def of_differences() -> torch.Tensor:
        """By hand, prefix by prefix."""
        total = torch.zeros(())
        for i, p in enumerate(weighed()):
            for row, n in ((chosen[i], len(p.chosen_ids)), (rejected[i], len(p.rejected_ids))):
                r = row[:n].tolist()
                ahead, steps = (
                    sum((r[t] - r[m]) ** 2 for t, m in at) / (n - 1) for at in ([(t, -1) for t in range(n - 1)], [(t, t + 1) for t in range(n - 1)])
                )
                total += p.weight / 2.5 * (0.4 * ahead + 0.7 * steps) / 2
        return total

    def of_values() -> torch.Tensor:
        terms = [
            (p.weight / 2.5) * value_constraint(torch.tensor([values]), torch.tensor([following]), torch.tensor([len(side)])) / 2
            for p in weighed()
            for side in (p.chosen_ids, p.rejected_ids)
            for values, following in [soft(model, other, p.prompt_ids, side, 0.7)]
        ]
        return sum(terms)

    def tosses() -> torch.Tensor:
        batch = collate_pairs(weighed(), 1)
        return shuffled_labels(batch.ids[:2], torch.tensor([14, 12]), torch.tensor([8, 11]), 11)

    judged = torch.tensor([[*p.labels, *[1.0] * (11 - len(p.labels))] for p in pairs()])
    if name == "implicit":
        zero = torch.zeros_like(chosen), torch.zeros_like(rejected)
        ce = of_texts(lambda r, *facts, **k: implicit_cross_entropy(r, torch.zeros_like(r), *facts, 0.3, **k))
        wanted = [ce if more else implicit_dpo(*sides[:2], *zero, *sides[2:], 0.3, margins, 0.2, **shared)] * 2
    elif name == "vocabulary":
        on_pairs = at_prefixes() if "prefixes" in more else full_bradley_terry(*sides, margins, 0.2, **shared)
        wanted = [on_pairs + 0.5 * of_values()] * 2 if "sum" in more else [on_pairs, of_values()]
    else:
        wanted = [
            {
                "partial": lambda: at_prefixes() + 0.5 * reward_centering(*sides, **shared),
                "full": lambda: full_bradley_terry(*sides, margins, 0.2, **shared) + 0.5 * reward_centering(*sides, only_last=True, **shared),
                "coherent": lambda: full_bradley_terry(*sides, margins, 0.2, **shared) + of_differences(),
                "shuffled": lambda: at_prefixes(labels=tosses()),
                "judged": lambda: at_prefixes(labels=judged) + 0.5 * reward_centering(*sides, **shared),
                "autoregressive": lambda: autoregressive_bradley_terry(*sides, 0.3, margins, 0.2, **shared),
                "regression": lambda: of_texts(prefix_regression),
                "bce": lambda: of_texts(prefix_cross_entropy),
                "soft-value": lambda: of_texts(soft_value_regression, temperature=0.5),
            }[name]()
        ] * 2
    found = [float(criterion.loss(Scorer(model), weighed(), 2.5, step, CPU)) for step in (0, 1)]
    assert found == pytest.approx([float(value) for value in wanted], rel=1e-4)


@torch.no_grad()
def soft(model, reference, prompt: tuple[int, ...], response: tuple[int, ...], tau: float) -> tuple[list[float], list[float]]:
    """Value and soft value of each prefix of a response, the latter by the reference's log probabilities of the next tokens."""
    ids, first = torch.tensor([prompt + response]), len(prompt)
    logits, log_probs = model(ids).logits[0], reference(ids).logits[0].log_softmax(-1)
    values = [float(logits[first + t - 1, token]) for t, token in enumerate(response)]
    return values, [float(tau * (log_probs[first + t] + logits[first + t] / tau).logsumexp(-1)) for t in range(len(response))]


def test_what_other_options_leave_without_effect_says_what_would_give_it_one():
    for needed, made in (
        ("template=chat", lambda: TrainingConfig(system_prompt="be kind")),
        ("lora", lambda: TrainingConfig(lora_r=4)),
        ("a constraint_weight above 0", lambda: Vocabulary(constraint="sum", constraint_weight=0.0, tau=1.0)),
        ("compare=prefixes", lambda: Vocabulary(stride=2)),
        ("implicit=dpo", lambda: Implicit(implicit="ce", margin=0.5)),
    ):
        with pytest.raises(BadSettings, match=f"has no effect without {needed}"):
            made()
    TrainingConfig(system_prompt="be kind", lora_r=4, template="chat", lora=True)


@pytest.mark.parametrize("key", [key for key, kind in OBJECTIVES.items() if hasattr(kind, "label_smoothing")])
def test_the_smoothing_of_a_pair_is_that_of_the_option_and_both_together_are_two_chances_to_be_wrong(key):
    model, other = tiny("llama", MODEL_OF[key], 1), tiny("llama", MODEL_OF[key], 2)

    def loss(of_pairs: float, of_option: float) -> float:
        items = [replace(pair, label_smoothing=of_pairs) for pair in weighed()]
        return float(Criterion(OBJECTIVES[key](label_smoothing=of_option), 1, 1, other).loss(Scorer(model), items, 2.5, 0, CPU))

    assert loss(0.2, 0.0) == pytest.approx(loss(0.0, 0.2), rel=1e-6) != pytest.approx(loss(0.0, 0.0), rel=1e-4)
    assert loss(0.1, 0.3) == pytest.approx(loss(0.0, 0.1 * 0.7 + 0.9 * 0.3), rel=1e-6)


def test_a_pair_serves_as_two_texts():
    model = tiny("llama", AutoModelForSequenceClassification, 1)
    for objective in ("regression", "bce"):
        criterion = criterion_for(model, OBJECTIVES[objective](), 1, 1)
        texts = [TokenText(p.prompt_ids, ids, label) for p in pairs() for ids, label in ((p.chosen_ids, 1.0), (p.rejected_ids, 0.0))]
        as_pairs, as_texts = (float(criterion.loss(Scorer(model), items, len(items), 0, CPU)) for items in (pairs(), texts))
        assert as_pairs == pytest.approx(as_texts, rel=1e-5)


def test_only_sums_of_log_probabilities_are_scaled_to_log_odds():
    of = lambda kind: kind(**dict.fromkeys(kind.reads, 0.25)).log_odds  # noqa: E731
    assert {key: of(OBJECTIVES[key]) for key in OF_PAPERS} == {
        "partial": 1.0, "full": 1.0, "coherent": 1.0, "shuffled": 1.0, "judged": 1.0,
        "vocabulary": 1.0, "autoregressive": 0.25, "implicit": 1.0, "bce": 1.0, "regression": None, "soft-value": None,
    }  # fmt: skip
