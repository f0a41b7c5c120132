"""The preset screen: pick a preset, edit it in a form made from the schema, enqueue or save it.

`tui.live.draft` holds the edits; this screen shows them. The config schema takes half a second to
import, so this module is imported when the screen is first opened.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from engine.config.counters import UpdateSize
from engine.config.errors import counted
from engine.config.fields import SettingInfo
from engine.config.schema import RunConfig
from engine.training.run_warnings import run_warnings
from jobs.home import Home
from presets.catalogue import Catalogue, PresetError, PresetInfo
from tui.dialogs.batch_plan import BatchPlanScreen
from tui.dialogs.run_reference import choose_run
from tui.dialogs.save_preset import PresetName, SavePreset
from tui.dialogs.tune import TuneScreen
from tui.live.actions import Failed, attempt
from tui.live.draft import Draft, Verdict
from tui.widgets.charts.chart import Chart
from tui.widgets.charts.figure import Plot
from tui.widgets.charts.schedule import schedule_plot
from tui.widgets.preset_line import preset_line
from tui.widgets.run_length import RunLengthLine
from tui.widgets.setting_field import FormSection, SettingField, field_id, help_of

_KEYS = "^r enqueue  ^g batches  ^t tune  ^s save  ^z undo  ^f find  ^n next  esc back"
_ROWS_FOR_CURVE = 30
_COLUMNS_FOR_NAMES = 100
_PICKER, _WIDE_PICKER = 28, 37


class PresetScreen(Screen[int | None]):
    """Returns the id of the enqueued run, or None if the user went back."""

    CSS_PATH = "preset.tcss"
    choose_run = choose_run
    TITLE = "New run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r,ctrl+enter", "enqueue", "Enqueue", key_display="^r", priority=True),
        Binding("ctrl+g", "plan", "Batches", priority=True),
        Binding("ctrl+t", "tune", "Tune", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("ctrl+z", "reset_field", "Undo", priority=True),
        Binding("ctrl+f", "focus_filter", "Find", priority=True),
        Binding("ctrl+n", "next_problem", "Next problem", priority=True),
        Binding("escape", "back", "Back"),
        # With priority, so that keys typed right after a tab never reach the field before it.
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Previous field", show=False, priority=True),
    ]

    def __init__(self, home: Home, *, preset: str = "") -> None:
        super().__init__()
        self.home = home
        self._catalogue = Catalogue(home.presets)
        self._first = preset
        self._presets: list[PresetInfo] = []
        self._drafts: dict[str, Draft] = {}
        self._sections: dict[str, FormSection] = {}
        self._shown = ""
        self._verdict = Verdict(None)
        self._focused: SettingInfo | None = None
        self._warned = self._queueing = False
        self._room = _PICKER
        self._update_size: UpdateSize | None = None
        self._curve = Chart(Plot("learning rate"), id="curve")
        self._curve.can_focus = False

    def compose(self) -> ComposeResult:
        """Lay out the list on the left, the form on the right, help and problems below it."""
        with Horizontal(id="panes"):
            with Vertical(id="picker"):
                yield Input(placeholder="filter presets", id="filter", compact=True)
                yield OptionList(id="presets", compact=True)
            with Vertical(id="editor"):
                yield Static(id="about", markup=False)
                yield VerticalScroll(id="form")
                yield self._curve
                yield Static(id="help", markup=False)
                yield RunLengthLine(self.home, id="length")
                yield Static(id="problems", markup=False)
                with Horizontal(id="actions"):
                    yield Label("run name")
                    yield Input(placeholder="derived from the preset", id="run-name", compact=True)
                    yield Button("Enqueue", id="enqueue", variant="primary", compact=True)
                    yield Button("Save as preset", id="save", compact=True)
        # Textual rebuilds its footer at every change of focus; a static line avoids that cost.
        yield Static(_KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Read the presets and show the requested one, or else the first."""
        self.query_one("#presets", OptionList).focus()
        self._fill_list(self._first)

    def on_resize(self, event: Resize) -> None:
        """Show the learning-rate curve, and full preset names, only if the form keeps its space."""
        self._curve.display = event.size.height >= _ROWS_FOR_CURVE
        self._draw_curve()
        room = _WIDE_PICKER if event.size.width >= _COLUMNS_FOR_NAMES else _PICKER
        if room != self._room:
            self._room = room
            self.query_one("#picker").styles.width = room
            self._fill_list(self._shown or self._first)

    # The list of presets.

    def _fill_list(self, chosen: str) -> None:
        """List the presets that match the filter, and highlight `chosen`, or else the first."""
        words = self.query_one("#filter", Input).value.lower().split()
        self._presets = [
            info
            for info in self._catalogue.list()
            if all(
                word in f"{info.name} {info.description} {info.origin}".lower() for word in words
            )
        ]
        options = self.query_one("#presets", OptionList)
        options.clear_options()
        options.add_options(
            Option(preset_line(info, width=self._room), id=info.name) for info in self._presets
        )
        names = [info.name for info in self._presets]
        if names:
            options.highlighted = names.index(chosen) if chosen in names else 0

    @on(Input.Changed, "#filter")
    def _filter_changed(self) -> None:
        self._fill_list(self._shown)

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self) -> None:
        self.query_one("#presets", OptionList).focus()

    @on(OptionList.OptionHighlighted, "#presets")
    async def _preset_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        name = str(event.option_id)
        if name != self._shown:
            await self._show_preset(name)

    @on(OptionList.OptionSelected, "#presets")
    def _preset_selected(self) -> None:
        for field in self.query(SettingField):
            field.editor.focus()
            return

    # The form.

    async def _show_preset(self, name: str) -> None:
        self._shown = name
        # Until the new fields are mounted, the previous preset must not be enqueued.
        self._verdict = Verdict(None)
        info = next(item for item in self._presets if item.name == name)
        about = f"{name}  ({info.origin}{f', extends {info.extends}' if info.extends else ''})"
        self.query_one("#about", Static).update(f"{about}\n{info.description}", layout=False)
        if name not in self._drafts:
            try:
                self._drafts[name] = Draft(name, self._catalogue.read(name))
            except PresetError as error:
                await self._show_broken(str(error))
                return
        await self._show_fields()

    async def _show_broken(self, reason: str) -> None:
        await self.query_one("#form", VerticalScroll).remove_children()
        self._sections = {}
        self._verdict = Verdict(None, general=(reason,))
        self._show_problems()

    async def _show_fields(self) -> None:
        """Show the draft: update existing rows, and mount new rows where the kind has changed."""
        sections = self._draft.sections()
        form = self.query_one("#form", VerticalScroll)
        if list(self._sections) != list(sections):
            await form.remove_children()
            self._sections = {name: FormSection(name) for name in sections}
            await form.mount_all(self._sections.values())
        for name, states in sections.items():
            await self._sections[name].show(states)
        # Help describes the focused setting in the version of the current kind.
        infos = {state.info.key: state.info for states in sections.values() for state in states}
        self._focused = infos.get(self._focused.key) if self._focused else None
        self._show_help()
        self._recheck()

    @on(SettingField.Edited)
    async def _setting_edited(self, event: SettingField.Edited) -> None:
        self._warned = False
        self._draft.edit(event.info, event.text)
        if event.info.key.endswith(".kind"):
            await self._show_fields()
            self.query_one(f"#{field_id(event.info.key)}", SettingField).editor.focus()
        else:
            self._recheck()

    @on(SettingField.Entered)
    def _setting_entered(self, event: SettingField.Entered) -> None:
        self._focused = event.info
        self._show_help()
        self._show_length()

    def _show_length(self) -> None:
        typing = self._focused is not None and self._focused.type_name == "path"
        self.query_one(RunLengthLine).show(self._verdict.config, typing_path=typing)

    @on(RunLengthLine.Measured)
    def _length_measured(self, event: RunLengthLine.Measured) -> None:
        self._update_size = event.size
        self._show_problems()
        self._draw_curve()

    def _show_help(self) -> None:
        text = help_of(self._focused) if self._focused else ""
        self.query_one("#help", Static).update(text, layout=False)

    def _recheck(self) -> None:
        self._verdict = self._draft.check()
        states = {state.info.key: state for state in self._draft.fields()}
        for field in self.query(SettingField):
            problem = self._verdict.problems.get(field.info.key, "")
            field.mark(changed=states[field.info.key].changed, problem=problem)
        self._update_size = None
        self._show_length()
        self._show_problems()
        self._draw_curve()

    def _draw_curve(self) -> None:
        """Draw the learning rate over the run, if the terminal is large enough."""
        if self._curve.display and self._verdict.config is not None:
            self._curve.plot = schedule_plot(self._verdict.config, size=self._update_size)

    def _show_problems(self) -> None:
        verdict = self._verdict
        draft = self._drafts.get(self._shown)
        changes = len(draft.changes) if draft else 0
        first = "; ".join([*verdict.general, *(f"{k}: {v}" for k, v in verdict.problems.items())])
        odd = (
            run_warnings(verdict.config, size=self._update_size)
            if verdict.config is not None
            else []
        )
        ready = "; ".join([f"ready, {changes} changed", *odd])
        text = f"{counted(verdict.count, 'problem')}: {first}" if verdict.count else ready
        text = "checking the data, then queueing ..." if self._queueing else text
        bar = self.query_one("#problems", Static)
        bar.update(text, layout=False)
        bar.set_class(bool(verdict.count), "-wrong")
        self.query_one("#enqueue", Button).disabled = verdict.config is None or self._queueing

    @property
    def _draft(self) -> Draft:
        return self._drafts[self._shown]

    # User actions.

    def action_focus_filter(self) -> None:
        """Go to the filter of the list."""
        self.query_one("#filter", Input).focus()

    def action_next_problem(self) -> None:
        """Go to the next field that has a problem."""
        fields = list(self.query(SettingField))
        here = next((i for i, field in enumerate(fields) if field.has_focus_within), -1)
        for field in [*fields[here + 1 :], *fields[: here + 1]]:
            if field.info.key in self._verdict.problems:
                field.editor.focus()
                return

    async def action_reset_field(self) -> None:
        """Restore the preset's value of the focused field."""
        if self._focused is not None and self._shown in self._drafts:
            self._draft.reset(self._focused)
            await self._show_fields()

    def action_back(self) -> None:
        """Leave; edits are discarded only after a second press."""
        changed = sum(len(draft.changes) for draft in self._drafts.values())
        if changed and not self._warned:
            self._warned = True
            self.notify(
                f"Press Escape again to discard {changed} changed settings.", severity="warning"
            )
        else:
            self.dismiss(None)

    def action_plan(self) -> None:
        """Show how these settings are batched."""
        config = self._verdict.config
        if config is None:
            self.notify("Fix the problems first: a batch plan requires valid settings.")
            return
        self.app.push_screen(BatchPlanScreen(self.home, config))

    @work
    async def action_tune(self) -> None:
        """Search for the fastest settings on this machine, and apply them to the form."""
        if self._shown not in self._drafts or self.app.screen is not self:
            return
        draft = self._draft
        tuned = await self.app.push_screen_wait(TuneScreen(self.home, draft.values))
        if not tuned:
            return
        draft.fill(tuned)
        self._warned = False
        if self._drafts.get(self._shown) is draft:
            await self._show_fields()
        self.notify(f"Settings applied: {len(tuned)}. ^z undoes one, ^s saves them.")

    @on(Button.Pressed, "#enqueue")
    def action_enqueue(self) -> None:
        """Queue a run with these settings and leave; the data are checked first, which may take a while."""
        config = self._verdict.config
        if self._queueing:
            self.notify("The run is being queued: its data are checked first.")
        elif config is None and not self._verdict.count:
            self.notify("The form is still loading.")
        elif config is None:
            self.notify(f"Fix {counted(self._verdict.count, 'problem')} first.", severity="error")
            self.action_next_problem()
        else:
            self._queueing = True
            self._show_problems()
            name = self.query_one("#run-name", Input).value.strip()
            self._enqueue(config, name, preset=self._shown)

    @work(thread=True, group="enqueue")
    def _enqueue(self, config: RunConfig, name: str, *, preset: str) -> None:
        def submit() -> int:
            # jobs.submit takes 0.4 s to import, so it is imported on this thread.
            from jobs.submit import enqueue

            return enqueue(self.home, config, name=name or None, preset=preset)

        ended = attempt(self.home, submit)
        self.app.call_from_thread(self._take_end, ended, preset=preset)

    def _take_end(self, ended: int | Failed, *, preset: str) -> None:
        self._queueing = False
        if not isinstance(ended, Failed):
            self.app.notify(f"Queued run {ended} of {preset}.", markup=False)
        # A person may have left meanwhile.
        if isinstance(ended, Failed):
            self.app.notify(
                ended.text, title="Not enqueued", severity="error", timeout=10, markup=False
            )
        elif self.is_current:
            self.dismiss(ended)
        if self.is_current:
            self._show_problems()

    @on(Button.Pressed, "#save")
    @work
    async def action_save(self) -> None:
        """Save the settings as a user preset, and go on with that one."""
        if self._shown not in self._drafts:
            return
        info = next(item for item in self._presets if item.name == self._shown)
        saving = SavePreset(info.name, info.description, save=partial(self._save, info))
        answer = await self.app.push_screen_wait(saving)
        if answer is None:
            return
        for name in (self._shown, answer.name):
            self._drafts.pop(name, None)
        self._shown, self._verdict = "", Verdict(None)
        # What follows a change of the filter is to show the first preset.
        with self.query_one("#filter", Input).prevent(Input.Changed):
            self.query_one("#filter", Input).value = ""
        self._fill_list(answer.name)

    def _save(self, info: PresetInfo, answer: PresetName) -> None:
        values, extends = self._to_save(info, answer.name)
        path = self._catalogue.save(
            answer.name, values, extends=extends, description=answer.description
        )
        self.app.notify(f"Saved as {answer.name}: {path}", markup=False)

    def _to_save(self, info: PresetInfo, name: str) -> tuple[dict[str, Any], str | None]:
        """Return what to save under `name` and what it extends, avoiding cycles."""
        if name == info.name and info.origin == "user":
            if not info.extends:
                return self._draft.values, None
            below = Catalogue() if info.extends == name else self._catalogue
            return self._draft.to_save(below.read(info.extends), info.extends)
        if name != info.name and name in self._catalogue.bases(info.name):
            return self._draft.values, None
        return self._draft.to_save()
