"""The table handler × attack × answer of `python -m tests.attacks`, with the attacks that found most; the script tries all of them."""

import pytest
from attacks import ROWS, attack, handlers

from pages import access

FEW = (
    "nothing", "not a number", "nested objects", "100,000 characters in one", "path", "URL", "file, path alone", "model by path", "another's, by id",
    "another's, wrong token",
)  # fmt: skip


def test_what_the_table_says_of_a_handler_is_what_may_be_done():
    assert all((access.ACCESS[name].public == access.ADMINS) == (kind == "shut") for name, kind in ROWS.items())


@pytest.mark.slow
def test_a_stranger_gets_nothing_of_others_and_no_file_of_the_server(capsys):
    assert attack(attacks=FEW) == []
    assert all(name in capsys.readouterr().out for name in list(ROWS)[-1:])


@pytest.mark.slow
def test_a_handler_without_a_row_fails_it(monkeypatch):
    assert {name for name, _ in handlers().values()} == set(ROWS)
    monkeypatch.delitem(ROWS, "voting.vote")
    assert {name for name, _ in handlers().values()} != set(ROWS)
