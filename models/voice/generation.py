"""Speech from text, code by code: sampling, and when it ends. Tensors in, tensors out.

Every candidate has numbers of its own to draw by, so that it is the same alone and in any batch, and on any
device as far as its logits are. Letters: B candidates, U tokens, N codes, C reference vectors, D channels,
K codes with START and STOP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.voice.network import VoiceModel

Ending = Literal["stop", "limit", "stuck"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How codes are drawn.

    Attributes:
        temperature: divides the logits; 0: the likeliest code is always taken.
        top_k: only so many of the likeliest codes can be drawn; 0: all.
        top_p: only the likeliest codes that together have this probability can be drawn.
        repetition_penalty: divides positive logits of codes that were drawn before, and multiplies negative
            ones; 1: none.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.9
    repetition_penalty: float = 1.3


@dataclass(frozen=True, slots=True)
class Limits:
    """When a candidate ends that does not stop.

    Attributes:
        most: codes of each candidate, at most `max_codes - 2` of the model.
        stuck: it ends after so many equal codes in a row; 0: never.
    """

    most: Sequence[int]
    stuck: int = 0


@dataclass(frozen=True, slots=True)
class Spoken:
    """One candidate.

    Attributes:
        codes_N: int64, on the CPU, without START and STOP.
        ending: at STOP, at the limit, or where one code was repeated.
        log_prob: mean log-probability of its codes, and of STOP, by the model as it is (temperature 1), nats.
    """

    codes_N: Tensor
    ending: Ending
    log_prob: float


def code_limit(characters: int, *, codes_per_character: float, room: int) -> int:
    """Return how many codes a text may take: half more than texts of its length do in training, and ten."""
    return min(room, round(1.5 * codes_per_character * characters) + 10)


@torch.no_grad()
def generate(
    model: VoiceModel,
    texts: Sequence[Sequence[int]],
    *,
    vectors_BCD: Tensor,
    seeds: Sequence[int],
    limits: Limits,
    sampling: Sampling | None = None,
) -> list[Spoken]:
    """Speak B texts at once.

    Args:
        model: in evaluation mode.
        texts: tokens of each, without START and STOP.
        vectors_BCD: reference vectors of each.
        seeds: what each draws by.
        limits: when each ends at the latest.
        sampling: how codes are drawn.

    Raises:
        ValueError: for a text that the model has no room for.
    """
    _require_room(model, texts)
    device = vectors_BCD.device
    room = max(limits.most)
    text_BU, lengths = _padded(texts, device), [len(text) for text in texts]
    cache = model.read(vectors_BCD, text_BU, lengths=lengths, room=room + 1)
    draws = _Draws(sampling or Sampling(), seeds, room=room + 1, device=device)
    talk = _Talk(len(texts), limits, stop=model.code_stop)
    code_B = torch.full((len(texts),), model.code_start, device=device)
    drawn_BK: Tensor | None = None
    for place in range(room + 1):
        logits_BK = model.next_logits(cache, code_B, place=place)
        logits_BK[:, model.code_start] = -torch.inf
        drawn_BK = torch.zeros_like(logits_BK, dtype=torch.bool) if drawn_BK is None else drawn_BK
        code_B = draws.next(logits_BK, drawn_BK=drawn_BK, place=place)
        drawn_BK.scatter_(1, code_B[:, None], value=True)
        if talk.take(code_B, logits_BK):
            break
    return talk.result()


class _Draws:
    """Draws codes by numbers that were drawn beforehand, one for each candidate and place."""

    def __init__(
        self, sampling: Sampling, seeds: Sequence[int], *, room: int, device: torch.device
    ) -> None:
        self._sampling = sampling
        numbers = [np.random.Generator(np.random.Philox(key=seed)).random(room) for seed in seeds]
        self._number_BN = torch.from_numpy(np.stack(numbers)).to(device)

    def next(self, logits_BK: Tensor, *, drawn_BK: Tensor, place: int) -> Tensor:
        """Return (B,) the code of each candidate; `drawn_BK` are those it had before."""
        how = self._sampling
        if how.repetition_penalty != 1:
            penalty = torch.where(
                logits_BK > 0,
                logits_BK / how.repetition_penalty,
                logits_BK * how.repetition_penalty,
            )
            logits_BK = torch.where(drawn_BK, penalty, logits_BK)
        if how.temperature == 0:
            return logits_BK.argmax(dim=-1)
        most = min(how.top_k or logits_BK.shape[1], logits_BK.shape[1])
        # Likeliest first: a draw is then the place of a number among the cumulated probabilities.
        ranked_BK, code_BK = logits_BK.double().sort(dim=-1, descending=True, stable=True)
        # Below the likeliest, so that a division by next to nothing leaves that one, and no NaN.
        below_BK = (ranked_BK - ranked_BK[:, :1])[:, :most]
        prob_BK = (below_BK / how.temperature).softmax(dim=-1)
        before_BK = prob_BK.cumsum(dim=-1) - prob_BK
        prob_BK = prob_BK.masked_fill(before_BK >= how.top_p, 0.0)
        prob_BK[:, 0] = prob_BK[:, 0].clamp(min=1e-300)
        edge_BK = prob_BK.cumsum(dim=-1)
        target_B1 = self._number_BN[:, place, None] * edge_BK[:, -1:]
        rank_B1 = torch.searchsorted(edge_BK, target_B1, right=True)
        kept_B1 = (prob_BK > 0).sum(dim=-1, keepdim=True)
        return code_BK.gather(1, torch.minimum(rank_B1, kept_B1 - 1))[:, 0]


class _Talk:
    """What was said so far, and who has ended."""

    def __init__(self, count: int, limits: Limits, *, stop: int) -> None:
        self._limits, self._stop = limits, stop
        self._codes: list[list[int]] = [[] for _ in range(count)]
        self._endings: list[Ending | None] = [None] * count
        self._logs: list[list[float]] = [[] for _ in range(count)]

    def take(self, code_B: Tensor, logits_BK: Tensor) -> bool:
        """Add the next code of each; return whether all have ended."""
        log_BK = logits_BK.double().log_softmax(dim=-1)
        logs = log_BK.gather(1, code_B[:, None])[:, 0].tolist()
        for row, (code, log) in enumerate(zip(code_B.tolist(), logs, strict=True)):
            if self._endings[row] is None:
                self._endings[row] = ending = self._end(row, code)
                if ending != "limit":
                    self._logs[row].append(log)
        return all(self._endings)

    def _end(self, row: int, code: int) -> Ending | None:
        if code == self._stop:
            return "stop"
        codes, stuck = self._codes[row], self._limits.stuck
        if len(codes) >= self._limits.most[row]:
            return "limit"
        codes.append(code)
        if stuck and len(codes) >= stuck and len(set(codes[-stuck:])) == 1:
            return "stuck"
        return None

    def result(self) -> list[Spoken]:
        """Return the candidates."""
        return [
            Spoken(
                torch.tensor(codes, dtype=torch.int64), ending or "limit",
                log_prob=sum(logs) / max(1, len(logs)),
            )
            for codes, ending, logs in zip(self._codes, self._endings, self._logs, strict=True)
        ]  # fmt: skip


def _require_room(model: VoiceModel, texts: Sequence[Sequence[int]]) -> None:
    longest = max(map(len, texts))
    if longest > model.max_text - 2:
        raise ValueError(
            f"a text has {longest} tokens, and the model was built for at most {model.max_text - 2} "
            "(model.max_text less START and STOP); speak it in parts"
        )


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    longest = max(map(len, texts))
    rows = [[*text, *[0] * (longest - len(text))] for text in texts]
    return torch.tensor(rows, dtype=torch.int64, device=device).view(len(texts), longest)
