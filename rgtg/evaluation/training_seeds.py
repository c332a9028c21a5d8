"""Settings of a sweep whose reward models are trainings of one kind with different random seeds: `partial-0`, `partial-1`, ….

Works on the names of settings. Knows nothing of cells or tables.
"""

import re
from collections.abc import Iterable

NUMBERED = re.compile(r"(?<=\S)-(\d+)(?=$|\*| \+ |\[)")  # of a reward model's name, alone or in a mix


def over_seeds(settings: Iterable[str]) -> dict[str, str]:
    """Settings that differ only in the number behind their reward models' names, each with the name they have together.

    >>> over_seeds(["base", "pargs · partial-0 · beta 2", "pargs · partial-1 · beta 2"])
    {'pargs · partial-0 · beta 2': 'pargs · partial-* · beta 2', 'pargs · partial-1 · beta 2': 'pargs · partial-* · beta 2'}
    """
    shared: dict[str, list[str]] = {}
    for setting in dict.fromkeys(settings):
        if training_seed(setting):
            shared.setdefault(_with_stars(setting), []).append(setting)
    return {setting: name for name, of_name in shared.items() if len(of_name) > 1 for setting in of_name}


def training_seed(setting: str) -> str:
    """The numbers of a setting's reward models: "3" of `pargs · partial-3 · beta 2`, "3, 0" of a mix, "" without a number."""
    return ", ".join(NUMBERED.findall(_models(setting)))


def _with_stars(setting: str) -> str:
    method, _, rest = setting.partition(" · ")
    models = _models(setting)
    return " · ".join((method, NUMBERED.sub("-*", models) + rest[len(models) :]))


def _models(setting: str) -> str:
    """The part of a setting's name that names its models: the second one, where that is no parameter such as `threshold 1e-05`."""
    second = setting.split(" · ")[1] if " · " in setting else ""
    name = second.rpartition(" ")[0]
    return "" if name and not name.endswith("+") else second
