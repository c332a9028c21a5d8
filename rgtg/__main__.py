"""python -m rgtg …"""

import os
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that spin for long starve one another where a core is busy

from rgtg.cli.main import main  # the variable is read when torch loads

sys.exit(main())
