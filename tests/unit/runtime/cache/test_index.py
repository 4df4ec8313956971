"""The index finds what an exact search finds, while vectors come and go."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.cache.index import VectorIndex


def test_it_finds_what_an_exact_search_finds_through_churn() -> None:
    random = np.random.Generator(np.random.Philox(1))
    vectors = {f"v{n}": random.standard_normal(16).astype(np.float32) for n in range(2500)}
    index = VectorIndex(16)
    live: dict[str, np.ndarray] = {}
    for number, (name, vector) in enumerate(vectors.items()):
        index.add(name, vector)
        live[name] = vector
        if number >= 600:  # of 2,500 that came, 600 stay: the graph is built again on the way
            index.remove(f"v{number - 600}")
            del live[f"v{number - 600}"]
    assert len(index) == len(live) == 600
    right = 0
    for _ in range(50):
        asked = random.standard_normal(16).astype(np.float32)
        nearest = min(live, key=lambda name: float(np.square(live[name] - asked).sum()))
        (name, distance), *_ = index.nearest(asked, 4)
        right += name == nearest
        assert distance == pytest.approx(float(np.square(live[name] - asked).sum()), rel=1e-4)
    assert right >= 49


def test_few_are_found_where_there_are_few() -> None:
    index = VectorIndex(2)
    assert index.nearest(np.zeros(2, np.float32), 3) == []
    index.add("a", np.array([1, 0], np.float32))
    index.add("b", np.array([3, 0], np.float32))
    assert index.nearest(np.zeros(2, np.float32), 3) == [("a", 1.0), ("b", 9.0)]
    index.remove("a")
    assert index.nearest(np.zeros(2, np.float32), 3) == [("b", 9.0)]
    assert "a" not in index
    assert "b" in index


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        VectorIndex(2).add("a", np.zeros(3, np.float32))


def resident_kb() -> int:
    """Of this process, memory that native code allocated included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE >> 10


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_index_of_a_few_vectors_takes_little_more_than_they_do() -> None:
    before = resident_kb()
    indexes = [VectorIndex(32) for _ in range(300)]
    for index in indexes:
        index.add("alone", np.ones(32, np.float32))
    assert resident_kb() - before < 300 * 100


def test_many_become_few_and_many_again() -> None:
    index, random = VectorIndex(4), np.random.Generator(np.random.Philox(2))
    for _ in range(2):
        for number in range(700):
            index.add(f"v{number}", random.standard_normal(4).astype(np.float32))
        for number in range(3, 700):
            index.remove(f"v{number}")
        assert {name for name, _ in index.nearest(np.zeros(4, np.float32), 9)} == {"v0", "v1", "v2"}
        for number in range(3):
            index.remove(f"v{number}")
        assert index.nearest(np.zeros(4, np.float32), 9) == []
