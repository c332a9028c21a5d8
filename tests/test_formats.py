"""Rows of every usual shape become one shape; a row that cannot be read is refused by its number."""

import csv
import json
import re

import pandas
import pytest

from rgtg.errors import BadData
from rgtg.preferences.formats import Example, Labelled, read, read_back, read_examples, write_back

HI, A, B = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "A"), ("assistant", "B")))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(tmp_path, row):
    (found,) = read_examples(write(tmp_path / "rows.jsonl", [row]))
    return found


def test_prompt_chosen_rejected(tmp_path):
    row = {"prompt": "the food was", "chosen": " good", "rejected": " bad", "margin": 0.5, "rater_id": "r", "chosen_stop_reason": "max_new_tokens"}
    assert one(tmp_path, row) == Example(1, "the food was", " good", " bad", margin=0.5, rater="r", chosen_ended=False)


def test_dialogues_are_cut_before_the_last_answer(tmp_path):
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    found = one(tmp_path, {"chosen": start + " So.", "rejected": start + " No."})
    assert (found.prompt, found.chosen, found.rejected) == (start, " So.", " No.")


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
        {"prompt": [HI], "chosen": [A], "rejected": [B]},
        {"prompt": "Hi", "chosen": [A], "rejected": [B]},
        {"chosen": [HI, A], "rejected": [HI, B]},
        {"prompt": "Hi", "chosen": [HI, A], "rejected": [HI, B]},
        {"prompt": [HI], "chosen": [HI, A], "rejected": [B]},
        {"prompt": "Hi\n", "chosen": [HI, A], "rejected": [HI, B]},
    ],
    ids=["ShareGPT", "chat lists", "a prompt as text", "prompt in both sides", "UltraFeedback", "in one side too", "with a blank at its end"],
)
def test_conversations(tmp_path, row):
    assert one(tmp_path, row) == Example(1, (("user", "Hi"),), "A", "B")


BE_KIND, WHY = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Hi", "chosen": [HI, B, WHY, A], "rejected": [HI, B, WHY, B]}, "Hi B Why?"),
        ({"prompt": "Why?", "chosen": [HI, B, WHY, A], "rejected": [HI, B, WHY, B]}, "Hi B Why?"),
        ({"prompt": [HI, B], "chosen": [WHY, A], "rejected": [WHY, B]}, "Hi B Why?"),
        ({"prompt": "Hi", "chosen": [BE_KIND, HI, A], "rejected": [BE_KIND, HI, B]}, "Be kind. Hi"),
        ({"system": "Be kind.", "prompt": "Hi", "chosen": [HI, A], "rejected": [BE_KIND, HI, B]}, "Be kind. Hi"),
        ({"system": "Be kind.", "chosen": [BE_KIND, HI, A], "rejected": [BE_KIND, HI, B]}, "Be kind. Hi"),
    ],
    ids=["first turn", "last turn", "turns before", "system in both sides", "system apart", "system twice"],
)
def test_no_turn_of_a_prompt_is_read_twice(tmp_path, row, prompt):
    found = one(tmp_path, row)
    assert (" ".join(content for _, content in found.prompt), found.chosen, found.rejected) == (prompt, "A", "B")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt_ids": [0, 4], "chosen_ids": [5, 1], "rejected_ids": [6]},
        {"num_prompt_ids": 2, "chosen_ids": [0, 4, 5, 1], "rejected_ids": [0, 4, 6]},
        {"chosen_ids": [0, 4, 5, 1], "rejected_ids": [0, 4, 6]},
    ],
    ids=["prompt apart", "as the export writes it", "what both begin with"],
)
def test_token_ids(tmp_path, row):
    found = one(tmp_path, row)
    assert (found.prompt_ids, found.chosen_ids, found.rejected_ids) == ((0, 4), (5, 1), (6,))
    assert found.prompt_given is ("prompt_ids" in row or "num_prompt_ids" in row)


