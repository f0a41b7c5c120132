from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from presets.catalogue import SHIPPED, Catalogue, PresetError, to_toml
from presets.experiment_files import ExperimentFiles


@pytest.fixture
def user(tmp_path: Path) -> Path:
    folder = tmp_path / "presets"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_list_names_shipped_presets_by_their_path() -> None:
    found = Catalogue().list()
    names = [info.name for info in found]
    assert names == sorted(names)
    assert {"demo/baseline", "demo/batch2x", "bandwidth/audio-unet", "denoise/small"} <= set(names)
    assert all(info.description and not info.problem for info in found)
    assert {info.origin for info in found} == {"shipped"}


def test_user_presets_are_laid_over_the_shipped_ones(user: Path) -> None:
    write(user, "demo/baseline", 'description = "mine"\nseed = 5\n')
    write(user, "own", "seed = 6\n")
    catalogue = Catalogue(user)
    found = {info.name: info for info in catalogue.list()}
    assert found["demo/baseline"].origin == "user"
    assert found["demo/baseline"].description == "mine"
    assert found["own"].origin == "user"
    assert catalogue.read("demo/baseline") == {"seed": 5}


def test_extends_is_resolved_through_the_chain(user: Path) -> None:
    write(user, "a", "seed = 1\n[optimizer]\nlr = 1.0\neps = 0.5\n")
    write(user, "b", 'extends = "a"\ndescription = "b"\n[optimizer]\nlr = 2.0\n')
    write(user, "c", 'extends = "b"\nseed = 3\n')
    assert Catalogue(user).read("c") == {"seed": 3, "optimizer": {"lr": 2.0, "eps": 0.5}}


def test_a_user_preset_may_extend_the_shipped_one_of_its_name(user: Path) -> None:
    write(user, "demo/baseline", 'extends = "demo/baseline"\nseed = 5\n')
    values = Catalogue(user).read("demo/baseline")
    assert values == {**Catalogue().read("demo/baseline"), "seed": 5}
    assert Catalogue(user).read("demo/batch2x")["seed"] == 5


def test_a_circle_is_refused(user: Path) -> None:
    write(user, "a", 'extends = "b"\n')
    write(user, "b", 'extends = "a"\n')
    with pytest.raises(PresetError, match="in a cycle: a -> b -> a"):
        Catalogue(user).read("a")


def test_a_preset_that_extends_itself_with_none_below_is_refused(user: Path) -> None:
    write(user, "a", 'extends = "a"\n')
    with pytest.raises(
        PresetError, match=r"extends an unknown preset 'a': no shipped preset has this name"
    ):
        Catalogue(user).read("a")


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(
        PresetError, match="unknown preset 'bandwith/smal', did you mean 'bandwidth/small'"
    ):
        Catalogue().read("bandwith/smal")


def test_a_file_is_no_preset_until_it_lies_in_the_folder(user: Path) -> None:
    with pytest.raises(
        PresetError,
        match=f"this is a file name; copy the file to {user} and use the preset name 'mine'",
    ):
        Catalogue(user).read("somewhere/mine.toml")


def test_a_last_part_is_answered_with_the_whole_name() -> None:
    with pytest.raises(PresetError, match="did you mean 'demo/baseline'"):
        Catalogue().source("baseline")


def test_a_broken_file_is_listed_with_its_problem_and_refused_when_read(user: Path) -> None:
    write(user, "broken", "seed = \n")
    catalogue = Catalogue(user)
    (info,) = [info for info in catalogue.list() if info.name == "broken"]
    assert "not valid TOML" in info.problem
    with pytest.raises(PresetError, match=r"broken\.toml is not valid TOML: .*line 1"):
        catalogue.read("broken")


def test_a_binary_file_is_refused(user: Path) -> None:
    (user / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PresetError, match="can't be read"):
        Catalogue(user).read("binary")


def test_extends_must_be_text(user: Path) -> None:
    write(user, "a", "extends = 3\n")
    with pytest.raises(PresetError, match="extends must be the name of a preset, found 3"):
        Catalogue(user).read("a")


