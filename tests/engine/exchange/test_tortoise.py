"""Claims about TorToiSe's files: the checkpoint computes what their networks do, and odd files are refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.checkpoints.files import MODEL, read_manifest
from engine.checkpoints.find import config_of
from engine.exchange.tortoise import voice_settings
from engine.exchange.tortoise_names import codec_names, voice_names
from engine.programs import exchange
from engine.recipes.codec.trained_codec import load_codec
from engine.recipes.voice.speaking import load_voice
from models.codec.mel_codec import MelCodec
from models.codec.settings import MelCodecConfig
from models.voice.network import Sequences, VoiceModel
from models.voice.settings import VoiceConfig
from tests.engine.exchange import tortoise_layout as layout
from tests.engine.exchange.conftest import BASE
from tests.engine.exchange.tortoise_layout import SMALL, Sizes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layout.write_files(tmp_path_factory.mktemp("tortoise"))


def arguments(files: Path, out: Path, **other: Path) -> list[str]:
    named = {
        "dvae": files / "dvae.pth", "tokenizer": files / "tokenizer.json", "mel-norms": files / "mel_norms.pth",
    } | {name.replace("_", "-"): path for name, path in other.items()}  # fmt: skip
    weights = named.pop("weights", files / "autoregressive.pth")
    options = [f"--{name}={path}" for name, path in named.items()]
    return ["import", str(weights), f"--out={out}", f"--heads={SMALL.heads}", *options]


@pytest.fixture(scope="module")
def imported(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "tortoise"
    assert exchange.main(arguments(files, out)) == 0
    return out


def load(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def test_the_model_is_the_published_one_to_1e_5(files: Path, imported: Path) -> None:
    tensors = load(files / "autoregressive.pth")
    manifest = read_manifest(imported)
    network = load_voice(config_of(manifest), manifest, device=CPU).network
    generator = torch.Generator().manual_seed(0)
    wave_BT = 0.1 * torch.randn(4, 22_050, generator=generator)
    norms_F = torch.load(files / "mel_norms.pth", weights_only=True)
    mel_BFL = layout.log_mel(wave_BT, norms_F)[..., : 22_050 // 256]
    conds_BD = layout.conditioning(tensors, mel_BFL, SMALL)
    theirs_BD = conds_BD.view(2, 2, -1).mean(dim=1)
    codec = load_codec(imported)
    ours_BRFL = codec.facts.transform.log_mel(wave_BT).view(2, 2, layout.BANDS, -1)
    with torch.no_grad():
        vectors_B1D = network.reference_vectors(ours_BRFL)
    torch.testing.assert_close(vectors_B1D[:, 0], theirs_BD, atol=1e-5, rtol=1e-5)

    text_BU = torch.randint(1, SMALL.text_rows - 1, (2, 9), generator=generator)
    code_BN = torch.randint(SMALL.mel_rows - 2, (2, 13), generator=generator)
    text, mel = layout.logits(tensors, theirs_BD, text_BU=text_BU, mel_BN=code_BN, size=SMALL)
    with torch.no_grad():
        ours = network(
            vectors_B1D,
            Sequences(text_BU, torch.tensor([9, 9]), code_BN, torch.tensor([13, 13])),
        )
    # The place behind the last token predicts STOP; what TorToiSe predicts behind STOP is of no use.
    torch.testing.assert_close(ours[0], text[:, :10], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[1], mel[:, :14], atol=1e-5, rtol=1e-5)
    assert min(text.std().item(), mel.std().item()) > 0.1


def test_the_codec_is_the_published_one(files: Path, imported: Path) -> None:
    tensors = load(files / "dvae.pth")
    norms_F = torch.load(files / "mel_norms.pth", weights_only=True)
    codec = load_codec(imported)
    wave_BT = 0.3 * torch.randn(2, 20_480, generator=torch.Generator().manual_seed(5))
    frames_BFL = layout.log_mel(wave_BT, norms_F)[..., :80]
    codes_BN = layout.dvae_codes(tensors, frames_BFL, SMALL)
    assert len(codes_BN.unique()) > 3
    assert torch.equal(codec.encode(wave_BT), codes_BN)
    codes_BN = torch.arange(48).view(2, 24)
    mel_BFL = layout.dvae_mel(tensors, codes_BN, SMALL) * norms_F[:, None]
    torch.testing.assert_close(codec.decode(codes_BN), mel_BFL, atol=1e-4, rtol=1e-5)
    assert codec.audio(codes_BN).shape == (2, 24 * 1_024)
    assert (codec.facts.rate_hz, codec.facts.samples_per_code) == (22_050, 1_024)


def test_a_dvae_alone_is_the_same_codec(
    files: Path, imported: Path, tmp_path: Path, capsys
) -> None:
    options = ["import", str(files / "dvae.pth"), f"--out={tmp_path / 'dvae'}"]
    assert exchange.main(options) == 2
    assert "name that file by --mel-norms" in capsys.readouterr().err
    assert exchange.main([*options, f"--mel-norms={files / 'mel_norms.pth'}"]) == 0
    hash_ = load_codec(imported).facts.hash
    assert load_codec(tmp_path / "dvae").facts.hash == hash_
    assert f"mel codec of 48 codes of 12 numbers, {len(layout.dvae_shapes(SMALL))} tensors" in (
        told := capsys.readouterr().out
    )
    assert told.count(hash_) == 1


def test_files_of_the_published_size_have_a_place_for_every_tensor() -> None:
    size = Sizes()
    with torch.device("meta"):
        voice = {name: torch.empty(shape) for name, shape in layout.voice_shapes(size).items()}
        codec = {name: torch.empty(shape) for name, shape in layout.dvae_shapes(size).items()}
        spelt = voice_names(voice)
        assert (spelt.unknown, spelt.idle) == ((), ())
        tensors = {
            here: voice[name].T if name in spelt.transposed else voice[name]
            for name, here in spelt.names.items()
        }
        settings = voice_settings(tensors, heads=None, path=Path("x"))
        assert settings == {
            "layers": 30, "dim": 1_024, "heads": 16, "max_text": 404, "max_codes": 608, "reference_layers": 6,
            "reference_vectors": "one",
        }  # fmt: skip
        # The preset needs no sizes to start from it.
        assert VoiceConfig(**settings) == VoiceConfig()
        network = VoiceModel(VoiceConfig(), mel_bands=80, num_codes=8_192, num_tokens=255)
        state = network.state_dict()
        assert {name: tensor.shape for name, tensor in tensors.items()} == {
            name: state[name].shape for name in tensors
        }
        left = state.keys() - tensors.keys()
        assert left == {"vocabulary", "reference_encoder.mean_F", "reference_encoder.std_F"}
        assert sum(p.numel() for p in network.parameters()) == sum(
            t.numel() for t in voice.values()
        )
        dvae = MelCodec(
            MelCodecConfig(
                quantiser="vq",
                codes=8_192,
                code_dim=512,
                activation="relu",
                encoder_norm="none",
                output_kernel=1,
            )
        )
        names = codec_names(codec, strides=2, blocks=3)
        assert names.unknown == ()
        assert set(names.names.values()) == dvae.state_dict().keys() - {
            "mean_F",
            "std_F",
            "quantiser.started",
        }


def test_half_precision_and_wrappers_are_unpacked(
    files: Path, imported: Path, tmp_path: Path
) -> None:
    tensors = {f"module.{name}": x.half() for name, x in load(files / "autoregressive.pth").items()}
    torch.save({"state_dict": tensors, "step": 5}, tmp_path / "wrapped.pth")
    out = tmp_path / "out"
    assert exchange.main(arguments(files, out, weights=tmp_path / "wrapped.pth")) == 0
    whole, half = (read_manifest(path).tensors(MODEL) for path in (imported, out))
    assert whole.keys() == half.keys()
    for name, tensor in half.items():
        torch.testing.assert_close(tensor, whole[name], atol=1e-3, rtol=1e-3)


class TestRefusals:
    """Each names the file and what is wrong with it, and writes nothing."""

    @pytest.fixture
    def refusal(self, files: Path, tmp_path: Path, capsys):
        def refuse(**other: Path) -> str:
            assert exchange.main(arguments(files, tmp_path / "out", **other)) == 2
            assert not (tmp_path / "out").exists()
            said = capsys.readouterr()
            assert said.out == ""
            assert said.err.startswith("sepdash: ")
            return said.err

        return refuse

    @pytest.fixture
    def changed(self, files: Path, tmp_path: Path):
        def change(name: str, **tensors: Tensor | None) -> Path:
            found = {**load(files / name), **{k.replace("__", "."): v for k, v in tensors.items()}}
            torch.save({k: v for k, v in found.items() if v is not None}, tmp_path / name)
            return tmp_path / name

        return change

    def test_every_misfit_is_in_one_message(self, refusal, changed) -> None:
        path = changed(
            "autoregressive.pth", gpt__h__1__mlp__c_fc__bias=None, mel_head__bias=torch.zeros(51),
            perceiver__weight=torch.zeros(2), gpt__h__0__attn__c_attn__weight=torch.zeros(96, 32),
        )  # fmt: skip
        assert refusal(weights=path) == (
            f"sepdash: {path} does not have the layout of TorToiSe's model; missing: gpt.h.1.mlp.c_fc.bias; "
            "unexpected: perceiver.weight; of another shape: mel_head.bias 51 (expected 50), "
            "gpt.h.0.attn.c_attn.weight 96x32 (expected 32x96)\n"
        )

    def test_a_codec_with_another_codebook_is_refused(self, refusal, changed) -> None:
        path = changed(
            "dvae.pth", codebook__embed=torch.zeros(12, 47), codebook__embed_avg=torch.zeros(12, 47),
            codebook__cluster_size=torch.zeros(47),
        )  # fmt: skip
        assert f"{path} has 47 codes, but the model in" in (said := refusal(dvae=path))
        assert "speaks 48; name the DVAE that it was trained with" in said

    def test_a_dvae_is_held_to_its_layout(self, refusal, changed) -> None:
        path = changed("dvae.pth", decoder__3__0__conv__bias=None)
        assert (
            f"{path} does not have the layout of TorToiSe's model; missing: decoder.3.0.conv.bias"
            in (refusal(dvae=path))
        )
        path = changed("dvae.pth", codebook__embed=torch.full((12, 48), torch.nan))
        assert "codebook.embed has values that are not finite" in refusal(dvae=path)
        path = changed("dvae.pth", encoder__1__0__weight=torch.zeros(32, 16, 4))
        assert "of another shape: encoder.1.0.weight 32x16x4 (expected 32x16x3)" in refusal(
            dvae=path
        )

    def test_files_that_were_mixed_up_are_told_apart(
        self, files: Path, refusal, trained, tmp_path: Path
    ) -> None:
        voice, dvae = files / "autoregressive.pth", files / "dvae.pth"
        assert f"{voice} is no DVAE of TorToiSe: it lacks codebook.embed" in refusal(dvae=voice)
        assert f"{dvae} is the DVAE; name the autoregressive model" in refusal(weights=dvae)
        assert f"{dvae} holds more than one tensor" in refusal(mel_norms=dvae)
        torch.save(torch.ones(79), tmp_path / "norms.pth")
        assert "has 79 numbers, expected one for each of 80 mel bands" in refusal(
            mel_norms=tmp_path / "norms.pth"
        )
        hubert = trained("hubert", BASE) / MODEL
        said = refusal(weights=hubert)
        assert f"{hubert} is no autoregressive model or DVAE of TorToiSe" in said

    def test_a_tokenizer_of_another_layout_is_refused(
        self, files: Path, refusal, tmp_path: Path
    ) -> None:
        path = tmp_path / "tokenizer.json"
        for content, message in (
            ("no json", "is no tokenizer of the package tokenizers"),
            ('{"model": {"type": "WordPiece", "vocab": {}}}', "is a tokenizer of type 'WordPiece', expected BPE"),
            ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "is not laid out like TorToiSe's"),
            (layout.tokenizer_json("0123"), "has 43 tokens, and the model has rows for 39"),
        ):  # fmt: skip
            path.write_text(content)
            assert f"{path} {message}" in refusal(tokenizer=path)
        path.write_bytes(b"\xff\xfe\x00")
        assert f"{path} can't be read" in refusal(tokenizer=path)

    def test_nothing_in_a_pickle_runs_and_the_caller_is_named(
        self, refusal, tmp_path: Path
    ) -> None:
        made = tmp_path / "made"

        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(made),))

        for name in ("weights", "dvae", "mel_norms"):
            path = tmp_path / f"{name}.pth"
            torch.save({"mel_head.weight": torch.zeros(2), "codebook.embed": Evil()}, path)
            said = refusal(**{name: path})
            assert (
                f"{path} holds Python objects besides tensors (posix.mkdir); it was not read"
                in said
            )
        assert not made.exists()

    def test_cut_files_are_damaged(self, files: Path, refusal, tmp_path: Path) -> None:
        for name, option in (
            ("autoregressive.pth", "weights"), ("dvae.pth", "dvae"), ("mel_norms.pth", "mel_norms"),
        ):  # fmt: skip
            content = (files / name).read_bytes()
            path = tmp_path / name
            path.write_bytes(content[: len(content) // 2])
            assert f"{path} is damaged or was not saved by torch" in refusal(**{option: path})

    def test_what_is_needed_beside_the_model_is_named(
        self, files: Path, tmp_path: Path, capsys
    ) -> None:
        weights = str(files / "autoregressive.pth")
        assert exchange.main(["import", weights, f"--out={tmp_path / 'out'}"]) == 2
        assert "add --dvae, --tokenizer, --mel-norms" in capsys.readouterr().err
        options = [one for one in arguments(files, tmp_path / "out") if "--heads" not in one]
        assert exchange.main(options) == 2
        assert "width 32, for which no number of heads is published; give it by --heads" in (
            capsys.readouterr().err
        )
