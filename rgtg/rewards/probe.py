"""Probes: a scalar head on the hidden states of the base LM that writes.

A probe is a folder with the weights of its head and a card that names the base LM and the revision of its weights. Knows nothing of methods,
text or the screen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rgtg.errors import ModelRefused, door
from rgtg.models.artifacts import revision_of
from rgtg.models.catalog import PROBE
from rgtg.models.lm import BaseLM, LMPrefixes
from rgtg.models.loading import enter
from rgtg.models.prefixes.backbone import Backbone
from rgtg.models.probe import with_strategy
from rgtg.models.weights import HEAD
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.base import IdReader, Reader, RewardPrefixes
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.rewards.shared import SharedPrefixes
from rgtg.system.files import write_json

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, eq=False)
class ProbeRewardModel(ScalarRewardModel):
    """A scalar head on the base LM itself.

    Formula: r(x, y_{≤t}) = wᵀ·h_t, where h_t is the base LM's last hidden state at token t of the response.
    Paper: SWIFT (arXiv 2505.12225; a linear head on hidden states, for best-of-n), ReProbe (arXiv 2511.06209); here trained at every prefix length,
    as PARGS (arXiv 2406.07780).
    Cost: no forward of its own. The base LM reads the candidates, and the state of the selected one gives its next log probabilities too: one
    forward a token in all, behind one for the prompt.
    Pitfall: it knows what the base LM's state shows to a linear map, and belongs to these weights alone.
    """

    lm: BaseLM

    owns_weights = False

    @property
    def cost(self) -> str:
        return "no forward of its own: one forward of the base LM per token for all candidates"

    @classmethod
    def on(cls, lm: BaseLM, weight: Tensor, ref: ModelRef, card: ModelCard | None = None, folder: Path = Path()) -> "ProbeRewardModel":
        """Probe with the head `weight` (1, width). Raises ModelRefused if the base LM's states have another width."""
        model: Any = lm.loaded.model
        width = model.config.get_text_config().hidden_size
        if tuple(weight.shape) != (1, width):
            wrong = f"`{ref.name}` is not a head on the states of `{lm.name}`."
            raise ModelRefused(wrong, f"Its weights are {tuple(weight.shape)}, the states have {width} numbers.", "Train it again on this base LM.")
        head = torch.nn.Linear(width, 1, bias=False, device="meta")
        head.weight = torch.nn.Parameter(weight.to(lm.backbone.device, lm.backbone.dtype), requires_grad=False)

        def hidden(**inputs: Any) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        loaded, backbone = replace(lm.loaded, ref=ref, card=card, folder=folder, remark=""), lm.backbone
        if isinstance(lm.head, torch.nn.Identity):  # the base LM's rows hold logits: there is more than a head between them and the states
            backbone = with_strategy(loaded, Backbone.of(model, hidden, loaded.pad_id))
        return cls(loaded, backbone, head, lm)

    def reads(self, lm: BaseLM) -> Reader:
        if lm is self.lm and self.backbone is lm.backbone and self.loaded.template == lm.loaded.template:
            return ProbeReader(self, lm)
        return super().reads(lm)


class ProbeReader(IdReader):
    """Reads the states of the base LM that writes."""

    model: ProbeRewardModel
    shares_rows = True

    def over(self, prefixes: LMPrefixes) -> RewardPrefixes:
        return SharedPrefixes(self.model.head, prefixes)


def load_probe(name: str, title: str | None, lm_of: Callable[[str, ModelCard | None], BaseLM]) -> ProbeRewardModel:
    """The probe of a folder or Hub id; `lm_of(name, card)` gives the base LM that its card names. Raises ModelNotFound, ModelRefused."""
    title, folder, revision, _ = enter(name, title)
    card = ModelCard.read(folder)
    lm = lm_of(title, card)
    with door(f"The head of `{title}` cannot be read.", "Train it again.", ModelRefused):
        weight = load_file(folder / WEIGHTS)[HEAD]
        ref = ModelRef(title, revision or revision_of(folder))
    return ProbeRewardModel.on(lm, weight, ref, card, folder)


def save_probe(head: torch.nn.Linear, card: ModelCard, folder: Path) -> None:
    """Save a probe's head with its card, atomically; `folder` must not exist."""
    staging = folder.with_name(f".{folder.name}.staging")
    staging.mkdir(parents=True)
    save_file({HEAD: head.weight.detach().float().cpu().contiguous()}, staging / WEIGHTS)
    write_json(staging / "config.json", {"architectures": [PROBE]})
    card.write(staging)
    staging.rename(folder)
