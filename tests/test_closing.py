"""What ends an answer: one notion for training, generation, the reward of a complete answer and sweeps."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import VOCABULARY, byte_tokenizer, tiny_lm, tiny_reward
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from rgtg.config import DataConfig, GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.evaluation.sweep import run_sweep
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.preferences.dataset import prepare
from rgtg.preferences.formats import Example
from rgtg.prompts import closing, decodes_to, encode_prompt, pieces
from rgtg.records import ColumnSpec, ModelCard, ModelRef, Step

END, LAST = 100, 101  # ids of <end>, <last>, behind <turn>
GENERATION = GenerationConfig(max_new_tokens=5)
CHATML = "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"


def talking(template: str | None = CHATML, single: str = "<s> $A") -> PreTrainedTokenizerFast:
    """The tokenizer of all tests with three more special tokens, a chat template, and what it puts around a text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>", "<last>"]})
    named = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>", "<end>", "<last>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[pair for pair in named if pair[0] in single]
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("single", "ends"),
    [("<s> $A", (1,)), ("$A", (1,)), ("<s> $A </s>", (1,)), ("<s> $A <end>", (END,)), ("<s> $A <end> </s>", (END, 1)), ("$A <s>", (0,))],
)
def test_plain_text_ends_with_what_the_tokenizer_puts_behind_it_else_with_its_end_token(single, ends):
    tokenizer = talking(single=single)
    begins = (0,) if single.startswith("<s>") else ()
    assert closing(tokenizer) == ends
    assert encode_prompt(tokenizer, "ab") == (*begins, 67, 68)
    assert encode_prompt(tokenizer, "") == (0,)


def test_without_an_end_token_nothing_ends_an_answer():
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    assert closing(tokenizer) == closing(tokenizer, "chat") == ()


ALTERNATE = "{% if (messages | length) is odd %}{{ raise_exception('turns in twos') }}{% endif %}"
ASK_LAST = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('a question comes last') }}{% endif %}"
NEEDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('begin with a system prompt') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHATML, "<end>"),
        (CHATML.replace("m.content", "m.content | trim"), "<end>"),
        (CHATML.replace("<end>\n", "<end>"), "<end>"),
        (CHATML.replace("<end>", "<end><last>"), "<end><last>"),
        (CHATML.replace("<end>", " <end>"), " <end>"),
        (CHATML.replace("<end>", "{% if not loop.last %}<end>{% endif %}"), "<end>"),
        (CHATML.replace("<end>", "{% if m.role == 'assistant' %}<end>{% endif %}"), "<end>"),
        (CHATML.replace("<end>", "<end> ") + "{% if not add_generation_prompt %}</s>{% endif %}", "<end>"),
        (CHATML.replace("<end>", "{{ eos_token }}"), "</s>"),
        ("<turn>default system<end>" + CHATML, "<end>"),
        (ALTERNATE + CHATML, "<end>"),
        (ASK_LAST + CHATML, "<end>"),
        (NEEDS_SYSTEM + CHATML, "<end>"),
        (NEEDS_SYSTEM + ASK_LAST + CHATML, "<end>"),
        (CHATML.replace("<end>", ""), "</s>"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}", "</s>"),
        ("{{ raise_exception('no') }}", "</s>"),
        ("{{ messages[7].content.nothing }}", "</s>"),
        ("nothing of what is said", "</s>"),
        (None, "</s>"),
    ],
)
def test_a_turn_ends_with_what_the_chat_template_closes_it_with(template, ends):
    tokenizer = talking(template)
    assert closing(tokenizer, "chat") == tuple(tokenizer(ends, add_special_tokens=False)["input_ids"])


def test_a_closing_token_that_is_not_called_special_ends_a_turn_too():
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<stop>", special=False)])
    tokenizer.chat_template = CHATML.replace("<end>", "<stop>")
    (stop,) = closing(tokenizer, "chat")
    assert tokenizer.convert_ids_to_tokens(stop) == "<stop>"
    assert pieces(tokenizer, (0,), (67, 68, stop), (stop,)) == ["a", "b", ""] and decodes_to(tokenizer, (0,), (67, 68, stop), "ab", (stop,))


def test_what_ends_an_answer_adds_no_text():
    tokenizer = talking()
    assert pieces(tokenizer, (0,), (67, 68, END, LAST)) == ["a", "b", "", ""] and decodes_to(tokenizer, (0,), (67, 68, END, LAST), "ab")
    assert pieces(tokenizer, (0,), (67, END, 68)) == ["a", "<end>", "b"], "within an answer it is shown"


# --- training ------------------------------------------------------------------------------------------------------------


def pairs(examples: list[Example], template: str):
    config = DataConfig(eval_fraction=0.0, template=template)
    return prepare(examples, talking(single="<s> $A <last> </s>"), 128, VOCABULARY + 3, config).train


@pytest.mark.parametrize(("template", "ends"), [("chat", (END,)), ("plain", (LAST, 1))])
def test_complete_answers_are_closed_as_their_template_closes_them(template, ends):
    (pair,) = pairs([Example(1, "ab", "c", "d", rejected_ended=False)], template)
    assert (pair.chosen_ids, pair.rejected_ids) == ((69, *ends), (70,))


