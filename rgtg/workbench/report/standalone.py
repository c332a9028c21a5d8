"""The board, and one comparison, each as one HTML file that opens without the app and without a network.

Everything is in the file: styles, drawings as SVG, for a comparison the script that opens a token. Whatever comes from a model or a
person is escaped text or JSON. Knows nothing of the store.
"""

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rgtg import __version__
from rgtg.plots import curve_points, default_measure
from rgtg.preferences.items.rankings import vote_words
from rgtg.records import Candidate, Comparison, Step, Trace, Vote, mix_words, plain_params
from rgtg.workbench.report import drawings
from rgtg.workbench.report.meter import cost_in_short
from rgtg.workbench.report.results import BY, Results, disagreement_rows, model_names, sentences
from rgtg.workbench.report.tables import board_cells, lengths_cells, model_cells

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # nothing is fetched, whatever is in the texts
MOST_CANDIDATES = 12
NO_VOTES = "Nobody has voted yet. Generate answers on Compare, vote for the best one, and open the results again."


def board_html(results: Results, with_texts: bool = True) -> str:
    """The board with all its parts; without texts it has no prompt and no answer."""
    if not results.num_votes:
        return _page("Results", [_paragraph(NO_VOTES)])
    title = f"Results by {BY[results.by]}" + (", at equal length" if results.control_length else "")
    parts = [_paragraph(line) for line in sentences(results)]
    if results.board.places:
        parts += ["<h2>Leaderboard</h2>", _table(*board_cells(results), "left"), _row(drawings.forest(results), drawings.win_matrix(results))]
    names = model_names(results.reward_models or ())
    if names:
        parts += ["<h2>Reward models against people</h2>", _table(*model_cells(results))]
    for one in results.reward_models or ():
        parts += [f"<h2>{html.escape(names[one.model])}</h2>", _row(drawings.calibration(one), drawings.lengths(one)), _table(*lengths_cells(one))]
        rows = disagreement_rows(results, one) if with_texts else []
        if rows:
            head = ("gap", "prompt", "preferred by people", "reward", "preferred by the reward model", "reward", "votes")
            keys = ("gap", "prompt", "chosen", "chosen_reward", "rejected", "rejected_reward", "num_votes")
            parts += [
                "<p>Votes against the reward, the largest difference first:</p>",
                _table(head, [[_value(row[key]) for key in keys] for row in rows], "", (1, 2, 4)),
            ]
    return _page(title, parts)


def comparison_html(comparison: Comparison, votes: Iterable[Vote] = ()) -> str:
    """The comparison with votes that stand: answers with tokens coloured by reward, the candidates of the token that is clicked, rewards
    along the answers."""
    traces = [trace for trace in comparison.traces if trace.steps or trace.response]
    measures = list(dict.fromkeys(name for trace in traces for step in trace.steps for name, _ in step.rewards))
    first = default_measure(traces) if traces else ""
    measures.sort(key=lambda name: name != first)
    votes, letters = tuple(votes), {trace.id: trace.column for trace in comparison.traces}
    preferred = Counter(vote.best_trace_id for vote in votes if vote.best_trace_id)
    best = max(((times, trace_id) for trace_id, times in preferred.items()), default=(0, ""))[1]
    boxes = "".join(_column(trace, trace.id == best) for trace in traces)
    head = [f'<p class="text"><span class="quiet">prompt</span> {html.escape(comparison.prompt)}</p>']
    said = Counter(vote_words(vote, letters) for vote in votes)
    if words := [f"{one}{f' ({times})' * (times > 1)}" for one, times in said.items()]:
        head.append(_paragraph(f"{'Votes' if said.total() > 1 else 'Vote'}: {', '.join(words)}."))
    head.append('<p id="colour"><label>colour: reward by <select id="measure"></select></label> <small id="scale"></small></p>')
    why = '<div id="why" aria-live="polite"><p class="quiet">Click a token to see the candidates at that position.</p></div>'
    curves = [drawings.reward_lines(name, lines) for name in measures if (lines := _lines(traces, name))]
    data = {"columns": [{"letter": trace.column, "tokens": [_token(step) for step in trace.steps]} for trace in traces], "measures": measures}
    script = f'<script type="application/json" id="comparison">{_json(data)}</script><script>{_file("standalone.js")}</script>'
    parts = [*head, f'<div class="columns">{boxes}</div>', why, *(["<h2>Reward along the answers</h2>", _row(*curves)] if curves else []), script]
    return _page(f"Comparison {comparison.id[:8]}", parts)


