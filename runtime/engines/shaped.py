"""One network with several graphs: one for each of a few fixed input shapes, and one for every other shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.arrays import Floats, Ids

if TYPE_CHECKING:
    from runtime.engines import Graph

InputShapes = Mapping[str, tuple[int, ...]]

# A graph takes so many times the size of the network's files, working memory included (measured in OpenVINO: 3 to 5).
_MEMORY_A_BYTE = 5


@dataclass(frozen=True)
class StaticShapes:
    """The calls that have a graph of their own: `rows` are their numbers of rows, `row` the input shapes of one row."""

    row: InputShapes
    rows: Sequence[int]

    @classmethod
    def within(cls, memory: int, network: int, row: InputShapes, unit: int, most: int) -> StaticShapes:
        """As many as fit, for calls of 1, 2, 3, ... images of a UNet; none where `memory` is 0.

        `memory` bounds all graphs together and `network` is the size of the network's files, in bytes. An image is
        `unit` rows, and a call has at most `most`. Where a call never holds two images, one graph is made whatever
        `memory` bounds: nearly all calls have its shape, so that the graph for every other shape is hardly ever made.
        """
        images = min(memory // (_MEMORY_A_BYTE * network), most // unit)
        if memory and unit <= most < 2 * unit:
            images = 1
        return cls(row, [unit * image for image in range(1, images + 1)])

    def of(self, rows: int) -> InputShapes:
        return {name: (rows, *shape) for name, shape in self.row.items()}


class ShapedGraph:
    """Chooses a graph by the shapes of the inputs alone, so that equal calls give equal bytes.

    The graph for a single image is opened at once, each other one by the first call that needs it.
    """

    def __init__(self, open_graph: Callable[[InputShapes | None], Graph], static: StaticShapes) -> None:
        """`open_graph` opens the network for these shapes of its inputs; None: for all."""
        self._open_graph = open_graph
        self._static = static
        first = static.rows[0]
        self._graphs: dict[int | None, Graph] = {first: open_graph(static.of(first))}

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        rows = len(inputs["latents"])
        shapes = {name: value.shape for name, value in inputs.items()}
        key = rows if rows in self._static.rows and shapes == self._static.of(rows) else None
        if key not in self._graphs:
            self._graphs[key] = self._open_graph(None if key is None else shapes)
        return self._graphs[key](inputs)
