"""`sepdash demo --headless`, whole: it learns, it ends, it compares."""

from __future__ import annotations

import pytest

from tests.e2e.shell import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.long
def test_demo_learns_and_compares(shell: Shell) -> None:
    out = shell.run("demo", "--headless", timeout_s=800)
    lines = out.splitlines()
    assert sum(line.endswith("finished") for line in lines) == 2
    header = next(i for i, line in enumerate(lines) if line.startswith("RUN"))
    columns = lines[header].split()
    for line in lines[header + 1 : header + 3]:
        row = dict(zip(columns, line.split(), strict=True))
        assert row["STATE"] == "finished"
        assert row["ITEMS"] == "1280"
        assert float(row["SI-SDRi"]) > 5
    compared = " ".join(lines[header + 3 :])
    assert "models differ" in compared or "undecided" in compared or "models equivalent" in compared
    assert "another seed may reverse the order" in compared
