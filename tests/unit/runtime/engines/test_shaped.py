"""Graphs for single shapes: the shape alone decides which one runs, and each is opened once, when it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.engines.shaped import InputShapes, ShapedGraph, StaticShapes

MB = 1 << 20
ROW = {"latents": (4, 16, 24), "timestep": ()}
TWO = {"latents": (2, 4, 16, 24), "timestep": (2,)}


class Opened:
    """A graph that says for which shapes it was opened."""

    def __init__(self, shapes: InputShapes | None) -> None:
        self.shapes = shapes

    def __call__(self, inputs: Any) -> Any:
        return {"out": self.shapes}


def call(rows: int, height: int = 16, width: int = 24) -> dict[str, Any]:
    return {
        "latents": np.zeros((rows, 4, height, width), np.float32),
        "timestep": np.zeros(rows, np.float32),
    }


@pytest.fixture
def opened() -> list[InputShapes | None]:
    return []


@pytest.fixture
def graph(opened: list[InputShapes | None]) -> ShapedGraph:
    def open_graph(shapes: InputShapes | None) -> Opened:
        opened.append(shapes)
        return Opened(shapes)

    return ShapedGraph(open_graph, StaticShapes(ROW, [2, 4]))


def test_the_graph_of_one_image_is_opened_at_once(graph: ShapedGraph, opened: list[Any]) -> None:
    assert opened == [TWO]
    graph(call(2))
    assert opened == [TWO]


def test_each_shape_runs_on_its_own_graph_whatever_ran_before(graph: ShapedGraph, opened: list[Any]) -> None:
    for _ in range(2):
        assert graph(call(2))["out"]["latents"] == (2, 4, 16, 24)
        assert graph(call(4))["out"]["latents"] == (4, 4, 16, 24)
    assert len(opened) == 2


@pytest.mark.parametrize("others", [(3, 16, 24), (6, 16, 24), (2, 24, 16), (2, 16, 16), (4, 8, 24)])
def test_all_other_shapes_share_one_graph(graph: ShapedGraph, opened: list[Any], others: tuple[int, int, int]) -> None:
    assert graph(call(*others))["out"] is None
    assert graph(call(1))["out"] is None
    assert opened == [TWO, None]


def test_an_unusual_input_is_no_reason_to_fail(graph: ShapedGraph) -> None:
    assert graph({**call(2), "timestep": np.zeros((2, 1), np.float32)})["out"] is None
    assert graph({**call(2), "further": np.zeros(2, np.float32)})["out"] is None


def test_a_graph_that_could_not_be_opened_is_tried_again() -> None:
    faults = [MemoryError()]

    def open_graph(shapes: InputShapes | None) -> Opened:
        if shapes is None and faults:
            raise faults.pop()
        return Opened(shapes)

    graph = ShapedGraph(open_graph, StaticShapes(ROW, [2]))
    with pytest.raises(MemoryError):
        graph(call(3))
    assert graph(call(3))["out"] is None


@pytest.mark.parametrize(
    ("memory", "unit", "most", "rows"),
    [
        (100 * MB, 2, 8, [2, 4, 6, 8]),  # the rows bound it
        (11 * MB, 2, 8, [2, 4]),  # two graphs fit
        (11 * MB, 1, 8, [1, 2]),
        (100 * MB, 2, 3, [2]),
        (4 * MB, 2, 8, []),
        (4 * MB, 2, 3, [2]),  # instead of the one for all shapes
        (4 * MB, 2, 1, []),
        (0, 2, 8, []),
        (0, 2, 2, []),
    ],
)
def test_as_many_as_fit(memory: int, unit: int, most: int, rows: list[int]) -> None:
    assert StaticShapes.within(memory, MB, ROW, unit, most) == StaticShapes(ROW, rows)
