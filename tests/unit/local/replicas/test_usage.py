"""Processor and memory of a process, from files as Linux writes them."""

import os

import pytest

from local.replicas.usage import Usage


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="POSIX only")
def test_processor_time_is_counted_between_two_looks(tmp_path):
    now = [10.0]
    usage = Usage(lambda: now[0], tmp_path)

    def write(ticks):
        (tmp_path / "7").mkdir(exist_ok=True)
        fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 20]
        (tmp_path / "7" / "stat").write_text(f"7 (a) name) {' '.join(fields)}")
        (tmp_path / "7" / "statm").write_text(f"1000 {os.sysconf('SC_PHYS_PAGES') // 4} 0 0 0 0 0")

    write(0)
    assert usage.look([7, 8]) == []  # nothing to compare with, and no process 8
    now[0] = 12.0
    write(os.sysconf("SC_CLK_TCK"))  # one second of two
    (used,) = usage.look([7])
    assert used.cpu == pytest.approx(50.0 / (os.cpu_count() or 1))
    assert used.memory == pytest.approx(25.0, abs=0.1)
    (tmp_path / "7" / "stat").write_text("nonsense")
    assert usage.look([7]) == []