def test_marks_are_read_by_tokens_and_by_characters(tmp_path):
    row = {"prompt": "a", "chosen": "bc", "rejected": "de", "chosen_marks": [[0, 1, "good"]], "rejected_spans": [[1, 2, "bad"]], "num_common": 1}
    found = one(tmp_path, row)
    assert (found.chosen_marks, found.rejected_spans, found.num_common) == (((0, 1, "good"),), ((1, 2, "bad"),), 1)
    assert one(tmp_path, {"chosen_ids": [0, 4, 5, 1], "rejected_ids": [0, 4, 6], "num_common": 1}).num_common == 0, "the shared ids are its prompt"
    for wrong in ([-1, 2, "bad"], [2, 1, "bad"], [0, 1, "nice"]):
        with pytest.raises(BadData, match=r"Row 1 .*`rejected_marks` has \["):
            one(tmp_path, row | {"rejected_marks": [wrong]})


@pytest.mark.parametrize(
    ("row", "prompt", "label"),
    [
        ({"text": " good", "label": 1}, "", 1.0),
        ({"prompt": "it is", "completion": " good", "label": 0.25}, "it is", 0.25),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " good"}], "label": True}, (("user", "Hi"),), 1.0),
    ],
)
def test_labelled_texts(tmp_path, row, prompt, label):
    assert one(tmp_path, row) == Labelled(1, prompt, " good", label)


@pytest.mark.parametrize("turns", [[HI, A], [BE_KIND, HI, A]])
def test_the_system_prompt_of_a_labelled_conversation_is_read_once(tmp_path, turns):
    prompt = (("system", "Be kind."), ("user", "Hi"))
    assert one(tmp_path, {"system": "Be kind.", "messages": turns, "label": 1}) == Labelled(1, prompt, "A", 1.0)


def test_an_answer_that_nobody_asked_for_has_an_empty_prompt(tmp_path):
    assert one(tmp_path, {"messages": [A], "label": 1}) == Labelled(1, "", "A", 1.0)
    assert one(tmp_path, {"chosen": [A], "rejected": [B]}) == Example(1, "", "A", "B")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "x", "rejected": "y"}, "Row 2 .*nothing in common at their beginning, and there is no `prompt`"),
        ({"num_prompt_ids": 2, "chosen_ids": [0, 4, 5], "rejected_ids": [0, 3, 6]}, "Row 2 .*first 2 ids of its sides differ"),
        ({"prompt": "a", "answer": "b"}, "Row 2 .*is no preference. It has `prompt`, `answer`."),
        ({"prompt": "a", "chosen": 3, "rejected": 4}, "Row 2 .*`chosen` is a number \\(3\\), not a text"),
        ({"text": "a", "label": 7}, "Row 2 .*label is 7. Labels lie between 0 and 1."),
        ({"text": "a", "label": 1}, "mixes pairs and labelled texts. Row 2"),
        (["a"], "Row 2 .*It is a list, not an object with names; it is no preference."),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_row(tmp_path, row, said):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}, row])
    with pytest.raises(BadData, match=said):
        read_examples(path)


