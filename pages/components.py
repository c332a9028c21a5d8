"""The components that static/*.js draws: one class each, naming its JavaScript function and its events.

Knows nothing of what a value means: who sends it, writes it (`columns`, `voting`, `reports`, the pages).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gradio as gr

from pages.token_view import _Drawn


class Drawn(_Drawn):
    """A component drawn by `rgtg.<function>(element, props, trigger, watch, *events)`; without events there is no `trigger`.

    Further arguments of a component are its `props` in JavaScript. Each event is a listener: `bar.vote(handler, …)`.
    """

    function: ClassVar[str]
    events_sent: ClassVar[tuple[str, ...]] = ()

    def __init__(self, value: str = "{}", **props: Any):
        arguments = ["element", "props", *(["trigger"] if self.events_sent else []), "watch", *map(repr, self.events_sent)]
        super().__init__(value, js_on_load=f"rgtg.{self.function}({', '.join(arguments)})", **props)


# ---- forms.js ---------------------------------------------------------------------------------------


class Settings(Drawn):
    """Seed, length, temperature and so on; the value is JSON, `fields` describes the inputs."""

    function = "settings"

    def __init__(self, value: str = "{}", *, fields: Sequence[dict] = (), **props: Any):
        super().__init__(value, fields=list(fields), **props)


class ColumnSettings(Drawn):
    """One column's method, reward models with their weights and parameters, as JSON. `branch` is shown instead while the column holds a
    branch; one without `methods` is for branches alone."""

    function = "columnSettings"

    def __init__(
        self,
        value: str = "{}",
        *,
        column: str = "A",
        place: int = 0,
        branch: str = "",
        methods: Sequence[dict] = (),
        models: Sequence[dict] = (),
        combinations: Sequence[dict] = (),
        **props: Any,
    ):
        lists = {"methods": list(methods), "models": list(models), "combinations": list(combinations)}
        super().__init__(value, column=column, place=place, branch=branch, **lists, **props)


class ColourBar(Drawn):
    """The pickers of what colours the tokens, and the scale. Event `measure` {measure}; the value is the name of the reward model, "" for
    each column's own. `labels` are the reward models as pickers name them."""

    function, events_sent = "colourBar", ("measure",)

    def __init__(self, channels: Sequence[tuple[str, str]] = (), *, labels: Mapping[str, str] | None = None, **props: Any):
        super().__init__("", channels=[list(channel) for channel in channels], labels=dict(labels or {}), **props)


class PromptBox(gr.Textbox):
    """Gradio's own text box, but for what it hands to a handler: what came, where the other would make a text of a list or a number."""

    is_template = True  # drawn as the class above it

    def preprocess(self, payload: Any) -> Any:
        return payload


class Openings(Drawn):
    """Example prompts as buttons; the value is a JSON list. Event `pick` {text}."""

    function, events_sent = "openings", ("pick",)

    def __init__(self, texts: Sequence[str] = (), **props: Any):
        super().__init__(json.dumps(list(texts)), **props)


class Words(Drawn):
    """One line of words; `live` makes it the page's live region."""

    function = "line"

    def __init__(self, value: str = "", *, live: bool = False, **props: Any):
        super().__init__(value, live=live, **props)


# ---- presets.js -------------------------------------------------------------------------------------


class LineUpBar(Drawn):
    """The picker of line-ups; `own`: whether one may save one's own.

    Events `choose` {key}, `save` {title}, `write_out` {key}, `take_in` {name, text}, `delete` {key}."""

    function, events_sent = "lineUps", ("choose", "save", "write_out", "take_in", "delete")

    def __init__(self, value: str = "{}", *, own: bool = True, **props: Any):
        super().__init__(value, own=own, **props)


# ---- places.js --------------------------------------------------------------------------------------


class Address(Drawn):
    """Keeps the address with the comparison that is shown; nothing is to be seen of it. Event `open` {comparison}: Back or Forward was
    pressed, to that one, or "" for none."""

    function, events_sent = "address", ("open",)


