"""Traces: read with a sentence for each mistake, spread in order, and generated the same each time."""

from datetime import UTC, datetime, timedelta

import pytest

from local.plan.trace import GENERATORS, SHIPPED, TraceError, generate, read_trace, shipped, write_trace


def test_shipped_traces_are_what_the_generator_makes(tmp_path):
    assert set(shipped()) == set(GENERATORS)
    for name in shipped():
        write_trace(generate(name), tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_bytes() == (SHIPPED / f"{name}.csv").read_bytes()
        assert (SHIPPED / f"{name}.csv").stat().st_size < 200_000


def test_reading_gives_back_what_was_written():
    made = generate("quiet-with-spikes")
    read = read_trace("quiet-with-spikes")
    assert (read.start, read.end) == (made.start, made.end)
    assert {at: count for at, count in read.counts.items() if count} == made.counts


def test_arrivals_lie_in_their_minutes_in_order(tmp_path):
    (tmp_path / "t.csv").write_text("minute,requests\n2026-01-01T00:02Z,3\n2026-01-01T00:00Z,2\n")
    trace = read_trace(str(tmp_path / "t.csv"))
    arrivals = trace.arrivals(seed=1)
    assert arrivals == sorted(arrivals)
    assert [int(second // 60) for second in arrivals] == [0, 0, 2, 2, 2]
    assert arrivals == trace.arrivals(seed=1) != trace.arrivals(seed=2)
    start = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert [second // 60 for second in trace.between(start, start + timedelta(minutes=2)).arrivals()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minute,requests\nyesterday,1\n", "line 2"),
        ("minute,requests\n2026-01-01T00:00Z,many\n", "line 2"),
        ("minute,requests\n2026-01-01T00:00Z,-1\n", "negative"),
        ("a,b\n1,2\n", "minute"),
        ("minute,requests\n", "no arrivals"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TraceError, match=said):
        read_trace(str(tmp_path / "t.csv"))


def test_a_missing_file_names_the_shipped_traces():
    with pytest.raises(TraceError, match="office-hours"):
        read_trace("nowhere.csv")
