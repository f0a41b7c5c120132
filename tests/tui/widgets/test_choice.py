from __future__ import annotations

from textual.app import App, ComposeResult

from tui.widgets.choice import Choice


class Host(App[None]):
    def __init__(self, options: tuple[str, ...], value: str) -> None:
        super().__init__()
        self.choice = Choice(options, value)
        self.heard: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.choice

    def on_choice_changed(self, event: Choice.Changed) -> None:
        self.heard.append(event.value)


async def test_keys_go_round_and_are_told() -> None:
    app = Host(("a", "b", "c"), "a")
    async with app.run_test() as pilot:
        app.choice.focus()
        await pilot.press("right", "space", "enter", "left")
        assert app.heard == ["b", "c", "a", "c"]
        assert str(app.choice.render()) == "‹ c ›"


async def test_a_letter_goes_to_the_next_value_that_starts_with_it() -> None:
    app = Host(("bf16", "fp16", "fp32"), "bf16")
    async with app.run_test() as pilot:
        app.choice.focus()
        await pilot.press("f", "f", "f", "b", "z")
        assert app.heard == ["fp16", "fp32", "fp16", "bf16"]


async def test_a_switch_is_ticked() -> None:
    app = Host(("false", "true"), "false")
    async with app.run_test() as pilot:
        app.choice.focus()
        assert str(app.choice.render()) == "□ off"
        await pilot.press("space")
        assert str(app.choice.render()) == "■ on"
        await pilot.click(Choice)
        assert app.heard == ["true", "false"]


async def test_a_wrong_value_stays_until_it_is_replaced() -> None:
    app = Host(("x", "y"), "wrong")
    async with app.run_test() as pilot:
        app.choice.focus()
        assert str(app.choice.render()) == "‹ wrong ›"
        await pilot.press("right")
        assert app.heard == ["x"]


async def test_a_value_set_from_outside_is_shown_and_not_told() -> None:
    app = Host(("x", "y"), "x")
    async with app.run_test() as pilot:
        app.choice.value = "y"
        await pilot.pause()
        assert str(app.choice.render()) == "‹ y ›"
        assert app.heard == []
