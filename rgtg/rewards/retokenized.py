"""A decoder with another tokenizer than the base LM: it reads the text, and of a text that has grown only what changed.

The text is encoded anew each time, since a new word may merge with the tokens before it; the ids that it shares with a text read before are in
the cache. Knows nothing of methods, token ids of the base LM or the screen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import Backbone
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import grow
from rgtg.prompts import check_fits
from rgtg.rewards.base import Opening, WithWeights
from rgtg.rewards.cached import CachedTexts
from rgtg.rewards.text import Answer, TextRewardModel, TextScorer
from rgtg.system.stopping import check_stopped


@dataclass(frozen=True, eq=False)
class Retokenized(WithWeights, TextRewardModel):
    """A decoder with a scalar head and a tokenizer of its own, which reads the base LM's text."""

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Module

    @property
    def cost(self) -> str:
        return "another tokenizer: one forward per token, one row per candidate, of the tokens that changed"

    def scorer(self, lm: BaseLM) -> "CachedScorer":
        return CachedScorer(self)

    def check_fits(self, prompt: str, max_new_tokens: int) -> None:
        check_fits(len(self.loaded.encode_prompt(prompt)), max_new_tokens, self.name, self.context)

    def num_prompt_tokens(self, opening: Opening) -> int:
        return len(self.loaded.encode_prompt(opening.prompt))


class CachedScorer(TextScorer):
    """Scores texts by a pool of cached rows: each text continues the row with which it shares most of its tokens."""

    def __init__(self, model: Retokenized):
        self.model = model
        self._backbone = model.backbone
        self._rows: GrowingRows | None = None
        self._earlier_forwards = 0  # of pools before this one
        self._order: list[int] = []  # rows, the least recently used first
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._was_cut = False

    @property
    def num_forwards(self) -> int:  # type: ignore[override]  # counted by the rows
        return self._earlier_forwards + (self._rows.num_forwards if self._rows else 0)

    @property
    def remark(self) -> str:
        cut = f"`{self.model.name}` reads {self.model.context} tokens: of longer texts it was not given the beginning."
        return cut if self._was_cut else ""

    @torch.inference_mode()
    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        texts = [self.ids(answer) for answer in answers]
        slots = self._place(self._pool(answers, texts), texts)
        assert self._rows is not None
        for part in self._rows.in_parts(dict.fromkeys(slots, ())):
            check_stopped()
            self._rows.forward(part)
        return self.model.head(self._rows.last(slots))[..., 0].float().tolist()

    def ids(self, answer: Answer) -> list[int]:
        """Ids of a text in the model's own template and tokenizer; of one beyond its context the first and the last."""
        loaded = self.model.loaded
        if answer.prompt not in self._prompts:
            self._prompts[answer.prompt] = loaded.encode_prompt(answer.prompt)
        prompt_ids = self._prompts[answer.prompt]
        response = loaded.encode_response(answer.prompt, prompt_ids, answer.response) if answer.response else ()
        ids = [*prompt_ids, *response, *(loaded.closing if answer.complete else ())]
        if (over := len(ids) - self.model.context) > 0:
            self._was_cut = True
            del ids[1 : 1 + over]
        return ids

    def _pool(self, answers: Sequence[Answer], texts: Sequence[list[int]]) -> GrowingRows:
        """Rows enough for these texts. New ones begin with what all texts behind a prompt have in common, which is read once."""
        rows = self._rows
        if rows is not None and len(texts) <= len(rows.texts) and {text[0] for text in texts} <= {row[0] for row in rows.texts}:
            return rows
        of_prompt: dict[str, list[list[int]]] = {}
        for answer, text in zip(answers, texts, strict=True):
            of_prompt.setdefault(answer.prompt, []).append(text)
        shared = {prompt: max(1, num_shared(min(same), max(same))) for prompt, same in of_prompt.items()}  # texts between these two share it too
        begun = [text[: shared[answer.prompt]] for answer, text in zip(answers, texts, strict=True)]
        num_more = len(rows.texts) - len(begun) if rows is not None else 0
        self._earlier_forwards = self.num_forwards
        self._rows = rows = grow(self._backbone, [*begun, *begun[:1] * num_more])
        self._order = list(range(len(rows.texts)))
        return rows

    def _place(self, rows: GrowingRows, texts: Sequence[Sequence[int]]) -> list[int]:
        """Make each text that of a row; returns the rows. The rest of a text is left pending."""
        nearest = [max((num_shared(text, row), -slot) for slot, row in enumerate(rows.texts)) for text in texts]
        slots, free = dict[int, int](), list(self._order)
        for i in sorted(range(len(texts)), key=lambda i: -nearest[i][0]):
            if (slot := -nearest[i][1]) in free:
                free.remove(slot)
                slots[i] = slot
        copied = {i: free.pop(0) for i in range(len(texts)) if i not in slots}
        rows.copy([-nearest[i][1] for i in copied], list(copied.values()))
        slots |= copied
        for i, text in enumerate(texts):
            rows.truncate(slots[i], nearest[i][0])
            for token_id in text[nearest[i][0] :]:
                rows.append(slots[i], token_id)
        self._order = [slot for slot in self._order if slot not in slots.values()] + list(slots.values())
        return [slots[i] for i in range(len(texts))]

    def caches(self, num_slots: int) -> Sequence[CachedTexts]:
        return [Sample(self._rows, num_slots)] if self._rows is not None else ()

    def disable_cache(self) -> None:
        if self._rows is not None:
            self._rows.disable_cache()
            self._backbone = self._rows.backbone


class Sample:
    """The rows of a pool as the texts of slots, for the spot check: any of them will do."""

    def __init__(self, rows: GrowingRows, num_slots: int):
        self._rows = rows
        self.texts = [rows.texts[slot % len(rows.texts)] for slot in range(num_slots)]
        self.num_forwards, self.num_positions = rows.num_forwards, rows.num_positions

    @property
    def num_check_forwards(self) -> int:
        return self._rows.num_check_forwards

    def holds(self, slot: int) -> bool:
        return self._rows.holds(slot % len(self._rows.texts))

    def is_fed(self, slot: int) -> bool:
        return self._rows.is_fed(slot % len(self._rows.texts))

    def positions_of(self, slots: Iterable[int]) -> int:
        return 0  # a row is read for whichever slot comes next


def num_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading ids that two texts have in common.

    >>> num_shared([3, 1, 4, 1], [3, 1, 5])
    2
    """
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