# ---- vote.js ----------------------------------------------------------------------------------------


class VoteBar(Drawn):
    """`letters` are those of all columns that there may be; `exports`: whether the page offers the votes of everyone.

    Events `vote` {comparison, verdict, best, seen, vote_id, dwell_ms}, `undo` {comparison, vote_id}, `go_on` {comparison}, `export`,
    `copy_as` {comparison, form}, one of `forms`."""

    function, events_sent = "voteBar", ("vote", "undo", "go_on", "export", "copy_as")

    def __init__(self, value: str = "{}", *, letters: str = "", forms: Sequence[str] = (), exports: bool = True, **props: Any):
        super().__init__(value, letters=letters, forms=list(forms), exports=exports, **props)


# ---- help.js ----------------------------------------------------------------------------------------


class HelpView(Drawn):
    """The chapters of the Help page; the value is the JSON of `help.chapters`."""

    function = "help"


# ---- theory.js --------------------------------------------------------------------------------------


class ToyView(Drawn):
    """The toy of the Help page. Event `drag` {values, number}."""

    function, events_sent = "toy", ("drag",)


# ---- train.js and models.js -------------------------------------------------------------------------


class Report(Drawn):
    """Verdict, figures and calibration of a reward model; the value is the JSON of `reports.report_words`."""

    function = "report"


class Lengths(Drawn):
    """The table of accuracy by length of the prefix, from the same value."""

    function = "lengths"


class ModelList(Drawn):
    """The table of models. Event `open_model` {model}."""

    function, events_sent = "modelList", ("open_model",)


class ModelCardView(Drawn):
    """One model's card. Events `open_model` {model}, `delete_model` {model, sure}."""

    function, events_sent = "modelCard", ("open_model", "delete_model")


class AddForm(Drawn):
    """A folder or hub id. Event `add_model` {place, kind}; the value says what came of it."""

    function, events_sent = "addModel", ("add_model",)


# ---- making.js --------------------------------------------------------------------------------------


class RewardForm(Drawn):
    """The fields of a reward that a person makes. Events `make_reward` {reward}, `try_reward` {reward, prompt, response}; the value has
    the kinds with their fields, or says what came of an event."""

    function, events_sent = "rewardForm", ("make_reward", "try_reward")


# ---- results.js -------------------------------------------------------------------------------------


class ResultsView(Drawn):
    """The board, its drawings and the reward models; the value is the JSON of `results.view`.

    Events `choose_results` {by, control_length}, `save_results` {format, table}, `save_comparison` {comparison}."""

    function, events_sent = "results", ("choose_results", "save_results", "save_comparison")


class Download(Drawn):
    """Nothing to be seen: a value {name, text, type} is saved as a file."""

    function = "downloads"


# ---- annotate.js and annotate_task.js ---------------------------------------------------------------


class AnnotateView(Drawn):
    """Pairs to vote on and the vote before; the value is what the page begins with, or the answer to an event.

    Events, each with the `task`: `vote` {comparison, verdict, best, vote_id, strength, reasons, comment, dwell_ms, broken, ranking}, `undo`
    {comparison, vote_id}, `mark` {comparison, trace, start, end, label, vote_id}, `consent`, `erase`, `guidelines` {text},
    `gold` {comparison}."""

    function, events_sent = "annotate", ("vote", "undo", "mark", "consent", "erase", "guidelines", "gold")


class PairFeed(Drawn):
    """Brings pairs to the page. Events `more` {task, have: ids of pairs}, `branch` {task, comparison, trace, position}."""

    function, events_sent = "pairFeed", ("more", "branch")


class TaskForm(_Drawn):
    """A new annotation task, and those there are; the value has its fields. Event `start` with the fields."""

    def __init__(self, value: str = "{}", **props: Any):
        super().__init__(value, js_on_load="rgtg.taskForm(element, props, trigger, watch, upload, 'start')", **props)
