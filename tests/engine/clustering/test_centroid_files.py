"""Files of centroids: what is read, and one line for each thing that can be wrong; nothing in them runs."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from engine.clustering.centroid_files import (
    CentroidsError,
    read_centroids,
    why_centroids_do_not_fit,
)
from tests.pretraining import pretraining


class Evil:
    """Pickles into a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def refusal(path):
    with pytest.raises(CentroidsError) as caught:
        read_centroids(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    return text


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_kind_are_read_as_float32(tmp_path, dtype, order):
    centroids = np.arange(12).reshape(4, 3).astype(dtype, order=order)
    np.save(tmp_path / "km.npy", centroids)
    found = read_centroids(tmp_path / "km.npy")
    assert (found.dtype, found.flags["C_CONTIGUOUS"]) == (np.float32, True)
    assert np.array_equal(found, np.arange(12).reshape(4, 3))


def test_a_pickle_is_never_run_and_two_lines_convert_it(tmp_path):
    made = tmp_path / "made"
    evil = pickle.dumps(Evil(made))
    for name, content in {
        "evil.km": evil, "evil.npy": evil, "evil.joblib": b"", "evil.bin": gzip.compress(evil),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        first, *lines = refusal(tmp_path / name).splitlines()
        assert "is a pickle, and was not read" in first
        assert [line.strip().split("(")[0] for line in lines] == [
            "import joblib, numpy",
            "numpy.save",
        ]
    np.save(tmp_path / "objects.npy", np.array([[Evil(made)]] * 2), allow_pickle=True)
    assert "holds Python objects, which are never loaded" in refusal(tmp_path / "objects.npy")
    assert not made.exists()


class Model:
    """What a joblib file of scikit-learn holds, as far as the two lines know."""

    cluster_centers_ = np.arange(6.0).reshape(2, 3)


def test_the_two_lines_do_what_they_say(tmp_path, monkeypatch):
    joblib = pytest.importorskip("joblib")
    monkeypatch.chdir(tmp_path)
    joblib.dump(Model(), tmp_path / "km.bin", compress=3)
    _, *lines = refusal(tmp_path / "km.bin").splitlines()
    exec("\n".join(line.strip() for line in lines), {})
    assert np.array_equal(read_centroids(tmp_path / "centroids.npy"), Model.cluster_centers_)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(3), "has shape 3; expected clusters x numbers of a frame"),
        (np.zeros((2, 3, 4)), "has shape 2x3x4"),
        (np.float32(1), "has shape scalar"),
        (np.zeros((1, 4)), "at least 2 clusters"),
        (np.zeros((65_536, 1)), "at most 65535"),
        (np.zeros((4, 0)), "has shape 4x0"),
        (np.full((3, 4), np.inf), "values that are not finite"),
        (np.full((3, 4), np.nan), "values that are not finite"),
        (np.full((3, 4), 1e300), "values that are not finite"),
        (np.array([["a", "b"]]), "expected one array of numbers"),
        (np.zeros((3, 4), complex), "expected one array of numbers"),
        (np.zeros((3, 4), [("x", "f4")]), "expected one array of numbers"),
    ],
)
def test_other_arrays_are_one_line_each(tmp_path, array, told):
    np.save(tmp_path / "odd.npy", array)
    text = refusal(tmp_path / "odd.npy")
    assert told in text
    assert len(text.splitlines()) == 1


def test_damaged_files_are_one_line_each(tmp_path):
    np.save(tmp_path / "km.npy", np.ones((5, 7), np.float32))
    content = (tmp_path / "km.npy").read_bytes()
    odd = tmp_path / "odd.npy"
    for length in range(len(content)):
        odd.write_bytes(content[:length])
        assert len(refusal(odd).splitlines()) == 1
    odd.write_bytes(content[:-1])
    assert "is damaged: 139 bytes of numbers, expected 140" in refusal(odd)
    # A header that promises more than any memory holds is not believed.
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (60000, 99999999999)}"
    odd.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n")
    assert "is damaged: 0 bytes of numbers" in refusal(odd)
    np.savez(tmp_path / "km.npz", np.ones((5, 7)))
    assert "archive of arrays (.npz)" in refusal(tmp_path / "km.npz")
    (tmp_path / "text.npy").write_text("1 2 3")
    assert "it is no .npy file" in refusal(tmp_path / "text.npy")
    assert "does not exist" in refusal(tmp_path / "missing.npy")
    assert "does not exist; expected" in refusal(tmp_path)


def test_centroids_that_can_not_be_those_of_a_run_are_told_before_it_starts(tmp_path):
    path = tmp_path / "km.npy"
    config = pretraining(tmp_path, loss={"kmeans_from": str(path)})
    np.save(path, np.ones((10, 39), np.float32))
    assert why_centroids_do_not_fit(config, path) == ""
    np.save(path, np.ones((11, 39), np.float32))
    assert "has 11 centroids, but loss.clusters = 10; set it to 11" in why_centroids_do_not_fit(
        config, path
    )
    np.save(path, np.ones((10, 768), np.float32))
    assert "768 dimensions, but MFCCs have 39; set loss.targets_from" in why_centroids_do_not_fit(
        config, path
    )
    path.unlink()
    assert "does not exist" in why_centroids_do_not_fit(config, path)
