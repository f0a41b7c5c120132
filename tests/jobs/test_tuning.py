"""A search beside a worker: neither disturbs the other; a kept result holds only where it was measured."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.tuning.race import Ratio
from engine.tuning.setups import Options, Tuning
from jobs import submit, tuning
from jobs.machine.lease import DeviceUse, LeaseError
from jobs.store.reader import StoreReader
from jobs.tuning import Place, device_reserved, place_of, tune
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child
from tests.jobs.small_training import small_config
from tests.jobs.test_worker import COMMAND
from tests.waiting import until

GIB = 2**30
RESULT = Tuning(
    "cpu", 8 * GIB, budget_bytes=7 * GIB, goal_items=2, micro_batches=1, rows=(), settings={}, peak_bytes=GIB,
    items_per_s=1.0, audio_s_per_s=1.0, ratio=Ratio(1.2, 1.1, 1.3, 9), law_error=None, seconds=1.0,
)  # fmt: skip


@pytest.fixture
def searches(monkeypatch):
    """Count the searches; each finds the same at once."""
    made = []

    def search(config, options, *, measurer, emit, sizes):
        made.append(config)
        return RESULT

    monkeypatch.setattr(tuning, "search", search)
    return made


def state_of(home, run_id: int) -> str:
    with StoreReader(home.store) as reader:
        return reader.run(run_id).state


@pytest.mark.long
@pytest.mark.slow
def test_a_search_beside_a_real_run_is_refused_and_the_way_out_loses_nothing(
    home, tmp_path, searches
) -> None:
    """Refused while a run trains; allowed once its worker was stopped; then the run goes on to its end."""
    config = small_config(tmp_path / "audio", updates=200)
    run_id = submit.enqueue(home, config)
    ended, said = threading.Event(), []
    worker = threading.Thread(
        target=serve, args=(home,), kwargs={"device": "cpu", "echo": said.append, "stop": ended}
    )
    worker.start()
    try:
        with StoreReader(home.store) as reader:
            until(lambda: reader.run(run_id).updates > 10, "the run trains")
            with pytest.raises(LeaseError, match=rf"cpu is in use .* training run {run_id}\. Stop"):
                tune(home, config, options=Options(device="cpu"), emit=str)
            before = reader.run(run_id).updates
            until(lambda: reader.run(run_id).updates > before, "the run goes on")
    finally:
        ended.set()
        worker.join()
    assert searches == []
    assert state_of(home, run_id) == "queued"
    assert not tune(home, config, options=Options(device="cpu"), emit=str).kept
    serve(home, device="cpu", drain=True, echo=str)
    with StoreReader(home.store) as reader:
        assert (reader.run(run_id).state, reader.run(run_id).updates) == ("finished", 200)
        assert reader.curve(run_id, "loss", max_points=10**6).updates == list(range(1, 201))


def test_an_idle_worker_starts_no_run_during_a_search(home, make_config) -> None:
    ended, said = threading.Event(), []
    worker = threading.Thread(
        target=serve, args=(home,),
        kwargs={"device": "cpu", "echo": said.append, "stop": ended, "child": Child(COMMAND)},
    )  # fmt: skip
    worker.start()
    try:
        until(lambda: any("started on cpu" in line for line in said), "the worker is up")
        with device_reserved(home, "cpu", purpose="sepdash tune"):
            run_id = submit.enqueue(home, make_config(schedule={"length": "20 updates"}))
            until(lambda: any("waiting" in line for line in said), "the worker has seen the run")
            assert state_of(home, run_id) == "queued"
        until(lambda: state_of(home, run_id) == "finished", "the run was made afterwards")
    finally:
        ended.set()
        worker.join()
    (waited,) = [line for line in said if "waiting" in line]
    assert "cpu is in use by process" in waited
    assert "sepdash tune, which ends by itself" in waited


def test_two_searches_do_not_share_a_device(home) -> None:
    with (
        device_reserved(home, "cuda:0", purpose="sepdash tune"),
        device_reserved(home, "cuda:1", purpose="sepdash tune"),
        pytest.raises(LeaseError, match="cuda:0 is in use by process"),
        DeviceUse(home.locks, "cuda:0", purpose="another"),
    ):
        pass


def test_a_kept_result_is_found_again_only_where_it_holds(
    home, make_config, searches, monkeypatch
) -> None:
    place = Place(("cpu",), 16 * GIB, free_bytes=9 * GIB, threads=2)
    monkeypatch.setattr(tuning, "place_of", lambda devices, config: place)
    config = make_config()

    def is_kept(**changes: object) -> bool:
        monkeypatch.setattr(tuning, "place_of", lambda devices, config: replace(place, **changes))
        return tune(home, config, options=Options(device="cpu"), emit=str).kept

    assert not is_kept()
    assert is_kept()
    assert is_kept(free_bytes=8 * GIB)
    assert not is_kept(free_bytes=GIB)
    assert not is_kept(free_bytes=12 * GIB)
    assert not is_kept(threads=1)
    assert not is_kept(total_bytes=32 * GIB)
    assert not is_kept(devices=("another",))
    assert len(searches) == 6


def test_a_kept_result_knows_its_data(home, write_speech, searches, monkeypatch) -> None:
    place = Place(("cpu",), 16 * GIB, free_bytes=9 * GIB, threads=2)
    monkeypatch.setattr(tuning, "place_of", lambda devices, config: place)
    config, add = write_speech
    options = Options(device="cpu")
    assert not tune(home, config, options=options, emit=str).kept
    assert tune(home, config, options=options, emit=str).kept
    add()
    assert not tune(home, config, options=options, emit=str).kept


@pytest.fixture
def write_speech(tmp_path):
    """A config on two utterances, and a function that adds a longer one."""
    import json

    import numpy as np
    import soundfile

    from engine.config.loading import load_config

    lines: list[str] = []

    def add(seconds: float = 3.0) -> None:
        name = f"{len(lines)}.wav"
        soundfile.write(tmp_path / name, np.full(int(8000 * seconds), 0.1), 8000)
        lines.append(json.dumps({"path": name, "duration": seconds, "text": "one two"}))
        for split in ("train", "valid"):
            (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")

    add(1.0)
    add(2.0)
    data = {
        "kind": "speech", "train": str(tmp_path / "train.jsonl"), "valid": str(tmp_path / "valid.jsonl"),
        "rate_hz": 8000,
    }  # fmt: skip
    return load_config(
        {"data": data, "model": {"kind": "conformer_rnnt"}, "loss": {"kind": "rnnt"}}
    ), add


def test_the_place_is_this_machine(make_config) -> None:
    place = place_of(["cpu"], make_config(precision={"threads": 3}))
    assert 0 < place.free_bytes < place.total_bytes
    assert place.threads == 3
    assert place_of(["cpu"], make_config()).threads >= 1
    assert place.devices[0]


def test_a_voice_is_tuned_with_the_folder_of_its_codec(home, write_speech, searches) -> None:
    """Its network has as many codes as the codec, and a trial knows no runs."""
    manifest = str(write_speech[0].data.train)
    home.create()
    values = {
        "data": {"kind": "voice", "train": manifest, "valid": manifest, "rate_hz": 8_000},
        "model": {"kind": "voice_gpt", "layers": 1, "dim": 16, "heads": 2},
        "precision": {"device": "cpu"},
    }
    with pytest.raises(ConfigError, match="codec: no run 'ghost'"):
        tuning.tune(
            home,
            load_config({**values, "codec": "ghost"}),
            options=Options(),
            emit=lambda row: None,
        )
    config = load_config({**values, "codec": "./codec"})
    tuning.tune(home, config, options=Options(), emit=lambda row: None)
    assert searches[-1].codec == str(Path.cwd() / "codec")
