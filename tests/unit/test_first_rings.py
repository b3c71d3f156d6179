"""The first rings of a process, when several threads send one at the same time."""

import subprocess
import sys

AT_ONCE = """
import sys, threading
from embedfleet_schema.broker import celery_app
sys.setswitchinterval(1e-6)
started, made = threading.Barrier(12), []
def make():
    started.wait()
    made.append(celery_app("redis://h/0", socket_timeout_s=1.0))
threads = [threading.Thread(target=make) for _ in range(12)]
for each in threads: each.start()
for each in threads: each.join()
sys.exit(0 if len(made) == 12 else 1)
"""


def test_all_of_them_can():
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, check=False)
    assert 0 == done.returncode, done.stderr.decode()
