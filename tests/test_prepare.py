"""What is trained on: ids, split, marks, and the report made before anything is trained."""

from dataclasses import replace

import pytest
from tiny_models import VOCABULARY, byte_tokenizer

from rgtg.config import TrainingConfig
from rgtg.errors import BadData
from rgtg.prompts import encode_prompt, encode_response, transcript
from rgtg.records import ModelCard
from rgtg.training.data import TokenPair, TokenText
from rgtg.training.files import Example, Labelled
from rgtg.training.prepare import is_held_out, mark_weights, prepare, prompt_key

CONFIG = TrainingConfig(held_out=0.0)


def made(examples, config=CONFIG, context=64):
    return prepare(examples, byte_tokenizer(), context, VOCABULARY, config)


def ids(text: str) -> tuple[int, ...]:
    return encode_prompt(byte_tokenizer(), text)[1:]


def test_texts_become_ids_behind_the_prompt_and_complete_ones_end():
    (pair,) = made([Example(1, "ab", "c", "de", rejected_ended=False, margin=0.5)]).train
    assert pair == TokenPair((0, *ids("ab")), (*ids("c"), 1), ids("de"), margin=0.5)


def test_ids_as_generated_are_kept_where_they_are_of_this_tokenizer_and_else_the_texts_are_read():
    tokenizer = byte_tokenizer()
    prompt_ids = encode_prompt(tokenizer, "ab")
    own = Example(1, "ab", "c", "d", prompt_ids, (90, 1), (91,), num_common=0)
    other = replace(own, row=2, prompt="xy", prompt_ids=(0, 3, 4))
    found = made([own, other])
    assert found.train[0].chosen_ids == (90, 1) and found.train[1].chosen_ids == (*ids("c"), 1)
    assert any("encoded again" in remark for remark in found.report.remarks)
    with pytest.raises(BadData, match="The ids of row 3 are not of this model's tokenizer. It has id 500"):
        made([Example(3, prompt_ids=(0,), chosen_ids=(500,), rejected_ids=(4,))])


def test_the_split_is_by_prompt_and_by_its_hash_alone():
    examples = [Example(i, f"prompt {i % 40}", f"a{i}", f"b{i}") for i in range(120)]
    config = TrainingConfig(held_out=0.3)
    found = made(examples, config)
    prompts = {pair.prompt_ids for pair in found.held_out}
    assert prompts and not prompts & {pair.prompt_ids for pair in found.train}
    assert len(found.train) + len(found.held_out) == 120
    assert set(found.held_out_prompts) == {e.prompt for e in examples if is_held_out(e.prompt, 0.3)}
    more = made([Example(500, "another", "x", "y"), *reversed(examples)], config)
    assert set(found.held_out_prompts) <= set(more.held_out_prompts) and prompts <= {pair.prompt_ids for pair in more.held_out}
    assert found.report.num_held_out_prompts == len(prompts)


def test_what_has_one_prompt_only_is_all_trained_on():
    name = next(f"p{i}" for i in range(99) if is_held_out(f"p{i}", 0.15))
    found = made([Example(1, name, "a", "b")], TrainingConfig())
    assert len(found.train) == 1 and found.held_out == ()
    assert any("too few to tell" in remark for remark in found.report.remarks)


def test_what_is_dropped_is_counted_by_its_cause():
    long = "x" * 80
    rows = [
        Example(1, "a", "b", "c", rater="r"), Example(2, "a", "b", "c", rater="r"), Example(3, "a", "b", "c", rater="s"),
        Example(4, "a", "c", "b", rater="s"), Example(5, "a", "b", "b"), Example(6, "a", "b", ""), Example(7, long, "b", "c"),
        Example(8, "a", long, "c"), Example(9, "a", long + "y", long),
        Example(10, "a", "b", "d", weight=0.0),
    ]  # fmt: skip
    report = made(rows).report
    assert dict(report.dropped) == {"duplicate": 1, "equal": 1, "no_tokens": 1, "prompt_over_long": 1, "equal_when_cut": 1, "no_weight": 1}
    assert (report.num_rows, report.num_used, report.num_contradictions, report.num_cut, report.num_raters) == (10, 4, 1, 3, 2)
    assert dict(made(rows, replace(CONFIG, over_long="drop")).report.dropped)["over_long"] == 2
    with pytest.raises(BadData, match="nothing to train on. Of 1 rows 1 dropped .both answers are the same"):
        made(rows[4:5])


