"""What `rgtg --help` loads: nothing that takes long."""

import subprocess
import sys

HEAVY = ("torch", "transformers", "numpy", "pandas", "plotly", "sqlite_utils", "pyarrow", "datasets", "gradio")
CODE = """
import contextlib, io, json, sys
from rgtg.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    try: main(["--help"])
    except SystemExit: pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_help_loads_no_library_that_takes_long():
    loaded = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert [name for name in HEAVY if f'"{name}"' in loaded] == []
