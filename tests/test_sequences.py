"""What particles draw by: shares, their effective number, and drawing rows, on weights small enough to check by hand."""

import math
from math import inf, log

import pytest
import torch

from rgtg.config import GenerationConfig
from rgtg.guidance.requests import Proposal, Propose, Score
from rgtg.guidance.rows import Rows
from rgtg.guidance.sequences import Particles, drawn, effective_number, normalised, systematic
from rgtg.records import ModelRef, Run

HALF, QUARTER = log(0.5), log(0.25)


def test_shares_add_up_to_one_however_small_the_weights_are():
    assert normalised([HALF - 900, QUARTER - 900, QUARTER - 900]) == pytest.approx([0.5, 0.25, 0.25])
    assert normalised([0.0, -inf]) == [1.0, 0.0]


def test_the_effective_number_counts_rows_that_weigh_alike():
    assert effective_number([7.0, 7.0, 7.0, 7.0]) == pytest.approx(4)
    assert effective_number([0.0, -inf, -inf]) == pytest.approx(1)
    assert effective_number([HALF, QUARTER, QUARTER]) == pytest.approx(1 / (0.25 + 0.0625 + 0.0625))


def test_systematic_resampling_copies_heavy_rows_over_light_ones():
    weights = [HALF, QUARTER, QUARTER, -inf]
    assert systematic(weights, 0.5) == [0, 0, 1, 2]  # points at 1/8, 3/8, 5/8, 7/8 of the shares laid end to end
    assert systematic([0.0, 0.0, 0.0], 0.01) == systematic([0.0, 0.0, 0.0], 0.99) == [0, 1, 2]
    assert systematic([-inf, 0.0], 0.5) == [1, 1]


def test_a_row_is_drawn_floor_or_one_more_of_its_expected_number():
    shares = [0.6, 0.3, 0.1]  # of three rows: 1.8, 0.9, 0.3
    counts = [[systematic([log(s) for s in shares], (i + 0.5) / 10).count(row) for i in range(10)] for row in range(3)]
    assert [set(found) for found in counts] == [{1, 2}, {0, 1}, {0, 1}]
    assert [sum(found) / 10 for found in counts] == pytest.approx([1.8, 0.9, 0.3])


def test_one_row_is_drawn_by_its_share():
    weights = [HALF, QUARTER, QUARTER]
    assert [drawn(weights, u) for u in (0.01, 0.49, 0.51, 0.74, 0.76, 0.99)] == [0, 0, 1, 1, 2, 2]
    assert drawn([-inf, 0.0], 0.01) == 1


def test_after_resampling_all_particles_weigh_alike_again():
    generation = GenerationConfig(max_new_tokens=2)
    rows = Rows(Run("", "particles", ModelRef("lm"), generation=generation), 4, (), (), frozenset())
    requests = Particles(m=4, beta=1.0).generate(rows)
    proposals = [Proposal([1, 2], torch.tensor([-0.5, -1.0])) for _ in range(4)]
    assert requests.send(None) == Propose() and requests.send(proposals) == Score()
    assert requests.send([10.0, 0.0, 0.0, 0.0]) == Propose()  # the first has all the weight, so all are copies of it
    assert rows.num_settled == 1 and all(row[0] is rows.settled[0] for row in rows.drafts)
    requests.send(proposals)
    with pytest.raises(StopIteration):
        requests.send([10.0, 10.0, 10.0, 11.0])
    shares = [math.exp(gained) / (3 + math.e) for gained in (0, 0, 0, 1)]
    dropped = [one.weight for one in rows.given_up[1]]
    assert len(dropped) == 3 and all(any(weight == pytest.approx(share) for share in shares) for weight in dropped)
    assert min(dropped) == pytest.approx(shares[0])
