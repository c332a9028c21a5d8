"""The columns of a row and their roles: common layouts, recognised by column names, and mappings that a user gives.

Knows nothing of files, conversations or training.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Any

from rgtg.errors import BadSettings
from rgtg.preferences.text_rows import BadRow, excerpt
from rgtg.preferences.turns import kind_of

Row = Mapping[str, Any]
TIES = frozenset(("tie", "tied", "ties", "draw", "equal", "same", "none", "neither", "neutral"))
LEFT = frozenset(("a", "model_a", "left", "leftvote", "first", "response_a", "answer_a", "assistant_a"))
RIGHT = frozenset(("b", "model_b", "right", "rightvote", "second", "response_b", "answer_b", "assistant_b"))
EXAMPLE = "prompt=question,a=answer_1,b=answer_2,winner=better:1|2"


@dataclass(frozen=True)
class Columns:
    """The column, or the path into one (`question.full_text`, `completions.response`), that holds each part of a row; "" where none.

    A path goes into objects by name and into lists by number, or through all of a list. `prompt` may be joined of several:
    `instruction+input`. `wins` are the values of the winner that stand for the first and the second answer, as `1|2`; `-|+` reads its sign. A
    `winner` of several columns, `annotator1+annotator2`, has a rater for each; `answers` may be several columns too. `pairs` has a winner for
    each two of the answers in order (1 and 2, 1 and 3, …, 2 and 3, …), `spans` marks in the first answer.
    """

    prompt: str = ""
    system: str = ""
    chosen: str = ""
    rejected: str = ""
    a: str = ""
    b: str = ""
    winner: str = ""
    score_a: str = ""
    score_b: str = ""
    answers: str = ""
    pairs: str = ""
    scores: str = ""
    ranks: str = ""
    labels: str = ""
    response: str = ""
    label: str = ""
    score: str = ""
    weight: str = ""
    margin: str = ""
    rater: str = ""
    spans: str = ""
    model_a: str = ""
    model_b: str = ""
    wins: str = ""

    @classmethod
    def of(cls, text: str) -> "Columns":
        """The columns of a mapping such as `prompt=question,a=answer_1,b=answer_2,winner=better:1|2`. Raises BadSettings."""
        names, roles = [f.name for f in fields(cls) if f.name != "wins"], dict[str, str]()
        for item in filter(None, (part.strip() for part in text.split(","))):
            role, equals, column = (part.strip() for part in item.partition("="))
            if role not in names or not equals or not column or role in roles:
                wrong = f"`{excerpt(item)}` of the columns cannot be read."
                raise BadSettings(wrong, f"The parts of a row are {', '.join(names)}, each once.", f"Write, for example, {EXAMPLE}.", "columns")
            roles[role] = column
        if match := re.fullmatch(r"(.+):([^|:]+\|[^|:]+)", roles.get("winner", "")):
            roles["winner"], roles["wins"] = match[1], match[2]
        columns = cls(**roles)
        if text.strip() and columns.form is None:
            ways = (
                "chosen and rejected; a, b and winner; a, b, score_a and score_b; answers with scores, ranks, labels or pairs; "
                "response with label, score or spans"
            )
            raise BadSettings("The columns name no preference.", f"Found {', '.join(roles) or 'nothing'}.", f"Give {ways}.", "columns")
        return columns

    @property
    def form(self) -> tuple[str, ...] | None:
        """The roles that make it a preference or a labelled text; None where they do not."""
        return next((form for form in FORMS if all(getattr(self, name) for name in form)), None)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that are read."""
        named = [getattr(self, f.name) for f in fields(self) if f.name != "wins" and getattr(self, f.name)]
        return tuple(part for path in named for part in _joined(path))


def _joined(path: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in path.split("+")) if "+" in path else (path,)


