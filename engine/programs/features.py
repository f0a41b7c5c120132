"""`python -P -m engine.programs.features`: writes the features of a layer as .npy files.

The job is a line of JSON on stdin, answers are lines of JSON on stdout: each file that was written, the
end. A user error is an answer. The process exits when its standard input closes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from engine.programs.pipes import Job, answer_job, say
from engine.start_up import loading


def main() -> int:
    """Run one job; return 0, or 2 for a user error."""
    return answer_job(_run)


def _run(job: Job, answers: TextIO) -> None:
    with loading():
        from engine.data.files.audio_files import probe_all
        from engine.precision import resolve_device
        from engine.probing.saved import layer_of, out_paths, write_features
        from engine.recipes.self_supervised.encoders import open_encoder
        from engine.recipes.self_supervised.probing import read_whole

    files = [Path(name) for name in job["files"]]
    out = Path(job["out"])
    paths = out_paths(files, out)
    infos = probe_all(files, setting="")
    encoder = open_encoder(Path(job["model"]), device=resolve_device(job["device"]))
    layer = layer_of(job["layer"], encoder.num_layers)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    say(answers, layer=layer, rate_hz=encoder.rate_hz, hop=encoder.hop, window=encoder.window)
    for number, info in enumerate(infos):
        frames_LD = encoder.features([read_whole(info, encoder.rate_hz)])[layer][0]
        write_features(paths[number], frames_LD)
        say(
            answers, path=str(paths[number]), shape=frames_LD.shape, number=number + 1,
            total=len(infos),
        )  # fmt: skip
    say(answers, done=True)


if __name__ == "__main__":
    sys.exit(main())
