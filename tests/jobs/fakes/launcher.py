"""Stands in for torchrun, without torch: starts the first process only, and says 1 whatever went wrong."""

from __future__ import annotations

import os
import subprocess
import sys

if __name__ == "__main__":
    options, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    (world,) = (option.partition("=")[2] for option in options if "nproc" in option)
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": world}
    child = subprocess.Popen(command, env={**os.environ, **ranks}, start_new_session=True)
    if child.wait():
        print(
            "Root Cause (first observed failure):\n  traceback : Signal 9 (SIGKILL) received\n===="
        )
        sys.exit(1)
