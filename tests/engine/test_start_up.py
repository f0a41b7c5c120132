"""What is loaded at the start of a process is never searched for garbage."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from engine.start_up import loading


def test_nothing_is_collected_while_loading_and_what_was_loaded_stays_out():
    before = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_an_import_that_fails_leaves_collection_on():
    with pytest.raises(ModuleNotFoundError), loading():
        import nowhere  # noqa: F401
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("jobs.child.runner", "train_run(None, [], None)"),
        ("engine.programs.batch_plan", "_report({}, 1)"),
    ],
)
def test_processes_search_no_garbage_in_torch(module: str, call: str) -> None:
    code = f"""
import contextlib, gc, sys
import {module} as program
with contextlib.suppress(BaseException):
    program.{call}
print("torch" in sys.modules, gc.get_freeze_count() > 100_000, gc.isenabled())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "True True True"
