"""Vectors by nearness: few are compared one by one, many through voyager's HNSW graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from voyager import Index, RecallError, Space

from runtime.arrays import Floats

_COMPARED = 512  # up to so many vectors without a graph: each graph takes 2.5 MB, and a scope may hold a single vector


class VectorIndex:
    """Names with their vectors, float32 [D]; `nearest` finds them by squared Euclidean distance."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._vectors: dict[str, Floats] = {}
        self._graph: _Graph | None = None

    def __len__(self) -> int:
        return len(self._vectors)

    def __contains__(self, name: str) -> bool:
        return name in self._vectors

    def add(self, name: str, vector: Floats) -> None:
        """Raises ValueError for a vector of another length."""
        if vector.shape != (self._dimensions,):
            raise ValueError("a vector of another length")
        self._vectors[name] = vector
        if self._graph is not None:
            self._graph.add(name, vector)
        elif len(self._vectors) > _COMPARED:
            self._graph = _Graph(self._vectors)

    def remove(self, name: str) -> None:
        del self._vectors[name]
        if self._graph is None:
            return
        self._graph.remove(name)
        if len(self._vectors) <= _COMPARED // 2:
            self._graph = None
        elif self._graph.mostly_removed:
            self._graph = _Graph(self._vectors)

    def nearest(self, vector: Floats, count: int) -> list[tuple[str, float]]:
        """At most `count` names with their squared distances, nearest first."""
        if self._graph is not None:
            return self._graph.nearest(vector, count)
        if not self._vectors:
            return []
        distances = np.square(np.stack(list(self._vectors.values())) - vector).sum(axis=1)
        names = list(self._vectors)
        return [(names[place], float(distances[place])) for place in np.argsort(distances, kind="stable")[:count]]


class _Graph:
    """At least one vector. Those removed stay in voyager's graph, so that it has to be built again in the end."""

    def __init__(self, vectors: Mapping[str, Floats]) -> None:
        dimensions = len(next(iter(vectors.values())))
        self._index = Index(Space.Euclidean, num_dimensions=dimensions, M=12, ef_construction=100, random_seed=1)
        self._labels: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 0
        for name, vector in vectors.items():
            self.add(name, vector)

    @property
    def mostly_removed(self) -> bool:
        return self._next > 2 * len(self._labels)

    def add(self, name: str, vector: Floats) -> None:
        self._labels[name] = self._next
        self._names[self._next] = name
        self._index.add_item(vector, self._next)
        self._next += 1

    def remove(self, name: str) -> None:
        label = self._labels.pop(name)
        del self._names[label]
        self._index.mark_deleted(label)

    def nearest(self, vector: Floats, count: int) -> list[tuple[str, float]]:
        count = min(count, len(self._labels))
        while count:
            try:
                labels, distances = self._index.query(vector, k=count)
            except RecallError:  # the graph reached fewer than it holds
                count //= 2
                continue
            return [(self._names[int(label)], float(far)) for label, far in zip(labels, distances, strict=True)]
        return []
