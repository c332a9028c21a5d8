"""python -m rgtg …, and the command `rgtg`."""

import os
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that spin for long starve one another where a core is busy


def run() -> None:
    from rgtg.cli.main import main  # the variable is read when torch loads

    status = main()
    if status == 2:  # that line was the last word: libraries have none while the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(status)


if __name__ == "__main__":
    run()
