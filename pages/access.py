"""Which handler may do what for whom, on a laptop and on a public server: one table, and a handler that is in no row refuses.

Rows about single comparisons say `owners`: the workbench then gives a visitor only what is his or was shared with him by its link, on a
laptop everything. Knows nothing of what a handler does.
"""

from typing import NamedTuple

from rgtg.errors import BadSettings

EVERYONE, OWNERS, ADMINS = "everyone", "owners", "administrators"


class Row(NamedTuple):
    """What a handler does, and for whom: with the app on a laptop, and on a public server."""

    what: str
    local: str
    public: str


ACCESS = {
    "annotate.branch": Row("ask for two continuations of an answer that one was shown", EVERYONE, OWNERS),
    "annotate.consent": Row("agree that one's votes are stored", EVERYONE, EVERYONE),
    "annotate.erase": Row("delete one's own votes", EVERYONE, EVERYONE),
    "annotate.gold": Row("make a pair a gold one", EVERYONE, ADMINS),
    "annotate.guidelines": Row("change the guidelines", EVERYONE, ADMINS),
    "annotate.load": Row("open the page", EVERYONE, EVERYONE),
    "annotate.mark": Row("mark tokens of an answer that one was shown", EVERYONE, OWNERS),
    "annotate.more": Row("get pairs of a task by its link", EVERYONE, EVERYONE),
    "annotate.start": Row("make an annotation task", EVERYONE, ADMINS),
    "annotate.undo": Row("undo one's own vote", EVERYONE, OWNERS),
    "annotate.vote": Row("vote on a pair that one was shown", EVERYONE, OWNERS),
    "by_hand.chosen": Row("continue an answer by hand", EVERYONE, OWNERS),
    "compare.branch": Row("add a branch to a comparison", EVERYONE, OWNERS),
    "compare.generate": Row("make a comparison", EVERYONE, EVERYONE),
    "compare.go_on": Row("continue stopped answers", EVERYONE, OWNERS),
    "compare.load": Row("open the page, with a comparison", EVERYONE, OWNERS),
    "compare.measure": Row("draw the curve of a comparison", EVERYONE, OWNERS),
    "compare.open_another": Row("open a comparison", EVERYONE, OWNERS),
    "compare.stop": Row("stop one's own generation", EVERYONE, EVERYONE),
    "compare.tick": Row("see which models are loaded", EVERYONE, EVERYONE),
    "copying.copy": Row("copy a comparison as a command", EVERYONE, OWNERS),
    "data.exclude": Row("exclude votes", EVERYONE, ADMINS),
    "data.look": Row("inspect a comparison", EVERYONE, OWNERS),
    "data.save_html": Row("download a comparison", EVERYONE, OWNERS),
    "examine.following": Row("see the next tokens that a reward model prefers", EVERYONE, ADMINS),
    "examine.load": Row("examine reward models here", EVERYONE, ADMINS),
    "examine.read": Row("read a pair token by token", EVERYONE, ADMINS),
    "examine.save": Row("download an examination", EVERYONE, ADMINS),
    "examine.start": Row("examine reward models", EVERYONE, ADMINS),
    "examine.stop": Row("stop an examination", EVERYONE, ADMINS),
    "exchanging.look_in": Row("read a file of preferences", EVERYONE, ADMINS),
    "exchanging.take_in": Row("import preferences", EVERYONE, ADMINS),
    "exchanging.write_out": Row("download the votes of everyone", EVERYONE, ADMINS),
    "help.load": Row("open the page", EVERYONE, EVERYONE),
    "history.find": Row("list comparisons", EVERYONE, OWNERS),
    "making.make": Row("make a reward from rules or words", EVERYONE, ADMINS),
    "making.try_it": Row("try a reward on a text", EVERYONE, ADMINS),
    "models.add": Row("add a model by its folder or id", EVERYONE, ADMINS),
    "models.delete": Row("delete a model", EVERYONE, ADMINS),
    "models.load": Row("open the page", EVERYONE, EVERYONE),
    "models.open_model": Row("see the card of a model", EVERYONE, EVERYONE),
    "models.tick": Row("see which models are loaded", EVERYONE, EVERYONE),
    "presets.choose": Row("choose a line-up", EVERYONE, EVERYONE),
    "presets.delete": Row("delete a line-up of one's own", EVERYONE, ADMINS),
    "presets.save": Row("save a line-up", EVERYONE, ADMINS),
    "presets.take_in": Row("open a line-up from a file", EVERYONE, EVERYONE),
    "presets.write_out": Row("download a line-up", EVERYONE, EVERYONE),
    "results.choose": Row("see the leaderboard", EVERYONE, EVERYONE),
    "results.load": Row("open the page", EVERYONE, EVERYONE),
    "results.save": Row("download the leaderboard", EVERYONE, EVERYONE),
    "results.save_one": Row("download a comparison", EVERYONE, OWNERS),
    "sweep.answers": Row("read the answers of a sweep", EVERYONE, ADMINS),
    "sweep.command": Row("copy the command of a sweep", EVERYONE, ADMINS),
    "sweep.load": Row("run sweeps here", EVERYONE, ADMINS),
    "sweep.match": Row("compare methods of a sweep at equal KL", EVERYONE, ADMINS),
    "sweep.open_sweep": Row("see a sweep", EVERYONE, ADMINS),
    "sweep.plan": Row("plan a sweep", EVERYONE, ADMINS),
    "sweep.resume": Row("resume a sweep", EVERYONE, ADMINS),
    "sweep.save": Row("download a sweep", EVERYONE, ADMINS),
    "sweep.start": Row("start a sweep", EVERYONE, ADMINS),
    "sweep.stop": Row("stop a sweep", EVERYONE, ADMINS),
    "sweep.tick": Row("see how a sweep goes", EVERYONE, ADMINS),
    "sweeping.start": Row("make a grid of weights", EVERYONE, EVERYONE),
    "sweeping.stop": Row("stop one's own grid", EVERYONE, EVERYONE),
    "theory.drag": Row("compute the toy table", EVERYONE, EVERYONE),
    "train.cancel": Row("cancel a training", EVERYONE, ADMINS),
    "train.chosen": Row("check chosen data", EVERYONE, ADMINS),
    "train.load": Row("train here", EVERYONE, ADMINS),
    "train.look": Row("look at training data", EVERYONE, ADMINS),
    "train.named": Row("check the name of a new model", EVERYONE, ADMINS),
    "train.open_job": Row("see a training", EVERYONE, ADMINS),
    "train.resume": Row("resume a training", EVERYONE, ADMINS),
    "train.start": Row("start a training", EVERYONE, ADMINS),
    "train.tick": Row("see how a training goes", EVERYONE, ADMINS),
    "voting.export": Row("download the votes of everyone", EVERYONE, ADMINS),
    "voting.undo": Row("undo one's own vote", EVERYONE, OWNERS),
    "voting.vote": Row("vote on a comparison", EVERYONE, OWNERS),
}


def check(handler: str, public: bool, administers: bool = False) -> None:
    """Raises BadSettings where the table does not let a visitor use this handler, `module.function`; one who `administers` a public server
    may use every one."""
    row = ACCESS.get(handler)
    if row is None:
        raise BadSettings("This action is switched off.", f"`{handler}` has no row in the table of access.", "Report it to whoever runs this app.")
    if (row.public if public else row.local) == ADMINS and not administers:
        do = "Sign in as one of its administrators, or run rgtg on your own machine for that."
        raise BadSettings(f"Visitors of a public server cannot {row.what}.", "", do)


def name_of(handler: object) -> str:
    """`module.function` of a handler, as the table has it."""
    return f"{getattr(handler, '__module__', '').rpartition('.')[2]}.{getattr(handler, '__name__', '')}"