def test_a_row_that_is_no_preference_is_left_out_and_counted(tmp_path):
    start = "\n\nHuman: Hi\n\nAssistant:"
    rows = [
        {"chosen": f"{start} A", "rejected": f"{start} B"},
        {"chosen": f"{start} A", "rejected": f"{start} B\n\nHuman: Why?\n\nAssistant: So."},
        {"chosen": f"{start} A\n\nHuman: Bye.", "rejected": f"{start} B\n\nHuman: Bye."},
        {"chosen": [HI, A, WHY], "rejected": [HI, B]},
        {"prompt": start, "chosen": " A\n\nHuman: Bye.", "rejected": " B"},
    ]
    found = read(write(tmp_path / "rows.jsonl", rows))
    assert [(example.row, example.prompt, example.chosen, example.rejected) for example in found.examples] == [(1, start, " A", " B")]
    assert (found.num_rows, dict(found.left_out)) == (5, {"other_prompts": 1, "no_answer": 3})
    with pytest.raises(BadData, match="Of 1 rows 1 left out .its sides answer different prompts.. Row 1: .*from character 10 on"):
        read(write(tmp_path / "none.jsonl", [{"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}]))


def test_rows_that_cannot_be_read_are_dropped_and_counted_up_to_a_limit(tmp_path):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path = write(tmp_path / "rows.jsonl", [good, good | {"rejected": None}, good, good | {"chosen": 5}])
    with pytest.raises(BadData, match="Row 2 .*`rejected` is null: there is nothing in it."):
        read(path)
    with pytest.raises(BadData, match="Row 4 .*More than 1 rows cannot be read; row 2: `rejected` is null.*; row 4: `chosen` is a number"):
        read(path, max_bad_rows=1)
    found = read(path, max_bad_rows=2)
    assert [example.row for example in found.examples] == [1, 3] and dict(found.left_out) == {"unreadable": 2}
    assert found.faults == ("row 2: `rejected` is null: there is nothing in it.", "row 4: `chosen` is a number (5), not a text.")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"chosen": "Q: Hi A: The cat", "rejected": "Q: Hi A: They"}, ("Q: Hi A:", " The cat", " They")),
        ({"chosen": "Hi? Yes", "rejected": "Hi? Yes, sir"}, ("Hi?", " Yes", " Yes, sir")),
        ({"chosen": "你好吗？好", "rejected": "你好吗？不"}, ("你好吗？", "好", "不")),
    ],
)
def test_texts_that_begin_alike_have_their_prompt_in_common(tmp_path, row, found):
    example = one(tmp_path, row)
    assert (example.prompt, example.chosen, example.rejected, example.prompt_given) == (*found, False)


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ({"system": "Be kind."}, (("system", "Be kind."), ("user", "Hi"))),
        ({"history": [["a", "b"]]}, (("user", "a"), ("assistant", "b"), ("user", "Hi"))),
        ({"history": [["a", "b"]], "system": "s"}, (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "Hi"))),
        ({"system": "", "history": []}, "Hi"),
        ({"messages": [HI, A]}, "Hi"),
    ],
)
def test_what_stands_before_a_prompt_is_read(tmp_path, more, prompt):
    found = one(tmp_path, {"prompt": "Hi", "chosen": "A", "rejected": "B"} | more)
    assert (found.prompt, found.chosen, found.rejected) == (prompt, "A", "B")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [HI, A], "chosen": [HI, A], "rejected": [HI, B]},
        {"messages": [HI, A], "chosen": [A], "rejected": [B]},
        {"messages": [HI, A], "chosen": "A", "rejected": "B"},
        {"messages": [HI], "chosen": "A", "rejected": "B"},
        {"prompt": json.dumps([HI]), "chosen": json.dumps([HI, A]), "rejected": json.dumps([HI, B])},
        {"prompt": "Hi", "chosen": "[{'role': 'assistant', 'content': 'A'}]", "rejected": json.dumps(B)},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "chosen": A, "rejected": B},
        {"input": {"messages": [HI]}, "preferred_output": [A], "non_preferred_output": [B]},
        {"trajectory": [{"from": "user", "value": "Hi"}], "chosen": "A", "rejected": "B"},
    ],
)
def test_a_conversation_is_read_wherever_it_stands_and_never_with_its_answer_as_prompt(tmp_path, row):
    found = one(tmp_path, row)
    assert (found.prompt, found.chosen, found.rejected) == ((("user", "Hi"),), "A", "B")


@pytest.mark.parametrize("column", ["input", "history", "messages"])
def test_a_known_column_that_is_not_read_is_named(tmp_path, column):
    value = [HI, A] if column == "messages" else "x"
    found = read(write(tmp_path / "rows.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", column: value}]))
    assert found.not_read == (column,) and found.examples[0].prompt == "a"


def test_a_prompt_that_is_said_to_be_empty_is_empty(tmp_path):
    assert one(tmp_path, {"prompt": "", "chosen": "the food was", "rejected": "the food is"}) == Example(1, "", "the food was", "the food is")
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected\n,a b,a c\n")
    assert read_examples(tmp_path / "rows.csv") == [Example(1, "", "a b", "a c")]


def test_answers_that_repeat_their_prompt_are_read_without_it(tmp_path):
    assert one(tmp_path, {"prompt": "What is tea?", "chosen": "What is tea? A", "rejected": "What is tea? B"}) == Example(
        1, "What is tea?", " A", " B"
    )
    assert one(tmp_path, {"prompt": "What is tea?", "chosen": "What is tea? A", "rejected": "B"}).chosen == "What is tea? A"


