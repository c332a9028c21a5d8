"""Reading of a preference file in a process of its own, with limits on memory and time, so that the app stays responsive.

`rows_apart` and `report_apart` start `python -m rgtg.jobs.reading FOLDER`, which does what `request.json` in the folder says and leaves
`answer.json`. Knows nothing of the database; loads torch only in that process, for a report.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from rgtg.config import ROOT
from rgtg.errors import BadData, RgtgError
from rgtg.preferences.formats import Example, read, write_back
from rgtg.preferences.rows import is_here
from rgtg.system.child import environment, limit_memory
from rgtg.system.serialization import from_dict

if TYPE_CHECKING:
    from rgtg.preferences.dataset import DataReport
    from rgtg.records import ModelCard
    from rgtg.training.config import TrainingConfig

logger = logging.getLogger(__name__)
REQUEST, ANSWER, ROWS, TOKENIZER = "request.json", "answer.json", "rows.jsonl", "tokenizer"
PATIENCE_S = 1800.0
LEAST_MEMORY = 4_000_000_000  # bytes that a reader may always have; else a share of what the computer has
SHARE = 0.6
_one_at_a_time = threading.Lock()  # each may take SHARE of the memory


def rows_apart(source: str, config: "TrainingConfig", folder: Path) -> dict[str, Any]:
    """Write the rows of a source as `ROWS` in the folder and return what `formats.read_back` needs besides. Raises BadData, BadSettings."""
    return _ask(source, config, folder, {"rows": True})["reading"]


def report_apart(source: str, context: int, vocabulary: int, config: "TrainingConfig", card: "ModelCard | None", folder: Path) -> "DataReport":
    """What `preferences.dataset.prepare` reports of a source, by the tokenizer in the folder's `TOKENIZER`. Raises BadData, BadSettings."""
    from rgtg.preferences.dataset import DataReport

    request: dict[str, Any] = {"report": True, "context": context, "num_token_ids": vocabulary, "card": card and asdict(card)}
    return from_dict(DataReport, _ask(source, config, folder, request)["report"])


def _ask(source: str, config: "TrainingConfig", folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(source).expanduser()
    is_local = is_here(path)
    full_request = {"source": str(path.absolute()) if is_local else source, "name": source, "training": config.flat(), **request}
    (folder / REQUEST).write_text(json.dumps(full_request), encoding="utf-8")
    command = [sys.executable, "-m", "rgtg.jobs.reading", str(folder)]
    # a data set of the hub may need the person's own token, proxies and caches; a file needs none of them
    env = environment(os.environ, online=False) if is_local else dict(os.environ)
    try:
        with _one_at_a_time:
            process = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise BadData(
            f"`{source}` takes too long to read.", f"Reading was ended after {PATIENCE_S / 60:.0f} minutes.", "Use a part of it."
        ) from error
    try:
        answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        logger.error("reading %s ended with status %s: %s", source, process.returncode, process.stderr.decode(errors="replace")[-4000:])
        reason = "Its reader needed more memory than there is." if process.returncode < 0 else "Its reader failed; the log says more."
        raise BadData(f"`{source}` cannot be read.", reason, "Use a part of it, or another file.") from error
    if "error" in answer:
        raise BadData(*answer["error"])
    return answer


def main(folder: Path) -> int:
    """Read as `request.json` asks and write the result or the error to `answer.json`; exit status 0."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    limit_memory(max(LEAST_MEMORY, int(SHARE * psutil.virtual_memory().total)))  # a file ends its reader, not the computer
    try:
        answer = _answer(folder, request)
    except RgtgError as error:
        answer = {"error": [error.wrong, error.found, error.do]}
    except MemoryError:
        answer = {"error": [f"`{request['name']}` cannot be read.", "It needs more memory than there is.", "Use a part of it."]}
    (folder / ANSWER).write_text(json.dumps(answer, ensure_ascii=True), encoding="utf-8")
    return 0


def _answer(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    from rgtg.records import ModelCard
    from rgtg.training.config import TrainingConfig

    config = TrainingConfig.stored(request["training"])
    reading = read(request["source"], columns=config.columns, max_bad_rows=config.max_bad_rows, scored=config.objective.takes_scores)
    if request.get("rows"):
        return {"reading": write_back(reading, folder / ROWS)}
    from rgtg.preferences.dataset import load_tokenizer, prepare
    from rgtg.training.criterion import check_data

    examples = [example for example in reading.examples if isinstance(example, Example)]
    check_data(config.objective, bool(examples), all(example.prefix_labels for example in examples))
    card = request["card"] and from_dict(ModelCard, request["card"])
    context, vocabulary, weights = request["context"], request["num_token_ids"], config.objective.vote_weights
    prepared = prepare(reading, load_tokenizer(folder / TOKENIZER), context, vocabulary, config, card, **weights)
    return {"report": asdict(prepared.report)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
