"""What a file of preferences becomes in the database: comparisons of answers from elsewhere, with votes and marks.

Ids are made of the content, so that a file that is planned again gives the same records. Knows nothing of SQL. The k-th time that a rater judges the
same answers is a k-th comparison of them.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadData, BadSettings, unsound
from rgtg.preferences.formats import Example, Judgement, Labelled, Marked, Prompt, Reading, read_judgements
from rgtg.prompts import transcript
from rgtg.records import Comparison, Span, Trace, Vote
from rgtg.store.exchange.records import IMPORTED, ImportReport, Plan, content_id, stand_in
from rgtg.store.exchange.restored import plan_own

TIES = ("keep", "drop")
STRENGTHS = {0.5: 2, 1.0: 3}  # by the margin of a row


def plan(source: str | Path, columns: str = "", ties: str = "", split: str = "train") -> Plan:
    """Plan the import of a file, a folder of shards or a hub data set. Raises BadData naming the row and the field, and BadSettings where the
    layout leaves open what decides: give `columns`, or `ties` as "keep" or "drop"."""
    if ties and ties not in TIES:
        raise BadSettings(f"`ties` is {' or '.join(TIES)}.", f"Found `{ties:.40}`.", "", "ties")
    if not columns and (own := plan_own(source, split)):
        return own
    reading = read_judgements(source, split, columns)
    if reading.ask:
        options = ", ".join(f"`{path}`" for path in reading.ask)
        path = reading.ask[0]
        part = f"answers={path.rpartition('.')[0]}.TEXT,scores={path}" if "." in path else f"score={path} (or scores={path})"
        found = f"{options} are scores, and any of them may decide."
        raise BadSettings(
            f"`{Path(source).name}` leaves open which score decides.", found, f"Name it: --columns prompt=…,response=…,{part}", "columns"
        )
    equal = sum(isinstance(item, Example) and item.tie == "equal" for item in reading.examples)
    if equal and not ties:
        do = "Count them as votes for a tie with --ties keep, or leave them out with --ties drop."
        raise BadSettings(
            f"`{Path(source).name}` leaves open whether equal scores are ties.", f"{equal:,} pairs of answers have equal scores.", do, "ties"
        )
    return _Planner(str(source), reading, ties).plan()


class _Planner:
    def __init__(self, source: str, reading: Reading, ties: str):
        self._source, self._name, self._reading, self._ties = source, Path(source).name or source, reading, ties
        self._comparisons: dict[str, Comparison] = {}
        self._votes: list[Vote] = []
        self._marks: dict[str, Span] = {}
        self._times: Counter[tuple[str, str]] = Counter()  # how often a rater judged the same answers
        self._left_out = Counter(dict(reading.left_out))

    def plan(self) -> Plan:
        items: tuple[Judgement, ...] = self._reading.examples
        for item in items:
            if isinstance(item, Example):
                self._pair(item)
            elif isinstance(item, Labelled):
                self._labelled(item)
            else:
                self._marked(item)
        raters = {vote.rater_id for vote in self._votes} | {mark.rater_id for mark in self._marks.values()}
        report = ImportReport(
            self._source, self._reading.read_as, self._reading.num_rows, len(self._comparisons), len(self._votes), len(raters),
            sum(vote.verdict != "best" and len(vote.seen_trace_ids) > 1 for vote in self._votes), len(self._marks),
            {cause: number for cause, number in sorted(self._left_out.items()) if number}, self._reading.not_read,
        )  # fmt: skip
        return Plan(report, [*self._comparisons.values()], self._votes, [*self._marks.values()])

    def _pair(self, item: Example) -> None:
        if item.tie == "equal" and self._ties == "drop":
            self._left_out["even"] += 1
            return
        if not (item.chosen or item.rejected) and item.chosen_ids:
            found = "It has token ids and no texts."
            raise BadData(
                f"Row {item.row} of `{self._name}` cannot be imported.", found, "Import the texts: our formats preference and votes have them."
            )
        sides = [(item.chosen, (item.models or ("", ""))[0], item.chosen_spans), (item.rejected, (item.models or ("", ""))[1], item.rejected_spans)]
        # where the row does not say which stood first, a hash decides: the chosen one always on the left would look like a habit of the raters
        swapped = item.first == "rejected" if item.first else content_id(item.chosen) > content_id(item.rejected)
        best = 1 if swapped else 0
        shown = sides[::-1] if swapped else sides
        comparison = self._comparison(item.row, item.prompt, [(text, model) for text, model, _ in shown], item.rater)
        traces = self._in_order(comparison, shown)
        ids = tuple(trace.id for trace in traces)
        verdict = {"": "best", "both_bad": "all_bad"}.get(item.tie, "tie")
        strength = STRENGTHS.get(item.margin)
        self._vote(comparison, item.rater, verdict, ids[best] if verdict == "best" else None, ids, strength if verdict == "best" else None)
        for trace, (_, _, spans) in zip(traces, shown, strict=True):
            self._mark(comparison, trace, spans, item.rater)

    def _labelled(self, item: Labelled) -> None:
        if item.label not in (0.0, 1.0):
            found = f"Its label is {item.label:g}, which is neither good (1, true) nor bad (0, false)."
            raise BadData(
                f"Row {item.row} of `{self._name}` cannot be imported.", found, "Decide from where on a label is good, and write true or false."
            )
        comparison = self._comparison(item.row, item.prompt, [(item.response, "")], item.rater)
        (trace,) = comparison.traces
        good = item.label == 1.0
        self._vote(comparison, item.rater, "best" if good else "all_bad", trace.id if good else None, (trace.id,), None)

    def _marked(self, item: Marked) -> None:
        comparison = self._comparison(item.row, item.prompt, [(item.response, "")], item.rater)
        self._mark(comparison, comparison.traces[0], item.spans, item.rater)

    def _comparison(self, row: int, prompt: Prompt, answers: Sequence[tuple[str, str]], rater: str) -> Comparison:
        """The comparison of these answers that the rater has not judged yet."""
        text = prompt if isinstance(prompt, str) else transcript(prompt)
        for name, value in (("prompt", text), *(("answer", answer) for answer, _ in answers)):
            if problem := unsound(value):
                found = f"Its {name} holds {problem[0]}: character {problem[1] + 1:,}."
                raise BadData(f"Row {row} of `{self._name}` cannot be imported.", found, "Mend or remove the row.")
        key = content_id("comparison", text, sorted(answers))
        self._times[key, rater] += 1
        comparison_id = content_id(key, self._times[key, rater]) if self._times[key, rater] > 1 else key
        if comparison_id not in self._comparisons:
            traces = tuple(
                Trace(content_id(comparison_id, place), COLUMN_NAMES[place], stand_in(text, self._name, model), (), answer, "eos", place=place)
                for place, (answer, model) in enumerate(answers)
            )
            self._comparisons[comparison_id] = Comparison(
                comparison_id, text, traces, pair_rule=IMPORTED, turns=() if isinstance(prompt, str) else tuple(prompt)
            )
        return self._comparisons[comparison_id]

    def _in_order(self, comparison: Comparison, shown: Sequence[tuple[str, str, object]]) -> list[Trace]:
        """The answers as a row has them, which may be in another order than in the row before."""
        left = list(comparison.traces)
        ordered = []
        for text, model, _ in shown:
            trace = next(t for t in left if t.response == text and dict(t.run.params).get("model", "") == model)
            left.remove(trace)
            ordered.append(trace)
        return ordered

    def _vote(self, comparison: Comparison, rater: str, verdict: str, best: str | None, seen: tuple[str, ...], strength: int | None) -> None:
        vote_id = content_id("vote", comparison.id, rater)
        self._votes.append(Vote(vote_id, comparison.id, verdict, best, seen, rater, strength))

    def _mark(self, comparison: Comparison, trace: Trace, spans: Sequence[tuple[int, int, str]], rater: str) -> None:
        """Marks of an answer, in characters; once where a row compares it with several others."""
        for start, end, label in spans:
            key = content_id("mark", comparison.prompt, trace.response, start, end, label, rater)
            if key not in self._marks:
                self._marks[key] = Span(key, trace.id, start, end, label, rater)
