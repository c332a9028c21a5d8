"""`python -m rgtg.training FOLDER [ATTEMPT]`: one job, trained in this process (see `rgtg.training.child`)."""

import sys
from pathlib import Path

from rgtg.training.child import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
