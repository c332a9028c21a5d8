"""An export as it is, loaded with `datasets` and trained on by TRL for a step; the layouts that TRL documents."""

import pytest
from store_records import make_comparison, make_vote

from rgtg.store.export import export_preferences
from rgtg.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        for i in range(4):
            store.add_comparison(make_comparison(f"c{i}", "AB", prompt=f"prompt {i}"), make_vote(f"v{i}", f"c{i}", "AB"[i % 2], "AB", strength=2))
        yield store


def test_the_reward_trainer_of_trl_makes_a_step_on_the_exported_pairs(store, folders, tmp_path):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    report = export_preferences(store, tmp_path / "pairs.jsonl", "preference")
    assert report.num_pairs == 4
    data = datasets.load_dataset("json", data_files=str(report.path), split="train", cache_dir=str(tmp_path / "cache"))
    model = AutoModelForSequenceClassification.from_pretrained(folders["full"])
    tokenizer = AutoTokenizer.from_pretrained(folders["full"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    settings = trl.RewardConfig(
        str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_strategy="no", bf16=False
    )
    trainer = trl.RewardTrainer(model, settings, train_dataset=data, processing_class=tokenizer)
    before = [weight.clone() for weight in model.parameters()]
    result = trainer.train()
    assert result.global_step == 1 and 0 < result.training_loss < 5
    assert any(not (a == b).all() for a, b in zip(before, model.parameters(), strict=True)), "no weight has moved"


def test_unpaired_rows_have_the_columns_of_the_kto_trainer(store, tmp_path):
    datasets = pytest.importorskip("datasets")
    report = export_preferences(store, tmp_path / "kto.jsonl", "unpaired")
    data = datasets.load_dataset("json", data_files=str(report.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"prompt", "completion", "label"} <= set(data.column_names) and sorted(set(data["label"])) == [False, True] and len(data) == 8
