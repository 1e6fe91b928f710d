"""Stands in for PySlurm 25.11 in a child process: the shape of its API, and how slurmdbd answers it.

`$FAKE_PYSLURM` is a JSON file: `rows` of the job table as slurmdbd keeps them, `users` by UID, `local` (the cluster of
slurm.conf), `version`, and `mode`, which is how it misbehaves. What is asked is appended to `<file>.asked`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

SITE = json.loads(Path(os.environ["FAKE_PYSLURM"]).read_text(encoding="utf-8"))
MODE = SITE.get("mode", "")

__version__ = SITE.get("version", "25.11.2")

if MODE == "fatal":
    # libslurm's own way out: no exception passes, no handler runs.
    sys.stderr.write("python: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n")
    sys.stderr.write("python: fatal: Could not establish a configuration source\n")
    sys.stderr.flush()
    os._exit(1)
if MODE == "import":
    raise ImportError("libslurmfull.so: cannot open shared object file: No such file or directory")
if MODE == "hang":
    sys.stderr.write("python: error: Sending PersistInit msg: Connection refused\n")
    sys.stderr.flush()
    while True:
        time.sleep(60)
if MODE == "segfault":
    os.kill(os.getpid(), signal.SIGSEGV)
if MODE == "noise":
    os.write(1, b'{"end": 0}\nslurm says something\n')

if MODE == "grumbles":
    sys.stderr.write("python: error: Conn closed\n")

if MODE != "no db":
    from pyslurm import db  # noqa: F401 - a part of the API
