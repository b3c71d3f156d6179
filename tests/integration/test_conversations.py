"""`search --interactive` on a terminal."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import embedfleet as ef
from plugins.fleets import drain

# Ctrl-A goes to the beginning of the line, the arrow up to the line before, Ctrl-D ends it.
TYPED = [b"password?\x01reset my \n", b"another\n", b"\x1b[A\x1b[A\n", b"\x04"]
ASKED = ["reset my password?", "another", "reset my password?"]


def test_a_person_can_edit_a_question_and_repeat_one_and_none_is_kept(
    fleet, docs, worker, tmp_path
):
    docs.enqueue(ef.Document(f"d{n}", f"text {n}") for n in range(40))
    drain(worker(batch_tokens_cpu=8_192))
    environment = os.environ | {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "HOME": str(tmp_path),
        "TERM": "xterm",
    }
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-m", "embedfleet", "search", "docs", "--interactive", "-k", "1"]
    running = subprocess.Popen(command, stdin=terminal, stdout=terminal, env=environment)
    os.close(terminal)
    seen = b""
    for line in TYPED:
        while not seen.endswith(b"search> "):
            seen += os.read(keyboard, 4_096)
        os.write(keyboard, line)
        seen += b"\n"
    with suppress(OSError):  # so Linux says that nobody has the terminal any more
        while part := os.read(keyboard, 4_096):
            seen += part
    os.close(keyboard)
    assert 0 == running.wait()
    hits = [docs.search(text, k=1)[0] for text in ASKED]
    wanted = [f"{hit.score:.3f}  {hit.document} #0" for hit in hits]
    lines = seen.decode().replace("\r", "\n").split("\n")
    assert wanted == [line for line in lines if line.endswith(" #0")]
    assert [] == list(tmp_path.iterdir())
