"""The form of the Models page that makes a reward: its kinds with their fields, a trial on one text, and making it.

Talks to the workbench; knows nothing of how a kind scores.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import gradio as gr

from pages import ids
from pages.components import RewardForm
from pages.handlers import NO_EVENT, Handler, guarded, payload
from rgtg.errors import BadSettings, RgtgError
from rgtg.records import new_id
from rgtg.workbench.columns.made import describe_kinds, try_reward
from rgtg.workbench.workbench import Workbench

MAX_TRIED = 4_000  # characters of the texts of a trial


class Making:
    """The form and its handlers; none on a public server."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        self.form = None if workbench.settings.public else RewardForm(elem_id=ids.MADE_FORM, elem_classes=["room"])

    @property
    def parts(self) -> list:
        """The components that `kinds` updates."""
        return [self.form] if self.form is not None else []

    def kinds(self) -> dict:
        """Updates that fill the form; it needs the classes of the kinds, which load torch."""
        if self.form is None:
            return {}
        return {self.form: json.dumps({"kinds": describe_kinds([m.name for m in self.workbench.library.base_lms()])})}

    def wire(self, outputs: list, show: Callable[[str], dict], **options: Any) -> None:
        """`show` returns the updates of the page that show a model."""
        if self.form is not None:
            self.form.make_reward(self._make(show), None, [self.form, *outputs], **options)
            self.form.try_reward(self._try(), None, self.form, **options)

    def _make(self, show: Callable[[str], dict]) -> Handler:
        @guarded("Making the reward", self.workbench)
        def make(event: gr.EventData = NO_EVENT) -> dict:
            info = self.workbench.library.made.add(payload(event).get("reward"), self._reserved())
            return {self.form: self._note(f"{info.name} was made; it is among the reward models now", done=True)} | show(info.name)

        return make

    def _try(self) -> Handler:
        @guarded("Trying the reward", self.workbench)
        def try_it(event: gr.EventData = NO_EVENT) -> dict:
            sent = payload(event)
            prompt, response = sent.get("prompt"), sent.get("response")
            if not isinstance(prompt, str) or not isinstance(response, str) or len(prompt) + len(response) > MAX_TRIED:
                raise BadSettings("The text could not be read.", "", f"Write at most {MAX_TRIED:,} characters.", "try-response")
            if not response:
                raise BadSettings("There is no response to score.", "", "Write one.", "try-response")
            values = sent.get("reward")
            named = values | {"name": "tried"} if isinstance(values, dict) else values  # a name is not needed yet
            tried = try_reward(named, self.workbench.library.base_lm, prompt, response)
            rewards = [round(reward, 4) if math.isfinite(reward) else None for reward in tried["rewards"]]
            return {self.form: json.dumps({"tried": list(zip(tried["tokens"], rewards, strict=True)), "at": new_id()})}

        return try_it

    def _reserved(self) -> set[str]:
        try:
            return self.workbench.trainings.names()
        except RgtgError:  # no database: nothing was trained
            return set()

    @staticmethod
    def _note(text: str, **flags: bool) -> str:
        return json.dumps({"note": text, "at": new_id()} | flags)  # `at`: an equal value would not reach the page
