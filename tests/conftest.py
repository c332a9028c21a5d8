"""Fixtures: tiny models in memory and on disk, and where the real data and the shipped models are."""

import gc
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and lose where a core is busy; before torch loads
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the tests start many processes: each would compile the library anew

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # at first use: the process that hands the tests out needs none of it
    from rgtg.models.lm import BaseLM
    from rgtg.rewards.scalar import ScalarRewardModel


def pytest_configure() -> None:
    """Compiled test files are kept, whatever the environment says; and while libraries are imported there is nothing to collect."""
    sys.dont_write_bytecode = False
    gc.disable()


def pytest_collection_finish() -> None:
    """What was imported stays: a training frees memory at its end, and would look through all of it each time (0.3 s)."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def libraries_stay() -> None:
    """As above, of what a module imported at first use: what is frozen is not looked through again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def trusted_folders() -> Iterator[None]:
    """The folders that tests write are not tried in a child process, which takes seconds to start; test_admission does that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rgtg.models.loading.admit", lambda title, folder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_alike() -> Iterator[None]:
    """What is drawn without a seed (whose turn it is, which pair is next) is in every run the same."""
    import numpy as np

    seeded = np.random.default_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed=17: seeded(seed))
        yield


@pytest.fixture(scope="session", autouse=True)
def empty_database() -> Iterator[None]:
    """Hundreds of tests begin with an empty database: it is migrated once (20 ms), then copied with a key of its own. What test_schema does
    to migrations, and every process that is started, goes through them."""
    import sqlite3

    from rgtg.store import connection, schema

    empty: list[sqlite3.Connection] = []

    def migrated(conn: sqlite3.Connection, known: object = schema.migrations) -> None:
        if known is not schema.migrations or conn.execute("SELECT 1 FROM sqlite_master").fetchone():
            return schema.migrate(conn, known)
        if not empty:
            empty.append(sqlite3.connect(":memory:", check_same_thread=False))
            schema.migrate(empty[0])
        empty[0].backup(conn)
        with conn:
            conn.execute("UPDATE meta SET value = ? WHERE key = 'rater_key'", (f'"{uuid.uuid4().hex}"',))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "migrate", migrated)
        yield


STARTER = Path(__file__).resolve().parent.parent / "data" / "starter"


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, str]:
    """Model folders on disk: a base LM, two guides, a judge, and a base LM that somebody takes for a reward model."""
    from tiny_models import save
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from rgtg.records import ModelCard

    root = tmp_path_factory.mktemp("models")
    classifier = AutoModelForSequenceClassification
    return {
        "lm": save(root / "lm", AutoModelForCausalLM, 0, ModelCard("base_lm", "tiny")),
        "partial": save(root / "p", classifier, 1, ModelCard("reward_model", "p", objective="partial", base_lm="tiny")),
        "full": save(root / "f", classifier, 2, ModelCard("reward_model", "f", objective="full", base_lm="tiny")),
        "judge": save(root / "j", classifier, 3, ModelCard("judge", "j", objective="full", base_lm="tiny")),
        "headless": save(root / "headless", AutoModelForCausalLM, 4),
    }


@pytest.fixture
def lm() -> "BaseLM":
    from tiny_models import tiny_lm

    return tiny_lm()


@pytest.fixture
def reward_model() -> "ScalarRewardModel":
    from tiny_models import tiny_reward

    return tiny_reward()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models; a test that needs it is skipped where there is none."""
    folder = os.environ.get("RGTG_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set RGTG_SHARED to the folder that holds reviews/ and models/")
    return Path(folder)


@pytest.fixture(scope="session")
def starter() -> Path:
    return STARTER
