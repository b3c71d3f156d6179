"""What reading a file takes, measured in processes that do nothing else."""

import json
import subprocess
import sys
from dataclasses import dataclass

_PROGRAM = """
import json, resource, sys
from embedfleet_producer.readers import ReaderLimits, ReadReport, read_paths
from embedfleet_schema.types import Document

path, options, limits = json.loads(sys.argv[1])
report = ReadReport()
documents, size, codes = 0, 0, {}
stream = read_paths([path], limits=ReaderLimits(**limits), report=report, **options)
for verdict in stream:
    if isinstance(verdict, Document):
        documents, size = documents + 1, max(size, len(verdict.text))
    else:
        codes[verdict.code] = verdict.reason
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
unit = 1 if sys.platform == "darwin" else 1024
here = used[0].ru_maxrss * unit
if sys.platform == "linux":
    # What getrusage says of this process is at least what the one had that started it.
    lines = open("/proc/self/status").read().splitlines()
    [here] = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
print(json.dumps({
    "documents": documents,
    "longest": size,
    "codes": codes,
    "notes": [note.code for note in report.notes],
    "here": here,
    "beside": used[1].ru_maxrss * unit,
    "seconds": used[0].ru_utime + used[1].ru_utime,
}))
"""


@dataclass(frozen=True)
class Cost:
    """`here` and `beside` are peaks of memory in bytes: of the process, and of its reader's."""

    documents: int
    longest: int
    codes: dict[str, str]
    notes: list[str]
    here: int
    beside: int
    seconds: float


def cost_of_reading(path, *, limits=None, **options) -> Cost:
    """Read a file as a producer would, and say what it took."""
    values = json.dumps([str(path), options, limits or {}])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, values], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return Cost(**json.loads(done.stdout))