@pytest.mark.parametrize(("template", "ends"), [("chat", (END,)), ("plain", (1,))])
def test_ids_of_one_template_are_closed_as_in_the_one_that_is_trained(template, ends):
    (pair,) = pairs([Example(1, "ab", "c", "d", (0, 67, 68), (69, 1), (70,))], template)
    assert (pair.chosen_ids, pair.rejected_ids) == ((69, *ends), (70,))


# --- models --------------------------------------------------------------------------------------------------------------


def loaded(model: BaseLM, card: ModelCard | None, tokenizer: PreTrainedTokenizerFast) -> Loaded:
    return Loaded(ModelRef(card.name if card else "lm", "test"), Path(), model.loaded.model, tokenizer, card)


def closing_with(token: str, name: str | None = None) -> PreTrainedTokenizerFast:
    """A token that the tiny models know closes a turn; or, as `eos_token`, a text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({name: token} if name else {"additional_special_tokens": [token]})
    tokenizer.chat_template = CHATML.replace("<end>", token)
    return tokenizer


def generated(lm: BaseLM) -> tuple[list[Step], str]:
    models = Models(lm, {})
    events = generate([make_run("ab", "base", models, generation=GENERATION)], models)
    *steps, end = (event for _, event in events if isinstance(event, Step | Ended))
    return steps, end.stop_reason


def test_generation_ends_where_the_template_closes_a_turn():
    card = ModelCard("base_lm", "chat", template="chat")
    lm = replace(tiny_lm(), loaded=loaded(tiny_lm(), card, closing_with("!")))
    steps, reason = generated(lm)
    assert reason == "max_new_tokens" and steps[2].text not in steps[0].text + steps[1].text
    ended = replace(lm, loaded=loaded(lm, card, closing_with(steps[2].text)))
    assert ended.loaded.eos_ids == {1, steps[2].token_id}
    again, reason = generated(ended)
    assert [s.token_id for s in again] == [s.token_id for s in steps[:3]] and reason == "eos"
    assert [s.text for s in again] == [steps[0].text, steps[1].text, ""]


@pytest.mark.parametrize(
    ("ids", "read"), [((67, 68, 1), (67, 68, END)), ((67, 68), (67, 68)), ((67, 68, END), (67, 68, END)), ((1,), (END,)), ((), ())]
)
def test_an_answer_is_closed_again_for_a_model_of_another_template(ids, read):
    lm = tiny_lm()
    writer, judge = (loaded(lm, card, talking()) for card in (None, ModelCard("judge", "judge", template="chat")))
    assert judge.closed(ids, writer) == read and writer.closed(ids, writer) == ids
    assert writer.closed((67, END), judge) == (67, 1)


def test_a_sweep_asks_the_judge_for_the_reward_of_the_complete_answer(tmp_path):
    steps, _ = generated(tiny_lm())
    lm = replace(tiny_lm(), loaded=loaded(tiny_lm(), None, closing_with(steps[2].text, "eos_token")))
    judge = tiny_reward("llama", 3, "judge")
    judge = replace(judge, loaded=replace(judge.loaded, card=ModelCard("judge", "judge", template="chat"), tokenizer=closing_with("!")))
    (cell,) = run_sweep(Models(lm, {}), [ColumnSpec("base")], ["ab"], GENERATION, [0], judge, tmp_path)
    assert cell.stop_reason == "eos" and cell.token_ids == tuple(s.token_id for s in steps[:3])
    ends = judge.loaded.tokenizer.convert_tokens_to_ids("!")
    prompt_ids = judge.loaded.encode_prompt("ab")
    assert cell.judge == pytest.approx(judge.along(prompt_ids, [[*cell.token_ids[:2], ends]])[0][-1], abs=1e-4)
    assert cell.judge != pytest.approx(judge.along(prompt_ids, [cell.token_ids])[0][-1], abs=1e-2)


@pytest.mark.parametrize("method", ["pargs", "best-of-n"])
def test_a_guide_and_an_observer_of_another_template_read_the_complete_answer_with_their_own_end(method):
    steps, _ = generated(tiny_lm())
    lm = replace(tiny_lm(), loaded=loaded(tiny_lm(), None, closing_with(steps[2].text, "eos_token")))
    readers = {}
    for seed, name in enumerate(("guide", "observer"), 3):
        found = tiny_reward("llama", seed, name)
        card = ModelCard("reward_model", name, template="chat")
        readers[name] = replace(found, loaded=replace(found.loaded, card=card, tokenizer=closing_with("!")))
    params = (("beta", 0.0),) if method == "pargs" else (("n", 2),)
    run = make_run("ab", method, Models(lm, readers), params, "guide", ("observer",), GENERATION, forced_ids=tuple(s.token_id for s in steps[:3]))
    (*taken, end) = (event for _, event in generate([run], Models(lm, readers)) if isinstance(event, Step | Ended))
    assert end.stop_reason == "eos" and [s.token_id for s in taken] == [steps[2].token_id]
    for name, reader in readers.items():
        prompt_ids, ends = reader.loaded.encode_prompt("ab"), reader.loaded.closing
        wanted = reader.along(prompt_ids, [[steps[0].token_id, steps[1].token_id, *ends]])[0][-1]
        assert ends != lm.loaded.closing and taken[-1].reward(name) == pytest.approx(wanted, abs=1e-4)
        assert taken[-1].reward(name) != pytest.approx(reader.along(prompt_ids, [[s.token_id for s in steps[:3]]])[0][-1], abs=1e-2)
