"""An export as a private data set on the Hugging Face Hub, with a card made of its manifest.

Knows nothing of the database: it sends what `export_folder` wrote.
"""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings, door
from rgtg.store.copies.dataset import private_dataset
from rgtg.store.export import MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
CARD = "README.md"
LOADED = (".parquet", ".jsonl", ".csv")  # the file of a format that `load_dataset` reads, the first there is


def push(folder: Path, name: str, api: "HfApi | None" = None) -> str:
    """Upload an export with a card; returns its address. The data set is made private; one that is public is refused.

    Raises BadSettings where the name is none, nobody is signed in, or the Hub refuses or cannot be reached."""
    if not NAME.fullmatch(name):
        raise BadSettings("A data set of the Hub is named owner/name.", f"Found `{name:.100}`.", "", "push-to-hub")
    (folder / CARD).write_text(card(json.loads((folder / MANIFEST).read_text(encoding="utf-8")), name), encoding="utf-8")
    do = "Sign in with `hf auth login`, or set HF_TOKEN to a token that may write, and check the network."
    with door(f"`{name}` was not uploaded.", do, BadSettings):
        from huggingface_hub import HfApi

        api = api or HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        private_dataset(api, name, "push-to-hub")
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder, commit_message="Votes of rgtg")
    return f"{api.endpoint}/datasets/{name}"


def card(manifest: dict[str, Any], name: str) -> str:
    """The card of a data set, with a configuration of `load_dataset` for each format."""
    configs, rows = [], []
    for key, entry in manifest["formats"].items():
        file = next((file for ending in LOADED for file in entry["files"] if file.endswith(ending)), None)
        if file and entry["rows"]:
            configs += [f"- config_name: {key}", f"  data_files: {file}"]
        left_out = ", ".join(f"{cause}: {number:,}" for cause, number in entry["left_out"].items()) or "nothing"
        rows.append(f"| `{key}` | {entry['about']} | {entry['rows']:,} | {left_out} |")
    head = ["---", "tags: [preference, rgtg]", *(["configs:", *configs] if configs else []), "---"]
    first = next((line.split(": ")[1] for line in configs), "preference")
    return "\n".join(
        [
            *head, f"# {name.partition('/')[2]}", "",
            "Preferences between answers of language models under reward guidance, collected with rgtg. Raters are random ids; "
            "who may use the data, and for what, is for its owner to say.", "",
            "| format | a row | rows | left out |", "| --- | --- | --- | --- |", *rows, "",
            "```python", f'datasets.load_dataset("{name}", "{first}")', "```", "",
            f"`{MANIFEST}` has the columns, the filter, counts, the SHA-256 of each file and versions.", "",
        ]
    )  # fmt: skip
