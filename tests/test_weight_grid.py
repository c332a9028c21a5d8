"""A grid of weights on one prompt: which columns take part, what each answer is, and when the seeds tell which weight is best."""

import shlex
from dataclasses import replace

import pytest
from test_sweep import JUDGE, MODELS

from rgtg.cli.main import _parser
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.evaluation import weight_grid as weights_module
from rgtg.evaluation.cells import planned
from rgtg.evaluation.weight_grid import Answer, guide_name, lines_of, peak
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.records import ColumnSpec
from rgtg.workbench.columns.copying import run_text
from rgtg.workbench.sweeps import Sweeps, WeightSweep

GENERATION = GenerationConfig(max_new_tokens=6, temperature=0.8)
COLUMNS = {
    "A": ColumnSpec("base"),
    "B": ColumnSpec("pargs", (("beta", 2.0), ("pick", "sample")), "one"),
    "C": ColumnSpec("best-of-n", (("n", 2),), "one"),
    "D": ColumnSpec("fudge", (("weight", 1.0),), "two"),
    "E": ColumnSpec("pargs", (("pick", "sample"), ("beta", 4.0)), "one"),
}


class StubLibrary:
    """The tiny models under their names."""

    catalog = property(lambda self: self)

    def get(self, name, kinds):
        return self.base_lm(name).loaded.ref

    def base_lm(self, name=None):
        return MODELS.base_lm

    def default_base_lm(self):
        return MODELS.base_lm.name

    def judges(self, base_lm=None):
        return [JUDGE.loaded.ref]

    def load_models(self, base_lm, names):
        return replace(MODELS, reward_models=MODELS.reward_models | {JUDGE.name: JUDGE})

    def reward_model(self, name):
        return JUDGE


class StubBudget:
    deadline_s = None

    def check_batches(self, batches, models, confirmed=False, at_once=None):
        self.asked = [len(batch) for batch in batches]


def sweeps() -> Sweeps:
    return Sweeps(StubLibrary(), StubBudget(), lambda column, lm: column.mix)


@pytest.fixture(scope="module")
def finished() -> tuple[WeightSweep, list[Answer]]:
    sweep = sweeps().weights("the food", COLUMNS, (4.0, 0.0, 1.0), 2, GENERATION, 17)
    answers = [item for item in sweep if isinstance(item, Answer)]
    for answer in answers:
        sweep.keep(answer)
    return sweep, answers


def test_columns_with_a_weight_take_part_and_those_that_differ_in_it_alone_are_one():
    lines = lines_of(COLUMNS)
    assert [(line.spec.method, line.parameter, line.columns) for line in lines] == [("pargs", "beta", ("B", "E")), ("fudge", "weight", ("D",))]
    assert lines[0].at(0.5).params == (("pick", "sample"), ("beta", 0.5))


def test_every_method_that_shifts_scores_by_a_reward_has_a_weight_of_which_zero_is_allowed():
    for key, m in METHODS.items():
        if m.rule.rescores and m.uses_reward and len(m.make().terms(0.0, 0.0)) > 1:
            assert m.weight is not None, key
        assert m.weight is None or m.weight.min == 0.0, key


def test_every_weight_has_every_seed_and_an_answer_is_what_it_is_alone(finished):
    sweep, answers = finished
    assert sorted((a.line, a.weight, a.seed) for a in answers) == [(line, w, s) for line in range(2) for w in range(3) for s in range(2)]
    assert [a.seed for a in answers[:3]] == [0, 0, 0], "every weight has an answer soon"
    assert sweep.weights == [0.0, 1.0, 4.0] and {a.run.seed for a in answers} == {17, 17 + 100_003}
    by_place = {(a.line, a.weight, a.seed): a for a in answers}
    for seed in range(2):
        assert [s.token_id for s in by_place[0, 0, seed].steps] == [s.token_id for s in by_place[1, 0, seed].steps], "both are the base LM"
        assert by_place[0, 0, seed].kl == pytest.approx(0.0, abs=1e-6)
    for a in answers:
        ids = [s.token_id for s in a.steps]
        assert a.judge == pytest.approx(JUDGE.along(a.run.prompt_ids, [ids])[0][-1], abs=1e-4)
        assert a.guide == pytest.approx(a.steps[-1].reward("two" if a.line else "one"), abs=1e-4)


def test_curves_are_means_over_the_seeds(finished):
    sweep, answers = finished
    for figure in ("judge", "guide", "kl"):
        values = [getattr(a, figure) for a in answers if (a.line, a.weight) == (1, 2)]
        mean, low, high = sweep.curve(1, figure)[2]
        assert mean == pytest.approx(sum(values) / 2) and min(values) - 1e-6 <= low <= high <= max(values) + 1e-6
    assert sweep.peak(0).num_seeds == 2 and not sweep.peak(0).is_clear
    assert [line.name for line in sweep.described()] == ["pargs · one", "fudge · two"]


