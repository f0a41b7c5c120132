"""A pickle of centroids on the command line: one problem, with the two lines of Python that convert it."""

from __future__ import annotations

from pathlib import Path

from tests.pretraining import write_audio


def test_a_pickle_is_one_problem_of_three_lines(sepdash, tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio")
    path = tmp_path / "km.bin"
    path.write_bytes(b"\x80\x04}.")
    options = {
        "data.train": audio / "train",
        "data.valid": audio / "valid",
        "loss.kmeans_from": path,
    }
    sets = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    answer = sepdash("enqueue", "ssl/hubert-small", *sets)
    assert answer.code == 2
    first, *lines = answer.err.splitlines()
    assert first.startswith(f"sepdash: loss.kmeans_from: {path} is a pickle, and was not read")
    assert [line.strip() for line in lines] == [
        "import joblib, numpy",
        f"numpy.save('centroids.npy', joblib.load({str(path)!r}).cluster_centers_)",
    ]
