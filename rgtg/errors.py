"""What a person can put right, each with a message for the screen: what is wrong, what was found, what to do.

Knows nothing of the rest of the library.
"""


class RgtgError(Exception):
    """Something the person at the screen can put right; the message is shown to them.

    `found` and `do` are the second and third part of the message; the command line prints the three apart.
    """

    def __init__(self, wrong: str, found: str = "", do: str = ""):
        self.wrong, self.found, self.do = wrong, found, do
        super().__init__(" ".join(part for part in (wrong, found, do) if part))


class ModelNotFound(RgtgError):
    """No model by that name, folder or hub id."""


class ModelRefused(RgtgError):
    """The folder is there but must not or cannot be used: no head, remote code, pickled weights, a wrong kind."""


class TokenizerMismatch(RgtgError):
    """Reward model and base LM do not number their tokens alike."""


class PromptTooLong(RgtgError):
    """Prompt plus answer do not fit the context of a model."""


class BadReward(RgtgError):
    """A reward model returned NaN or infinity."""


class BadSettings(RgtgError):
    """A value outside its range, an unknown method or parameter."""


class OverBudget(RgtgError):
    """A request that would take more time or memory than the settings allow."""


class BadData(RgtgError):
    """A file or folder of data that cannot be read as what it should be; the row is named."""


class StoreError(RgtgError):
    """The database cannot be opened, read or written."""


class StoreBusy(StoreError):
    """Another process or too many waiting writes hold the database."""


class UnknownRecord(StoreError):
    """An id that is not in the database."""
