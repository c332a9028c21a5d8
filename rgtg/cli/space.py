"""`rgtg space`: assemble what a Hugging Face Space needs, check it, start it as a Space would, and say how it is published."""

import argparse
from pathlib import Path

ABOUT = "assemble the files of a Hugging Face Space, check them, and start it once as a Space would"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to write to: new, or empty")
    parser.add_argument("--check", action="store_true", help="check a folder that was assembled before, and was changed by hand")
    parser.add_argument("--sign-in", action="store_true", help="let visitors sign in with their Hub account, as administrators have to")
    parser.add_argument("--no-start", action="store_true", help="do not start it")


def space(options: argparse.Namespace) -> None:
    from rgtg.errors import BadSettings
    from rgtg.tools.space import assemble, checks
    from rgtg.tools.space_trial import try_out

    if not options.check:
        assemble(options.folder, options.sign_in)
    elif not options.folder.is_dir():
        raise BadSettings(f"There is no folder `{options.folder}`.", "", "Assemble it without --check.", "dir")
    problems = []
    for run in (checks,) if options.no_start else (checks, try_out):
        for check in run(options.folder):
            print(f"{'problem' if check.problem else 'ok':8} {check.name}" + (f": {check.problem}" if check.problem else ""), flush=True)
            problems += [check.problem] if check.problem else []
        if problems:
            number = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}."
            raise BadSettings("This is not ready to be a Space.", number, "Put that right and check again with --check.")
    print(
        "\nTo publish it, with your names for OWNER/NAME:\n"
        "  hf auth login\n"
        "  hf repos create OWNER/NAME --type space --sdk gradio\n"
        f"  hf upload OWNER/NAME {options.folder} . --type space"
    )
