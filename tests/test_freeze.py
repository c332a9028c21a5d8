"""Settings of a job are checked before it is in line, those of earlier versions too, since an old job can be resumed."""

import pytest

from rgtg.errors import BadSettings
from rgtg.jobs.freeze import check_config

CONFIG = {"name": "mine", "base": "owner/name", "base_lm": "tiny"}


def test_a_job_of_an_earlier_version_is_taken_as_it_is():
    training = {"objective": "full", "num_steps": 7, "unequal": "hold", "tau": 0.0}
    assert check_config(CONFIG | {"training": training}, {})["training"] == training


def test_an_option_that_the_objective_lacks_is_refused():
    with pytest.raises(BadSettings, match="`full` has no option `unequal`. It has: "):
        check_config(CONFIG | {"training": {"objective": "full", "unequal": "pad"}}, {})
