"""Reading the batches of updates: what can't be read is reported, and ends a run saved where it is much."""

from __future__ import annotations

from collections.abc import Callable

from engine.batching.batch import Batch
from engine.data.reading.loader import Loader
from engine.data.reading.lost_files import LOST, LostFiles
from engine.data.reading.reader_processes import ReaderDied
from engine.training.interruption import Interrupted


class Reading:
    """The batches of a loader, update by update; `notice` reports (kind, text)."""

    def __init__(
        self, loader: Loader, num_items: int, *, notice: Callable[[str, str], None]
    ) -> None:
        self._loader = loader
        self._lost = LostFiles(num_items)
        self._notice = notice

    def update(self, *, save: Callable[[], None]) -> list[Batch]:
        """Return the micro-batches of the next update; before an error, `save` is called.

        Raises:
            Interrupted: when too many reader processes have died.
            DataError: when too many files can't be read.
        """
        try:
            batches = self._loader.update()
            for text in self._loader.take_notices():
                self._notice("reader-died", text)
            for text in self._lost.notices(batches):
                self._notice("file-skipped", text)
            self._lost.require_few()
        except ReaderDied as error:
            save()
            raise Interrupted(str(error)) from error
        except LOST:
            save()
            raise
        return batches
