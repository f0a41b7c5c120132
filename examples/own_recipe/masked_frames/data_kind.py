"""How the data is checked, sized and read. No torch here: the dataset is named, not imported."""

from __future__ import annotations

from engine.data.kinds import audio_kind

# The checks of all files before a run is queued, and `sepdash data check`, are those of audio folders.
KIND = audio_kind("masked_frames.dataset:FramesDataset")
