"""`python -m rgtg.workbench.sweeping FOLDER [keep]`: one sweep, made in this process (see `worker`)."""

import sys
from pathlib import Path

from rgtg.workbench.sweeping.folder import KEEP
from rgtg.workbench.sweeping.worker import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), KEEP in sys.argv[2:]))
