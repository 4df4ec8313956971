"""The index finds what an exact search finds, while vectors come and go."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.cache.index import VectorIndex, unit


def test_it_finds_what_an_exact_search_finds_through_churn() -> None:
    random = np.random.Generator(np.random.Philox(1))
    vectors = {f"v{n}": random.standard_normal(16).astype(np.float32) for n in range(1500)}
    index = VectorIndex(16)
    live: dict[str, np.ndarray] = {}
    for number, (name, vector) in enumerate(vectors.items()):
        index.add(name, vector)
        live[name] = vector
        if number >= 300:  # of 1,500 that came, 300 stay: the graph is built again on the way
            index.remove(f"v{number - 300}")
            del live[f"v{number - 300}"]
    assert len(index) == len(live) == 300
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


def test_unit_vectors() -> None:
    np.testing.assert_allclose(unit(np.array([3, 4], np.float32)), [0.6, 0.8])
    np.testing.assert_array_equal(unit(np.zeros(2, np.float32)), [0, 0])
