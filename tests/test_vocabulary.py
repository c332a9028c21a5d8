"""Which models have the same tokens, seen in their files alone."""

import json
from pathlib import Path

import pytest

from rgtg.errors import TokenizerMismatch
from rgtg.models.vocabulary import check_family, token_ids


def put(folder: Path, vocabulary: dict | list, added: tuple = ()) -> tuple[str, Path]:
    folder.mkdir()
    added_tokens = [{"id": number, "content": token} for token, number in added]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added_tokens}))
    return folder.name, folder


def test_tokens_and_ids_are_read_of_both_kinds_of_table(tmp_path):
    assert token_ids(put(tmp_path / "bpe", {"a": 0, "b": 1}, (("<s>", 2),))[1]) == {"a": 0, "b": 1, "<s>": 2}
    assert token_ids(put(tmp_path / "unigram", [["a", -1.5], ["b", -2.0]])[1]) == {"a": 0, "b": 1}
    assert token_ids(tmp_path / "nothing") == {}


def test_another_family_is_refused_with_what_they_share(tmp_path):
    lm = put(tmp_path / "lm", {"a": 0, "b": 1, "c": 2, "d": 3})
    with pytest.raises(TokenizerMismatch, match=r"`lm` do not share a tokenizer\. `rm` has 5 tokens, `lm` has 4; 1 have the same id in both\."):
        check_family(put(tmp_path / "rm", {"a": 0, "b": 2, "c": 1, "x": 3, "y": 4}), lm)


def test_what_is_nearly_alike_or_cannot_be_read_is_left_to_the_tokenizers(tmp_path):
    lm = put(tmp_path / "lm", {"a": 0, "b": 1, "c": 2, "d": 3})
    check_family(put(tmp_path / "more", {"a": 0, "b": 1, "c": 2, "d": 3}, (("[PAD]", 4),)), lm)
    check_family(put(tmp_path / "half", {"a": 0, "b": 1, "x": 2, "y": 3}), lm)
    for name, vocabulary in (("wrong", 5), ("list", [1, 2]), ("empty", {})):
        check_family(put(tmp_path / name, vocabulary), lm)
    check_family(("hub", Path("owner/name")), lm)
