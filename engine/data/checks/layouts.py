"""Folder layouts of well-known datasets, recognised by the names of their folders. Free of torch.

MUSDB18-HQ        {train,test}/<track>/{mixture,vocals,drums,bass,other}.wav
Libri2Mix         wav{8k,16k}/{min,max}/{train-360,train-100,dev,test}/{mix_clean,s1,s2,...}/<id>.wav
VoiceBank-DEMAND  {clean,noisy}_{trainset_28spk,trainset_56spk,testset}_wav/<id>.wav
VCTK              wav48_silence_trimmed/<speaker>/<id>_mic{1,2}.flac, or wav48/<speaker>/<id>.wav
LJSpeech          metadata.csv (id|text|normalised text) beside wavs/<id>.wav
LibriSpeech       {train-clean-100,dev-clean,...}/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from engine.config.overrides import set_options
from engine.data.separation.tracks import Layout
from engine.data.speech.transcripts import TRANSCRIPT
from models.folders import Walk


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A dataset that was recognised.

    Attributes:
        name: its usual name.
        folders: those with its tracks or files.
        layout: layout of the tracks in them; None for plain files.
        stems: the stems of every track.
        use: the command that queues a run on it, or a hint.
        has_text: whether its files are utterances with transcripts.
    """

    name: str
    folders: tuple[Path, ...]
    layout: Layout | None
    stems: tuple[str, ...]
    use: str
    has_text: bool = False


def recognise(root: Path, found: Walk) -> KnownDataset | None:
    """Return the dataset whose top folder this is, or None if it is unknown; `found` is in the folder."""
    for look in (_musdb, _libri2mix, _voicebank, _vctk, _ljspeech, _librispeech):
        if dataset := look(root, found):
            return dataset
    return None


def _musdb(root: Path, found: Walk) -> KnownDataset | None:
    stems = ("mixture", "vocals", "drums", "bass", "other")
    folders = tuple(root / split for split in ("train", "test"))
    tops = {path.parent.parent for path in found.named("mixture.wav".__eq__)}
    if not tops.issuperset(folders):
        return None
    if folders[0] not in {path.parent.parent for path in found.named("drums.wav".__eq__)}:
        return None
    use = f"sepdash enqueue stems/musdb18hq {_sets(*folders)}"
    return KnownDataset("MUSDB18-HQ", folders, layout="tracks", stems=stems, use=use)


def _libri2mix(root: Path, found: Walk) -> KnownDataset | None:
    rates = (root / "wav8k", root / "wav16k")
    tops = [*(path for rate in rates for path in found.folders if path.parent == rate), root]
    for top in tops:
        trains = [top / name for name in ("train-360", "train-100")]
        folders = tuple(
            folder for folder in (*trains, top / "dev", top / "test") if (folder / "s2").is_dir()
        )
        if len(folders) > 1 and all((folder / "mix_clean").is_dir() for folder in folders):
            rate = "16000" if top.parent.name == "wav16k" else "8000"
            use = f"sepdash enqueue speakers/libri2mix {_sets(folders[0], top / 'dev')} --set data.rate_hz={rate}"
            return KnownDataset(
                "Libri2Mix", folders, layout="libri2mix", stems=("mix_clean", "s1", "s2"), use=use
            )
    return None


def _voicebank(root: Path, found: Walk) -> KnownDataset | None:
    names = ("clean_trainset_28spk_wav", "clean_trainset_56spk_wav", "clean_testset_wav")
    folders = tuple(root / name for name in names if (root / name).is_dir())
    if len(folders) < 2 or not (root / "noisy_testset_wav").is_dir():
        return None
    use = f"sepdash enqueue denoise/voicebank-demand {_sets(folders[0], folders[-1])}"
    return KnownDataset(
        "VoiceBank-DEMAND", folders, layout="voicebank_demand", stems=("clean", "noisy"), use=use
    )


def _vctk(root: Path, found: Walk) -> KnownDataset | None:
    for name in ("wav48_silence_trimmed", "wav48"):
        folder = root / name
        files = found.named(lambda file: fnmatchcase(file, "p*_*.*"))
        if any(path.parent.parent == folder and path.parent.name[0] == "p" for path in files):
            use = (
                "VCTK has no test set: move the folders of some speakers to another place for validation, then "
                f"sepdash enqueue bandwidth/audio-unet {_sets(folder, Path('ELSEWHERE'))}"
            )
            return KnownDataset("VCTK", (folder,), layout=None, stems=(), use=use)
    return None


def _ljspeech(root: Path, found: Walk) -> KnownDataset | None:
    if not ((root / "metadata.csv").is_file() and (root / "wavs").is_dir()):
        return None
    use = f"sepdash data voice {root}"
    return KnownDataset("LJSpeech layout", (root / "wavs",), layout=None, stems=(), use=use)


def _librispeech(root: Path, found: Walk) -> KnownDataset | None:
    texts = found.named(lambda name: name.endswith(TRANSCRIPT))
    if not any(len(path.parts) - len(root.parts) in (3, 4) for path in texts):
        return None
    splits = {path.name: path for path in found.own_folders}
    trains = [path for name, path in splits.items() if name.startswith("train-")]
    valids = [path for name, path in splits.items() if name.startswith("dev-")]
    sets = _sets(*(trains or [root])[:1], *(valids or [Path("ELSEWHERE")])[:1])
    use = f"sepdash enqueue transducer/librispeech-published {sets}"
    return KnownDataset("LibriSpeech", (root,), layout=None, stems=(), use=use, has_text=True)


def _sets(train: Path, valid: Path) -> str:
    return set_options([f"data.train={train}", f"data.valid={valid}"])
