"""What is trained on: ids, split, marks, and the report made before anything is trained."""

from dataclasses import replace

import pytest
from tiny_models import VOCABULARY, byte_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rgtg.config import DataConfig
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.batches import TokenPair, TokenText
from rgtg.preferences.dataset import is_held_out, prepare, split_keys, spread
from rgtg.preferences.formats import Example, Labelled, Reading
from rgtg.preferences.tokenization import mark_weights
from rgtg.prompts import encode_prompt, encode_response, transcript
from rgtg.records import ModelCard

CONFIG = DataConfig(eval_fraction=0.0)


def made(examples, config=CONFIG, context=64, **weights):
    return prepare(examples, byte_tokenizer(), context, VOCABULARY, config, **weights)


def ids(text: str) -> tuple[int, ...]:
    return encode_prompt(byte_tokenizer(), text)[1:]


def other_tokenizer() -> PreTrainedTokenizerFast:
    """<s>, </s>, `a` to `z` backwards, a space, and `ab` and `cd` as one token each: ids 2 to 30."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *"zyxwvutsrqponmlkjihgfedcba", "Ġ", "ab", "cd"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("c", "d")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


A, B, C, D, AB, CD = 27, 26, 25, 24, 29, 30  # ids of `other_tokenizer`; `x` is 4


def in_other(example: Example, vocabulary: int = 31):
    return prepare([example], other_tokenizer(), 64, vocabulary, CONFIG)


def test_texts_become_ids_behind_the_prompt_and_complete_ones_end():
    (pair,) = made([Example(1, "ab", "c", "de", rejected_ended=False, margin=0.5)]).train
    assert pair == TokenPair((0, *ids("ab")), (*ids("c"), 1), ids("de"), margin=0.5)


def test_ids_as_generated_are_kept_where_they_are_of_this_tokenizer_and_else_the_texts_are_read():
    tokenizer = byte_tokenizer()
    prompt_ids = encode_prompt(tokenizer, "ab")
    own = Example(1, "ab", "c", "d", prompt_ids, ids("c"), (*ids("d"), 1))  # as generated: the first was stopped
    other = replace(own, row=2, chosen_ids=(90, 1), rejected_ids=(91,))
    found = made([own, other])
    assert found.train[0].chosen_ids == ids("c") and found.train[1].chosen_ids == (*ids("c"), 1)
    assert any("1 pairs were generated with another tokenizer" in remark for remark in found.report.remarks)
    with pytest.raises(BadData, match="The ids of row 3 are not of this model's tokenizer. It has id 500"):
        made([Example(3, prompt_ids=(0,), chosen_ids=(500,), rejected_ids=(4,))])


def test_a_split_of_a_word_that_the_tokenizer_would_not_choose_is_kept_as_generated():
    (pair,) = in_other(Example(1, "x", "ab", "cd", (0, 4), (A, B, 1), (CD,), num_common=0)).train
    assert pair == TokenPair((0, 4), (A, B, 1), (CD,))


def test_an_empty_prompt_makes_no_foreign_ids_our_own():
    foreign = Example(1, "", "ab", "cd", (0,), (5, 6), (7, 8))  # all below the size of the vocabulary
    assert in_other(foreign).train == (TokenPair((0,), (AB, 1), (CD, 1)),)


def test_ids_behind_a_prompt_that_is_given_as_ids_keep_it():
    (pair,) = in_other(Example(1, "", "ab", "cd", (0, 4), (AB,), (CD,))).train
    assert pair == TokenPair((0, 4), (AB,), (CD,))


def test_ids_without_their_answers_texts_are_judged_by_the_prompt():
    assert in_other(Example(1, "x", prompt_ids=(0, 4), chosen_ids=(AB,), rejected_ids=(CD,))).train == (TokenPair((0, 4), (AB,), (CD,)),)
    with pytest.raises(BadData, match="The ids of row 7 are not of this model's tokenizer. Its `prompt` has other ids here."):
        in_other(Example(7, "x", prompt_ids=(0, 5), chosen_ids=(AB,), rejected_ids=(CD,)))


@pytest.mark.parametrize("wrong", [{"prompt_ids": (-1,)}, {"chosen_ids": (-5,)}, {"rejected_ids": (4, -5)}])
def test_negative_ids_are_nobodys(wrong):
    with pytest.raises(BadData, match="The ids of row 3 are not of this model's tokenizer. It has id -"):
        made([replace(Example(3, prompt_ids=(0,), chosen_ids=(5,), rejected_ids=(4,)), **wrong)])


def voted(**changes) -> Example:
    """Two answers that branch behind `abcd`, with the ids of `byte_tokenizer`."""
    known = {"prompt_ids": (0, *ids("x")), "chosen_ids": ids("abcdab"), "rejected_ids": ids("abcdcdx"), "num_common": 4}
    return Example(1, "x", "abcdab", "abcdcdx", **known | {"chosen_ended": False, "rejected_ended": False} | changes)


def test_a_branch_is_counted_in_the_tokens_that_are_trained_on():
    assert made([voted()]).train[0].num_common == 4
    (pair,) = in_other(voted()).train
    assert pair == TokenPair((0, 4), (AB, CD, AB), (AB, CD, CD, 4)) and pair.num_common == 2
    (texts,) = in_other(replace(voted(), prompt_ids=(), chosen_ids=(), rejected_ids=())).train
    assert texts == pair, "texts alone do not say whose tokens were counted"


def test_a_branch_of_ids_as_generated_counts_as_shared():
    assert made([Example(1, prompt_ids=(0,), chosen_ids=(5, 6), rejected_ids=(7, 8), num_common=1)]).train[0].num_common == 1


@pytest.mark.parametrize(
    ("span", "weights"),
    [
        ((4, 6, "bad"), (1.0, 1.0, 3.0, 1.0)),
        ((5, 7, "bad"), (1.0, 1.0, 3.0, 3.0)),
        ((3, 4, "bad"), (1.0, 3.0, 1.0, 1.0)),
        ((6, 7, "goes_wrong"), (1.0, 1.0, 1.0, 3.0)),
        ((0, 2, "good"), (1 / 3, 1.0, 1.0, 1.0)),
    ],
)
def test_marks_by_characters_lie_on_the_tokens_that_have_them(span, weights):
    example = voted(rejected_marks=((2, 3, "bad"),), rejected_spans=(span,))
    found = in_other(example)
    assert found.train[0].marks == weights and found.report.num_marked == 1
    assert not any("marks" in remark for remark in found.report.remarks)
    assert made([example]).train[0].marks == (1.0, 1.0, 3.0, *[1.0] * 4), "in its own tokenizer a mark by tokens is exact"
    assert made([replace(example, rejected_marks=())]).train[0].marks == tuple(map_of(span))


def map_of(span) -> list[float]:
    start, end, label = span
    return [{"bad": 3.0, "goes_wrong": 3.0, "good": 1 / 3}[label] if start <= i < (7 if label == "goes_wrong" else end) else 1.0 for i in range(7)]


def test_marks_by_tokens_of_another_model_are_left_out_and_that_is_said():
    found = in_other(voted(rejected_marks=((4, 6, "bad"),)))
    assert found.train[0].marks == () and found.report.num_marked == 0
    assert "The marks of 1 pairs belong to tokens of another model; they are ignored." in found.report.remarks


def test_a_mark_on_the_end_alone_lies_on_the_end_token():
    found = in_other(voted(rejected_spans=((7, 7, "goes_wrong"),), rejected_ended=True))
    assert found.train[0].rejected_ids == (AB, CD, CD, 4, 1) and found.train[0].marks == (1.0, 1.0, 1.0, 1.0, 3.0)


def test_the_split_is_by_prompt_and_by_its_hash_alone():
    examples = [Example(i, f"prompt {i % 40}", f"a{i}", f"b{i}") for i in range(120)]
    config = DataConfig(eval_fraction=0.3)
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
    found = made([Example(1, name, "a", "b")], DataConfig())
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


def test_a_spread_of_few_lengths_is_in_order():
    assert spread([6, 8]) == (8, 8, 8) and spread([4]) == (4, 4, 4) and spread(range(1, 101)) == (51, 95, 100)


def test_lengths_and_what_length_alone_explains():
    report = made([Example(i, f"p{i}", "aaaa", "b") for i in range(10)]).report
    assert report.prompt_tokens == (3, 3, 3) and report.answer_tokens == (5, 5, 5) and report.longer_chosen == 1.0
    assert "The longer answer was chosen in 100 % of pairs: the model may learn length." in report.remarks


def test_marks_weigh_the_prefixes_they_cover():
    assert mark_weights((), (), 3, 4.0) == ()
    assert mark_weights([(0, 2, "good")], [(2, 3, "bad")], 4, 4.0) == (4.0, 4.0, 4.0, 1.0)
    assert mark_weights([(1, 2, "bad")], [(0, 1, "good")], 3, 4.0) == (0.25, 0.25, 1.0)
    assert mark_weights([], [(2, 3, "goes_wrong")], 5, 4.0) == (1.0, 1.0, 4.0, 4.0, 4.0)
    (pair,) = made([Example(1, "a", "bc", "de", rejected_spans=((1, 2, "bad"),))]).train
    assert pair.marks == (1.0, 3.0, 1.0) and made([Example(1, "a", "b", "c")]).train[0].marks == ()


def test_margins_can_be_left_out():
    assert made([Example(1, "a", "b", "c", margin=0.5)], margin=0.0).train[0].margin == 0.0


def test_labelled_texts():
    found = made([Labelled(1, "a", "b", 1.0), Labelled(2, "a", "c", 0.5)])
    assert found.train == (TokenText((0, *ids("a")), (*ids("b"), 1), 1.0), TokenText((0, *ids("a")), (*ids("c"), 1), 0.5))
    assert found.report.kind == "texts"


def test_texts_with_more_than_one_label_are_counted_and_stay():
    rows = [Labelled(1, "a", "b", 1.0, rater="r"), Labelled(2, "a", "b", 0.0, rater="s"), Labelled(3, "a", "b", 0.5, rater="t")]
    rows += [Labelled(4, "a", "c", 1.0, rater="r"), Labelled(5, "a", "c", 1.0, rater="s"), Labelled(6, "x", "b", 0.0)]
    report = made(rows).report
    assert (report.num_contradictions, report.num_used) == (1, 6)
    assert "1 texts contradict each other: more than one label is in the data." in report.remarks
    assert (
        "1 pairs contradict each other: both directions are in the data."
        in made([Example(1, "a", "b", "c"), Example(2, "a", "c", "b")]).report.remarks
    )


def test_what_belongs_together_is_named_by_its_prompt_and_without_one_by_the_first_of_its_answers():
    assert split_keys([Labelled(1, "", "b"), Labelled(2, "a", "b")]) == ["b", "a"]
    assert split_keys([Example(1, "", "d", "c"), Example(2, "a", "b", "c")]) == ["c", "a"]
    assert split_keys([Example(1, (("user", "a"),), "b", "c")]) == ["a"]


def test_pairs_without_a_prompt_that_share_an_answer_stay_together():
    rows = [Example(1, "", "a", "b"), Example(2, "", "x", "c"), Example(3, "", "c", "b"), Example(4, "", "y", "z"), Example(5, "", "z", "w")]
    assert split_keys(rows) == ["a", "a", "a", "w", "w"]
    by_ids = [Example(1, prompt_ids=(0,), chosen_ids=(5,), rejected_ids=(6,)), Example(2, prompt_ids=(0,), chosen_ids=(7,), rejected_ids=(5,))]
    assert len(set(split_keys(by_ids))) == 1


def test_no_answer_without_a_prompt_stands_on_both_sides_of_the_split():
    rows = [Example(i, "", f"a{i % 60}", f"b{i // 2}") for i in range(120)]
    found = made(rows, DataConfig(eval_fraction=0.5))
    sides = [{side for pair in pairs for side in (pair.chosen_ids, pair.rejected_ids)} for pairs in (found.train, found.held_out)]
    assert all(sides) and not sides[0] & sides[1]


def test_rows_of_ids_belong_together_by_their_prompt_also_where_it_has_to_be_found():
    def found(*prompts: tuple[int, ...], given: bool) -> list[str]:
        return split_keys([Example(1, prompt_ids=ids, chosen_ids=(5,), rejected_ids=(6,), prompt_given=given) for ids in prompts])

    assert found((0, 4, 9), (0, 4, 9, 30), given=True) == ["[0, 4, 9]", "[0, 4, 9, 30]"]
    assert found((0, 4, 9, 30), (0, 4, 9), (0, 4, 9, 30, 7), (0, 4, 8), given=False) == ["[0, 4, 9]"] * 3 + ["[0, 4, 8]"]
    known, guessed = (
        Example(1, prompt_ids=ids, chosen_ids=(5,), rejected_ids=(6,), prompt_given=given) for ids, given in (((0, 4), True), ((0, 4, 9), False))
    )
    assert split_keys([guessed, known]) == ["[0, 4]", "[0, 4]"]


def test_ids_whose_prompt_had_to_be_found_are_remarked():
    rows = [Example(i, prompt_ids=(0, 4), chosen_ids=(5, i), rejected_ids=(6,), prompt_given=False) for i in (7, 8)]
    assert "2 pairs do not say where their prompt ends: the common beginning of both answers is taken as the prompt." in made(rows).report.remarks


def test_a_conversation_in_the_chat_template_and_as_plain_text():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    messages = (("user", "a"), ("assistant", "b"), ("user", "c"))
    chat = encode_prompt(tokenizer, messages, "chat", "be kind")
    assert tokenizer.decode(chat).endswith("[system]be kind[user]a[assistant]b[user]c[assistant]")
    assert transcript(messages) == "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    plain = encode_prompt(tokenizer, messages)
    assert plain == encode_prompt(tokenizer, transcript(messages)) and plain[0] == 0
    assert encode_response(tokenizer, messages, chat, "d", "chat") == ids("d")
    assert encode_response(tokenizer, messages, plain, "d") == ids(" d"), "as behind `Assistant:` in an earlier turn"
    assert encode_prompt(tokenizer, (("user", "a"),)) == encode_prompt(tokenizer, "a")


def test_a_parent_of_another_template_is_remarked():
    parent = ModelCard("reward_model", "old", template="chat", system_prompt="be kind")

    def remarks(card: ModelCard | None) -> tuple[str, ...]:
        return prepare([Example(1, "ab", "c", "d")], byte_tokenizer(), 64, VOCABULARY, CONFIG, card).report.remarks

    assert "`old` was trained with another template: chat with the system prompt “be kind”." in remarks(parent)
    assert not any("template" in r for card in (None, replace(parent, template="plain", system_prompt="")) for r in remarks(card))


def test_a_parent_that_was_trained_on_more_of_the_prompts_is_remarked():
    def remarks(held_out: float, kind: str = "reward_model") -> tuple[str, ...]:
        parent = ModelCard(kind, "old", training={"eval_fraction": held_out})
        return prepare([Example(1, "ab", "c", "d")], byte_tokenizer(), 64, VOCABULARY, DataConfig(eval_fraction=0.15), parent).report.remarks

    assert "`old` held out 5 % of prompts, this training 15 %: it may have been trained on some of them." in remarks(0.05)
    assert not any("kept" in remark for remark in (*remarks(0.15), *remarks(0.3), *remarks(0.05, "base_lm")))


@pytest.mark.parametrize("made_of", [lambda prompt, answer: Example(1, prompt, answer, "x"), lambda prompt, answer: Labelled(1, prompt, answer, 1.0)])
def test_an_answer_of_a_conversation_is_taught_as_it_is_continued(made_of):
    one, more = (("user", "is it good?"),), (("user", "Hi"), ("assistant", "A."), ("user", "Why?"))

    def text(prompt, answer: str) -> str:
        (item,) = made([made_of(prompt, answer)]).train
        answer_ids = item.chosen_ids if isinstance(item, TokenPair) else item.response_ids
        return byte_tokenizer().decode(item.prompt_ids[1:]) + "|" + byte_tokenizer().decode(answer_ids[:-1])

    assert text(one, "yes") == "is it good?| yes" == text(one, " yes")
    assert text(more, "So.") == "Human: HiĊĊAssistant: A.ĊĊHuman: Why?ĊĊAssistant:| So.".replace("Ċ", "")  # the tokenizer has no line ends
    assert text((("user", "it is "),), "good") == "it is |good" and text("it is", "n't") == "it is|n't"


def test_conversations_read_as_plain_text_are_remarked_where_there_is_a_chat_template():
    def remarks(prompt, template: str = "plain", chat: str | None = "{{ messages[0].content }}") -> list[str]:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = chat
        config = replace(CONFIG, template=template)
        return [r for r in prepare([Example(1, prompt, "c", "d")], tokenizer, 64, VOCABULARY, config).report.remarks if "conversations" in r]

    messages = (("user", "a"),)
    assert remarks(messages) == [
        "1 conversations are read as plain text, although this tokenizer has a chat template; choose the template `chat` to apply it."
    ]
    assert remarks("a") == remarks(messages, "chat") == remarks(messages, chat=None) == []


def test_a_chat_template_that_takes_no_system_prompt_or_not_these_turns_is_a_matter_of_settings_or_of_the_row():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}[{{ m.content }}]{% endfor %}"
    )
    config = replace(CONFIG, template="chat")
    with pytest.raises(
        BadSettings, match="chat template of this tokenizer refuses these messages. It says: No system role. Leave the system prompt empty"
    ):
        prepare([Example(1, "a", "b", "c")], tokenizer, 64, VOCABULARY, replace(config, system_prompt="be kind"))
    rows = [Example(1, "a", "b", "c"), Example(2, (("system", "be kind"), ("user", "a")), "b", "c")]
    with pytest.raises(BadData, match="Row 2 cannot be read by this tokenizer. .*refuses these messages. It says: No system role."):
        prepare(rows, tokenizer, 64, VOCABULARY, config)
    assert len(prepare(rows, tokenizer, 64, VOCABULARY, CONFIG).train) == 2
    found = prepare(rows, tokenizer, 64, VOCABULARY, replace(config, max_bad_rows=1))
    assert len(found.train) == 1 and found.report.dropped == (("unreadable", 1),)


# An id of `byte_tokenizer` is its character's code less 30: a 67, b 68, c 69, d 70, e 71, k 77, s 85, u 87, > 32; a space is 2.
READ = {  # template and system prompt: what `ab` becomes, as a prompt and as the one turn of a conversation
    ("plain", ""): (0, 67, 68),
    ("plain", "k"): (0, 67, 68),
    ("chat", ""): (87, 67, 68, 32),
    ("chat", "k"): (85, 77, 87, 67, 68, 32),
}


@pytest.mark.parametrize(("template", "system_prompt"), READ)
def test_every_kind_of_row_becomes_what_is_trained_on(template, system_prompt):
    tokenizer, prompt_ids = byte_tokenizer(), READ[template, system_prompt]
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    config = DataConfig(eval_fraction=0.0, template=template, system_prompt=system_prompt)

    def read(*rows):
        return prepare(rows, tokenizer, 64, VOCABULARY, config, margin=2.0, mark_weight=4.0).train

    assert read(Example(1, "ab", "c", "de", margin=0.5, weight=3.0, rejected_ended=False, rejected_spans=((1, 2, "bad"),))) == (
        TokenPair(prompt_ids, (69, 1), (70, 71), margin=1.0, weight=3.0, marks=(1.0, 4.0)),
    )
    space = (2,) if template == "plain" else ()
    turn = (("user", "ab"),)
    assert read(Example(1, turn, "c", "de")) == (TokenPair(prompt_ids, (*space, 69, 1), (*space, 70, 71, 1)),)
    voted = {
        "chosen_ids": (69, 70),
        "rejected_ids": (69, 71, 1),
        "num_common": 1,
        "chosen_marks": ((0, 1, "bad"),),
        "rejected_marks": ((1, 3, "bad"),),
    }
    wanted = TokenPair(prompt_ids, (69, 70), (69, 71, 1), margin=0.5, branch=1, marks=(0.25, 4.0, 4.0))
    assert read(Example(1, "ab", "cd", "ce", prompt_ids=(0, 67, 68), margin=0.25, **voted)) == (wanted,), (
        "ids as generated, the prompt in the template"
    )
    assert read(Example(1, prompt_ids=(0, 9), margin=0.25, **voted)) == (replace(wanted, prompt_ids=(0, 9)),), "ids alone stay as they are"
    assert read(Labelled(1, "ab", "c", 0.5, weight=2.0), Labelled(2, turn, "de", 1.0)) == (
        TokenText(prompt_ids, (69, 1), 0.5, 2.0),
        TokenText(prompt_ids, (*space, 70, 71, 1), 1.0),
    )


def test_the_system_prompt_of_a_conversation_stands_for_that_of_the_settings():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}>"
    config = replace(CONFIG, template="chat", system_prompt="e")
    rows = [Example(1, (("system", "k"), ("user", "a")), "c", "d"), Example(2, (("user", "a"),), "c", "d")]
    assert [pair.prompt_ids for pair in prepare(rows, tokenizer, 64, VOCABULARY, config).train] == [(77, 67, 32), (71, 67, 32)]


def test_a_share_far_from_what_was_asked_is_remarked():
    rows = [Example(i, f"p{i % 2}", f"a{i}", f"b{i}") for i in range(30)]
    report = prepare(rows, byte_tokenizer(), 64, 256, DataConfig(eval_fraction=0.2)).report
    share = report.num_held_out / 30
    assert share in (0.0, 0.5)
    assert any(f"{100 * share:.0f} % of pairs are held out instead of 20 %" in words for words in report.remarks)
    many = [Example(i, f"p{i}", f"a{i}", f"b{i}") for i in range(300)]
    assert not any("instead of" in words for words in prepare(many, byte_tokenizer(), 64, 256, DataConfig(eval_fraction=0.2)).report.remarks)


def test_texts_that_hold_the_markers_of_special_tokens_are_counted():
    rows = [
        Example(1, "<|im_start|>user\nHi<|im_end|>\n", "a", "b"),
        Example(2, "c", "d</s>", "e"),
        Example(3, "c", "d", "e"),
    ]
    (remark,) = [r for r in prepare(rows, byte_tokenizer(), 64, VOCABULARY, CONFIG).report.remarks if "special" in r]
    assert remark == "2 pairs contain special tokens as text (`</s>`, `<|im_end|>`, `<|im_start|>`): these are read as plain text."


def test_a_report_says_what_was_read_how_and_what_was_not():
    reading = Reading((Example(1, "ab", "c", "d"),), 4, "two answers and a winner", (("even", 2), ("unreadable", 1)), ("x", "y"), ("row 3: No.",))
    report = prepare(reading, byte_tokenizer(), 64, VOCABULARY, CONFIG).report
    assert (report.num_rows, report.num_used, dict(report.dropped)) == (4, 1, {"even": 2, "unreadable": 1})
    assert report.remarks[:3] == (
        "Read as: two answers and a winner.",
        "Columns that are not read: `x`, `y`.",
        "1 rows cannot be read and are dropped; row 3: No.",
    )
