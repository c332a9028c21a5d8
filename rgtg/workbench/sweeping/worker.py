"""The process of a sweep in the background: reads the request in its folder, makes what is missing, and says how it ended.

The app may close meanwhile. SIGTERM ends it at once: complete shards are kept. Knows nothing of who started it.
"""

import logging
import os
from pathlib import Path

import psutil

from rgtg.config import Settings
from rgtg.errors import BadData, in_words
from rgtg.system.files import write_json
from rgtg.workbench.sweeping.folder import DONE, FAILED, PROCESS, Progress, Request, write_outcome

logger = logging.getLogger(__name__)


def main(folder: Path, keep: bool = False) -> int:
    """Run the sweep of this folder; 0 where it was completed, 1 with an error in `outcome.json`."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    write_json(folder / PROCESS, {"pid": os.getpid(), "created_at": psutil.Process().create_time()})
    try:
        _run(folder, keep)
    except BaseException as error:  # whatever it was, the page has to say so
        logger.exception("the sweep failed")
        write_outcome(folder, FAILED, in_words(error, "The sweep failed.", "The traceback is in log.txt in its folder."))
        return 1
    write_outcome(folder, DONE)
    return 0


def _run(folder: Path, keep: bool) -> None:
    from rgtg.evaluation.table import write_table
    from rgtg.workbench.workbench import Workbench

    request = Request.read(folder)
    if request is None:
        raise BadData(f"`{folder}` holds no request for a sweep.", "Its request.json is missing or damaged.", "Start a new one.")
    grid = request.grid
    settings = Settings(data_dir=folder.parent.parent, device=request.device, dtype=request.dtype, reward_dtype=request.reward_dtype)
    workbench = Workbench(settings, request.base_lms, request.reward_models)
    try:
        cells = workbench.sweeps.run(
            grid.columns, grid.prompts, grid.generation, range(grid.num_seeds), grid.judge, folder, grid.base_lm, confirmed=True,
            listen=Progress(folder), keep=keep, first_seed=grid.first_seed,
        )  # fmt: skip
        write_table(cells, folder)
    finally:
        workbench.close()
