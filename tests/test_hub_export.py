"""Votes pushed to the Hub: to a local stand-in that speaks its HTTP, private, with a card, and never onto a public data set."""

import pytest
import yaml
from dataset_hub import running_hub
from huggingface_hub import HfApi
from store_records import make_comparison, make_vote

from rgtg.errors import BadSettings
from rgtg.store.exchange.hub import card, push
from rgtg.store.export import export_folder
from rgtg.store.store import Store


@pytest.fixture
def hub():
    with running_hub() as server:
        yield server, HfApi(endpoint=server.url, token="hf_of_ann")


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", "AB"))
        export_folder(store, tmp_path / "out", ("preference", "stepwise"), (".jsonl", ".csv"))
    return tmp_path / "out"


def test_an_export_is_pushed_to_a_private_data_set_with_its_card(hub, folder):
    server, api = hub
    assert push(folder, "ann/votes", api) == f"{api.endpoint}/datasets/ann/votes"
    (made,) = server.made
    assert (
        (made.get("private") is True or made.get("visibility") == "private")
        and made["type"] == "dataset"
        and set(server.authorised) == {"Bearer hf_of_ann"}
    )
    written = {f"{format}{kind}" for format in ("preference", "stepwise") for kind in (".jsonl", ".csv")}
    assert set(server.files) == {"README.md", "manifest.json", *written}
    assert server.files["preference.jsonl"] == (folder / "preference.jsonl").read_bytes()
    head = yaml.safe_load(server.files["README.md"].decode().split("---")[1])
    assert head["configs"] == [{"config_name": "preference", "data_files": "preference.jsonl"}], "a format without rows cannot be loaded"


def test_a_public_data_set_is_refused(hub, folder):
    server, api = hub
    server.private = False
    with pytest.raises(BadSettings, match="is public"):
        push(folder, "ann/votes", api)
    assert not server.files


@pytest.mark.parametrize("name", ["votes", "../x", "a/b/c", "", "ann/", "https://hub/ann/votes"])
def test_a_name_that_is_none_is_refused(folder, name: str):
    with pytest.raises(BadSettings, match="owner/name"):
        push(folder, name)


def test_a_hub_that_is_away_is_said(folder):
    with pytest.raises(BadSettings, match="was not uploaded"):
        push(folder, "ann/votes", HfApi(endpoint="http://127.0.0.1:9", token="x"))


def test_a_card_says_what_was_left_out():
    entry = {"about": "pairs", "rows": 3, "left_out": {"tie": 2}, "files": {"preference.csv": {}, "preference.parquet": {}}}
    text = card({"formats": {"preference": entry}}, "ann/votes")
    assert "data_files: preference.parquet" in text and "| `preference` | pairs | 3 | tie: 2 |" in text
