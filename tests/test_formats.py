"""Rows of every usual shape become one shape; a row that cannot be read is refused by its number."""

import json

import pandas
import pytest

from rgtg.errors import BadData
from rgtg.preferences.formats import Example, Labelled, read_examples

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
        ({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}, "Row 2 .*different prompts: from character 10 on"),
        ({"chosen": "x", "rejected": "y"}, "Row 2 .*no turn that begins with `Assistant:`"),
        ({"num_prompt_ids": 2, "chosen_ids": [0, 4, 5], "rejected_ids": [0, 3, 6]}, "Row 2 .*first 2 ids of its sides differ"),
        ({"prompt": "a", "answer": "b"}, "Row 2 .*is no preference. It has `prompt`, `answer`."),
        ({"prompt": "a", "chosen": 3, "rejected": 4}, "Row 2 .*cannot be read as conversations"),
        ({"text": "a", "label": 7}, "Row 2 .*label is 7. Labels lie between 0 and 1."),
        ({"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]}, "Row 2 .*does not end with the assistant"),
        ({"text": "a", "label": 1}, "mixes pairs and labelled texts. Row 2"),
        (["a"], "Row 2 .*is no preference. It has list."),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_row(tmp_path, row, said):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}, row])
    with pytest.raises(BadData, match=said):
        read_examples(path)


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
    with pytest.raises(BadData, match="Row 2 of `torn.jsonl` is not JSON"):
        read_examples(tmp_path / "torn.jsonl")


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadData, match=r"`rows.parquet` cannot be read as parquet\. [^.]*\. .*[^.]\. Write it again, or give"):
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
    with pytest.raises(BadData, match=r"Row 1 .*Character 3 of a text is half of one \('\\ud83d'\). Write the file again"):
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


@pytest.mark.parametrize("name", ["owner/prefs/small/nothing", "owner/prefs/none", "owner", "owner/", "a/b/c/d/e", "./owner/prefs", "owner//prefs"])
def test_a_data_set_that_is_not_there_is_refused_in_words(hub, name):
    with pytest.raises(BadData, match="no preferences at|did not give the data set"):
        read_examples(name)
