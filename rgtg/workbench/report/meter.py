"""What an answer cost: forwards and positions of the base LM and of reward models, time, and the share of its tokens that was guided.

Functions of traces. Knows nothing of models or of the screen.
"""

from collections.abc import Sequence
from typing import Any

from rgtg.guidance.methods import rule_of
from rgtg.records import Run, Step, Trace


def share_guided(run: Run, steps: Sequence[Step]) -> float | None:
    """Share of the tokens for which the reward model was asked; None for a method that asks for every one, or for none."""
    rule = rule_of(run)
    own = steps[max(0, len(run.forced_ids) - 1) :]  # those before were given
    if rule is None or not rule.skips or not own:
        return None
    return sum(any(c.rewards for c in step.candidates) for step in own) / len(own)


def cost_of(trace: Trace) -> dict[str, Any]:
    """The cost by name, as `generate --json` prints it.

    Forwards are those that served the answer, positions the tokens fed for it, candidates included (0 in answers of earlier versions).
    """
    share = share_guided(trace.run, trace.steps)
    return {
        "seconds": round(trace.seconds, 4),
        "tokens_per_second": round(trace.tokens_per_second, 2),
        "lm_forwards": trace.lm_forwards,
        "lm_positions": trace.lm_positions,
        "reward_forwards": trace.reward_forwards,
        "reward_positions": trace.reward_positions,
        "observer_forwards": trace.observer_forwards,
        "observer_positions": trace.observer_positions,
        "check_forwards": trace.check_forwards,
        "share_guided": None if share is None else round(share, 4),
    }


def cost_in_short(trace: Trace, tokens_per_second: float) -> str:
    """ "38 % guided · 31 tok/s · 24 LM + 48 reward forwards", as far as there is something to say; observers are not counted."""
    guiding = trace.reward_forwards - trace.observer_forwards
    forwards = [f"{number} {name}" for number, name in ((trace.lm_forwards, "LM"), (guiding, "reward")) if number]
    of_models = " + ".join(forwards) + (" forward" if forwards == ["1 LM"] else " forwards") if forwards else ""
    speed = f"{tokens_per_second:.0f} tok/s" if tokens_per_second else ""
    return " · ".join(filter(None, [guided_words(trace), speed, of_models]))


def guided_words(trace: Trace) -> str:
    """ "38 % guided"; "" for a method that guides every token, or none."""
    share = share_guided(trace.run, trace.steps)
    return "" if share is None else f"{100 * share:.0f} % guided"


def cost_in_full(trace: Trace) -> list[str]:
    """The cost in full, a line each."""
    guiding = trace.reward_forwards - trace.observer_forwards, trace.reward_positions - trace.observer_positions
    apart = bool(trace.lm_positions)  # earlier versions counted guides and observers together
    lines = [
        _model("base LM", trace.lm_forwards, trace.lm_positions, trace),
        _model("guides" if apart else "reward models", *guiding, trace),
        *([_model("observers", trace.observer_forwards, trace.observer_positions, trace)] if trace.observer_forwards else []),
        f"{trace.seconds:.2f} s · {trace.tokens_per_second:.1f} tok/s",
    ]
    if trace.check_forwards:
        lines.append(f"{_count(trace.check_forwards, 'forward')} to check caches, not counted above")
    return [*lines, *filter(None, [guided_words(trace)])]


def _model(name: str, forwards: int, positions: int, trace: Trace) -> str:
    own = len(trace.steps) - len(trace.run.forced_ids)
    words = f"{name}: {_count(forwards, 'forward')}" + (f", {_count(positions, 'position')}" if positions else "")
    return words + (f" ({forwards / own:.2f} forwards a token)" if own > 0 and forwards else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
