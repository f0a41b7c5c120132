"""`python -P -m engine.programs.measure FOLDER SHARE`: measures one share of a job of perceptual metrics.

Started by the training process, which keeps its standard input open: when that ends, so does this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.programs.pipes import end_with_stdin
from engine.start_up import loading

# The lowest priority: the training process and its readers must not wait for this.
_NICENESS = 19


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit status."""
    folder, share = arguments if arguments is not None else sys.argv[1:]
    end_with_stdin()
    os.nice(_NICENESS)
    os.umask(0o077)
    with loading():
        import torch

        from engine.measuring.jobs import compute

    torch.set_num_threads(1)
    compute(Path(folder), int(share))
    return 0


if __name__ == "__main__":
    sys.exit(main())
