"""The look of every page: theme, style sheets, scripts and the header. Nothing is fetched from other servers."""

import html
from pathlib import Path

import gradio as gr

from pages import ids

Links = tuple[tuple[str, str], ...]  # title and address of each page
STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "stream.js", "core.js", "tokens.js", "inspector.js", "errors.js", "mixing.js", "roles.js", "forms.js", "presets.js", "places.js", "outbox.js",
    "vote.js", "sweep.js", "train.js", "grid.js", "sweep_page.js", "models.js", "examine.js", "making.js", "help.js", "theory.js", "by_hand.js",
    "others.js", "history.js", "data.js", "exchange.js", "results.js", "health.js", "annotate_text.js", "annotate_rank.js", "annotate.js",
    "annotate_task.js",
)  # fmt: skip
STYLES = ("style.css", "errors.css", "sweep.css", "history.css", "rooms.css", "sweep_page.css", "examine.css", "results.css", "annotate.css")
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """A neutral, compact Gradio theme with the fonts of the reader's system."""
    colours = gr.themes.colors
    return gr.themes.Base(
        primary_hue=colours.teal, secondary_hue=colours.gray, neutral_hue=colours.gray, font=FONTS, font_mono=MONO,
        text_size=gr.themes.sizes.text_sm, spacing_size=gr.themes.sizes.spacing_sm, radius_size=gr.themes.sizes.radius_sm,
    )  # fmt: skip


def css() -> str:
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)


def head() -> str:
    """The scripts, in order, for `launch(head=…)`."""
    scripts = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    assert "</script" not in scripts
    return f"<script>\n{scripts}\n</script>"


def header(active: str, pages: Links) -> gr.HTML:
    """The header: name and links to the pages."""
    return _links('<h1>rgtg</h1><nav aria-label="Pages">', active, pages, ids.HEADER)


def foot(active: str, pages: Links, reports: bool = False) -> gr.HTML:
    """The foot: links to the pages that are not in the header, and how far votes are copied out, where the server `reports` that (health.js)."""
    copied = f'<span id="{ids.VOTES_COPIED}"></span>' if reports else ""
    return _links(f'{copied}<nav aria-label="More">', active, pages, ids.FOOT, "rgtg.health(element)" if reports else None)


def _links(start: str, active: str, pages: Links, elem_id: str, script: str | None = None) -> gr.HTML:
    links = "".join(
        f'<a href="{html.escape(address)}"{" aria-current=page" if title == active else ""}>{html.escape(title)}</a>' for title, address in pages
    )
    return gr.HTML(f"{start}{links}</nav>", elem_id=elem_id, apply_default_css=False, js_on_load=script)
