"""The benchmarks of the app count what they did; their speed is not judged here."""

import pytest

from rgtg.tools import bench_app


@pytest.mark.slow
def test_the_store_benchmark_finds_every_vote_it_was_thanked_for():
    votes, counts, export = bench_app.store(10.0, counted=50, exported=20)
    assert votes["votes"] == votes["stored"] == 800
    assert counts["votes"] == counts["counted"] == 50 and export["pairs"] == 20
