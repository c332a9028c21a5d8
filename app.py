"""The app: settings, workbench, pages, launch; also the entry point of a Space."""

import argparse
import logging
import os
import signal
import tempfile
from collections.abc import Sequence
from types import ModuleType

# read when torch is imported: spinning threads made decoding 30 times slower beside another busy process
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# read when gradio is imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# a folder of this user and of rgtg alone, because its files are deleted after an hour
os.environ["GRADIO_TEMP_DIR"] = os.path.join(
    os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir(), f"rgtg-gradio-{getattr(os, 'getuid', int)()}"
)

from rgtg.system import zero_gpu  # noqa: F401, I001  # before whatever imports torch

import gradio as gr

from pages import annotate, compare, data, examine, guard, health, models, results, signing_in, sweep, theme, train
from pages import help as help_page
from pages.hosts import Hosts
from pages.unchanged import Pages
from rgtg.config import Settings
from rgtg.errors import BadSettings
from rgtg.workbench.workbench import Workbench

MAX_THREADS = 100  # each that waits in line, or for a pair, holds one and sleeps
MAX_WAITING = 64  # events that have not begun; who waits for a turn is in the line of pages.waiting_line
# modules with TITLE and build(workbench, links): those of the header in its order, of which the first opens at /, and those of the foot
IN_HEADER, IN_FOOT = (compare, annotate, sweep, train, models, examine, results, data), (help_page,)
PAGES = IN_HEADER + IN_FOOT


def _links(pages: Sequence[ModuleType]) -> theme.Links:
    """Title and address of these pages."""
    return tuple((page.TITLE, f"./{'' if page is PAGES[0] else page.TITLE.lower()}") for page in pages)


LINKS, FOOT_LINKS = _links(IN_HEADER), _links(IN_FOOT)


def build_app(workbench: Workbench) -> gr.Blocks:
    """All pages on one Blocks; loads no models."""
    demo = Pages(title="rgtg", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600))
    for page in PAGES:
        with demo if page is PAGES[0] else demo.route(page.TITLE, page.TITLE.lower(), show_in_navbar=False):
            gr.Navbar(visible=False)  # the header has the links
            page.build(workbench, LINKS)
            theme.foot(page.TITLE, FOOT_LINKS, workbench.settings.public or bool(workbench.settings.votes_dataset))
            signing_in.button()
    health.tell(demo, workbench)
    return demo.queue(api_open=False, max_size=MAX_WAITING, default_concurrency_limit=1)


def launch_settings(settings: Settings, address: str = "127.0.0.1") -> dict:
    """Arguments of `launch` besides address and port, for a public server and for a laptop."""
    hosts = Hosts.of(settings, address)
    shared = {
        "theme": theme.theme(), "css": theme.css(), "head": theme.head(), "ssr_mode": False, "footer_links": [], "run_history": False,
        "share": False, "mcp_server": False, "allowed_paths": [], "blocked_paths": _blocked(settings), "strict_cors": True,
        "enable_monitoring": False, "num_workers": 0, "max_threads": MAX_THREADS,
        "max_file_size": guard.MAX_PUBLIC_UPLOAD if settings.public else guard.MAX_UPLOAD,
        "app_kwargs": {"lifespan": health.lifespan(guard.lifespan(hosts, settings))},
    }  # fmt: skip
    return shared | ({"show_error": False, "state_session_capacity": 500} if settings.public else {"show_error": True})


def _blocked(settings: Settings) -> list[str]:
    """Folders of which Gradio serves no file, whatever it is asked: the database, the models, and what the Hub's client keeps, a token too."""
    hub = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    return [str(settings.data_dir), str(settings.models_dir), hub]


def main() -> None:
    parser = argparse.ArgumentParser(description="The workbench for reward-guided text generation, in a browser.")
    parser.add_argument(
        "--base-lm", metavar="DIR|ID", action="append", default=[], help="a base language model, listed before the starter model; may be repeated"
    )
    parser.add_argument("--reward-model", metavar="DIR|ID", action="append", default=[], help="a reward model; may be repeated")
    parser.add_argument("--reward-dtype", choices=("int8",), help="dtype of reward models: int8 is faster on a CPU; the quantisation error is logged")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")), help="port (7860)")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel("WARNING")  # gradio asks itself whether it is up
    settings = Settings.from_environment(reward_dtype=args.reward_dtype)
    try:
        launched = launch_settings(settings, args.host)
    except BadSettings as error:
        parser.error(str(error))
    workbench = Workbench(settings, base_lms=args.base_lm, reward_models=args.reward_model)
    workbench.start_loading()
    signal.signal(signal.SIGTERM, _stop)
    try:
        build_app(workbench).launch(server_name=args.host, server_port=args.port, **launched)
    finally:
        workbench.close()


def _stop(number: int, frame: object) -> None:
    """SIGTERM is how a Space is put to sleep: what is stored is copied out before the process ends. A second one ends it at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
