"""One network, compiled for single shapes of its inputs where that pays, and for all others at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.arrays import Floats, Ids

if TYPE_CHECKING:
    from runtime.engines import Graph

InputShapes = Mapping[str, tuple[int, ...]]

# Of a network's files: what OpenVINO's graph of it takes, working memory included (measured: 3 to 5).
_MEMORY_A_BYTE = 5


@dataclass(frozen=True)
class StaticShapes:
    """Calls that a graph of their own is made for: so many rows, each with inputs of these shapes."""

    row: InputShapes
    rows: Sequence[int]

    @classmethod
    def within(cls, memory: int, network: int, row: InputShapes, unit: int, most: int) -> StaticShapes:
        """Of a UNet: 1, 2, 3, ... images of `unit` rows: `memory` bytes hold their graphs, a call `most` rows; none for
        no memory.

        `network` is the size of the network's files in bytes. Where one image fills a call, its graph is there in any
        case: it takes the place of the one for all shapes, and no memory of its own.
        """
        images = min(memory // (_MEMORY_A_BYTE * network), most // unit)
        if memory and unit <= most < 2 * unit:
            images = 1
        return cls(row, [unit * image for image in range(1, images + 1)])

    def of(self, rows: int) -> InputShapes:
        return {name: (rows, *shape) for name, shape in self.row.items()}


class ShapedGraph:
    """Which graph runs is decided by the inputs' shapes alone, so that equal calls give equal bytes. That for a single
    image is opened at once, the others for the first call that needs them.
    """

    def __init__(self, open_graph: Callable[[InputShapes | None], Graph], static: StaticShapes) -> None:
        """`open_graph` opens the network for these shapes of its inputs; None: for all."""
        self._open_graph = open_graph
        self._static = static
        first = static.rows[0]
        self._graphs: dict[int | None, Graph] = {first: open_graph(static.of(first))}

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> Floats:
        return self._find(inputs)(inputs)

    def outputs(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        return self._find(inputs).outputs(inputs)

    def _find(self, inputs: Mapping[str, Floats | Ids]) -> Graph:
        rows = len(inputs["latents"])
        shapes = {name: value.shape for name, value in inputs.items()}
        key = rows if rows in self._static.rows and shapes == self._static.of(rows) else None
        if key not in self._graphs:
            self._graphs[key] = self._open_graph(None if key is None else shapes)
        return self._graphs[key]
