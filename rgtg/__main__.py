"""python -m rgtg …"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve one another as soon as a core is busy elsewhere

from rgtg.cli import main  # the variable is read when torch loads

sys.exit(main())
