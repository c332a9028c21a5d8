"""An upload is one file, however its bytes are cut."""

import pytest

from pages.hosts import Refused
from pages.uploads import OneFile

FORM = "multipart/form-data; boundary=----x"
FILE = b'------x\r\nContent-Disposition: form-data; name="files"; filename="a.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
END = b"\r\n------x--\r\n"


def look(body: bytes, size: int, form: str = FORM) -> None:
    """Shows the body in pieces of so many bytes."""
    upload = OneFile(form)
    for begin in range(0, len(body), size):
        upload.look(body[begin : begin + size])


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_one_file_is_taken_whatever_is_in_it(size: int):
    for data in (b"", b"a ------x and \r\n-----x", b'{"prompt": "a"}\n' * 500):
        look(FILE + data + END, size)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        FILE + b"a\r\n" + FILE + b"b" + END,
        FILE + b'a\r\n------x\r\nContent-Disposition: form-data; name="more"\r\n\r\nb' + END,
        b'------x\r\nContent-Disposition: form-data; name="files"\r\n\r\nheld in memory' + END,
        b'------x\r\nContent-Disposition: form-data; name="; filename=x"\r\n\r\nheld in memory' + END,
        b"------x\r\n\r\nno headers" + END,
        b"before\r\n" + FILE + END,
        b"------x\r\nContent-Type: " + b"x" * 9_000,
    ],
)
def test_anything_else_is_refused(body: bytes, size: int):
    with pytest.raises(Refused, match="one file") as refused:
        look(body, size)
    assert refused.value.status == 400


@pytest.mark.parametrize("form", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=x"])
def test_what_is_no_form_is_refused(form: str):
    with pytest.raises(Refused, match="not a form"):
        OneFile(form)
