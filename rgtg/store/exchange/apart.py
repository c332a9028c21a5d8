"""Planning of an import in a process of its own, with limits on memory and time: a file of a few bytes may unfold to gigabytes.

Knows nothing of the database.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rgtg.errors import BadData, LimitPassed
from rgtg.records import Comparison, Span, Vote
from rgtg.store.exchange.plan import plan
from rgtg.store.exchange.records import ImportReport, Plan
from rgtg.system.child import ask
from rgtg.system.serialization import from_dict

SECONDS, MEMORY_GB = 600.0, 4.0


def plan_apart(source: Path, columns: str = "", ties: str = "") -> Plan:
    """`plan.plan` in a child process. Raises BadData, BadSettings as that does, and BadData where the file takes too much."""
    with tempfile.TemporaryDirectory(prefix="rgtg-import-") as folder:
        out = Path(folder) / "plan.json"
        try:
            ask("rgtg.store.exchange.apart:write_plan", str(source), columns, ties, str(out), seconds=SECONDS, memory_gb=MEMORY_GB)
        except LimitPassed as error:
            raise BadData(f"`{source.name}` takes too much to read.", error.found, "Import a part of it.") from None
        value = json.loads(out.read_text(encoding="utf-8"))
    records = {name: [from_dict(kind, one) for one in value[name]] for name, kind in (("comparisons", Comparison), ("votes", Vote), ("marks", Span))}
    return Plan(from_dict(ImportReport, value["report"]), **records, known_raters=value["known_raters"], excluded=value["excluded"])


def write_plan(source: str, columns: str, ties: str, out: str) -> None:
    """In the child: write the plan as JSON."""
    Path(out).write_text(json.dumps(asdict(plan(source, columns, ties)), ensure_ascii=True), encoding="utf-8")
