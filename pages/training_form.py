"""The form of a training: its fields, and checked values of what a browser sent.

Talks to the workbench; knows nothing of jobs or of how the page is laid out.
"""

from pathlib import Path
from typing import Any

from pages import temporary
from pages.handlers import quoted, read_json, read_text
from pages.token_view import _Drawn
from rgtg.config import with_new_names
from rgtg.errors import BadSettings
from rgtg.guidance.methods import Parameter
from rgtg.records import Job
from rgtg.workbench.trainings import VOTES
from rgtg.workbench.workbench import Workbench

FIRST = ("objective", "max_steps", "batch_size", "learning_rate")  # the most important options; the others are folded
LABELS = {
    "lora": "LoRA",
    "lora_r": "LoRA rank",
    "beta": "β",
    "tau": "τ",
    "max_bad_rows": "unreadable rows allowed",
}
# options that the report of the data depends on
OF_DATA = ("eval_fraction", "template", "max_length", "over_long", "columns", "max_bad_rows", "objective", "max_steps", "batch_size")
MAX_TEXT = 2_000


class TrainForm(_Drawn):
    """Data, start, options and name as JSON; `fields` describes the options, `suggested` {name, used} replaces a name that is
    taken. Event `chosen` where the report of the data may change; `asked` in the value counts them."""

    def __init__(
        self,
        value: str = "{}",
        *,
        fields: list[dict[str, Any]],
        starts: list[list[str]] | None = None,
        sources: list[list[str]] | None = None,
        suggested: str = "{}",
        **kwargs: Any,
    ):
        script = "rgtg.trainForm(element, props, trigger, watch, upload, 'chosen')"
        super().__init__(value, js_on_load=script, fields=fields, starts=starts or [], sources=sources or [], suggested=suggested, **kwargs)


def option_fields(workbench: Workbench) -> list[dict[str, Any]]:
    """The options of a training as train.js draws them, those of FIRST first; one with an `objective` is shown for that objective only."""
    shared = [option_field(p) for p in workbench.trainings.fields()]
    shared.sort(key=lambda spec: FIRST.index(spec["name"]) if spec["first"] else len(FIRST))
    return shared + [option_field(p) | {"objective": key} for key, options in workbench.trainings.options().items() for p in options]


def option_field(p: Parameter) -> dict[str, Any]:
    kind = "check" if isinstance(p.default, bool) else "text" if isinstance(p.default, str) and not p.choices else "number"
    is_integer = isinstance(p.default, int) and not isinstance(p.default, bool)
    spec: dict[str, Any] = {"name": p.name, "label": LABELS.get(p.name, p.name.replace("_", " ")), "help": p.help, "default": p.default, "kind": kind}
    spec |= {"choices": list(p.choices)} if p.choices else {"min": p.min, "max": p.max, "step": 1 if is_integer else "any"}
    return spec | {"first": p.name in FIRST, "data": p.name in OF_DATA, "auto": "0 = by" in p.help or "0 = one a" in p.help}


def read_form(text: object, workbench: Workbench) -> dict[str, Any]:
    """The checked form: {source, start, name, training, config}. Raises BadSettings naming the field."""
    form = read_json(text, "form")
    starts = [m.name for m in workbench.trainings.starts()]
    if form.get("start") not in starts:
        raise BadSettings(
            "The model to start from is not on this machine.", f"There are: {', '.join(starts) or 'none'}.", "Choose one of them.", "start-model"
        )
    source = form.get("source")
    if source == "file":
        source = read_text(form.get("path"), "file to train on", MAX_TEXT, "Upload one, or give its path, or choose your votes.", "path").strip()
        if workbench.settings.public:
            temporary.check_uploaded(Path(source), "path")
        if source == VOTES:
            source = f"./{VOTES}"
    elif source != VOTES:
        raise BadSettings("The data has to be your votes or a file.", "", "Reload the page.")
    name = read_text(form.get("name"), "name of the new model", MAX_TEXT, field="name")
    training = read_options(form.get("training"), workbench)
    return {
        "source": source,
        "start": form["start"],
        "name": name.strip(),
        "training": training,
        "config": workbench.trainings.config(training),
    }


def asks_for(form: dict[str, Any], job: Job) -> bool:
    """Whether a job was started from this form."""
    start = job.config.get("parent") or job.config.get("base_lm")
    return (form["name"], form["start"], form["training"]) == (job.config.get("name"), start, with_new_names(job.config.get("training") or {}))


def read_options(form: object, workbench: Workbench) -> dict[str, Any]:
    """The options that differ from their defaults. Raises BadSettings naming one that is unknown or out of range."""
    given = {} if form is None else form
    if not isinstance(given, dict):
        raise BadSettings("The options of the training could not be read.", f"Found {quoted(form)}.", "Reload the page.")
    known = {p.name: p for p in workbench.trainings.fields()}
    objective = given.get("objective", known["objective"].default)
    known |= {p.name: p for p in workbench.trainings.options().get(objective if isinstance(objective, str) else "", ())}
    training: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise BadSettings(f"`{name!s:.40}` has {len(value):,} characters; {MAX_TEXT:,} are read.", "", "Shorten it.", f"{name!s:.40}")
        if name in known and value is None and known[name].default == 0 and not isinstance(known[name].default, bool):
            continue  # an empty field that says "auto"
        if name not in known or value != known[name].default:
            training[name] = value
    workbench.trainings.config(training)  # checks every name and value
    return training
