"""Claims about transcribing: a checkpoint is enough, long audio is cut where it is quiet, errors add up."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, CheckpointError, write_checkpoint
from engine.checkpoints.find import load_model
from engine.data.checks.speech_before_queue import check_speech
from engine.data.corpus.cutting import cut_recordings
from engine.data.corpus.manifests import write_corpus
from engine.data.corpus.survey import Drawing, Limits, survey_corpus
from engine.data.files.audio_files import probe
from engine.programs import transcribe
from engine.recipes.registry import open_recipe
from engine.recipes.speech.transcriber import quiet_place
from engine.recipes.speech.transcribing import load_transcriber

CPU = torch.device("cpu")


def save_talkative(config, folder: Path) -> Path:
    """Write a checkpoint of an untrained model that talks a lot."""
    torch.manual_seed(3)
    model = open_recipe(config).build_model()
    with torch.no_grad():
        model.joiner.linear.weight *= 4
    write_checkpoint(folder, {"config": config.to_dict()}, tensors={MODEL: model.state_dict()})
    return folder


@pytest.fixture
def checkpoint(speech_config, tmp_path: Path) -> Path:
    """A Conformer transducer."""
    return save_talkative(speech_config(), tmp_path / "checkpoint")


@pytest.fixture
def streaming(speech_config, tmp_path: Path) -> Path:
    """An Emformer transducer."""
    return save_talkative(speech_config("emformer_rnnt"), tmp_path / "streaming")


def texts(transcriber, paths, *, longest_s=60.0, beam=1):
    stretches = [transcriber.whole(probe(path)) for path in paths]
    return list(transcriber.texts(stretches, beam=beam, longest_s=longest_s))


def test_a_checkpoint_needs_no_training_data(checkpoint, tones, tmp_path):
    values = json.loads((checkpoint / "manifest.json").read_text())["config"]["data"]
    assert values["train"].endswith("train.jsonl")
    transcriber = load_transcriber(checkpoint, CPU)
    paths = sorted(tones.glob("train-*.wav"))
    assert len(paths) == 12
    together = texts(transcriber, paths)
    assert [count for _, count in together] == [1] * 12
    assert any(text for text, _ in together)
    assert together == [texts(transcriber, [path])[0] for path in paths]


def test_pieces_of_words_are_in_the_checkpoint_too(speech_config, tones, tmp_path):
    config = speech_config(data={"tokens": "sentencepiece", "vocab_size": 14})
    folder = save_talkative(config, tmp_path / "pieces")
    transcriber = load_transcriber(folder, CPU)
    ((text, _),) = texts(transcriber, [tones / "valid-3.wav"])
    assert set(text) <= set(" lowmidtp⁇")
    assert text
    recipe = open_recipe(config)
    assert (
        recipe.sizes("train")[:, 1].max() < open_recipe(speech_config()).sizes("train")[:, 1].max()
    )


def test_it_says_what_validation_heard(speech_config, checkpoint, tones):
    from engine.batching.items import ItemDraw, MicroBatch
    from engine.recipes.transducer.decoding import greedy, most_tokens

    recipe = open_recipe(speech_config())
    transcriber = load_transcriber(checkpoint, CPU)
    batch = recipe.fetch("valid", MicroBatch((ItemDraw(0, 2),))).tensors
    model = transcriber._model
    encoded, lengths = model.encode(batch["feat"], batch["feat_length"])
    most = most_tokens(float(recipe.sizes("valid")[2, 0]))
    tokens = greedy(model, encoded, lengths=lengths.tolist(), most=[most])[0]
    assert texts(transcriber, [tones / "valid-2.wav"])[0][0] == recipe._tokenizer.decode(tokens)


def test_long_audio_is_cut_where_it_is_quiet_and_nothing_is_lost(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    samples = 0.3 * rng.normal(size=3 * 8_000)
    samples[14_000:16_400] = 0.0
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    transcriber = load_transcriber(checkpoint, CPU)
    parts = list(transcriber.parts(transcriber.whole(probe(path)), 2.2))
    assert np.concatenate(parts) == pytest.approx(samples)
    assert 14_000 < len(parts[0]) < 16_400
    assert all(len(part) <= 2.2 * 8_000 for part in parts)
    (joined,) = texts(transcriber, [path], longest_s=2.2)
    assert joined[1] == len(parts)


def test_other_rates_and_channels_are_brought_to_those_of_the_model(checkpoint, tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.zeros((44_100, 2)), 44_100)
    transcriber = load_transcriber(checkpoint, CPU)
    (part,) = transcriber.parts(transcriber.whole(probe(path)), 60.0)
    assert part.shape == (8_000,)


@pytest.mark.parametrize("length", [1, 3, 50, 4_000])
def test_a_cut_always_leaves_something_and_ends(length):
    place = quiet_place(np.ones(length, np.float32), 8_000)
    assert 0 < place <= length


def test_errors_are_counted_against_a_manifest(checkpoint, tones, capsys):
    manifest = str(tones / "valid.jsonl")
    assert transcribe.main([str(checkpoint), manifest, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["reference"] for item in found["items"]] == [
        "low top", "mid", "top low mid", "mid mid low top",
    ]  # fmt: skip
    counts = [item["errors"] for item in found["items"]]
    assert found["words"] == {
        name: sum(item[name] for item in counts)
        for name in ("hits", "substitutions", "deletions", "insertions")
    }
    words = found["words"]
    edits = words["substitutions"] + words["deletions"] + words["insertions"]
    assert found["wer"] == pytest.approx(edits / 10)
    assert transcribe.main([str(checkpoint), manifest, "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert f"WER {found['wer']:.2%}: {edits} errors in 10 words" in told
    assert f"CER {found['cer']:.2%}" in told


def test_long_files_are_told_of(checkpoint, tones, capsys):
    path = str(tones / "valid-3.wav")
    assert transcribe.main([str(checkpoint), path, "--device", "cpu", "--longest", "0.5"]) == 0
    told = capsys.readouterr()
    assert "exceeds 0.5 s; split into" in told.err
    assert told.out.startswith(f"{path}: ")


def test_a_beam_is_searched_when_asked_for(checkpoint, tones, monkeypatch):
    from engine.recipes.transducer import transcriber as module

    widths = []

    def search(model, enc_TD, *, beam, most):
        widths.append(beam)
        return beam_search(model, enc_TD, beam=beam, most=most)

    beam_search = module.beam_search
    monkeypatch.setattr(module, "beam_search", search)
    assert texts(load_transcriber(checkpoint, CPU), [tones / "valid-1.wav"], beam=2)
    assert widths == [2]


def test_a_stream_ends_with_the_text_of_the_whole_and_takes_nothing_back(streaming, tones):
    transcriber = load_transcriber(streaming, CPU)
    path = tones / "valid-3.wav"
    heard, written = zip(*transcriber.stream(transcriber.whole(probe(path))), strict=True)
    assert written[-1] == texts(transcriber, [path])[0][0]
    assert len(written) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(written))
    assert list(heard) == sorted(heard)
    # A segment of 8 frames and 4 of look-ahead: 11 hops of 10 ms and the 32 ms of the last frame.
    assert heard[0] >= 0.142
    assert heard[-1] <= probe(path).duration_s


def test_a_stream_is_printed_as_it_grows(streaming, checkpoint, tones, capsys):
    path = str(tones / "valid-0.wav")
    assert transcribe.main([str(streaming), path, "--device", "cpu", "--stream"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == path
    assert re.fullmatch(r" +\d\.\d\d s  \w.*", lines[1])
    assert transcribe.main([str(checkpoint), path, "--device", "cpu", "--stream"]) == 2
    assert "a Conformer needs the whole utterance and can't stream" in capsys.readouterr().err


def test_models_of_the_other_task_are_refused_by_name(checkpoint, make_config, tmp_path, capsys):
    with pytest.raises(CheckpointError, match=r"'speech'\); use `sepdash transcribe`"):
        load_model(checkpoint)
    config = make_config()
    model = open_recipe(config).build_model()
    other = tmp_path / "other"
    write_checkpoint(other, {"config": config.to_dict()}, tensors={MODEL: model.state_dict()})
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.zeros(800), 8_000)
    assert transcribe.main([str(other), str(sound), "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert "(recipe 'separation', data.kind = 'stems'); use `sepdash separate`" in message
    assert "Traceback" not in message


def test_a_folder_of_recordings_becomes_a_manifest(checkpoint, tones, tmp_path, capsys):
    out = tmp_path / "texts.jsonl"
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    for number in (1, 3):
        sound = (tones / f"valid-{number}.wav").read_bytes()
        (tmp_path / "audio" / "deep" / f"{number}.wav").write_bytes(sound)
    arguments = [str(checkpoint), str(tmp_path / "audio"), "--device", "cpu", "--out", str(out)]
    assert transcribe.main(arguments) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == ["audio/deep/1.wav", "audio/deep/3.wav"]
    paths = [tones / f"valid-{number}.wav" for number in (1, 3)]
    transcriber = load_transcriber(checkpoint, CPU)
    assert [row["text"] for row in rows] == [text for text, _ in texts(transcriber, paths)]
    assert f"wrote {out}: 2 transcriptions" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_transcribed(checkpoint, tones, tmp_path, capsys, monkeypatch):
    out, shown = tmp_path / "texts.jsonl", []

    def interrupt(item, text):
        shown.append(text)
        if len(shown) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(transcribe, "_show", interrupt)
    arguments = [str(checkpoint), str(tones), "--device", "cpu", "--out", str(out)]
    assert transcribe.main(arguments) == 130
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == shown
    assert "3 transcriptions" in (said := capsys.readouterr().err)
    assert said.endswith("13 recordings were not reached\n")


def test_a_long_recording_is_cut_transcribed_and_trained_on(checkpoint, tones, tmp_path):
    rng = np.random.default_rng(0)
    parts = [1e-4 * rng.standard_normal(4_000)]
    for path in sorted(tones.glob("train-*.wav")):
        parts += [soundfile.read(path)[0], 1e-4 * rng.standard_normal(4_000)]
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "talks" / "long.wav", np.concatenate(parts), 8_000)

    (cut,) = cut_recordings(
        [probe(tmp_path / "talks" / "long.wav")], tmp_path / "anna", min_s=0.2, max_s=2, pause_s=0.3
    )
    assert cut.num_pieces >= 6
    assert cut.lost == ()
    texts_file = tmp_path / "anna" / "texts.jsonl"
    folder = str(tmp_path / "anna" / "wavs")
    assert (
        transcribe.main([str(checkpoint), folder, "--device", "cpu", "--out", str(texts_file)]) == 0
    )

    data = load_transcriber(checkpoint, CPU).data
    corpus = survey_corpus(
        [texts_file],
        data,
        limits=Limits(0.2, 3, max_chars=200),
        drawing=Drawing(0.2),
        speaker="anna",
    )
    used = [*corpus.train, *corpus.valid]
    heard = [json.loads(line)["text"] for line in texts_file.read_text().splitlines()]
    assert sorted(clip.text for clip in used) == sorted(text for text in heard if text)
    assert len(used) >= 5
    write_corpus(corpus, tmp_path / "out", data=data, about={})
    check_speech(
        data.model_copy(
            update={"train": tmp_path / "out/train.jsonl", "valid": tmp_path / "out/valid.jsonl"}
        )
    )
