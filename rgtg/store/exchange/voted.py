"""Comparisons that somebody voted on or marked, with their votes, in one state of the database, every row checked.

Reads no steps of an answer unless they are asked for: then the answers have all they were stored with. Knows nothing of formats.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from json.decoder import scanstring  # type: ignore[attr-defined]  # which typeshed does not list
from operator import itemgetter
from types import MappingProxyType

from rgtg.records import Comparison, Run, Span, Trace, Vote
from rgtg.store import queries, rows
from rgtg.store.history import EVERYTHING, HistoryFilter, matching
from rgtg.store.statements.exclusions import Exclusions, exclusions, is_excluded
from rgtg.system.serialization import from_dict

AT_ONCE, EXCLUDED = 500, "excluded"
# a run as it is written: `{"prompt":…,"method":…,"seed":…,"prompt_ids":[…],"forced_ids":[…],…}`; in a text of it every quote is escaped
BEGINS, OWN = '{"prompt":"', re.compile(r',"seed":(\d+),"prompt_ids":\[[\d,]*\],"forced_ids":\[[\d,]*\],')
OF_TEXT = (*rows.TEXT_COLUMNS, "seq", "num_tokens", "text_sha256")
TEXT = ", ".join(f'"{name}"' for name in OF_TEXT)
PLAIN = tuple(f.name for f in fields(Trace) if f.name not in ("run", "steps"))
PLAIN_OF = itemgetter(*map(OF_TEXT.index, PLAIN))
NULL_IS_NOTHING = tuple(f.name for f in fields(Trace) if f.default not in (None, MISSING) and f.name in PLAIN)  # "" and 0 may be stored as NULL
NUM_TEXT, THE_RUN = len(rows.TEXT_COLUMNS), rows.TEXT_COLUMNS.index("run")


@dataclass(frozen=True)
class Voted:
    """A comparison with all its votes in order of arrival, the current marks by the id of their answer, and what of the votes is excluded.

    `stored` are the rows of the answers.
    """

    comparison: Comparison
    votes: tuple[Vote, ...]
    marks: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    excluded: Exclusions = field(default_factory=dict)
    stored: Mapping[str, sqlite3.Row] = field(default_factory=dict, repr=False)
    sifted: Mapping[str, str] = field(default_factory=dict)  # vote -> why a snapshot leaves it out

    @property
    def counted(self) -> tuple[Vote, ...]:
        """The votes without excluded and sifted ones."""
        if not self.excluded and not self.sifted:
            return self.votes
        return tuple(vote for vote in self.votes if vote.id not in self.sifted and not is_excluded(self.excluded, vote.id))

    @property
    def left_out(self) -> Counter[str]:
        """The others, by cause."""
        return Counter(
            EXCLUDED if is_excluded(self.excluded, vote.id) else cause
            for vote in self.votes
            if (cause := self.sifted.get(vote.id, "")) or is_excluded(self.excluded, vote.id)
        )


def voted(
    conn: sqlite3.Connection, wanted: HistoryFilter = EVERYTHING, steps: bool = False, sifted: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Voted]:
    """Those that `wanted` lets through, oldest first; of a filter with a rater only this rater's votes and marks. StoreError naming the first
    row that does not fit its hash."""
    queries.check_indexes(conn)
    reasons = exclusions(conn)
    names: dict[str, Run] = {}
    for ids in _chunks(_ids(conn, wanted)):
        found = _where(conn, "SELECT * FROM comparisons WHERE id IN", ids, "ORDER BY seq")
        votes = _grouped(_where(conn, "SELECT * FROM votes WHERE comparison_id IN", ids, "ORDER BY seq"), "comparison_id")
        select = f"SELECT {'*' if steps else TEXT} FROM traces WHERE comparison_id IN"
        traces = _grouped(_where(conn, select, ids, "ORDER BY seq"), "comparison_id")
        marks = _marks(conn, traces)
        for row in found:
            if rows.sha256(row["prompt"]) != row["prompt_sha256"]:
                raise queries.damaged("comparisons", row)
            cast = tuple(rows.vote_of(queries.checked("votes", vote)) for vote in votes.get(row["id"], ()))
            answers = traces.get(row["id"], [])
            light = not steps and not (marks and any(trace["id"] in marks for trace in answers))
            made = [_light(conn, trace, names) if light else _complete(conn, trace) for trace in answers]
            own = {trace.id: [m for m in marks[trace.id] if wanted.rater in (None, m.rater_id)] for trace in made if trace.id in marks}
            yield Voted(
                rows.comparison_of(row, made), cast if wanted.rater is None else tuple(vote for vote in cast if vote.rater_id == wanted.rater),
                {trace_id: standing for trace_id, spans in own.items() if (standing := queries.standing(spans))},
                {vote.id: reasons[vote.id] for vote in cast if vote.id in reasons} if reasons else {},
                {trace.id: stored for trace, stored in zip(made, answers, strict=True)},
                {vote.id: sifted[vote.id] for vote in cast if vote.id in sifted} if sifted else {},
            )  # fmt: skip


def _ids(conn: sqlite3.Connection, wanted: HistoryFilter) -> list[str]:
    sql = (
        "SELECT seq, id FROM comparisons WHERE id IN (SELECT comparison_id FROM votes) "
        "OR id IN (SELECT comparison_id FROM traces WHERE id IN (SELECT trace_id FROM marks)) ORDER BY seq"
    )
    found = [row["id"] for row in conn.execute(sql)]
    if replace(wanted, rater=None) == EVERYTHING:
        return found
    chosen = matching(conn, wanted)
    return [comparison_id for comparison_id in found if comparison_id in chosen]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))


def _where(conn: sqlite3.Connection, select: str, ids: Sequence[str], order: str) -> list[sqlite3.Row]:
    sql = f"{select} ({', '.join('?' * len(ids))}) {order}"
    try:
        return conn.execute(sql, tuple(ids)).fetchall()
    except sqlite3.OperationalError:  # damaged text: it is named by its hash, and does not stop the query
        conn.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
        return conn.execute(sql, tuple(ids)).fetchall()


def _grouped(found: Sequence[sqlite3.Row], key: str) -> dict[str, list[sqlite3.Row]]:
    groups: dict[str, list[sqlite3.Row]] = {}
    for row in found:
        groups.setdefault(row[key], []).append(row)
    return groups


def _marks(conn: sqlite3.Connection, traces: Mapping[str, Sequence[sqlite3.Row]]) -> dict[str, list[Span]]:
    marks: dict[str, list[Span]] = {}
    if queries.one(conn, "SELECT 1 FROM marks LIMIT 1") is None:
        return marks
    for ids in _chunks([trace["id"] for group in traces.values() for trace in group]):
        for row in _where(conn, "SELECT * FROM marks WHERE trace_id IN", ids, "ORDER BY seq"):
            marks.setdefault(row["trace_id"], []).append(rows.span_of(queries.checked("marks", row)))
    return marks


def _complete(conn: sqlite3.Connection, row: sqlite3.Row) -> Trace:
    """An answer with its steps: marks count its tokens."""
    if "steps" not in row.keys():  # noqa: SIM118, a sqlite3.Row iterates over values
        row = queries.need(conn, "traces", row["id"], "trace")
    return rows.trace_of(queries.checked("traces", row))


def _light(conn: sqlite3.Connection, row: sqlite3.Row, settings: dict[str, Run]) -> Trace:
    """An answer without its steps and ids; its run has neither."""
    values = tuple(row)  # those of OF_TEXT
    _, num_tokens, text_sha256 = values[NUM_TEXT:]
    if text_sha256 is None:
        _complete(conn, row)
    elif rows.text_hash(values[:NUM_TEXT]) != text_sha256:
        raise queries.damaged("traces", row)
    plain = dict(zip(PLAIN, PLAIN_OF(values), strict=True), run=_run(values[THE_RUN], settings), steps=rows.Unread(num_tokens or 0))
    for name in NULL_IS_NOTHING:
        if plain[name] is None:
            del plain[name]
    trace = object.__new__(Trace)  # as `Trace(…)`, without a look at every field of each of thousands of answers
    trace.__dict__.update(plain)
    return trace


def _run(stored: str, settings: dict[str, Run]) -> Run:
    """The run as it is stored, without its ids; `settings` keeps what many runs share."""
    prompt, start = scanstring(stored, len(BEGINS)) if stored.startswith(BEGINS) else ("", 0)
    end = stored.find(',"seed":', start)
    own = OWN.match(stored, end)
    if not start or own is None:  # as other versions wrote it
        return replace(from_dict(Run, json.loads(stored)), prompt_ids=(), forced_ids=())
    shared = f"{{{stored[start + 1 : end]},{stored[own.end() :]}"
    if shared not in settings:
        settings[shared] = from_dict(Run, json.loads(shared) | {"prompt": ""})
    run = object.__new__(Run)
    run.__dict__.update(settings[shared].__dict__, prompt=prompt, seed=int(own[1]))
    return run
