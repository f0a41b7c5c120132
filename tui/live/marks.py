"""The runs that are marked to be compared, and their colours in the charts."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Marks:
    """Marked runs in the order of marking, each with a colour from 0 on that no other has."""

    def __init__(self, runs: Iterable[int] = (), *, most: int) -> None:
        self.most = most
        self._colours = {run: colour for colour, run in zip(range(most), runs, strict=False)}

    @property
    def runs(self) -> tuple[int, ...]:
        """The marked runs, the first marked one first."""
        return tuple(self._colours)

    def toggle(self, run: int) -> bool:
        """Mark a run, or remove its mark; return False if there are too many marks."""
        if run in self._colours:
            del self._colours[run]
        elif len(self._colours) < self.most:
            self._colours[run] = self._free()
        else:
            return False
        return True

    def keep(self, runs: Collection[int]) -> None:
        """Remove the marks of other runs."""
        self._colours = {run: colour for run, colour in self._colours.items() if run in runs}

    def clear(self) -> None:
        """Remove all marks."""
        self._colours.clear()

    def colours(self, selected: int | None) -> dict[int, int]:
        """Return the colours of the runs in the charts; empty unless runs are marked."""
        colours = dict(self._colours)
        if colours and selected is not None and selected not in colours:
            colours[selected] = self._free()
        return colours

    def _free(self) -> int:
        used = set(self._colours.values())
        return next((colour for colour in range(self.most) if colour not in used), self.most)
