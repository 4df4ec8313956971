"""How many rows are worth a call, from what was measured at build."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.bundles.row_costs import ROW_COSTS, RowCosts, load_row_costs, row_cap
from darkroom.storage.directory import DirectoryStore

MEASURED = RowCosts(processor="EPYC", threads=2, targets={"openvino-int8": {1: 9.0, 2: 6.0, 4: 4.0, 8: 3.0, 16: 2.9}})


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        ({1: 9.0, 2: 6.0, 4: 4.0, 8: 3.0, 16: 2.9}, 8),  # sixteen gain less than a twentieth
        ({1: 1500.0, 2: 1490.0, 4: 1495.0}, 2),  # more rows buy nothing: one guided image a call
        ({1: 10.0, 2: 12.0, 4: 14.0}, 2),  # they even cost, but a guided image cannot be torn apart
        ({1: 9.0, 2: 6.0, 4: 4.0}, 4),
        ({4: 1.0}, 4),
    ],
)
def test_the_fewest_rows_that_are_about_as_cheap_as_any(found: dict[int, float], rows: int) -> None:
    assert row_cap(found) == rows


def test_it_holds_where_it_was_measured_only() -> None:
    assert MEASURED.row_cap("openvino-int8", "EPYC", 2) == 8
    assert MEASURED.row_cap("openvino-int8", "Xeon", 2) is None
    assert MEASURED.row_cap("openvino-int8", "EPYC", 8) is None
    assert MEASURED.row_cap("openvino-bf16", "EPYC", 2) is None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"processor": "x", "threads": 2, "targets": {"a": {"0": 1.0}}}', b"\xff"]
)
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    store = DirectoryStore(tmp_path)
    assert load_row_costs(store, "tiny", "0" * 16) is None
    store.put(f"models/tiny/{'0' * 16}/{ROW_COSTS}", content)
    assert load_row_costs(store, "tiny", "0" * 16) is None
    store.put(f"models/tiny/{'0' * 16}/{ROW_COSTS}", MEASURED.model_dump_json().encode())
    assert load_row_costs(store, "tiny", "0" * 16) == MEASURED
