"""python -m rgtg …"""

import sys

from rgtg.cli import main

sys.exit(main())
