"""Finished runs of several objectives, with the settings of shipped presets: what can't share an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.config.loading import load_config
from presets.catalogue import Catalogue
from presets.merging import merge

UPDATES = 2000
# Entropy of the labels of a HuBERT run, in nats.
ENTROPY = 4.2


def config_of(preset: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of a preset, with others in some sections."""
    return load_config(merge(Catalogue().read(preset), changes)).to_dict()


def add_hubert(lab, name: str, *, level: float = 1.0, seed: int = 0, **loss: Any) -> int:
    """Add a run of masked prediction whose loss falls to `level` nats."""
    run = _add(lab, name, "ssl/hubert-small", metric="val_loss", seed=seed, best=level, loss=loss)
    steps = np.arange(10, UPDATES + 1, 10)
    noise = np.random.default_rng(run).normal(0, 0.1, len(steps))
    fall = level + (4.6 - level) * np.exp(-steps / 500) + noise
    flat = np.ones(len(steps))
    evaluated = {
        f"val_{n}": v[19::20]
        for n, v in (("loss", fall), ("masked_loss", fall), ("label_entropy", ENTROPY * flat))
    }
    lab.points(run, steps[19::20], **{name: (values, "nats") for name, values in evaluated.items()})
    lab.points(
        run, steps, loss=(fall, "nats"), masked_loss=(fall, "nats"), unmasked_loss=(fall + 0.4, "nats"),
        label_entropy=(ENTROPY * flat, "nats"), clusters_used=(98 * flat, ""), mask_run=(3.4 * flat, "frames"),
        masked_accuracy=(0.4 * flat, ""), masked_share=(0.35 * flat, ""), unmasked_accuracy=(0.3 * flat, ""),
        penalty=(0.01 * flat, ""), audio_s_per_s=(80 * flat, "s/s"),
    )  # fmt: skip
    return run


def add_wav2vec2(lab, name: str) -> int:
    """Add a run of contrastive learning."""
    run = _add(lab, name, "ssl/wav2vec2-small", metric="val_loss", best=3.4)
    steps = np.arange(10, UPDATES + 1, 10)
    fall = 3.4 + 1.2 * np.exp(-steps / 400)
    lab.points(run, steps[19::20], val_loss=(fall[19::20], "nats"))
    lab.points(
        run, steps, loss=(fall, "nats"), contrastive_loss=(fall, "nats"), code_perplexity=(20 + fall, ""),
        audio_s_per_s=(90 + fall, "s/s"),
    )  # fmt: skip
    return run


def add_codec(lab, name: str) -> int:
    """Add a run of a codec whose round trip is judged."""
    judge = {"judge": "ears"}
    run = _add(lab, name, "codec/small", metric="judged_cer", best=0.02, validation=judge)
    steps = np.arange(10, UPDATES + 1, 10)
    fall = 0.02 + 0.9 * np.exp(-steps / 400)
    flat = np.full(len(steps), 0.008)
    evaluated = {
        "judged_cer": (fall, ""), "judged_cer_bound": (flat, ""), "mel_distance": (10 * fall, "dB"),
    }  # fmt: skip
    lab.points(run, steps[19::20], **{n: (v[19::20], unit) for n, (v, unit) in evaluated.items()})
    lab.points(run, steps, loss=(fall, ""), audio_s_per_s=(90 + fall, "s/s"))
    return run


def add_voice(lab, name: str, *, seed: int = 0, text_level: float = 3.0, **loss: Any) -> int:
    """Add a run of a voice that was evaluated on training items, too; its text loss is above its mel loss."""
    run = _add(lab, name, "voice/small", metric="val_mel_loss", seed=seed, best=2.4, loss=loss)
    steps = np.arange(10, UPDATES + 1, 10)
    noise = np.random.default_rng(run).normal(0, 0.05, len(steps))
    mel = 2.1 + 3.5 * np.exp(-steps / 400) + noise
    text = text_level + 0.6 * np.exp(-steps / 700) + noise
    entropy = np.full(len(steps), 5.6)
    weight = loss.get("text_loss_weight", 0.1)
    curves = {"mel_loss": mel, "text_loss": text, "loss": mel + weight * text}
    evaluated = {f"val_{curve}": values + 0.2 for curve, values in curves.items()}
    evaluated |= {f"{curve}_train": values - 0.1 for curve, values in evaluated.items()}
    evaluated["val_mel_accuracy"] = 0.3 + 0 * mel
    lab.points(run, steps[19::20], **{n: (v[19::20], "nats") for n, v in evaluated.items()})
    lab.points(
        run, steps, **{curve: (values, "nats") for curve, values in curves.items()},
        code_entropy=(entropy, "nats"), mel_accuracy=(0.3 + 0 * mel, ""), text_accuracy=(0.2 + 0 * mel, ""),
        audio_s_per_s=(80 + mel, "s/s"),
    )  # fmt: skip
    return run


def add_separation(lab, name: str) -> int:
    """Add a run of a separator, whose loss is a negated SI-SDR."""
    run = _add(lab, name, "denoise/small", metric="si_sdr")
    steps = np.arange(10, UPDATES + 1, 10)
    rise = 12 - 9 * np.exp(-steps / 600)
    lab.points(run, steps[19::20], si_sdr=(rise[19::20], "dB"))
    lab.points(run, steps, loss=(-rise, "dB"), audio_s_per_s=(200 + rise, "s/s"))
    return run


def _add(
    lab, name: str, preset: str, *, metric: str, seed: int = 0, best: float = 12.0, **changes: Any
) -> int:
    config = config_of(preset, seed=seed, **changes)
    inputs = 6.02 if metric == "si_sdr" else None
    return lab.run(
        name, "finished", updates=UPDATES, total=UPDATES, preset=preset, metric=metric, seed=seed,
        config=config, best=best, best_ema=None, input_score=inputs, plain=True,
    )  # fmt: skip
