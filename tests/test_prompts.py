"""Prompt and response between text and ids: nothing lost, nothing half, nothing taken for a marker."""

import random

import pytest
from tiny_models import byte_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerFast

from rgtg.errors import BadSettings, PromptTooLong
from rgtg.prompts import TextStream, TokenTexts, check_fits, decodes_to, encode_prompt, encode_response, pieces, transcript

PIECES = ["the ", "food", " was", "  ", "\n", ".", "é", "ß", "北京", "😀", "👨‍👩‍👧", "👍🏽", "\u0301", "\ufeff", "\x00"]


def all_bytes() -> PreTrainedTokenizerFast:
    """One token a byte, no start token, and a marker `<end>`."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def byte_fallback() -> PreTrainedTokenizerFast:
    """Letters as tokens with a leading `▁` for the space, all else as the bytes <0x00> … <0xFF>, as in Llama 2."""
    vocabulary = {"<s>": 0, "</s>": 1} | {f"<0x{b:02X}>": b + 2 for b in range(256)}
    vocabulary |= {piece: 258 + i for i, piece in enumerate(["▁", *"abcdefghijklmnopqrstuvwxyz.", "▁t", "▁f"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "t"), ("▁", "f")], byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def streamed(tokenizer, prompt_ids, ids) -> list[str]:
    stream = TextStream(tokenizer, prompt_ids)
    return [stream.push(i) for i in ids] + [stream.finish()]


def whole(tokenizer, prompt_ids, ids) -> str:
    """What the ids add to the text of the prompt, decoded at once."""
    before, after = (
        tokenizer.decode(list(i), skip_special_tokens=False, clean_up_tokenization_spaces=False).replace("\0", "\u2400")
        for i in (prompt_ids, [*prompt_ids, *ids])
    )
    assert after.startswith(before)
    return after[len(before) :]


def some_text(seed: int, num_pieces: int = 70) -> str:
    return "".join(random.Random(seed).choices(PIECES, k=num_pieces))


def check_text(tokenizer, prompt: str, seed: int) -> None:
    prompt_ids = encode_prompt(tokenizer, prompt)
    ids = tokenizer(some_text(seed), add_special_tokens=False)["input_ids"]
    pieces = streamed(tokenizer, prompt_ids, ids)
    assert "".join(pieces) == whole(tokenizer, prompt_ids, ids)
    assert "\ufffd" not in "".join(pieces)


def check_ids(tokenizer, prompt: str, seed: int, num_ids: int = 300) -> None:
    prompt_ids, rng = encode_prompt(tokenizer, prompt), random.Random(seed)
    ids = [rng.randrange(len(tokenizer)) for _ in range(num_ids)]
    assert "".join(streamed(tokenizer, prompt_ids, ids)) == whole(tokenizer, prompt_ids, ids)


def test_the_bytes_of_a_character_are_held_back_until_it_is_whole():
    tokenizer = all_bytes()
    ids = tokenizer("a😀é!")["input_ids"]
    assert len(ids) == 8
    assert streamed(tokenizer, encode_prompt(tokenizer, "x"), ids) == ["a", "", "", "", "😀", "", "é", "!", ""]


def test_bytes_that_never_become_a_character_are_shown_at_the_end():
    tokenizer = all_bytes()
    ids = tokenizer("a😀")["input_ids"][:3]
    assert streamed(tokenizer, encode_prompt(tokenizer, "x"), ids) == ["a", "", "", "\ufffd"]


def test_bytes_that_are_no_character_do_not_hold_back_what_follows():
    tokenizer = all_bytes()
    ids = [tokenizer("😀")["input_ids"][0], *tokenizer("ab")["input_ids"]]
    assert streamed(tokenizer, encode_prompt(tokenizer, "x"), ids) == ["", "\ufffda", "b", ""]


@pytest.mark.parametrize("make", [all_bytes, byte_tokenizer])
@pytest.mark.parametrize("seed", range(6))
def test_joined_pieces_are_the_text_of_long_random_ids(make, seed):
    check_ids(make(), "the food", seed)


@pytest.mark.parametrize("make", [all_bytes, byte_fallback])
@pytest.mark.parametrize("prompt", ["the food", "é北", "😀", " "])
@pytest.mark.parametrize("seed", range(4))
def test_joined_pieces_are_the_text_of_long_answers_with_characters_of_many_bytes(make, prompt, seed):
    check_text(make(), prompt, seed)


def test_a_leading_space_of_the_answer_is_kept():
    tokenizer = byte_fallback()
    prompt_ids = encode_prompt(tokenizer, "ab")
    ids = encode_prompt(tokenizer, "ab food the")[len(prompt_ids) :]
    assert streamed(tokenizer, prompt_ids, ids) == [" f", "o", "o", "d", " t", "h", "e", ""]


@pytest.mark.parametrize(
    ("text", "ended", "said"),
    [(" food", 0, True), (" food", 1, True), ("food", 1, True), (" foo", 0, False), ("", 0, False), ("food.", 0, False)],
)
def test_ids_are_a_text_where_they_say_it(text, ended, said):
    tokenizer = byte_fallback()
    prompt_ids = encode_prompt(tokenizer, "ab")
    ids = encode_prompt(tokenizer, "ab food")[len(prompt_ids) :]
    assert decodes_to(tokenizer, prompt_ids, (*ids, 1)[: len(ids) + ended], text) is said
    assert pieces(tokenizer, prompt_ids, (*ids, 1)) == [" f", "o", "o", "d", ""]


def test_half_a_character_at_the_end_is_not_held_against_ids():
    tokenizer = all_bytes()
    ids = tokenizer("a😀")["input_ids"]
    assert decodes_to(tokenizer, (5,), ids, "a😀") and decodes_to(tokenizer, (5,), ids[:-1], "a") and decodes_to(tokenizer, (5,), ids[:-1], "a\ufffd")
    assert not decodes_to(tokenizer, (5,), ids, "a") and pieces(tokenizer, (5,), ids) == ["a", "", "", "", "😀"]
    assert decodes_to(tokenizer, (5,), tokenizer("a\x00b")["input_ids"], "a\u2400b"), "as it is shown and kept"


def test_end_tokens_add_nothing():
    tokenizer = all_bytes()
    stream = TextStream(tokenizer, (5,), frozenset({tokenizer.eos_token_id}))
    assert [stream.push(i) for i in (*tokenizer("ab")["input_ids"], tokenizer.eos_token_id)] == ["a", "b", ""]
    assert stream.finish() == ""


def test_a_prompt_begins_with_the_start_token_of_its_tokenizer_if_it_has_one():
    assert encode_prompt(byte_tokenizer(), "ab") == (0, 67, 68)
    assert encode_prompt(all_bytes(), "ab") == tuple(all_bytes()("ab")["input_ids"])


def test_markers_inside_a_prompt_stay_text():
    tokenizer = byte_tokenizer()
    ids = encode_prompt(tokenizer, "a<s>b</s>")
    assert ids.count(0) == 1 and 1 not in ids and len(ids) == 1 + len("a<s>b</s>")
    assert tokenizer.decode(ids[1:]) == "a<s>b</s>"
    assert tokenizer("a</s>")["input_ids"][-1] == 1, "the tokenizer itself is as before"


def test_an_end_token_that_the_tokenizer_adds_is_taken_off():
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    assert tokenizer("ab")["input_ids"] == [0, 67, 68, 1]
    assert encode_prompt(tokenizer, "ab") == (0, 67, 68)


def test_an_empty_prompt_begins_at_the_start_token():
    assert encode_prompt(byte_tokenizer(), "") == (0,)
    tokenizer = all_bytes()
    assert encode_prompt(tokenizer, "") == (tokenizer.eos_token_id,)
    tokenizer.eos_token = None
    with pytest.raises(BadSettings, match="The prompt is empty. This tokenizer has no start token"):
        encode_prompt(tokenizer, "")


@pytest.mark.parametrize("make", [byte_tokenizer, all_bytes, byte_fallback])
def test_an_answer_follows_a_conversation_as_an_earlier_one_did(make):
    tokenizer, asked = make(), (("user", "a"), ("assistant", "b."), ("user", "c"))
    prompt_ids = encode_prompt(tokenizer, asked)
    turns = encode_prompt(tokenizer, (*asked, ("assistant", "d e"), ("user", "f")))
    answer = encode_response(tokenizer, asked, prompt_ids, "d e")
    assert turns[: len(prompt_ids) + len(answer)] == prompt_ids + answer == encode_prompt(tokenizer, transcript(asked) + " d e")
    assert encode_response(tokenizer, asked, prompt_ids, " d e") == answer


def test_an_unknown_template_is_refused():
    with pytest.raises(BadSettings, match="no template `chatml`. The templates are: plain, chat."):
        encode_prompt(byte_tokenizer(), "a", "chatml")


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers():
    check_fits(2024, 24, "starter", 2048)
    message = r"The prompt has 2,025 tokens; `starter` reads 2,048 and 24 are kept for the answer\. Shorten it"
    with pytest.raises(PromptTooLong, match=message):
        check_fits(2025, 24, "starter", 2048)


def test_single_tokens_show_their_text_and_half_characters_their_name():
    texts = TokenTexts(all_bytes())
    first = all_bytes()("é")["input_ids"][0]
    assert texts.text(all_bytes()("a")["input_ids"][0]) == "a"
    assert texts.text(first) == "⟨Ã⟩"
    assert TokenTexts(byte_tokenizer()).text(1) == "</s>"


def test_a_lone_piece_shows_the_space_that_its_decoder_drops():
    tokenizer = byte_fallback()
    texts = TokenTexts(tokenizer)
    assert [texts.text(tokenizer.convert_tokens_to_ids(t)) for t in ("▁t", "a", "<0xF0>", "<0x41>")] == [" t", "a", "⟨<0xF0>⟩", "A"]


@pytest.mark.slow
def test_gpt2_tokens_are_held_back_and_join_to_the_text(shared):
    tokenizer = GPT2TokenizerFast.from_pretrained(shared / "tokenizers" / "gpt2")
    ids = tokenizer("a😀")["input_ids"]
    assert streamed(tokenizer, (64,), ids) == ["a", "", "😀", ""] and len(ids) == 3
    assert 50256 not in encode_prompt(tokenizer, "a<|endoftext|>b")
    for seed in range(30):
        check_ids(tokenizer, "the food", seed)
        check_text(tokenizer, "é北😀", seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260k", "tinystories-656k"])
def test_real_small_models_prompts_are_cut_by_number_of_ids_and_answers_join(shared, name):
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / name)
    prompt_ids = encode_prompt(tokenizer, "Once upon a time")
    assert prompt_ids[0] == tokenizer.bos_token_id and prompt_ids.count(tokenizer.bos_token_id) == 1
    ids = tokenizer("there was a dog. ", add_special_tokens=False)["input_ids"]
    text = "".join(streamed(tokenizer, prompt_ids, ids))
    assert text == whole(tokenizer, prompt_ids, ids) and "there was a dog" in text and tokenizer.bos_token not in text
    for seed in range(30):
        prompt_ids = encode_prompt(tokenizer, "Once é北")
        ids = tokenizer(some_text(seed).replace("\x00", ""), add_special_tokens=False)["input_ids"]
        assert "".join(streamed(tokenizer, prompt_ids, ids)) == whole(tokenizer, prompt_ids, ids)


def test_several_chat_templates_without_a_default_are_named():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"tool_use": "{{ messages }}", "rag": "{{ messages }}"}
    with pytest.raises(
        BadSettings, match=r"several chat templates, and none is its default\. It has: 'tool_use', 'rag'\. Choose the template `plain`"
    ):
        encode_prompt(tokenizer, "Hi", "chat")
    tokenizer.chat_template = {"default": "{{ messages[0].content }}", "rag": "x"}
    assert encode_prompt(tokenizer, "Hi", "chat") == tuple(tokenizer("Hi", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    "template",
    ["{{ messages + 1 }}", "{{ 1 / 0 }}", "{{ messages[7].content.x }}", "{% for %}", "{{ messages[0]['content'][9999999999999999999999:] + 5 }}"],
)
def test_a_chat_template_that_fails_is_named_with_what_it_ran_into(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(BadSettings, match=r"The chat template of this tokenizer .* It (says|fails): "):
        encode_prompt(tokenizer, "Hi", "chat")
