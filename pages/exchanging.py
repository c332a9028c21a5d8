"""Import and export on the Data page: what a file was read as is shown first, and stored on a second press, all or nothing.

Talks to the workbench; knows nothing of formats.
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from pages import ids, temporary
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_text, screen_error
from pages.reports import count
from pages.signing_in import has_admins
from pages.token_view import _Drawn
from pages.voting import DOWNLOAD
from rgtg.errors import BadSettings
from rgtg.records import new_id
from rgtg.workbench.workbench import Workbench

MAX_PATH, MAX_COLUMNS = 4_096, 2_000


class ExchangeForm(_Drawn):
    """The forms; the value has the export formats, and says what came of an event. Events `look_in` and `take_in` {path, columns, ties}: a
    file is read, and imported; `write_out` {formats, types}."""

    def __init__(self, value: str = "{}", **props: Any):
        super().__init__(value, js_on_load="rgtg.exchange(element, props, trigger, watch, upload, 'look_in', 'take_in', 'write_out')", **props)


class Exchanging:
    """The forms with the handlers that answer them."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        offer = {"formats": list(workbench.exchange.formats().items()), "types": list(workbench.exchange.types())}
        self.form = ExchangeForm(json.dumps({"offer": offer | {"shut": not has_admins(workbench.settings)}}), elem_id=ids.EXCHANGE)
        self.file = gr.File(visible="hidden", elem_id=ids.EXPORT_FOLDER)

    def wire(self, **options: Any) -> None:
        """Connect the events; `options` are passed to each listener."""
        self.form.look_in(self.look_in(), None, self.form, **options)
        self.form.take_in(self.take_in(), None, self.form, **options)
        exported = self.form.write_out(self.write_out(), None, [self.file, self.form], **options)
        exported.success(None, self.file, None, js=DOWNLOAD)

    def look_in(self) -> Handler:
        @guarded("Reading the file", self.workbench)
        def look_in(event: gr.EventData = NO_EVENT) -> str:
            return self._read(payload(event), False)

        return look_in

    def take_in(self) -> Handler:
        @guarded("The import", self.workbench)
        def take_in(event: gr.EventData = NO_EVENT) -> str:
            return self._read(payload(event), True)

        return take_in

    def _read(self, sent: dict, store: bool) -> str:
        path = Path(read_text(sent.get("file"), "file to import", MAX_PATH, "Choose one.", "import-path")).expanduser()
        if self.workbench.settings.public:
            temporary.check_uploaded(path, "import-path")
        columns, ties = (_text(sent, name) for name in ("columns", "ties"))
        try:
            report = self.workbench.exchange.read(path, columns, ties, store)
        except BadSettings as error:
            if error.field not in ("columns", "ties"):
                raise
            words = f"{error.wrong} {error.found}".strip()
            return json.dumps({"open": error.field, "words": words, "do": error.do, "at": new_id()})
        except Exception as error:
            raise screen_error(in_words(error, "Reading the file"), "import-path") from None
        facts = [("read as", report.read_as), ("rows", f"{report.num_rows:,}"), ("comparisons", f"{report.num_comparisons:,}")]
        facts += [
            ("votes", f"{report.num_votes:,}"),
            ("raters", f"{report.num_raters:,}"),
            ("ties", f"{report.num_ties:,}"),
            ("marks", f"{report.num_marks:,}"),
        ]
        facts += [("left out", report.left_out_words), ("columns that are not read", ", ".join(report.not_read))]
        value: dict[str, Any] = {"facts": [[name, text] for name, text in facts if text], "done": store, "at": new_id()}
        if store:
            new = ", ".join(count(number, kind.removesuffix("s")) for kind, number in report.new.items() if number)
            value["words"] = f"imported: {new}" if new else "Nothing new: all of it was there already."
        return json.dumps(value)

    def write_out(self) -> Handler:
        @guarded("The export", self.workbench)
        def write_out(event: gr.EventData = NO_EVENT) -> dict:
            sent = payload(event)
            formats, types = (
                _choice(sent, name, known)
                for name, known in (("formats", self.workbench.exchange.formats()), ("types", self.workbench.exchange.types()))
            )
            archive = temporary.download_folder() / "rgtg-votes.zip"
            try:
                report = self.workbench.exchange.export(archive, formats, types)
            except Exception:
                temporary.fetched(str(archive))
                raise
            lines = [
                [key, f"{count(one.num_pairs, 'row')}" + (f" · left out: {one.left_out}" if one.left_out else "")]
                for key, one in report.reports.items()
            ]
            return {self.file: str(archive), self.form: json.dumps({"exported": lines, "at": new_id()})}

        return write_out


def _text(sent: dict, name: str) -> str:
    value = sent.get(name)
    return read_text(value, name, MAX_COLUMNS, field=f"import-{name}").strip() if isinstance(value, str) and value.strip() else ""


def _choice(sent: dict, name: str, known: Any) -> list[str]:
    """The chosen ones of those that there are, in their order."""
    chosen = sent.get(name)
    if not isinstance(chosen, list) or not chosen or not all(isinstance(one, str) and one in known for one in chosen):
        raise BadSettings(f"An export needs at least one of its {name}.", f"There are: {', '.join(known)}.", "Choose one.", f"export-{name}")
    return [one for one in known if one in chosen]
