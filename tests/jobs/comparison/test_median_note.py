"""A metric that papers report as a median says so beside its differences."""

from __future__ import annotations

from jobs.comparison.notes import of_tables


def test_median_over_files_is_told_from_the_mean_of_differences():
    tables = {name: [] for name in ("si_sdr", "bss_sdr_full", "bss_sdr_full_ema")}
    lines = of_tables(tables, min_seeds=2)
    assert lines[-1] == (
        "BSS SDR of a run is a median over files; differences and intervals are of the mean over files"
    )
    assert not [line for line in of_tables({"si_sdr": []}, min_seeds=2) if "median" in line]
