"""`sepdash checkpoints` and `sepdash resume --from`: a list to choose from, and going back."""

from __future__ import annotations

import json
from pathlib import Path


def queued(sepdash, tmp_path, write_tone) -> None:
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
    data = [w for k in ("train", "valid", "noise") for w in ("--set", f"data.{k}={tmp_path / k}")]
    answer = sepdash("enqueue", "denoise/small", "--name", "base-1", *data)
    assert answer.code == 0
    assert "length: " in answer.out
    assert "of audio" in answer.out
    assert "time: " in answer.out
    assert "training item" in answer.err, "one file is hardly data"


def save(folder, name: str, updates: int) -> None:
    place = folder / "checkpoints" / name
    place.mkdir(parents=True)
    about = {
        "counters": {"updates": updates, "epochs": updates / 100}, "created_at": 1.7e9,
        "metrics": {"si_sdr": 12.5, "si_sdr_ema": 12.75},
        "files": {"model.safetensors": {"size_bytes": 2_000_000, "sha256": ""}},
    }  # fmt: skip
    (place / "manifest.json").write_text(json.dumps(about))


def test_checkpoints_are_listed_and_an_older_state_is_gone_on_from(
    sepdash, tmp_path, write_tone
) -> None:
    queued(sepdash, tmp_path, write_tone)
    empty = sepdash("checkpoints", "base-1")
    assert (empty.code, empty.err.strip()) == (0, "base-1 has no checkpoint yet (state: queued)")
    folder = next(
        line.split(maxsplit=1)[1]
        for line in sepdash("show", "base-1").out.splitlines()
        if line.startswith("folder")
    )
    for name, updates in (("last-000400", 400), ("last-000200", 200), ("best-si_sdr", 300)):
        save(Path(folder), name, updates)
    lines = sepdash("checkpoints", "base-1").out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "NAME",
        "last-000400",
        "last-000200",
        "best-si_sdr",
    ]
    assert "4.00" in lines[1]
    assert "si_sdr 12.50 dB" in lines[1]
    assert "2.0 MB" in lines[1]
    assert lines[1].endswith("resume, apply, init_from base-1@last")
    assert lines[2].endswith("resume --from last-000200")
    assert lines[3].endswith("apply, init_from base-1@si_sdr (base-1 alone means this one)")
    assert [
        one["updates"] for one in json.loads(sepdash("checkpoints", "base-1", "--json").out)
    ] == [400, 200, 300]

    assert sepdash("stop", "base-1").code == 0
    refused = sepdash("resume", "base-1", "--from", "7")
    assert refused.code == 2
    assert "no resume state '7'; there are: last-000400, last-000200" in refused.err
    assert (Path(folder) / "checkpoints" / "last-000400").is_dir(), "a refusal changes nothing"
    assert "state" in sepdash("show", "base-1").out
    answer = sepdash("resume", "base-1", "--from", "200")
    assert answer.code == 0
    assert "continues from checkpoint 200" in answer.out
    names = sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())
    assert names == ["best-si_sdr", "last-000200", "last-000400.newer"]
    assert sepdash("resume", "base-1", "base-1", "--from", "200").code == 2
