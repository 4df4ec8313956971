"""Vectors by nearness: voyager's HNSW graph, kept small while vectors come and go."""

from __future__ import annotations

import numpy as np
from voyager import Index, RecallError, Space

from runtime.arrays import Floats

_LEAST_DEAD = 256  # below that, removed vectors do no harm


class VectorIndex:
    """Names with their vectors, float32 [D]; `nearest` finds them by squared Euclidean distance.

    Removed vectors stay in the graph until they are more than half of it; then it is built again from those that live.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._vectors: dict[str, Floats] = {}
        self._labels: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 0
        self._graph = self._empty()

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, name: str) -> bool:
        return name in self._labels

    def add(self, name: str, vector: Floats) -> None:
        """Raises ValueError for a vector of another length."""
        if vector.shape != (self._dimensions,):
            raise ValueError("a vector of another length")
        self._vectors[name] = vector
        self._labels[name] = self._next
        self._names[self._next] = name
        self._graph.add_item(vector, self._next)
        self._next += 1

    def remove(self, name: str) -> None:
        label = self._labels.pop(name)
        del self._names[label], self._vectors[name]
        self._graph.mark_deleted(label)
        if self._next > 2 * len(self._labels) + _LEAST_DEAD:
            self._rebuild()

    def nearest(self, vector: Floats, count: int) -> list[tuple[str, float]]:
        """At most `count` names with their squared distances, nearest first."""
        count = min(count, len(self._labels))
        while count:
            try:
                labels, distances = self._graph.query(vector, k=count)
            except RecallError:  # the graph reached fewer than it holds
                count //= 2
                continue
            return [(self._names[int(label)], float(far)) for label, far in zip(labels, distances, strict=True)]
        return []

    def vector(self, name: str) -> Floats:
        return self._vectors[name]

    def _rebuild(self) -> None:
        vectors = self._vectors
        self._vectors, self._labels, self._names, self._next = {}, {}, {}, 0
        self._graph = self._empty()
        for name, vector in vectors.items():
            self.add(name, vector)

    def _empty(self) -> Index:
        return Index(Space.Euclidean, num_dimensions=self._dimensions, M=12, ef_construction=100, random_seed=1)


def unit(vector: Floats) -> Floats:
    """The vector at length 1; cosine similarity is then 1 - distance / 2."""
    length = float(np.linalg.norm(vector))
    return (vector / np.float32(length)).astype(np.float32) if length else vector