def test_save_writes_what_read_returns(user: Path) -> None:
    catalogue = Catalogue(user)
    values = {"seed": 4, "model": {"strides": [2, 4]}, "data": {"train": 'a "b"\\c'}}
    path = catalogue.save("night/one", values, description="a = b")
    assert path == user / "night" / "one.toml"
    assert catalogue.read("night/one") == values
    assert catalogue.info("night/one").description == "a = b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["one.toml"]


def test_save_extends_a_known_preset_only(user: Path) -> None:
    catalogue = Catalogue(user)
    catalogue.save("mine", {"seed": 9}, extends="demo/baseline")
    assert catalogue.read("mine") == {**catalogue.read("demo/baseline"), "seed": 9}
    with pytest.raises(PresetError, match="unknown preset 'demo/bse'"):
        catalogue.save("other", {}, extends="demo/bse")
    assert not (user / "other.toml").exists()


@pytest.mark.parametrize(
    "name", ["", "../out", "/etc/x", "a//b", "a/../b", ".hidden", "a b", "x.toml"]
)
def test_save_refuses_names_that_leave_the_folder(user: Path, name: str) -> None:
    with pytest.raises(PresetError, match="is not a valid preset name"):
        Catalogue(user).save(name, {})
    assert list(user.iterdir()) == []


def test_save_says_so_when_the_disk_refuses(user: Path) -> None:
    (user / "night").write_text("a file where a folder should be")
    with pytest.raises(PresetError, match="can't be saved at"):
        Catalogue(user).save("night/one", {})


def test_to_toml_leaves_out_what_is_absent_and_keeps_plain_values_above_tables() -> None:
    text = to_toml({"data": {"noise_valid": None, "channels": 1}, "seed": 3})
    assert tomllib.loads(text) == {"seed": 3, "data": {"channels": 1}}


def test_every_shipped_file_is_a_preset() -> None:
    files = {p.relative_to(SHIPPED).with_suffix("").as_posix() for p in SHIPPED.rglob("*.toml")}
    presets = {name for name in files if not name.startswith("experiments/")}
    assert presets == {info.name for info in Catalogue().list()}
    experiments = {f"experiments/{info.name}" for info in ExperimentFiles().list()}
    assert files - presets == experiments


def test_files_of_other_editors_and_names_are_read(user: Path, tmp_path: Path) -> None:
    (user / "bom.toml").write_bytes(b"\xef\xbb\xbfseed = 3\n")
    for name in ("my preset", "größer", "日本/小"):
        (user / name).parent.mkdir(exist_ok=True)
        write(user, name, "seed = 3\n")
    (user / "loud.TOML").write_text("seed = 3\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "one.toml").write_text("seed = 3\n")
    (user / "linked").symlink_to(tmp_path / "shared")
    catalogue = Catalogue(user)
    names = ["bom", "my preset", "größer", "日本/小", "loud", "linked/one"]
    assert {info.name for info in catalogue.list() if info.origin == "user"} == set(names)
    assert [catalogue.read(name) for name in names] == [{"seed": 3}] * len(names)


def test_files_that_cant_be_presets_are_listed_with_the_reason(user: Path) -> None:
    for name in ("a\x1b[31m", "b: c", "-d", " e"):
        write(user, name, "seed = 3\n")
    write(user, "two", "seed = 3\n")
    (user / "two.TOML").write_text("seed = 4\n")
    write(user, "deep", f"x = {'[' * 100_000}\n")
    os.mkfifo(user / "pipe.toml")
    (user / "zero.toml").symlink_to("/dev/zero")
    problems = {info.name: info.problem for info in Catalogue(user).list() if info.origin == "user"}
    renamed = [name for name, problem in problems.items() if "rename it" in problem]
    assert renamed == [" e", "-d", "a\N{REPLACEMENT CHARACTER}[31m", "b: c"]
    assert "two.toml is used instead" in problems["two.TOML"]
    assert not problems["two"]
    assert "nested too deeply" in problems["deep"]
    assert "not a file" in problems["pipe"]
    assert "not a file" in problems["zero"]
    assert not any("\x1b" in text for item in problems.items() for text in item)