def test_an_answer_that_is_read_in_part_has_no_end_token():
    (pair,) = made([Example(1, "a", "b" * 30, "c")], replace(CONFIG, max_length=10)).train
    assert len(pair.prompt_ids) + len(pair.chosen_ids) == 10 and 1 not in pair.chosen_ids and pair.rejected_ids[-1] == 1


def test_lengths_and_what_length_alone_explains():
    report = made([Example(i, f"p{i}", "aaaa", "b") for i in range(10)]).report
    assert report.prompt_tokens == (3, 3, 3) and report.answer_tokens == (5, 5, 5) and report.longer_chosen == 1.0
    assert any("In 100 of 100 pairs the longer answer was chosen" in remark for remark in report.remarks)


def test_marks_weigh_the_prefixes_they_cover():
    assert mark_weights((), (), 3, 4.0) == ()
    assert mark_weights([(0, 2, "good")], [(2, 3, "bad")], 4, 4.0) == (4.0, 4.0, 4.0, 1.0)
    assert mark_weights([(1, 2, "bad")], [(0, 1, "good")], 3, 4.0) == (0.25, 0.25, 1.0)
    assert mark_weights([], [(2, 3, "goes_wrong")], 5, 4.0) == (1.0, 1.0, 4.0, 4.0, 4.0)
    (pair,) = made([Example(1, "a", "bc", "de", rejected_marks=((1, 2, "bad"),))]).train
    assert pair.marks == (1.0, 3.0, 1.0) and made([Example(1, "a", "b", "c")]).train[0].marks == ()


def test_margins_can_be_left_out():
    assert made([Example(1, "a", "b", "c", margin=0.5)], replace(CONFIG, margin=0.0)).train[0].margin == 0.0


def test_labelled_texts():
    found = made([Labelled(1, "a", "b", 1.0), Labelled(2, "a", "c", 0.5)])
    assert found.train == (TokenText((0, *ids("a")), (*ids("b"), 1), 1.0), TokenText((0, *ids("a")), (*ids("c"), 1), 0.5))
    assert found.report.kind == "texts"


def test_without_a_prompt_the_answer_stands_for_it():
    assert prompt_key(Labelled(1, "", "b")) == "b" and prompt_key(Example(1, "", "d", "c")) == "c" and prompt_key(Example(1, "a", "b", "c")) == "a"


def test_a_conversation_in_the_chat_template_and_as_plain_text():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    messages = (("user", "a"), ("assistant", "b"), ("user", "c"))
    chat = encode_prompt(tokenizer, messages, "chat", "be kind")
    assert tokenizer.decode(chat).endswith("[system]be kind[user]a[assistant]b[user]c[assistant]")
    assert transcript(messages) == "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    plain = encode_prompt(tokenizer, messages)
    assert plain == encode_prompt(tokenizer, transcript(messages)) and plain[0] == 0
    assert encode_response(tokenizer, messages, chat, "d", "chat") == ids("d") == encode_response(tokenizer, messages, plain, "d")
    assert encode_prompt(tokenizer, (("user", "a"),)) == encode_prompt(tokenizer, "a")


def test_a_parent_of_another_template_is_remarked():
    parent = ModelCard("reward_model", "old", template="chat", system_prompt="be kind")

    def remarks(card: ModelCard | None) -> tuple[str, ...]:
        return prepare([Example(1, "ab", "c", "d")], byte_tokenizer(), 64, VOCABULARY, CONFIG, card).report.remarks

    assert "`old` was taught with the template chat with the system prompt “be kind”, which is another." in remarks(parent)
    assert not any("template" in r for card in (None, replace(parent, template="plain", system_prompt="")) for r in remarks(card))
