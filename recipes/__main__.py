"""`python -m recipes NAME --out DIR`: runs a recipe, or prints the commands of which it consists.

Parses options. What a recipe is and how it runs is in `recipes.runner`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.runner import NAMES, STAGES, load, run
from rgtg.cli import terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe and return the exit status of the first command that fails, else 0; 2 after an error, which is a JSON line on stderr."""
    parser = terminal.Parser(prog="python -m recipes", description="Train, examine and compare reward models as a paper does.")
    parser.add_argument("name", choices=NAMES, help="the recipe")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for data, reward models and tables; run again, it goes on")
    parser.add_argument("--only", action="append", choices=STAGES, help="run this stage only; may be repeated")
    parser.add_argument(
        "--stand-in", type=Path, metavar="DIR", help="folder with local copies: DIR/owner/name is read in place of the Hub's owner/name"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe, such as train.max_steps=20; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    terminal.write_utf8()
    try:
        options = parser.parse_args(arguments)
        return run(load(options.name, options.set, options.stand_in), options.out, options.only or STAGES, options.dry_run)
    except Exception as error:
        return terminal.refuse(error)


if __name__ == "__main__":
    sys.exit(main())