def test_the_command_makes_the_same_answers(finished):
    sweep, answers = finished
    words = shlex.split(sweep.command)
    options = _parser().parse_args(words[1:])
    assert words[0] == "rgtg" and options.prompt == ["the food"] and options.observe == JUDGE.name
    generation = GenerationConfig(**{name: getattr(options, name) for name in vars(GENERATION)})
    columns = [parse_run(text, generation) for text in options.run]
    runs = [run for column in columns for _, run in planned(MODELS, column, options.prompt, generation, range(options.seeds), JUDGE, options.seed)]
    assert [replace(run, observers=()) for run in sweep.runs] == runs and len(answers) == len(runs)


@pytest.mark.parametrize(
    "spec",
    [
        ColumnSpec("cards", (("threshold", float("-inf")), ("tries", 3)), "one"),
        ColumnSpec("pargs", (("beta", 0.123456789),), guides=(("one", 2.0), ("two", -0.5)), combine="min"),
        ColumnSpec("pargs", (), guides=(("one", 1.0),), generation=replace(GENERATION, top_k=3)),
        ColumnSpec("base"),
    ],
)
def test_a_column_as_text_is_read_as_the_same_column(spec):
    read = parse_run(run_text(spec), GENERATION)
    assert (read.method, read.params, read.mix, read.combine, read.generation) == (spec.method, spec.params, spec.mix, spec.combine, spec.generation)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": {"A": ColumnSpec("base"), "C": COLUMNS["C"]}}, "No column has a weight to vary. Found A base, C best-of-n"),
        ({"weights": (1.0,)}, "2 to 16 different weights"),
        ({"weights": (1.0, 1.0)}, "2 to 16 different weights"),
        ({"weights": tuple(map(float, range(17)))}, "2 to 16 different weights"),
        ({"num_seeds": 0}, "seeds has to be between 1 and 32"),
        ({"weights": (0.0, 21.0)}, "`beta` has to be between 0 and 20"),
        ({"weights": tuple(map(float, range(16))), "num_seeds": 32}, "at most 600 answers. 2 columns × 16 weights × 32 seeds are 1,024"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(change, words):
    given = {"prompt": "the food", "columns": COLUMNS, "weights": (0.0, 1.0), "num_seeds": 1} | change
    with pytest.raises(BadSettings, match=words):
        sweeps().weights(*given.values())


def test_a_stopped_grid_keeps_what_is_finished(monkeypatch):
    monkeypatch.setattr(weights_module, "AT_ONCE", 2)
    sweep = sweeps().weights("the food", COLUMNS, (0.0, 1.0), 2, GENERATION)
    answers = []
    for item in sweep:
        if isinstance(item, Answer):
            sweep.keep(item)
            answers.append(item)
            sweep.stop()
    stopped = [a for a in answers if a.stop_reason == "stopped"]
    assert 0 < len(stopped) < len(answers) == 8 and all((a.judge, a.guide, a.kl) == (None, None, None) for a in stopped)


def test_the_peak_is_where_the_mean_is_highest_and_clear_only_where_the_seeds_agree():
    agreed = peak({0.0: [0.0, 0.1, 0.2, 0.1, 0.0], 1.0: [3.0, 3.1, 2.9, 3.2, 3.0], 4.0: [1.0, 1.2, 0.9, 1.1, 1.0], 8.0: [0.0] * 5})
    assert (agreed.weight, agreed.low, agreed.high, agreed.is_clear) == (1.0, 1.0, 1.0, True)
    assert agreed.gain[0] == pytest.approx(2.96) and agreed.gain[1] > 2.8
    few = peak({0.0: [0.0], 1.0: [3.0]})
    assert few.weight == 1.0 and not few.is_clear and few.num_seeds == 1 < few.least
    torn = peak({0.0: [0.0, 1.0, -1.0, 0.5, 0.2], 1.0: [3.0, -3.0, 1.0, -2.0, 2.5]})
    assert not torn.is_clear and torn.low == 0.0
    above_alone = peak({0.0: [0.0] * 6, 1.0: [5.0, 5, 5, 5, 6, 4], 2.0: [5, 5, 5, 5, 4, 6.1], 4.0: [6, 4, 5, 5, 5, 5.05]})
    assert above_alone.gain[1] > 4 and (above_alone.low, above_alone.high) == (1.0, 4.0) and not above_alone.is_clear, "but which, nobody knows"


def test_the_lowest_weight_may_be_the_best_and_nothing_is_recommended_then():
    found = peak({0.0: [2.0, 2.1, 2.2, 2.0, 2.1], 1.0: [1.0] * 5})
    assert found.weight == 0.0 and found.gain == (0.0, 0.0, 0.0) and not found.is_clear
    assert peak({0.0: [], 1.0: []}) is None and peak({}) is None
    assert peak({0.0: [1.0] * 5, 1.0: [1.0] * 5}).weight == 0.0, "of equal ones the lowest"


def test_a_guide_is_named_with_its_weights():
    one, two = (MODELS.reward_models[name].loaded.ref for name in ("one", "two"))
    assert guide_name(((one, 1.0),)) == "one" and guide_name(((one, 2.0), (two, -0.5))) == "2·one + -0.5·two"
