"""The Annotate page: blind pairs of a task, one key a vote, the next pair already there; and the form that makes a task.

Talks to the workbench. Nothing that leaves this page before a vote is stored says what made an answer.
"""

import json
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from pages import admission, ids, temporary, theme
from pages.annotating.prefetch import POLL, Prefetcher
from pages.annotating.words import pair_of, read_gold_path, read_mark, read_said, read_task, revealed, vote_words
from pages.asking_back import AskedBack
from pages.components import AnnotateView, PairFeed, TaskForm, Words
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_id, warn
from pages.signing_in import administers
from pages.visitors import nickname_of, visitor_of
from pages.voting import read_token
from pages.waiting_line import line_of
from rgtg.config import GenerationConfig
from rgtg.errors import OverBudget, RgtgError
from rgtg.records import new_id
from rgtg.workbench.annotation.annotation import REASONS
from rgtg.workbench.annotation.rounds import Pair
from rgtg.workbench.annotation.tasks import Task
from rgtg.workbench.columns.line_ups import line_up_columns
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

TITLE = "Annotate"
PATIENCE = 2.0  # seconds that a request for pairs waits for one; the page then asks again
LAST = 3  # votes that a page which is opened again can take back
NOT_REACHED = "What was exported or backed up before, and reward models trained on it, still have them."
COPIES_TOO = " The private copies of this server's votes are written again without them, within minutes."


