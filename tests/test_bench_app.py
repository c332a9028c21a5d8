"""The benchmarks of the app count what they did; their speed is not judged here."""

from rgtg.tools import bench_app


def test_the_store_benchmark_finds_every_vote_it_was_thanked_for():
    (line,) = bench_app.store(10.0)
    assert line["votes"] == line["stored"] == 800
