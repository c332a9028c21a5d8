"""A check that an upload is a form with exactly one file, done while its bytes arrive; knows nothing of what is in the file."""

from python_multipart.multipart import parse_options_header

from pages.hosts import Refused

MAX_HEAD = 8_192  # bytes of the headers of a part


class OneFile:
    """Watches the body of one upload. Of a form, Gradio would hold fields of any size in memory and take a thousand files."""

    def __init__(self, content_type: str):
        """Raises Refused if the content type is not that of a form."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refused(400, "An upload has to be a form with one file.", "The request is not a form.", "Upload it on a page that takes files.")
        self._delimiter = b"\r\n--" + options[b"boundary"]
        self._head: bytes | None = b""  # until the headers of the first part are complete
        self._tail, self._num_delimiters = b"\r\n", 0

    def look(self, chunk: bytes) -> None:
        """Check the next bytes; raises Refused once they cannot belong to a single file."""
        if self._head is not None:
            self._head += chunk
            head, ended, _ = self._head.partition(b"\r\n\r\n")
            if ended or len(head) > MAX_HEAD:
                self._check_head(head)
                self._head = None
        window = self._tail + chunk
        self._num_delimiters += window.count(self._delimiter)
        self._tail = window[1 - len(self._delimiter) :]
        if self._num_delimiters > 2:  # before the file and behind it
            raise Refused(400, "An upload has to be one file.", "Found several parts.", "Upload one file at a time.")

    def _check_head(self, head: bytes) -> None:
        first, *lines = head[:MAX_HEAD].split(b"\r\n")
        dispositions = [value for name, _, value in (line.partition(b":") for line in lines) if name.strip().lower() == b"content-disposition"]
        if first != self._delimiter.strip() or len(dispositions) != 1 or b"filename" not in parse_options_header(dispositions[0].strip())[1]:
            raise Refused(400, "An upload has to be a form with one file.", "The first part is not a file.", "Upload it on a page that takes files.")
