"""`python -m rgtg.jobs FOLDER [ATTEMPT]`: one job, trained in this process (see `rgtg.jobs.worker`)."""

import sys
from pathlib import Path

from rgtg.jobs.worker import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
