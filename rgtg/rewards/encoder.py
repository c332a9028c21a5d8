"""Encoder reward models: classifiers such as DeBERTa, BERT or RoBERTa, which read a complete text both ways.

Knows nothing of methods, token ids of the base LM or the screen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rgtg.errors import ModelRefused
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import Backbone, tolerance
from rgtg.models.prefixes.growing import PART, PART_ON_CPU
from rgtg.models.probe import refused
from rgtg.rewards.base import Opening, WithWeights
from rgtg.rewards.text import Answer, TextReader, TextRewardModel, TextScorer
from rgtg.system.stopping import check_stopped

Key = tuple[tuple[int, ...], ...]  # the inputs of a text
MOST_RECENT = 1000  # texts whose outputs are kept
PAIR = "pair"  # template of a card: prompt and response are the two segments of an input
SAMPLES = (Answer("How was it?", "Good.", False), Answer("How was the food there on Sunday?", "It was good, and so was the service.", False))


@dataclass(frozen=True, eq=False)
class EncoderRewardModel(WithWeights, TextRewardModel):
    """An encoder with a classification head: DeBERTa, BERT, RoBERTa, ELECTRA and kin.

    Formula: r(x, y_{≤t}) = logit of the label for the text of y_{≤t} behind x; one of several labels is chosen by its name, `MODEL[label]`.
    Paper: the reward models of many studies of RLHF, and every classifier of texts.
    Cost: every candidate is encoded from its first token, in batches: its attention sees both ways, so that no cache is valid.
    Pitfall: it was trained on complete texts. Of a text longer than its context the beginning of the prompt is left out, and the answer says so.
    """

    loaded: Loaded
    num_positions: int  # tokens that it reads
    pads: bool = True  # whether padding leaves its outputs as they are; else only texts of equal length share a forward
    recent: dict[Key, list[float]] = field(default_factory=dict)  # all outputs of texts; labels of a mix share them

    @property
    def context(self) -> int:
        return self.num_positions

    @cached_property
    def backbone(self) -> Backbone:
        """Its network as one without a cache, for estimates of its time and memory."""

        def run(input_ids: Tensor, **_: Any) -> Tensor:
            return self.logits([{"input_ids": ids} for ids in input_ids.tolist()])[:, None]

        model = self.loaded.model
        layers = getattr(model.config, "num_hidden_layers", 1)
        return Backbone(run, layers, (), model.device, model.dtype, self.loaded.pad_id, "reencode")

    @property
    def head(self) -> torch.nn.Module:
        return torch.nn.Identity()

    @property
    def cost(self) -> str:
        return "no cache: every candidate is encoded from its first token, in batches"

    @property
    def template(self) -> str:
        """How it reads prompt and response: by its card; without one as two segments, or as one text if its outputs are labels."""
        return self.loaded.card.template if self.loaded.card else PAIR if len(self.loaded.labels) < 2 else self.loaded.template[0]

    @classmethod
    def of(cls, loaded: Loaded) -> "EncoderRewardModel":
        """Reward model from loaded weights. Raises ModelRefused if it cannot be run, or returns outputs that are not finite."""
        model = cls(loaded, min(_num_positions(loaded), loaded.tokenizer.model_max_length))
        inputs = [model.encode(sample)[0] for sample in SAMPLES]
        try:
            together, alone = model.logits(inputs), torch.cat([model.logits([one]) for one in inputs])
        except Exception as error:  # the code of a model family can raise anything
            raise refused(loaded.ref.name, error) from error
        if not bool(torch.isfinite(alone).all()):
            raise ModelRefused(f"`{model.name}` returns outputs that are not finite.", "", "Its weights are damaged, or too large for this dtype.")
        exact = tolerance(loaded.model.dtype) / 100 * (1 + alone.abs().max())
        return replace(model, pads=bool(((together - alone).abs() <= exact).all()))

    def of_label(self, label: str) -> "EncoderRewardModel":
        return replace(self, loaded=self.loaded.with_label(label))

    def reads(self, lm: BaseLM) -> TextReader:
        self.check_one_output()
        return super().reads(lm)

    def scorer(self, lm: BaseLM) -> "EncoderScorer":
        return EncoderScorer(self)

    def num_prompt_tokens(self, opening: Opening) -> int:
        return len(self.encode(Answer(opening.prompt, "", False))[0]["input_ids"])

    def encode(self, answer: Answer) -> tuple[dict[str, list[int]], bool]:
        """Inputs of a text, and whether it was cut to the context: tokens are left out at the beginning of the prompt, and then of the response.

        The end of an answer adds nothing: the classifier's own special tokens follow every text.
        """
        tokenizer = self.loaded.tokenizer
        if self.template == "chat":
            prompt_ids = self.loaded.encode_prompt(answer.prompt)
            ids = [*prompt_ids, *self.loaded.encode_response(answer.prompt, prompt_ids, answer.response)]
            inputs = {"input_ids": ids, "special_tokens_mask": [0] * len(ids)}
        else:
            texts = (answer.prompt, answer.response.lstrip()) if self.template == PAIR and answer.prompt else (answer.prompt + answer.response,)
            inputs = dict(tokenizer(*texts, split_special_tokens=True, return_special_tokens_mask=True))
        text = [i for i, special in enumerate(inputs["special_tokens_mask"]) if not special]
        left_out = set(text[: max(0, len(inputs["input_ids"]) - self.context)])
        kept = [name for name in ("input_ids", "token_type_ids") if name in inputs]
        return {name: [value for i, value in enumerate(inputs[name]) if i not in left_out] for name in kept}, bool(left_out)

    @torch.inference_mode()
    def logits(self, inputs: Sequence[Mapping[str, Sequence[int]]]) -> Tensor:
        """Outputs of the head, (texts, labels) float32, in one forward."""
        model: Any = self.loaded.model
        longest, pads = max(len(one["input_ids"]) for one in inputs), {"input_ids": self.loaded.pad_id}
        padded = {
            name: torch.tensor([[*one[name], *[pads.get(name, 0)] * (longest - len(one[name]))] for one in inputs], device=model.device)
            for name in inputs[0]
        }
        mask = [[1] * len(one["input_ids"]) + [0] * (longest - len(one["input_ids"])) for one in inputs]
        return model(**padded, attention_mask=torch.tensor(mask, device=model.device)).logits.float()


class EncoderScorer(TextScorer):
    """Batches of texts, sorted by length so that little is padded."""

    def __init__(self, model: EncoderRewardModel):
        self.model = model
        self._was_cut = False

    @property
    def remark(self) -> str:
        cut = f"`{self.model.name}` reads {self.model.context} tokens: of longer texts it was not given the beginning of the prompt."
        return cut if self._was_cut else ""

    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        encoded = list(map(self.model.encode, answers))
        self._was_cut |= any(was_cut for _, was_cut in encoded)
        inputs = {tuple(map(tuple, one.values())): one for one, _ in encoded}
        outputs = {key: kept for key in inputs if (kept := self.model.recent.get(key)) is not None}  # other comparisons write too
        limit = PART_ON_CPU if self.model.loaded.model.device.type == "cpu" else PART
        batch = list[Key]()
        for key in sorted(inputs.keys() - outputs.keys(), key=lambda key: (len(key[0]), key)):
            if batch and (len(key[0]) * (len(batch) + 1) > limit or (not self.model.pads and len(key[0]) > len(batch[0][0]))):
                outputs |= self._read(inputs, batch)
                batch = []
            batch.append(key)
        if batch:
            outputs |= self._read(inputs, batch)
        if len(self.model.recent) > MOST_RECENT:
            self.model.recent.clear()
        self.model.recent.update(outputs)
        return [outputs[tuple(map(tuple, one.values()))][self.model.loaded.output or 0] for one, _ in encoded]

    def _read(self, inputs: Mapping[Key, Mapping[str, Sequence[int]]], batch: Sequence[Key]) -> dict[Key, list[float]]:
        check_stopped()
        self.num_forwards += 1
        return dict(zip(batch, self.model.logits([inputs[key] for key in batch]).tolist(), strict=True))


def _num_positions(loaded: Loaded) -> int:
    """Number of tokens that it reads: RoBERTa and kin keep the positions up to that of padding for themselves."""
    reserved = [
        module.padding_idx + 1
        for name, module in loaded.model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding) and module.padding_idx is not None
    ]
    return loaded.context - max(reserved, default=0)