def test_an_answer_may_be_json(tmp_path):
    assert one(tmp_path, {"prompt": "a", "chosen": '{"x": 1}', "rejected": "[Verse]"}) == Example(1, "a", '{"x": 1}', "[Verse]")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("[{'role': 'assistant', 'content': 'A'}\n {'role': 'user', 'content': 'B'}]", "`chosen` begins a list or an object, but is no JSON"),
        ('{"x": 1}', "`chosen` holds a JSON value that is no text and no conversation"),
        ('["a", "b"]', "`chosen` is a list of 2 texts, which does not say whose turn each is"),
        ('[{"role": "tool", "content": "b"}]', "A message of `chosen` is from `tool`"),
    ],
)
def test_a_cell_that_begins_like_json_is_read_as_it_or_refused(tmp_path, cell, words):
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt", "chosen", "rejected"], ["a", cell, "b"]])
    with pytest.raises(BadData, match=f"Row 1 .*{re.escape(words)}"):
        read(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chosen_ids": [2.7]}, "`chosen_ids` has a number (2.7). Ids are whole numbers"),
        ({"chosen_ids": "123"}, "`chosen_ids` is a text (123), not a list of ids"),
        ({"rejected_ids": ["5"]}, "`rejected_ids` has a text (5)"),
        ({"prompt_ids": [True]}, "`prompt_ids` has true or false (true)"),
        ({"prompt_ids": [None]}, "`prompt_ids` has null"),
        ({"prompt_ids": None, "num_prompt_ids": -1}, "Its `num_prompt_ids` is -1"),
        ({"prompt_ids": None, "num_prompt_ids": 0.5}, "Its `num_prompt_ids` is 0.5. It has to be a whole number"),
        ({"prompt_ids": None, "num_prompt_ids": 9}, "`num_prompt_ids` is 9, and a side has 2 ids"),
        ({"num_common": 1.5}, "Its `num_common` is 1.5"),
        ({"chosen_marks": [[0, 1.5, "good"]]}, "`chosen_marks` has [0, 1.5, 'good']"),
        ({"weight": "much"}, "Its `weight` is a text (much), not a number"),
        ({"rater_id": {"a": 1}}, "`rater_id` is an object, not a text"),
    ],
)
def test_what_is_no_id_and_no_number_is_not_made_one(tmp_path, changes, words):
    row = {"prompt_ids": [0], "chosen_ids": [4, 1], "rejected_ids": [5, 1]}
    with pytest.raises(BadData, match=f"Row 1 .*{re.escape(words)}"):
        one(tmp_path, row | changes)


@pytest.mark.parametrize(("label", "value"), [("True", 1.0), ("false", 0.0), ("0.25", 0.25), ("1", 1.0)])
def test_a_label_in_a_cell_is_read(tmp_path, label, value):
    (tmp_path / "rows.csv").write_text(f"prompt,response,label\na,b,{label}\n")
    assert read_examples(tmp_path / "rows.csv") == [Labelled(1, "a", "b", value)]


def test_a_reading_comes_back_as_it_was_written(tmp_path):
    rows = [{"prompt": [HI], "chosen": [A], "rejected": [B], "x": 1}, {"chosen": "Q: a", "rejected": "Q: b", "chosen_spans": [[0, 1, "bad"]]}]
    reading = read(write(tmp_path / "rows.jsonl", [*rows, {"prompt": 5}]), max_bad_rows=1)
    facts = json.loads(json.dumps(write_back(reading, tmp_path / "back.jsonl")))
    assert read_back(tmp_path / "back.jsonl", facts) == reading
    assert reading.not_read == ("x",)


def test_more_text_than_is_read_at_once_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.preferences.formats.MAX_CHARACTERS", 100_000)
    table = pandas.DataFrame({"prompt": ["a"] * 500, "chosen": ["b" * 1000] * 500, "rejected": ["c"] * 500})
    table.to_parquet(tmp_path / "rows.parquet")
    assert (tmp_path / "rows.parquet").stat().st_size < 10_000
    with pytest.raises(BadData, match="is larger than what is read at once. .*100,000 characters up to row 100"):
        read(tmp_path / "rows.parquet")