FORMS = (
    ("chosen", "rejected"), ("a", "b", "winner"), ("a", "b", "score_a", "score_b"), ("answers", "scores"), ("answers", "ranks"),
    ("answers", "labels"), ("answers", "pairs"), ("response", "label"), ("response", "score"), ("response", "spans"),
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Columns with their description in a report; `{n}` in it is the number of answers per row."""

    words: str
    columns: Columns

    def fits(self, row: Row, names: frozenset[str]) -> bool:
        """Whether a row with values under these names has this layout."""
        roots, nested = _needs(self.columns)
        return roots <= names and all(has(row, path) for path in nested)


@cache
def _needs(columns: Columns) -> tuple[frozenset[str], tuple[str, ...]]:
    optional = {columns.weight, columns.margin, columns.rater, columns.system, columns.spans, columns.model_a, columns.model_b}
    paths = [path for path in columns.paths if path not in optional or path == columns.response]
    return frozenset(path.split(".")[0] for path in paths), tuple(path for path in paths if "." in path)


SCORED, RANKED = "{n} scored answers a row, ties left out", "{n} ranked answers a row, ties left out"
BATTLE = "two answers and a winner, ties left out"
LAYOUTS = (
    Layout("`chosen` and `rejected`", Columns(chosen="chosen", rejected="rejected")),
    *(
        Layout(f"`{a}` over `{b}`", Columns(chosen=a, rejected=b))
        for a, b in (
            ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"), ("preferred_output", "non_preferred_output"),
            ("preferred", "dispreferred"), ("accepted", "rejected"), ("y_w", "y_l"), ("win", "lose"),
        )
    ),
    Layout(f"{BATTLE} (arena battles)", Columns(a="conversation_a", b="conversation_b", winner="winner")),
    Layout(f"{BATTLE} (arena)", Columns(a="response_a", b="response_b", score_a="winner_model_a", score_b="winner_model_b")),
    Layout(BATTLE, Columns(a="response_a", b="response_b", winner="winner")),
    Layout(f"{BATTLE} (SHP)", Columns(prompt="history", a="human_ref_A", b="human_ref_B", winner="labels", wins="1|0")),
    Layout(f"{BATTLE} (PKU-SafeRLHF)", Columns(a="response_0", b="response_1", winner="better_response_id", wins="0|1")),
    Layout("two scored answers, ties left out (WebGPT)", Columns(a="answer_0", b="answer_1", score_a="score_0", score_b="score_1")),
    Layout(f"{BATTLE} (HelpSteer3)", Columns(a="response1", b="response2", winner="overall_preference", wins="-|+")),
    Layout(
        "two answers and a winner by each of three raters, ties left out (PandaLM)",
        Columns(a="response1", b="response2", winner="annotator1+annotator2+annotator3", wins="1|2"),
    ),
    Layout(
        "four answers, compared two by two, with spans marked in the first, ties left out (QA feedback)",
        Columns(
            prompt="question", answers="prediction 1+prediction 2+prediction 3+prediction 4", pairs="preference", spans="feedback.errors", wins="1|2"
        ),
    ),
    Layout(f"{BATTLE} (AlpacaFarm)", Columns(a="output_1", b="output_2", winner="preference", wins="1|2")),
    Layout(f"{BATTLE} (summaries)", Columns(prompt="info.post", a="summaries.0.text", b="summaries.1.text", winner="choice", wins="0|1")),
    Layout(f"{BATTLE} (a vote log of FastChat)", Columns(a="states.0.messages", b="states.1.messages", winner="type")),
    Layout(
        f"{BATTLE} (Label Studio)",
        Columns(prompt="data.prompt", a="data.answer1", b="data.answer2", winner="annotations.0.result.0.value.selected"),
    ),
    Layout(
        f"{BATTLE} (Argilla)",
        Columns(
            prompt="fields.prompt", a="fields.response-1", b="fields.response-2", winner="responses.preference.0.value", wins="response-1|response-2"
        ),
    ),
    Layout(
        "{n} ranked replies to the first message of a tree, deeper ones left out",
        Columns(prompt="prompt.text", answers="prompt.replies.text", ranks="prompt.replies.rank"),
    ),
    Layout(f"{RANKED} (Nectar)", Columns(answers="answers.answer", ranks="answers.rank")),
    Layout(f"{SCORED} (UltraFeedback)", Columns(answers="completions.response", scores="completions.overall_score")),
    *(
        Layout(words, Columns(answers=answers, **{role: column}))
        for answers in ("responses", "completions", "answers", "generations", "candidates", "outputs")
        for role, words, column in (
            ("scores", SCORED, "scores"), ("scores", SCORED, "ratings"), ("scores", SCORED, "rating"), ("scores", SCORED, "rewards"),
            ("ranks", RANKED, "ranks"), ("ranks", RANKED, "rank"), ("ranks", RANKED, "ranking"),
        )
    ),
    *(
        Layout(words, Columns(answers=f"{answers}.{text}", **{role: f"{answers}.{column}"}))
        for answers in ("responses", "completions", "answers", "candidates")
        for text in ("text", "response", "answer", "content")
        for role, words, column in (("scores", SCORED, "score"), ("scores", SCORED, "rating"), ("ranks", RANKED, "rank"))
    ),
    Layout("steps with a label each, as labelled texts", Columns(answers="completions", labels="labels")),
    *(
        Layout("answers with a label", Columns(response=response, label=label))
        for label in ("label", "kto_tag")
        for response in ("response", "completion", "messages", "conversations", "text", "answer", "output")
    ),
    *(
        Layout(f"one answer a row, scored by `{score}`; answers to one prompt make pairs, ties left out", Columns(response=response, score=score))
        for score in ("helpfulness", "overall_score", "score", "rating", "reward")
        for response in ("response", "completion", "answer", "output")
    ),
)  # fmt: skip
KNOWN_WORDS = {  # names that may be read beside those of a layout
    "prompt", "instruction", "input", "question", "query", "context", "conversations", "conversation", "messages", "trajectory", "history", "system",
    "message_id", "parent_id", "role", "rank", "model_a", "model_b", "judge", "annotator", "annotator_id", "worker", "worker_id", "labeler",
    "system_prompt", "turns", "text", "post", "weight", "margin", "rater_id", "num_common", "chosen_ids", "rejected_ids", "prompt_ids",
    "num_prompt_ids", "prompt_turns", "chosen_marks", "rejected_marks", "chosen_spans", "rejected_spans", "chosen_stop_reason",
    "rejected_stop_reason", "prefix_labels", "label_smoothing", "response_ids", "response_stop_reason", "num_guided",
}  # fmt: skip
KNOWN = frozenset(KNOWN_WORDS | {path.split(".")[0] for layout in LAYOUTS for path in layout.columns.paths})


SCORES = frozenset((
    "score", "rating", "reward", "overall_score", "fine-grained_score", "helpfulness", "correctness", "coherence", "complexity", "verbosity",
    "honesty",
    "truthfulness", "instruction_following", "harmlessness", "quality", "relevance", "fluency", "scores", "ratings", "rewards", "overall",
))  # fmt: skip


def scores_of(row: Row, columns: Columns) -> set[str]:
    """The paths in a row that hold scores, of which any may decide."""
    if columns.score:
        return {columns.score, *(name for name, value in row.items() if name.lower() in SCORES and _is_number(value))}
    if "." not in columns.scores:
        return {columns.scores, *(name for name, value in row.items() if name.lower() in SCORES and isinstance(value, (list, tuple)))}
    path, _, _ = columns.scores.rpartition(".")
    items = fetch(row, path)
    keys = {name for item in items if isinstance(item, Mapping) for name, value in item.items() if name.lower() in SCORES and _is_number(value)}
    return {columns.scores, *(f"{path}.{name}" for name in keys)}


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and value is not None and float(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def layout_of(row: Row, names: Iterable[str]) -> Layout | None:
    """The first layout that matches a row with values under these names; None where none does."""
    present = frozenset(names)
    return next((layout for layout in LAYOUTS if layout.fits(row, present)), None)


def chosen_layout(columns: Columns) -> Layout:
    """The layout of a mapping that a user gives."""
    form = columns.form or ()
    words = {"answers": RANKED if columns.ranks else SCORED if columns.scores else "steps with a label each, as labelled texts", "a": BATTLE}
    parts = ", ".join(f"{name} from `{getattr(columns, name)}`" for name in (*(("prompt",) if columns.prompt else ()), *form))
    first = words.get(form[0]) if form else None
    return Layout(f"{first}: {parts}" if first else parts, columns)


# --- places in a row --------------------------------------------------------------------------------------------------


def has(row: Row, path: str) -> bool:
    try:
        return fetch(row, path) is not None
    except BadRow:
        return False


def fetch(row: Row, path: str) -> Any:
    """The value at a path: `fetch({"a": [{"b": 1}, {"b": 2}]}, "a.b")` is [1, 2]. Raises BadRow where there is none."""
    if path in row:
        return row[path]
    if "+" in path:
        parts = [fetch(row, part) for part in _joined(path)]
        texts = [part for part in parts if part not in (None, "")]
        if not all(isinstance(text, str) for text in texts):
            raise BadRow(f"`{path}` are not all texts.", "Join columns of texts only.")
        return "\n".join(texts)
    value: Any = row
    for i, name in enumerate(path.split(".")):
        value = _step(value, name, path, ".".join(path.split(".")[:i]) or path)
    return value


def _step(value: Any, name: str, path: str, before: str) -> Any:
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if isinstance(value, (list, tuple)) and name.isdigit():
        if int(name) < len(value):
            return value[int(name)]
        raise BadRow(f"`{before}` has {len(value)} items, and `{path}` asks for number {name}.", "Mend or remove the row.")
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        return [item.get(name) for item in value]
    available = f" `{before}` has {', '.join(f'`{excerpt(key, 40)}`' for key in value)}." if isinstance(value, Mapping) and before != path else ""
    raise BadRow(f"There is no `{path}` in it.{available}", "Mend or remove the row, or name the columns.")


def winner_of(value: Any, columns: Columns) -> str:
    """ "a", "b", "tie", or "both_bad" for a tie of two bad answers. Raises BadRow where the value says none of them."""
    if value is None:
        raise BadRow(f"`{columns.winner}` is null: nobody has won.", "Mend or remove the row.")
    word = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_") if isinstance(value, str) else value
    if columns.wins == "-|+":
        number = number_of(value, columns.winner, least=None)
        return "a" if number < 0 else "b" if number > 0 else "tie"
    if columns.wins:
        text = f"{value:g}" if isinstance(value, float) else str(int(value)) if isinstance(value, bool) else str(value).strip()
        for side, wins in zip("ab", columns.wins.split("|"), strict=True):
            if text.lower() == wins.strip().lower():
                return side
    if isinstance(word, str):
        if word in TIES or word.startswith(("tie", "both_", "bothbad")):
            return "both_bad" if re.search(r"both_?bad|both_are_bad", word) else "tie"
        if not columns.wins and word in LEFT | {columns.a.lower()}:
            return "a"
        if not columns.wins and word in RIGHT | {columns.b.lower()}:
            return "b"
    elif columns.wins and value in (0, -1) and not isinstance(value, bool):
        return "tie"  # 1 and 2 are the answers, 0 is neither
    do = f"Name the values of the first and second answer: winner={columns.winner}:1|2."
    raise BadRow(f"`{columns.winner}` is {kind_of(value)}, which is neither one of the answers nor a tie.", do)


def number_of(value: Any, name: str, least: float | None = 0.0) -> float:
    """A finite number of at least `least`, also from text in a cell. Raises BadRow."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise BadRow(f"Its `{name}` is {kind_of(value)}, not a number.") from None
    elif (isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)) or (isinstance(value, bool) and least is None):
        try:
            number = float(value)
        except OverflowError:
            raise BadRow(f"Its `{name}` is a number of hundreds of digits.") from None
    else:
        raise BadRow(f"Its `{name}` is {kind_of(value)}, not a number.")
    if number != number or number in (float("inf"), float("-inf")) or (least is not None and number < least):
        do = "It has to be a number from 0 on." if least is not None else "It has to be a finite number."
        raise BadRow(f"Its `{name}` is {number:g}.", do)
    return number


def integer_of(value: Any, name: str) -> int:
    """A non-negative integer, also from text in a cell. Raises BadRow."""
    number = number_of(value, name)
    if number != int(number):
        raise BadRow(f"Its `{name}` is {number:g}.", "It has to be a whole number.")
    return int(number)


def label_of(value: Any, name: str) -> float:
    """A label in [0, 1]: true, false, or a number. Raises BadRow."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    try:
        number = number_of(value, name, least=None)
    except BadRow:
        number = float("nan")
    if not 0 <= number <= 1:
        raise BadRow(f"Its label is {excerpt(value, 30)}.", "Labels lie between 0 and 1, or are true or false.")
    return number
