"""From encodings to tokens: greedy search for a batch, beam search for one utterance.

A transducer emits any number of tokens at a frame and moves to the next one by a blank. Both
searches limit the tokens per frame and per utterance, so that an untrained model can't make them
run without end. Letters: B batch, T encoder frames, K frames looked at at once, U tokens, D channels, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import torch
from torch import Tensor

from engine.recipes.speech.hypothesis import Hypothesis
from engine.recipes.transducer.rnnt_loss import rnnt_losses
from models.speech import BLANK
from models.transducer import State, Transducer

# Frames whose joint output is computed at once while looking for the next token.
_LOOK = 16
# More tokens than in any real speech: at one frame, and in total.
_MOST_PER_FRAME = 5
_MOST_PER_S = 30
_MOST_AT_ALL = 10


def most_tokens(duration_s: float) -> int:
    """Return an upper bound of the tokens in speech of that length, even for character tokens."""
    return _MOST_AT_ALL + ceil(_MOST_PER_S * duration_s)


@torch.no_grad()
def greedy(
    model: Transducer, enc_BTD: Tensor, *, lengths: Sequence[int], most: Sequence[int]
) -> list[list[int]]:
    """Return the tokens of each utterance of a batch: at each step the most probable one.

    Every utterance moves through its own frames; up to `_LOOK` of them are looked at at once, since
    between two tokens nothing changes but the frame.

    Args:
        model: the transducer.
        enc_BTD: encodings.
        lengths: B numbers of valid frames.
        most: B maximum numbers of tokens.
    """
    decoder = GreedyDecoder(model, most, device=enc_BTD.device)
    decoder.hear(enc_BTD, lengths)
    return decoder.tokens


class GreedyDecoder:
    """A greedy search that continues as more audio of its utterances arrives.

    Attributes:
        tokens: the tokens so far, for each utterance.
    """

    def __init__(self, model: Transducer, most: Sequence[int], *, device: torch.device) -> None:
        self._model = model
        self._most = most
        self.tokens: list[list[int]] = [[] for _ in most]
        start_B1 = torch.full((len(most), 1), BLANK, device=device)
        self._pred_BUD, self._state = model.predict(start_B1)
        self._here_B = torch.zeros_like(start_B1[:, 0])

    @torch.no_grad()
    def hear(self, enc_BTD: Tensor, lengths: Sequence[int]) -> None:
        """Process the next encodings of every utterance and append their tokens."""
        self._enc_BTD = enc_BTD
        self._lengths_B = torch.tensor(list(lengths), device=enc_BTD.device)
        said_enough = [len(t) >= most for t, most in zip(self.tokens, self._most, strict=True)]
        self._frame_B = self._lengths_B * torch.tensor(said_enough, device=enc_BTD.device)
        while bool((self._frame_B < self._lengths_B).any()):
            self._advance()
        self._here_B = torch.zeros_like(self._here_B)

    def _advance(self) -> None:
        """Find the next token of every utterance, or move ahead if there is none."""
        ahead_K = torch.arange(_LOOK, device=self._frame_B.device)
        at_BK = self._frame_B[:, None] + ahead_K
        rows_B1 = torch.arange(len(at_BK), device=at_BK.device)[:, None]
        enc_BKD = self._enc_BTD[rows_B1, at_BK.clamp(max=self._enc_BTD.shape[1] - 1)]
        best_BK = self._model.join(enc_BKD, self._pred_BUD)[:, :, 0].argmax(dim=-1)
        spoken_BK = (best_BK != BLANK) & (at_BK < self._lengths_B[:, None])
        # A frame that reached its maximum of tokens is left without another one.
        spoken_BK[:, 0] &= self._here_B < _MOST_PER_FRAME
        found_B, first_B = spoken_BK.any(dim=1), spoken_BK.byte().argmax(dim=1)
        token_B = torch.where(found_B, best_BK.gather(1, first_B[:, None])[:, 0], BLANK)
        moved_B = torch.where(found_B, first_B, _LOOK)
        self._here_B = torch.where(moved_B > 0, 0, self._here_B) + found_B.long()
        self._frame_B = self._frame_B + moved_B
        self._take(found_B, token_B)

    def _take(self, found_B: Tensor, token_B: Tensor) -> None:
        """Append the new tokens and advance the predictor by them."""
        if not bool(found_B.any()):
            return
        for row, (is_new, token) in enumerate(zip(found_B.tolist(), token_B.tolist(), strict=True)):
            if is_new:
                self.tokens[row].append(token)
                if len(self.tokens[row]) >= self._most[row]:
                    self._frame_B[row] = self._lengths_B[row]
        pred_BUD, state = self._model.predict(token_B[:, None], self._state)
        keep_B1 = found_B[:, None]
        self._pred_BUD = torch.where(keep_B1[:, None], pred_BUD, self._pred_BUD)
        self._state = [
            [torch.where(keep_B1, new, old) for new, old in zip(*layers, strict=True)]
            for layers in zip(state, self._state, strict=True)
        ]


@dataclass(slots=True)
class _Path:
    """A beam's entry: tokens, log probability of the alignments that were followed, predictor."""

    tokens: tuple[int, ...]
    score: float
    pred_1UD: Tensor
    state: State


