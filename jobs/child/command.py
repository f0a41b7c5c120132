"""The command of a run's child process."""

from __future__ import annotations

import sys

RUNNER = (sys.executable, "-P", "-m", "jobs.child.runner")