def test_other_files(tmp_path):
    wanted = [Example(1, "a", "b", "c"), Example(2, "d", "e", "f")]
    rows = [{"prompt": e.prompt, "chosen": e.chosen, "rejected": e.rejected} for e in wanted]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected\na,b,c\nd,e,f\n")
    assert read_examples(tmp_path / "rows.json") == read_examples(tmp_path / "rows.csv") == wanted


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadData, match="There are no preferences at `nowhere.jsonl`. It is neither a file here"):
        read_examples("nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadData, match="holds no preferences"):
        read_examples(tmp_path / "empty.jsonl")
    (tmp_path / "torn.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": ')
    with pytest.raises(BadData, match="Row 2 of .*torn.jsonl` cannot be used. It breaks off before its end."):
        read_examples(tmp_path / "torn.jsonl")


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadData, match=r"`rows.parquet` cannot be read\. It is called .parquet and is none, or it breaks off\. Write it"):
        read_examples(tmp_path / "rows.parquet")


def test_what_a_parquet_file_lacks_is_not_there(tmp_path):
    columns = {
        "prompt": [[HI], [HI]],
        "chosen": [[A], [A]],
        "rejected": [[B], [B]],
        "margin": [0.5, None],
        "weight": [None, 2],
        "system": [None, "s"],
    }
    pandas.DataFrame(columns).to_parquet(tmp_path / "rows.parquet")
    prompts = (("user", "Hi"),), (("system", "s"), ("user", "Hi"))
    assert read_examples(tmp_path / "rows.parquet") == [Example(1, prompts[0], "A", "B", margin=0.5), Example(2, prompts[1], "A", "B", weight=2.0)]


def test_ids_are_read_from_parquet(tmp_path):
    pandas.DataFrame(
        {"prompt": ["a"], "chosen": ["bc"], "rejected": ["d"], "chosen_ids": [[4, 5]], "rejected_ids": [[6]], "prompt_ids": [[0, 3]]}
    ).to_parquet(tmp_path / "rows.parquet")
    assert read_examples(tmp_path / "rows.parquet") == [Example(1, "a", "bc", "d", (0, 3), (4, 5), (6,))]


def test_a_table_of_excel_with_long_fields_and_gaps_is_read(tmp_path):
    (tmp_path / "rows.csv").write_text(f"\ufeffprompt,chosen,rejected,margin,weight\na,{'b' * 200_000},c,,\n", encoding="utf-8")
    assert read_examples(tmp_path / "rows.csv") == [Example(1, "a", "b" * 200_000, "c")]


@pytest.mark.parametrize("key", ["margin", "weight", "num_common"])
@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_weights_and_margins_are_finite_and_not_negative(tmp_path, key, value, shown):
    with pytest.raises(BadData, match=f"Row 1 .*cannot be used. Its `{key}` is {shown}. It has to be a number from 0 on."):
        one(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c", key: value})


def test_a_weight_of_nothing_is_kept(tmp_path):
    assert (
        one(tmp_path, {"text": "a", "label": 1, "weight": 0}).weight
        == 0.0
        == one(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c", "weight": 0}).weight
    )
    with pytest.raises(BadData, match="Its `weight` is -1"):
        one(tmp_path, {"text": "a", "label": 1, "weight": -1})


HALF = "x \ud83d"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": HALF, "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": HALF, "rejected": "c"},
        {"prompt": [{"role": "user", "content": HALF}], "chosen": [A], "rejected": [B]},
        {"text": HALF, "label": 1},
        {"prompt": HALF, "prompt_ids": [0], "chosen_ids": [4], "rejected_ids": [5]},
    ],
)
def test_half_a_character_is_refused_by_its_row(tmp_path, row):
    with pytest.raises(BadData, match=r"Row 1 .*`.*` holds half of a character: its character 3. Write the file again"):
        one(tmp_path, row)


@pytest.mark.parametrize("key", ["prompt_ids", "chosen_ids", "rejected_ids"])
def test_negative_ids_are_refused_by_their_row(tmp_path, key):
    row = {"prompt_ids": [0], "chosen_ids": [4], "rejected_ids": [5]}
    with pytest.raises(BadData, match=f"Row 1 .*`{key}` has -7. Ids count from 0."):
        one(tmp_path, row | {key: [3, -7]})


def test_the_texts_beside_ids_may_be_conversations(tmp_path):
    row = {"prompt": [HI], "chosen": [A], "rejected": [B], "prompt_ids": [0], "chosen_ids": [4], "rejected_ids": [5]}
    assert one(tmp_path, row) == Example(1, (("user", "Hi"),), "A", "B", (0,), (4,), (5,))


@pytest.mark.slow
def test_the_real_files_are_read(shared):
    folder = shared / "preferences"
    pairs = read_examples(folder / "hh_human_pairs.jsonl")
    assert len(pairs) == 4043 and pairs[0].prompt.endswith("Assistant:")
    shareGPT = read_examples(folder / "sharegpt_dpo_demo.json")
    assert len(shareGPT) == 300 and shareGPT[0].prompt[0][0] == "user"
    texts = read_examples(folder / "sharegpt_kto_demo.json")
    assert len(texts) == 300 and {text.label for text in texts} == {0.0, 1.0}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set `owner/prefs` where `load_dataset` looks before it asks the hub, with a subset of two splits."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "prefs"
    folder.mkdir(parents=True)
    for name in ("all", "train_prefs", "test_prefs"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "chosen": "a", "rejected": "b"}) + "\n")
    configs = "- config_name: default\n  data_files: all.jsonl\n- config_name: small\n  data_files:\n"
    configs += "".join(f"  - split: {name}\n    path: {name}.jsonl\n" for name in ("train_prefs", "test_prefs"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("name", "split", "prompt"),
    [
        ("owner/prefs", "train", "all"),
        ("owner/prefs/default", "train", "all"),
        ("owner/prefs/small", "test_prefs", "test_prefs"),
        ("owner/prefs/small/train_prefs", "train", "train_prefs"),
    ],
)
def test_a_data_set_of_the_hub_may_name_its_subset_and_split(hub, name, split, prompt):
    assert [example.prompt for example in read_examples(name, split)] == [prompt]


@pytest.mark.parametrize("name", ["owner/prefs/small/nothing", "owner/prefs/none", "nobody", "nobody/", "a/b/c/d/e", "./nobody/x", "nobody//x"])
def test_a_data_set_that_is_not_there_is_refused_in_words(hub, name):
    with pytest.raises(BadData, match="no preferences at|did not give the data set"):
        read_examples(name)


TREE = [  # (message_id, parent_id, role, text, rank), in no order
    ("c", "a", "assistant", "So.", 1),
    ("a", None, "prompter", "Why?", None),
    ("b", "a", "assistant", "Because.", 0),
    ("d", "b", "prompter", "And?", None),
    ("e", "d", "assistant", "Yes.", 2),
    ("f", "d", "assistant", "No.", 0),
    ("g", "gone", "assistant", "No.", 0),
    ("h", "c", "assistant", "Alone.", 0),
    ("i", "a", "assistant", "Unranked.", None),
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_messages_of_a_tree_are_ranked_answers_behind_what_leads_to_them(tmp_path, suffix):
    frame = pandas.DataFrame([dict(zip(("message_id", "parent_id", "role", "text", "rank"), row, strict=True)) | {"lang": "en"} for row in TREE])
    path = tmp_path / f"tree.{suffix}"
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    found = read(path)
    asked = (("user", "Why?"), ("assistant", "Because."), ("user", "And?"))
    assert [(e.row, e.prompt, e.chosen, e.rejected) for e in found.examples] == [(3, asked[:1], "Because.", "So."), (6, asked, "No.", "Yes.")]
    assert found.read_as == "ranked answers of a message tree, each behind the messages that lead to it"
    assert found.left_out == (("alone", 1), ("no_parent", 1)) and found.not_read == ("lang",)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "b", "prompter", "x", None), ("b", "a", "assistant", "y", 0)], "the message it answers is missing"),  # a circle
        ([("a", None, "prompter", "x", None), ("a", None, "prompter", "y", None)], "Row 2 .* `a` stands in the file twice"),
        ([("a", None, "prompter", "x", None), ("b", "a", "judge", "y", 0)], "Row 2 .* from `judge`"),
        ([("a", None, "prompter", "x", None), ("b", "a", "assistant", "y", "best")], "`rank`"),
    ],
)
def test_a_tree_that_is_none_is_refused(tmp_path, rows, words):
    lines = [json.dumps(dict(zip(("message_id", "parent_id", "role", "text", "rank"), row, strict=True))) for row in rows]
    (tmp_path / "tree.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadData, match=words):
        read(tmp_path / "tree.jsonl")
