"""The faults that the app has to survive, each with the tests that hold it: `python -m tests.faults` runs them and prints the table.

python -m tests.faults [--browser] [NUMBER …]
"""

import argparse
import ast
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """A fault by its number, 0 for the one that has none, what is expected then, and the tests of it as `module::function`."""

    number: int
    fault: str
    expected: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(1, "`kill -9` while voting", "every vote that was thanked for is there, none by half",
          ("test_writer::test_kill_while_voting_loses_no_acknowledged_vote",)),
    Fault(2, "16 voters at once", "none is lost, none is told `locked`",
          ("test_store::test_sixteen_threads_voting_lose_nothing",
           "test_store::test_sixteen_threads_on_one_comparison_get_sixteen_revisions")),
    Fault(3, "double click, retry, two tabs", "one vote; a change appends a revision",
          ("test_store::test_double_click_is_one_vote",
           "test_store::test_same_vote_id_with_other_content_is_refused",
           "test_store::test_change_of_mind_is_a_new_row",
           "test_voting::test_the_same_vote_and_the_same_undo_sent_again_are_stored_once")),
    Fault(4, "a vote on an unknown, expired, foreign or unfinished comparison", "refused with the reason, nothing stored",
          ("test_store::test_vote_on_an_unknown_expired_or_abandoned_comparison_is_refused",
           "test_store::test_vote_names_only_answers_of_its_comparison",
           "test_visitors::test_every_verb_refuses_what_a_visitor_may_not_read",
           "test_workbench::test_a_vote_for_an_answer_without_a_token_is_refused_and_the_run_goes_on")),
    Fault(5, "the server is restarted between text and vote", "the vote counts, or the page says why not",
          ("test_faults::test_a_vote_counts_where_the_server_was_restarted_between_the_text_and_the_vote",
           "test_annotation::test_a_task_goes_on_where_it_was_after_a_restart",
           "test_voting::test_what_is_said_of_an_unknown_comparison_is_answered_so_that_it_is_not_sent_again")),
    Fault(6, "the disk is full", "the vote is refused aloud and rolled back, generating goes on",
          ("test_faults::test_on_a_full_disk_answers_are_written_the_vote_is_refused_aloud_and_kept_for_later",
           "test_store::test_full_disk_refuses_the_vote_aloud_and_keeps_what_was_stored",
           "test_workbench::test_a_full_disk_at_the_first_start_is_said_and_leaves_the_models")),
    Fault(7, "the database is junk or cut short", "the start is refused, the file kept, the newest sound backup offered",
          ("test_faults::test_a_database_that_is_none_is_kept_and_the_newest_sound_backup_is_offered",
           "test_writer::test_a_file_that_is_no_database_is_refused_and_left_alone",
           "test_writer::test_database_cut_in_half_is_refused")),
    Fault(8, "the database is empty or another program's", "it is not taken for a fresh one",
          ("test_writer::test_a_file_that_is_no_database_is_refused_and_left_alone",
           "test_writer::test_another_programs_database_is_refused_and_left_alone",
           "test_writer::test_missing_database_beside_its_log_is_not_taken_for_a_fresh_one")),
    Fault(9, "bits flipped in a text", "the export stops and names the row",
          ("test_export::test_flipped_bit_stops_the_export_and_names_the_row",
           "test_export::test_byte_that_is_no_text_any_more_is_named_too",
           "test_export::test_rows_that_are_written_before_the_end_leave_no_file_where_a_later_one_is_damaged")),
    Fault(10, "a database of a newer rgtg", "opened read-only, both versions named",
          ("test_writer::test_newer_database_is_read_only_and_both_versions_are_named",)),
    Fault(11, "three processes start on a fresh file", "all find it complete",
          ("test_writer::test_three_processes_starting_on_a_fresh_file_all_find_it_whole",)),
    Fault(12, "a migration raises halfway", "schema as before, a backup is there",
          ("test_schema::test_migration_that_raises_halfway_changes_nothing",
           "test_schema::test_older_database_is_backed_up_and_migrated")),
    Fault(13, "export while people vote", "one consistent moment; only SQLite opens the file",
          ("test_export::test_export_sees_one_moment_while_votes_come_in",
           "test_writer::test_nobody_but_sqlite_opens_the_database")),
    Fault(14, "backup under steady writes", "it ends, and the -wal stays bounded",
          ("test_faults::test_a_backup_ends_under_steady_writes_and_the_wal_stays_bounded",)),
    Fault(15, "NaN, inf, numpy scalars, 2**70, surrogates, NUL", "converted, or refused by name",
          ("test_store::test_bad_number_in_a_column_is_refused_by_name",
           "test_store::test_bad_value_in_a_step_or_a_run_is_refused_by_name",
           "test_store::test_bad_text_from_a_person_is_refused",
           "test_store::test_numpy_scalars_become_plain_numbers",
           "test_store::test_nul_from_a_model_costs_no_vote")),
    Fault(16, "prompts: empty, blank, very long, right to left, control, zero width, markers", "refused before anything reads it, or stored as typed",
          ("test_faults::test_a_prompt_that_is_none_is_refused_on_the_server_before_anything_reads_it",
           "test_faults::test_a_prompt_is_stored_as_typed_and_its_markers_are_text")),
    Fault(17, "markup in a prompt, an output, a model's or a rater's name", "shown as text; no remote image is fetched",
          ("browser/test_hostile::test_markup_in_prompts_names_and_comments_is_text_on_every_page_and_fetches_nothing",
           "browser/test_compare::test_hostile_text_stays_text")),
    Fault(18, "a broken import", "all or nothing; row and field named; sizes capped",
          ("test_faults::test_a_broken_file_is_refused_in_words_and_nothing_of_it_is_stored",
           "test_faults::test_marks_of_an_encoding_windows_lines_and_formulas_come_in_and_go_out_as_texts",
           "test_imports::test_a_bad_row_refuses_the_file_by_its_number_and_nothing_is_stored",
           "test_imports::test_a_fault_of_the_database_in_the_middle_stores_nothing",
           "test_formats::test_more_text_than_is_read_at_once_is_refused")),
    Fault(0, "the clock goes back", "no order changes, nothing lapses early",
          ("test_faults::test_a_clock_that_goes_back_changes_no_order",
           "test_annotation::test_a_clock_that_goes_back_frees_nothing_early_and_no_pair_is_kept_for_ever")),
)  # fmt: skip


