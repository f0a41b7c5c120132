"""Where sepdash keeps its files: one private folder.

Order of choice: `--home`, `SEPDASH_HOME`, `$XDG_DATA_HOME/sepdash`, `~/.local/share/sepdash`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from models.user_paths import expanded


@dataclass(frozen=True, slots=True)
class Home:
    """The folder and the paths inside it; folders have mode 0700, files 0600."""

    root: Path

    @classmethod
    def locate(cls, root: str | Path | None = None) -> Home:
        """Return the home in use; nothing is created."""
        if root is None:
            root = os.environ.get("SEPDASH_HOME") or None
        if root is None:
            base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
            root = Path(base) / "sepdash"
        return cls(expanded(root).absolute())

    def file_of_run(self, run_id: int, path: str) -> Path:
        """Return a file of a run that the store names.

        Raises:
            ValueError: for a path that leads out of the folder of the run.
        """
        folder = self.run_folder(run_id)
        file = folder / path
        if "\0" in path or not file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"run {run_id}: the store names {path!r:.80}, which is outside its folder"
            )
        return file

    @property
    def store(self) -> Path:
        """The run store (SQLite, WAL)."""
        return self.root / "runs.db"

    @property
    def queue(self) -> Path:
        """The Huey queue (SQLite), in a separate file because each poll locks it."""
        return self.root / "queue.db"

    @property
    def presets(self) -> Path:
        """The user's presets, which override the shipped ones."""
        return self.root / "presets"

    @property
    def locks(self) -> Path:
        """One lock file for each device in use by a worker."""
        return self.root / "locks"

    @property
    def listening(self) -> Path:
        """Listening tests: their answers, and outputs of models that were made for them."""
        return self.root / "listening"

    @property
    def clusters(self) -> Path:
        """Results of `sepdash cluster`, a folder each."""
        return self.root / "clusters"

    @property
    def searches(self) -> Path:
        """The searches: a file for each of them, and the storage of their trials."""
        return self.root / "searches"

    @property
    def probes(self) -> Path:
        """Probes of experiments: requests that wait for runs, and results."""
        return self.root / "probes"

    @property
    def voices(self) -> Path:
        """Voices that `sepdash speak --save-voice` kept, a file each."""
        return self.root / "voices"

    def run_folder(self, run_id: int) -> Path:
        """The folder of a run: its log and its checkpoints."""
        return self.root / "runs" / f"{run_id:06d}"

    def progress_file(self, run_id: int) -> Path:
        """The file whose time moves on as long as a run gets on."""
        return self.run_folder(run_id) / "progress"

    def highest_folder(self) -> int:
        """The highest id of a run that has a folder, 0 without any."""
        names = [path.name for path in (self.root / "runs").glob("*/")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def create(self) -> Home:
        """Create the folders; files of this process are private to its user from here on.

        Raises:
            OSError: when a folder can't be created.
        """
        os.umask(0o077)
        try:
            for folder in (self.root, self.presets, self.locks, self.root / "runs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{folder}: can't be created ({error.strerror}); choose another folder with --home or "
                "SEPDASH_HOME"
            ) from error
        return self