@torch.no_grad()
def beam_search(model: Transducer, enc_TD: Tensor, *, beam: int, most: int) -> list[Hypothesis]:
    """Return up to `beam` hypotheses for one utterance, the most probable first.

    Frame by frame (Graves, 2012): each path emits some tokens and then a blank; paths with equal
    tokens are summed; the best `beam` continue. At the end every survivor, and the greedy result, is
    scored over all alignments, so the result is never less probable than that of greedy search.

    Args:
        model: the transducer.
        enc_TD: encodings of the utterance, none of padding.
        beam: number of paths to keep, at least 1.
        most: maximum number of tokens.
    """
    paths = [_start(model, enc_TD.device)]
    for frame_D in enc_TD:
        paths = _step(model, frame_D, paths, beam, most)
    candidates = [list(path.tokens) for path in paths]
    (by_greed,) = greedy(model, enc_TD[None], lengths=[len(enc_TD)], most=[most])
    if by_greed not in candidates:
        candidates.append(by_greed)
    scored = [Hypothesis(tokens, log_likelihood(model, enc_TD, tokens)) for tokens in candidates]
    return sorted(scored, key=lambda item: -item.log_likelihood)[:beam]


@torch.no_grad()
def log_likelihood(model: Transducer, enc_TD: Tensor, tokens: Sequence[int]) -> float:
    """Return log P(tokens | audio), summed over all alignments."""
    tokens_1U = torch.tensor([list(tokens)], dtype=torch.int64, device=enc_TD.device)
    pred_1UD, _ = model.predict(torch.nn.functional.pad(tokens_1U, (1, 0), value=BLANK))
    logits = model.join(enc_TD[None], pred_1UD)
    return -float(rnnt_losses(logits, tokens_1U, [len(enc_TD)], [len(tokens)])[0])


def _start(model: Transducer, device: torch.device) -> _Path:
    pred_1UD, state = model.predict(torch.full((1, 1), BLANK, device=device))
    return _Path((), 0.0, pred_1UD=pred_1UD, state=state)


def _step(
    model: Transducer, frame_D: Tensor, paths: list[_Path], beam: int, most: int
) -> list[_Path]:
    """Return the best paths that have left this frame."""
    ended: dict[tuple[int, ...], _Path] = {}
    for _ in range(_MOST_PER_FRAME + 1):
        log_PV = _log_probabilities(model, frame_D, paths=paths)
        for path, blank in zip(paths, log_PV[:, BLANK].tolist(), strict=True):
            _merge(ended, path, score=path.score + blank)
        # Scores only decrease, so a path below the worst kept one can be dropped.
        kept = sorted((path.score for path in ended.values()), reverse=True)[:beam]
        floor = kept[-1] if len(kept) == beam else -inf
        paths = _extended(
            model, paths, scores_PV=_scores(paths, log_PV, most=most), beam=beam, floor=floor
        )
        if not paths:
            break
    return sorted(ended.values(), key=lambda path: -path.score)[:beam]


def _scores(paths: Sequence[_Path], log_PV: Tensor, *, most: int) -> Tensor:
    """Return (P, V) float64: the score of each path with one more token, -inf where there is none."""
    scores_PV = log_PV + torch.tensor([[path.score] for path in paths], dtype=torch.float64)
    scores_PV[:, BLANK] = -inf
    scores_PV[[len(path.tokens) >= most for path in paths]] = -inf
    return scores_PV


def _extended(
    model: Transducer, paths: list[_Path], *, scores_PV: Tensor, beam: int, floor: float
) -> list[_Path]:
    """Return the best `beam` paths with one more token, of those above `floor`."""
    values, places = scores_PV.flatten().topk(min(beam, scores_PV.numel()))
    chosen = [
        (value, *divmod(place, scores_PV.shape[1]))
        for value, place in zip(values.tolist(), places.tolist(), strict=True)
        if value > floor
    ]
    if not chosen:
        return []
    from_paths = [paths[row] for _, row, _ in chosen]
    state = [
        [torch.cat(parts) for parts in zip(*layers, strict=True)]
        for layers in zip(*(path.state for path in from_paths), strict=True)
    ]
    device = paths[0].pred_1UD.device
    tokens_P1 = torch.tensor([[token] for _, _, token in chosen], device=device)
    pred_PUD, state = model.predict(tokens_P1, state)
    return [
        _Path(
            (*path.tokens, token),
            value,
            pred_1UD=pred_PUD[row : row + 1],
            state=[[part[row : row + 1] for part in layer] for layer in state],
        )
        for row, (path, (value, _, token)) in enumerate(zip(from_paths, chosen, strict=True))
    ]


def _log_probabilities(model: Transducer, frame_D: Tensor, *, paths: Sequence[_Path]) -> Tensor:
    """Return (P, V) float64 on the CPU: log probabilities of the next token of each path."""
    pred_PUD = torch.cat([path.pred_1UD for path in paths])
    logits_PV = model.join(frame_D.expand(len(paths), 1, -1), pred_PUD)[:, 0, 0]
    return logits_PV.double().log_softmax(dim=-1).cpu()


def _merge(ended: dict[tuple[int, ...], _Path], path: _Path, *, score: float) -> None:
    """Add a path that leaves the frame; alignments of equal tokens are added up."""
    there = ended.get(path.tokens)
    if there is not None:
        score = float(np.logaddexp(there.score, score))
    ended[path.tokens] = _Path(path.tokens, score, pred_1UD=path.pred_1UD, state=path.state)