def build(workbench: Workbench, pages: theme.Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    page = _Page(workbench, pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: theme.Links):
        self.workbench, self.annotation = workbench, workbench.annotation
        self.prefetcher = Prefetcher(workbench, line_of(workbench))
        self.asked_back = AskedBack(lambda: workbench.settings.public, "Start annotating")
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        self.view, self.feed = AnnotateView(elem_id=ids.ANNOTATE), PairFeed(elem_id=ids.PAIR_FEED)
        self.form = TaskForm(elem_id=ids.TASK_FORM)

    def wire(self, blocks: gr.Blocks) -> None:
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private", "trigger_mode": "multiple"}
        blocks.load(self._load(), None, [self.models, self.view, self.feed, self.form], **options)
        self.feed.more(self._more(), None, self.feed, **options)
        self.feed.branch(self._branch(), None, self.feed, **options)
        for listen, handler in (
            (self.view.vote, self._vote), (self.view.undo, self._undo), (self.view.mark, self._mark), (self.view.consent, self._consent),
            (self.view.erase, self._erase), (self.view.guidelines, self._guidelines), (self.view.gold, self._gold),
        ):  # fmt: skip
            listen(handler(), None, self.view, **options)
        self.form.start(self._start(), None, self.form, **options)

    # ---- the page as it opens ---------------------------------------------------------------------

    def _load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load(request: gr.Request) -> dict:
            updates: dict[Any, Any] = {self.models: self.workbench.status().text}
            asked = request.query_params.get("task")
            if asked:
                try:
                    task = self.annotation.tasks.get(read_id(asked, "task"))
                    return updates | self._opened(task, visitor_of(self.workbench, request), request)
                except RgtgError as error:
                    warn(str(error))
            return updates | {self.form: json.dumps(self._fields() if administers(self.workbench.settings, request) else {"shut": True})}

        return load

    def _opened(self, task: Task, visitor: Visitor, request: gr.Request) -> dict:
        self.prefetcher.want(task.id, visitor)
        version, text = self.annotation.guidelines.current()
        voted = self.annotation.voted(task.id, visitor, LAST)
        value = {
            "task": {"id": task.id, "title": task.title, "num_pairs": task.num_pairs, "num_answers": task.num_answers, "ranking": task.ranking},
            "progress": self._progress(task.id, visitor), "reasons": REASONS, "guidelines": {"version": version, "text": text},
            "may_change": administers(self.workbench.settings, request), "nickname": nickname_of(request.cookies.get("rgtg_nickname", "")),
            "done": [{"pair": self._pair(pair, visitor), **self._stands(task, pair, visitor)} for pair in voted],
        }  # fmt: skip
        pairs = self.annotation.waiting(task.id, visitor)
        return {self.view: json.dumps(value), self.feed: self._fed([self._pair(pair, visitor) for pair in pairs])}

    def _pair(self, pair: Pair, visitor: Visitor) -> dict[str, Any]:
        return pair_of(self.workbench, pair, visitor)

    def _progress(self, task_id: str, visitor: Visitor) -> dict[str, Any]:
        at = time.monotonic()  # before: of two answers the later one knows all that the other knows, in whichever order they arrive
        progress = self.annotation.progress(task_id, visitor)
        return {"at": at, "voted": progress.voted, "num_pairs": progress.num_pairs, "consent": bool(progress.consent_at)}

    def _fields(self) -> dict[str, Any]:
        """What the form offers. It is sent to nobody who came by the link of a task."""
        line_ups = [[one.key, one.title, one.about] for one in self.workbench.line_ups.all().values()]
        defaults = GenerationConfig()
        tasks = [{"id": t.id, "title": t.title, "about": f"{len(t.prompts)} prompts · {t.line_up}"} for t in self.annotation.tasks.all()]
        return {
            "line_ups": [["", "base LM, full and partial guidance", ""], *line_ups], "rules": self.annotation.rules(), "tasks": tasks,
            "base_lms": [m.name for m in self.workbench.library.language_models(None)], "openings": self.workbench.openings(),
            "max_new_tokens": defaults.max_new_tokens, "temperature": defaults.temperature, "guidelines": self.annotation.guidelines.current()[1],
        }  # fmt: skip

    def _start(self) -> Handler:
        @guarded("Making the task", self.workbench)
        def start(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            for name, field in (("file", "task-path"), ("gold", "task-gold")) if self.workbench.settings.public else ():
                if sent.get(name):
                    temporary.check_uploaded(Path(str(sent[name])), field)
            task, key = read_task(sent, self.annotation.prompts_in)
            columns, title = self.workbench.default_columns(), "default columns"
            if key:
                title = self.workbench.line_ups.get(key).title
                columns = line_up_columns(self.workbench.line_ups, self.workbench.library, key, task.generation, task.base_lm or None)
            if isinstance(text := sent.get("guidelines"), str):
                self.annotation.guidelines.change(text.strip())
            gold = self.annotation.gold_in(path) if (path := read_gold_path(sent)) else ()
            asked = (task, tuple(columns), gold)
            confirmed = self.asked_back.confirmed(request.session_hash, asked)
            try:
                made = self.annotation.add_task(task, columns, title, gold, confirmed)
            except OverBudget as error:
                raise self.asked_back.error(error, request.session_hash, asked) from None
            return json.dumps({"made": made.id})

        return start

    # ---- pairs --------------------------------------------------------------------------------------

    def _fed(self, pairs: list[dict], **more: Any) -> str:
        return json.dumps({"pairs": pairs, "at": new_id(), **more})

    def _more(self) -> Handler:
        @guarded("The next pair", self.workbench)
        def more(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent, visitor = payload(event), visitor_of(self.workbench, request)
            task_id, have = read_id(sent.get("task"), "task"), sent.get("have")
            known = {name for name in have if isinstance(name, str)} if isinstance(have, list) else set()
            self.prefetcher.want(task_id, visitor)
            until = time.monotonic() + PATIENCE
            while True:
                ended = self.annotation.all_shown(task_id, visitor)  # before it is looked what there is
                pairs = [pair for pair in self.annotation.waiting(task_id, visitor) if pair.id not in known]
                failed = self.prefetcher.failed(task_id, visitor)
                if pairs or failed or ended or time.monotonic() > until:
                    return self._fed([self._pair(pair, visitor) for pair in pairs], note=failed, ended=ended and not pairs, asked=True)
                time.sleep(POLL)

        return more

    def _branch(self) -> Handler:
        @guarded("The branch", self.workbench)
        def branch(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent, visitor = payload(event), visitor_of(self.workbench, request)
            task_id, comparison_id = read_id(sent.get("task"), "task"), read_id(sent.get("comparison"), "pair")
            trace_id = read_id(sent.get("trace"), "answer")
            position = sent.get("position")
            turn = partial(self.prefetcher.turn, partial(admission.enter, self.prefetcher.line, self.workbench, request))
            try:
                pair = self.annotation.branch(task_id, comparison_id, trace_id, position if type(position) is int else -1, visitor, turn)
            except Exception as error:
                return self._fed([], note=in_words(error, "The branch"), branched=True)
            return self._fed([self._pair(pair, visitor)], branched=True)

        return branch

    # ---- what a rater says --------------------------------------------------------------------------

    def _stands(self, task: Task, pair: Pair, visitor: Visitor) -> dict[str, Any]:
        """The vote on a pair that stands, and what made the answers, if the task reveals that."""
        vote = self.annotation.vote_on(pair, visitor)
        shows = vote is not None and task.reveal
        token = self.annotation.vote_token(pair, visitor)
        reveal = {"reveal": revealed(self.annotation.shown(pair), self.workbench)} if shows else {}
        return {"vote": vote_words(vote)} | ({"token": token} if token else {}) | reveal

    def _answer(self, sent: dict, visitor: Visitor, pair: Pair | None = None, refused: str = "") -> str:
        """The answer to what was said of a pair: what stands now, or why it was refused."""
        answers, comparison = (name if isinstance(name := sent.get(field), str) else "" for field in ("vote_id", "comparison"))
        value: dict[str, Any] = {"answers": answers, "comparison": comparison, "at": new_id()}
        if refused:
            return json.dumps(value | {"refused": refused})
        task = self.annotation.tasks.get(sent["task"])
        value |= {"progress": self._progress(task.id, visitor)}
        return json.dumps(value | (self._stands(task, pair, visitor) if pair is not None else {}))

    def _said(self, doing: Any, request: gr.Request, event: gr.EventData) -> str:
        """Do what an event says of a pair; a refusal is answered in words, so that the page does not send it again."""
        sent, visitor = payload(event), visitor_of(self.workbench, request)
        try:
            task_id = read_id(sent.get("task"), "task")
            doing(task_id, sent, visitor)
            pair = self.annotation.pair(task_id, read_id(sent.get("comparison"), "pair"), visitor)
            self.prefetcher.want(task_id, visitor)
            return self._answer(sent, visitor, pair)
        except RgtgError as error:
            return self._answer(sent, visitor, refused=str(error))

    def _vote(self) -> Handler:
        def doing(task_id: str, sent: dict, visitor: Visitor) -> None:
            self.annotation.vote(task_id, read_said(sent), visitor, sent.get("broken") is True, read_token(sent))

        @guarded("The vote", self.workbench)
        def vote(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            return self._said(doing, request, event)

        return vote

    def _undo(self) -> Handler:
        def doing(task_id: str, sent: dict, visitor: Visitor) -> None:
            self.annotation.undo(task_id, read_id(sent.get("comparison"), "pair"), visitor, read_id(sent.get("vote_id"), "undo"))

        @guarded("Undo", self.workbench)
        def undo(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            return self._said(doing, request, event)

        return undo

    def _mark(self) -> Handler:
        def doing(task_id: str, sent: dict, visitor: Visitor) -> None:
            comparison_id, span = read_mark(sent)
            self.annotation.mark(task_id, comparison_id, span, visitor)

        @guarded("The mark", self.workbench)
        def mark(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            return self._said(doing, request, event)

        return mark

    def _consent(self) -> Handler:
        @guarded("The consent", self.workbench)
        def consent(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            visitor, task_id = visitor_of(self.workbench, request), read_id(payload(event).get("task"), "task")
            self.annotation.consent(visitor)
            return json.dumps({"progress": self._progress(task_id, visitor), "at": secrets.token_hex(4)})

        return consent

    def _erase(self) -> Handler:
        @guarded("Deleting your votes", self.workbench)
        def erase(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            visitor, task_id = visitor_of(self.workbench, request), read_id(payload(event).get("task"), "task")
            erased = self.annotation.erase(visitor)
            words = f"Deleted: {erased['votes']} votes, revisions included, and {erased['marks']} marks. {NOT_REACHED}"
            words += COPIES_TOO if self.workbench.settings.votes_dataset else ""
            return json.dumps({"erased": words, "progress": self._progress(task_id, visitor), "at": secrets.token_hex(4)})

        return erase

    def _gold(self) -> Handler:
        def doing(task_id: str, sent: dict, visitor: Visitor) -> None:
            self.annotation.choose_gold(task_id, read_id(sent.get("comparison"), "pair"), visitor)

        @guarded("The gold pair", self.workbench)
        def gold(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            return self._said(doing, request, event)

        return gold

    def _guidelines(self) -> Handler:
        @guarded("The guidelines", self.workbench)
        def guidelines(event: gr.EventData = NO_EVENT) -> str:
            text = payload(event).get("text")
            version = self.annotation.guidelines.change(text.strip() if isinstance(text, str) else "")
            return json.dumps({"guidelines": {"version": version, "text": self.annotation.guidelines.current()[1]}, "at": secrets.token_hex(4)})

        return guidelines
