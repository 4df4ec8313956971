"""How many rows are worth a call, from what was measured at build."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.bundles.row_costs import ROW_COSTS, RowCosts, load_row_costs, row_cap
from darkroom.errors import EngineIntegrity
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


def published(folder: Path, content: bytes) -> DirectoryStore:
    store = DirectoryStore(folder)
    store.put(f"models/tiny/{'0' * 16}/{ROW_COSTS}", content)
    return store


def test_they_come_back_as_they_were_measured(tmp_path: Path) -> None:
    assert load_row_costs(DirectoryStore(tmp_path), "tiny", "0" * 16) is None
    store = published(tmp_path, MEASURED.sealed().model_dump_json(indent=1).encode())
    assert load_row_costs(store, "tiny", "0" * 16) == MEASURED.sealed()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b'{"processor": "x", "threads": 2, "targets": {"a": {"0": 1.0}}}', b"\xff"),
        MEASURED.model_dump_json().encode(),  # of an older release
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EngineIntegrity):
        load_row_costs(published(tmp_path, content), "tiny", "0" * 16)


def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    whole = MEASURED.sealed().model_dump_json().encode()
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            with pytest.raises(EngineIntegrity):
                load_row_costs(published(tmp_path, bytes(flipped)), "tiny", "0" * 16)
