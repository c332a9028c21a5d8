"""The base class of guidance methods: a generator that yields where it needs a model, and nowhere else.

Knows nothing of models, caches, the engine or the screen.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.guidance.requests import Requests

if TYPE_CHECKING:
    from rgtg.guidance.rows import Rows

BASELINE, TOKENS, SEGMENTS, ANSWERS = "Baseline", "Token by token", "Segment by segment", "Several answers at once"
GROUPS = {  # what is decided at a time: headings of the list of methods, with a sentence for each
    BASELINE: "No guidance: what every other method is compared with.",
    TOKENS: "Every next token is selected by a score that combines its probability and its reward.",
    SEGMENTS: "The base LM writes a few tokens, then the reward decides whether, or which of them, to keep.",
    ANSWERS: "Several answers grow side by side, and the reward decides which one is returned.",
}
BETA_HELP = "β, the weight of the reward: larger values follow the reward model more closely and the base LM less"


class GuidanceMethod:
    """Base class of every method.

    The first line of a method's docstring is its description on screen; the lines after it name formula, paper, cost and pitfall.
    Its dataclass fields are the sliders and the command-line flags.
    """

    name: ClassVar[str]
    group: ClassVar[str]  # one of GROUPS
    uses_reward: ClassVar[bool] = False
    skips: ClassVar[bool] = False  # whether some tokens are drawn without asking the reward model
    lost: ClassVar[str] = ""  # why an answer, or a piece of one, that is not kept was lost; "" where only one is written
    measure: ClassVar[str] = ""  # name of a reward of each candidate that the method computes itself, without a reward model
    rescores: ClassVar[bool] = False  # whether the method has a distribution over single tokens of its own, so that its KL is known

    weighs: ClassVar[str] = "beta"  # the parameter that weighs the reward, where the method has it; at 0 it is the base LM

    @property
    def num_rows(self) -> int:
        """Number of answers that grow at once."""
        return 1

    @property
    def scores_candidates(self) -> bool:
        """Whether the reward model scores every candidate of every token, not only the tokens that were selected."""
        return self.uses_reward and self.rescores

    @property
    def reads_vocabulary(self) -> bool:
        """Whether it needs the rewards of all next tokens, which only some kinds of reward model give."""
        return False

    @property
    def tries_a_token(self) -> int:
        """Maximum number of tokens drawn per token that is kept."""
        return 1

    @property
    def kl_bound(self) -> float | None:
        """What the KL of its answers to those of the base LM is at most, in nats; None where no bound is known here."""
        return None

    def num_chosen(self, forced_ids: Sequence[int]) -> int | None:
        """How many tokens of an answer with these given tokens a person has chosen; None for a method that chooses by itself."""
        return None

    def begun_again(self) -> "GuidanceMethod":
        """The method without the tokens that a person has chosen."""
        return self

    def prompts(self, prompt: str) -> tuple[str, ...]:
        """What the base LM reads in the rows after the first; () for the prompt itself in every row."""
        return ()

    def generate(self, rows: "Rows") -> Requests:
        """Generate the answer: yield a request wherever a model is needed, and call `rows` for everything else."""
        raise NotImplementedError

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        """The summands of a candidate's score by name, {"log p": …, "β·r": …}: tensors (k,), or numbers."""
        return {"log p": log_probs}