def _column(trace: Trace, best: bool) -> str:
    run, text = trace.run, html.escape
    params = " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in plain_params(run.params).items())
    title = " · ".join(filter(None, [trace.column, run.method, mix_words(run.guides), params, f"seed {run.seed}"]))
    end = {"error": f"failed: {trace.error}", "stopped": "stopped"}.get(trace.stop_reason, "")
    facts = " · ".join(filter(None, ["best" if best else "", f"{len(trace.steps)} tokens", end, cost_in_short(trace, trace.tokens_per_second)]))
    body = '<span class="tokens"></span>' if trace.steps else text(trace.response)
    fallback = f"<noscript>{text(trace.response)}</noscript>" if trace.steps else ""
    return (
        f'<section class="column{" best" if best else ""}"><h2>{text(title)}</h2><small>{text(run.base_lm.name)} · {text(facts)}</small>'
        f'<p class="text"><span class="prompt">{text(run.prompt)}</span>{body}{fallback}</p></section>'
    )


def _token(step: Step) -> dict[str, Any]:
    label = next((c.text for c in step.candidates if c.token_id == step.token_id), "")
    return {
        "t": step.text, "label": label or f"⟨{step.token_id}⟩", "id": step.token_id, "p": _finite(math.exp(min(0.0, step.log_prob))),
        "ranks": [step.rank_before, step.rank_after], "rewards": {name: _finite(value) for name, value in step.rewards},
        "candidates": [_candidate(c) for c in _shown(step)],
    }  # fmt: skip


def _candidate(c: Candidate) -> dict[str, Any]:
    rewards = {name: _finite(value) for name, value in c.rewards}
    return {"id": c.token_id, "t": c.text, "p": _finite(math.exp(min(0.0, c.log_prob))), "rewards": rewards, "score": _finite(c.score),
            "ranks": [c.rank_before, c.rank_after], "after": _finite(c.prob_after)}  # fmt: skip


def _shown(step: Step) -> list[Candidate]:
    """The best by score; the selected one and the base LM's favourite always among them."""
    ranked = sorted(step.candidates, key=lambda c: (c.token_id != step.token_id and c.rank_before != 1, c.rank_after))
    return sorted(ranked[:MOST_CANDIDATES], key=lambda c: c.rank_after)


def _lines(traces: Iterable[Trace], name: str) -> dict[str, list[tuple[int, float]]]:
    return {trace.column: points for trace in traces if (points := curve_points(trace, name))}


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _json(value: Any) -> str:
    """JSON that ends no script element, whatever texts it has."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")


def _value(value: Any) -> str:
    return f"{value:+.2f}".replace("-", "−") if isinstance(value, float) else str(value)


def _paragraph(words: str) -> str:
    return f"<p>{html.escape(words)}</p>"


def _row(*nodes: drawings.Node) -> str:
    return '<div class="row">' + "".join(f'<div class="scroll">{drawings.markup(node)}</div>' for node in nodes) + "</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "", texts: Sequence[int] = ()) -> str:
    heads = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    of_text = [' class="text" dir="auto"' if i in texts else "" for i in range(len(head))]
    body = "".join("<tr>" + "".join(f"<td{of_text[i]}>{html.escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _file(name: str) -> str:
    text = (HERE / name).read_text(encoding="utf-8")
    assert "</script" not in text and "</style" not in text
    return text


def _page(title: str, parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="viewport" content="width=device-width">'
    head += f"<title>rgtg · {html.escape(title)}</title><style>{_file('standalone.css')}</style>"
    body = f"<main><h1>{html.escape(title)}</h1>{''.join(parts)}</main><footer>rgtg {__version__}</footer>"
    text = f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written