def file_of(name: str) -> Path:
    return ROOT / "tests" / f"{name.partition('::')[0]}.py"


def functions_in(file: Path) -> set[str]:
    """Names of the test functions of a file."""
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def results(names: list[str]) -> dict[str, list[str]]:
    """{module::function: result of each of its cases} of these tests, run in one process."""
    places = [f"{file_of(name)}::{name.partition('::')[2]}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", f"--junitxml={report}", *places]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        found: dict[str, list[str]] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            module = case.get("classname", "").removeprefix("tests.").replace(".", "/")
            name = f"{module}::{case.get('name', '').partition('[')[0]}"
            states = {child.tag for child in case}
            found.setdefault(name, []).append("FAILED" if states & {"failure", "error"} else "skipped" if "skipped" in states else "passed")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="faults to try (all)")
    parser.add_argument("--browser", action="store_true", help="run the tests in a browser, too")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.numbers or fault.number in options.numbers]
    names = [name for fault in chosen for name in fault.tests if options.browser or not name.startswith("browser/")]
    found = results([*dict.fromkeys(names)]) if names else {}
    failed = False
    for fault in chosen:
        cases = [case for name in fault.tests for case in found.get(name, ["not run"])]
        state = next((one for one in ("FAILED", "skipped", "not run") if one in cases), "passed")
        failed |= state == "FAILED"
        print(f"{fault.number or '–':>2}  {state:8} {len(cases):3} cases  {fault.fault}: {fault.expected}")
        for name in fault.tests:
            print(f"{'':6}{name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
