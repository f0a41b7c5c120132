"""Claims about the transducer's loss: right, the same in slices, and smaller in memory."""

import math
from dataclasses import replace

import pytest
import torch

from engine.recipes.transducer.rnnt_loss import (
    Lattices,
    cut,
    reference_losses,
    rnnt_losses,
    transducer_loss,
)
from models.speech_configs import ConformerRnntConfig
from models.transducer import build_transducer

TINY = ConformerRnntConfig(
    layers=1, dim=8, heads=2, ffn=8, kernel=3, encoding_dim=8, embedding=4, lstm_hidden=5,
    lstm_layers=1, dropout=0.0, lstm_dropout=0.0,
)  # fmt: skip
ENC_LENGTHS = [5, 2, 7, 1, 4]
TOKEN_LENGTHS = [3, 0, 2, 4, 1]


def tiny(dtype=torch.float32):
    torch.manual_seed(0)
    return build_transducer(TINY, num_mels=5, num_tokens=9).to(dtype)


def lattices(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    enc = torch.randn(5, 7, 8, generator=generator, dtype=dtype).requires_grad_()
    pred = torch.randn(5, 5, 8, generator=generator, dtype=dtype).requires_grad_()
    tokens = torch.randint(1, 9, (5, 4), generator=generator)
    return Lattices(
        enc, pred, tokens_BU=tokens, enc_lengths=ENC_LENGTHS, token_lengths=TOKEN_LENGTHS
    )


def test_two_frames_and_one_token_by_hand():
    # Two ways: token at the first frame, or at the second; each ends with a blank of the last frame.
    probability = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.125, 0.875], [0.2, 0.8]]])
    by_hand = 0.5 * 0.25 * 0.2 + 0.5 * 0.875 * 0.2
    logits = probability.log()[None].double()
    for losses in (rnnt_losses, reference_losses):
        for some in (logits, logits.float()):
            (loss,) = losses(some, torch.tensor([[1]]), [2], [1])
            assert float(loss) == pytest.approx(-math.log(by_hand), rel=1e-6)


def test_no_text_is_a_row_of_blanks():
    logits = torch.randn(1, 3, 1, 4)
    (loss,) = rnnt_losses(logits, torch.zeros(1, 0, dtype=torch.int64), [3], [0])
    torch.testing.assert_close(loss, -logits.log_softmax(-1)[0, :, 0, 0].sum())


def test_torchaudio_and_the_plain_recursion_agree_with_gradients():
    torch.manual_seed(0)
    tokens = torch.randint(1, 9, (5, 4))
    fast = torch.randn(5, 7, 5, 9, requires_grad=True)
    slow = fast.detach().double().requires_grad_()
    ours = rnnt_losses(fast, tokens, ENC_LENGTHS, TOKEN_LENGTHS)
    theirs = rnnt_losses(slow, tokens, ENC_LENGTHS, TOKEN_LENGTHS)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)
    ours.sum().backward()
    theirs.sum().backward()
    torch.testing.assert_close(fast.grad.double(), slow.grad, rtol=1e-4, atol=1e-6)


def gradients(dtype, slices, *, scale=1.0):
    model, batch = tiny(dtype), lattices(dtype)
    loss = transducer_loss(model, batch, slices=slices)
    (loss * scale).backward()
    tensors = [batch.enc_BTD, batch.pred_BUD, *model.joiner.parameters()]
    return loss.detach(), [tensor.grad for tensor in tensors]


@pytest.mark.parametrize("slices", [2, 3, 4, 5, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_slices_change_no_gradient(dtype, tolerance, slices):
    loss, grads = gradients(dtype, 1)
    sliced_loss, sliced_grads = gradients(dtype, slices)
    torch.testing.assert_close(sliced_loss, loss, rtol=tolerance, atol=tolerance)
    for grad, sliced in zip(grads, sliced_grads, strict=True):
        torch.testing.assert_close(sliced, grad, rtol=tolerance, atol=tolerance)


def test_slices_heed_what_the_loss_is_multiplied_by():
    _, grads = gradients(torch.float64, 1, scale=8.0)
    _, sliced = gradients(torch.float64, 3, scale=8.0)
    for grad, other in zip(grads, sliced, strict=True):
        torch.testing.assert_close(other, grad, rtol=1e-8, atol=1e-8)


def test_encoder_and_predictor_get_the_same_gradients_through_slices():
    feat, lengths = torch.randn(5, 28, 5, dtype=torch.float64), torch.tensor([20, 8, 28, 3, 15])
    tokens = torch.randint(1, 9, (5, 4))
    found = []
    for slices in (1, 3):
        model = tiny(torch.float64)
        enc, enc_lengths, pred = model(feat, lengths, tokens)
        batch = Lattices(
            enc,
            pred,
            tokens_BU=tokens,
            enc_lengths=enc_lengths.tolist(),
            token_lengths=TOKEN_LENGTHS,
        )
        transducer_loss(model, batch, slices=slices).backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_slices_work_in_half_precision(dtype):
    found = []
    for slices in (1, 3):
        model, batch = tiny(), lattices()
        with torch.autocast("cpu", dtype):
            loss = transducer_loss(model, batch, slices=slices)
        assert loss.dtype == torch.float32
        loss.backward()
        found.append([batch.enc_BTD.grad, model.joiner.linear.weight.grad])
    for grad, sliced in zip(*found, strict=True):
        torch.testing.assert_close(sliced, grad, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_fp16_slices_neither_lose_small_gradients_nor_overflow(size):
    # Weights of the joint network whose gradients, in float16, would be 0 or infinite.
    found = []
    for dtype, slices in ((None, 1), (torch.float16, 3)):
        model, batch = tiny(), lattices()
        scaled = replace(batch, enc_BTD=batch.enc_BTD * size, pred_BUD=batch.pred_BUD * size)
        with torch.no_grad():
            model.joiner.linear.weight /= size
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            transducer_loss(model, scaled, slices=slices).backward()
        found.append(model.joiner.linear.weight.grad)
    assert (found[1] != 0).all()
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5 * size)


def joint_sizes(slices):
    """Return the number of values in each tensor that the joint network puts out."""
    model, sizes = tiny(), []
    model.joiner.register_forward_hook(
        lambda module, inputs, output: sizes.append(output[0].numel())
    )
    enc, pred = torch.randn(12, 10, 8), torch.randn(12, 5, 8)
    batch = Lattices(
        enc.requires_grad_(), pred.requires_grad_(), tokens_BU=torch.ones(12, 4, dtype=torch.int64),
        enc_lengths=[10] * 12, token_lengths=[4] * 12,
    )  # fmt: skip
    transducer_loss(model, batch, slices=slices).backward()
    return sizes


def test_the_largest_tensor_falls_as_one_over_the_number_of_slices():
    (whole,) = joint_sizes(1)
    assert whole == 12 * 10 * 5 * 9
    for slices in (2, 3, 4, 6, 12):
        sizes = joint_sizes(slices)
        assert len(sizes) == slices
        assert max(sizes) == whole // slices


def test_without_gradients_slices_are_the_plain_loss():
    model, batch = tiny(), lattices()
    with torch.no_grad():
        sliced = transducer_loss(model, batch, slices=3)
    assert not sliced.requires_grad
    torch.testing.assert_close(sliced, transducer_loss(model, batch).detach())


def test_the_longest_are_cut_together_and_slices_may_be_ragged():
    assert cut([4, 9, 1, 9, 2], 2) == [[1, 3, 0], [4, 2]]
    assert cut([3, 1], 8) == [[0], [1]]
    assert cut([1, 2, 3], 1) == [[2, 1, 0]]
