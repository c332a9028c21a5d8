"""`rgtg import | export | history | backup | restore`: preferences in and out, and the database itself."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rgtg.cli import terminal
from rgtg.config import Settings
from rgtg.errors import BadSettings, door
from rgtg.store.exchange.files import TYPES
from rgtg.store.exchange.formats import FORMATS

ABOUT = {
    "import": "import preferences from a file, a folder or a data set of the Hub into the database",
    "export": "export votes as a data set",
    "history": "list comparisons, newest first",
    "backup": "write a checked copy of the database, also while the app runs",
    "restore": "put a backup in the place of the database; what was there is set aside",
}


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE", help="a file, a folder of shards, or owner/name of the Hub; an export of rgtg comes back as it was")
    parser.add_argument(
        "--columns",
        default="",
        metavar="ROLE=COLUMN,…",
        help="where the parts of a row are, as in prompt=question,a=first,b=second,winner=better:1|2",
    )
    parser.add_argument("--ties", default="", choices=("keep", "drop"), help="count equal scores as votes for a tie, or leave them out")
    parser.add_argument("--split", default="train", help="the split of a data set (train)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be imported, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")


def _export_options(parser: argparse.ArgumentParser) -> None:
    about = "; ".join(f"{name}: {format.about}" for name, format in FORMATS.items())
    several = "may be repeated for a folder, which gets all without it"
    parser.add_argument("--format", action="append", default=[], choices=tuple(FORMATS), help=f"{about} (preference); {several}")
    help = f"a file ({', '.join(TYPES)}; JSON lines where its name says nothing), or a folder for a file of each type and manifest.json"
    parser.add_argument("--out", type=Path, required=True, help=help)
    parser.add_argument("--push-to-hub", default="", metavar="OWNER/NAME", help="upload the folder as a private data set of the Hub, with a card")
    _filter_options(parser)


def _history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("search", nargs="*", help='words of the prompt or an answer, beginnings of words too; "a phrase" in quotes')
    _filter_options(parser)
    parser.add_argument("--limit", type=int, default=20, help="how many (20)")
    parser.add_argument("--before", metavar="ID", help="the next page: those before this comparison")
    parser.add_argument("--json", action="store_true", help="print one JSON object per comparison and line")


def _filter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="", help="only comparisons with this method")
    parser.add_argument("--model", default="", help="only comparisons with this base LM or reward model")
    parser.add_argument("--rater", help="only votes of the rater with this id")
    parser.add_argument("--voted", action=argparse.BooleanOptionalAction, help="only comparisons that somebody, or the rater, voted on, or did not")
    parser.add_argument("--since", default="", metavar="DATE", help="only comparisons from this date on (UTC)")
    parser.add_argument("--until", default="", metavar="DATE", help="only comparisons up to this date, included")


def _backup_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where to (`backups` in the data folder)")


def _restore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the backup; without it the backups are listed")


def _database() -> Path:
    return Settings.from_environment().database


def _secret() -> str:
    """What raters are hashed by: the same in the app and in the terminal."""
    return Settings.from_environment().secret


def _wanted(options: argparse.Namespace, search: str = "") -> Any:
    from rgtg.store.history import HistoryFilter

    return HistoryFilter(search, options.method, options.model, options.voted, options.rater, since=options.since, until=options.until)


def import_(options: argparse.Namespace) -> None:
    from rgtg.store.exchange.into import import_plan
    from rgtg.store.exchange.plan import plan
    from rgtg.store.store import Store

    planned = plan(options.source, options.columns, options.ties, options.split)
    report = planned.report
    if not options.dry_run:
        with Store(_database(), _secret()) as store:
            report = import_plan(store, planned)
    if options.json:
        print(json.dumps(asdict(report), ensure_ascii=False))
        return
    print(f"read as: {report.read_as}")
    counts = [(report.num_comparisons, "comparisons"), (report.num_votes, "votes"), (report.num_raters, "raters"), (report.num_ties, "ties")]
    print(f"{report.num_rows:,} rows: " + ", ".join(f"{number:,} {name}" for number, name in [*counts, (report.num_marks, "marks")]))
    if report.left_out:
        print(f"left out: {report.left_out_words}")
    if report.not_read:
        print(f"columns that are not read: {', '.join(report.not_read)}")
    new = ", ".join(f"{number:,} {name}" for name, number in report.new.items())
    print(f"new: {new}" if report.new else "nothing was written")


def export(options: argparse.Namespace) -> None:
    from rgtg.store.export import export_folder, export_preferences
    from rgtg.store.store import Store

    wanted, formats = _wanted(options), options.format
    is_folder = options.out.is_dir() or not options.out.suffix
    if len(formats) > 1 and not is_folder:
        raise BadSettings("One file holds one format.", f"Found {', '.join(formats)}.", "Give a folder as --out.", "out")
    if options.push_to_hub and not is_folder:
        raise BadSettings("A data set of the Hub is a folder with a manifest.", f"Found `{options.out}`.", "Give a folder as --out.", "out")
    with (
        Store(_database(), _secret()) as store,
        door(f"`{options.out}` cannot be written.", kind=BadSettings),
        terminal.ProgressBar(options, "comparisons") as bar,
    ):
        if is_folder:
            reports = export_folder(store, options.out, formats or tuple(FORMATS), listen=bar, wanted=wanted).reports
        else:
            format = (formats or ["preference"])[0]
            reports = {format: export_preferences(store, options.out, format, bar, wanted)}
    for format, report in reports.items():
        counts = {"num_pairs": report.num_pairs, "num_votes": report.num_votes, "num_comparisons": report.num_comparisons}
        print(json.dumps({"path": str(report.path), "format": format, **counts, "skipped": report.skipped}, ensure_ascii=False))
    if options.push_to_hub:
        from rgtg.store.exchange.hub import push

        print(json.dumps({"pushed": push(options.out, options.push_to_hub)}))


def history(options: argparse.Namespace) -> None:
    from rgtg.store.store import Store

    with Store(_database(), _secret()) as store:
        entries = store.history(_wanted(options, " ".join(options.search)), options.limit, options.before)
    for entry in entries:
        if options.json:
            print(json.dumps(asdict(entry), ensure_ascii=False))
            continue
        print(f"{entry.created_at[:16].replace('T', ' ')}  {entry.id}  {_line(entry.prompt, 60)}")
        for answer in entry.answers:
            best = "*" if answer.letter == entry.best_letter else " "
            print(f"   {best}{answer.letter}  {answer.method}{_models(answer.models)}: {_line(answer.text, 90)}")
        if entry.vote and (entry.vote.ranking or not entry.best_letter):
            print(f"    {entry.words}")


def backup(options: argparse.Namespace) -> None:
    from rgtg.store.backups import make_backup

    made = make_backup(_database(), options.folder)
    print(made.path)


def restore(options: argparse.Namespace) -> None:
    from rgtg.store.backups import FOLDER, backups, restore

    database = _database()
    if options.file is None:
        for backup in backups(database.parent / FOLDER, database.stem):
            print(backup.path)
        return
    aside = restore(database, options.file)
    print(f"{database} is {options.file.name}" + (f"; what was there is in {aside}" if aside else ""))


def _models(models: tuple[str, ...]) -> str:
    return f" ({', '.join(models)})" if models else ""


def _line(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


OPTIONS = {
    "import": _import_options,
    "export": _export_options,
    "history": _history_options,
    "backup": _backup_options,
    "restore": _restore_options,
}
COMMANDS = {"import": import_, "export": export, "history": history, "backup": backup, "restore": restore}
