"""Row costs: what a UNet row takes with so many in a call, measured at build, and how many a call should have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from darkroom.bundles.catalog import bundle_key
from darkroom.errors import EngineIntegrity, ObjectNotFound
from darkroom.storage import ObjectReader

ROW_COSTS = "pace.json"  # as published; beside a bundle's files and not one of them: measurements are no content
GUIDED = 2  # rows of a guided image: fewer cannot be asked for
_WORTH = 1.05  # rows are batched for a twentieth of their time, not for less

RowMilliseconds = dict[Annotated[int, Field(ge=1)], Annotated[float, Field(gt=0)]]


class RowCosts(BaseModel, frozen=True, extra="forbid"):
    """For each target, rows in one UNet call -> milliseconds a row; on this processor with so many threads.

    No manifest vouches for them, so they bring a digest of their own: `sha256` of all else, as `sealed` sets it.
    """

    processor: str
    threads: int
    targets: dict[str, RowMilliseconds]
    sha256: str = ""

    def sealed(self) -> RowCosts:
        """The same, with its digest."""
        return self.model_copy(update={"sha256": self._digest()})

    @property
    def whole(self) -> bool:
        """Whether they are what was sealed."""
        return self.sha256 == self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()

    def row_cap(self, target: str, processor: str, threads: int) -> int | None:
        """Most rows that a call should have; None where nothing was measured of this target on such a machine."""
        if (self.processor, self.threads) != (processor, threads) or not self.targets.get(target):
            return None
        return row_cap(self.targets[target])


def row_cap(costs: Mapping[int, float]) -> int:
    """The fewest rows, but at least those of one guided image, that cost hardly more each than at any number."""
    best = min(costs.values())
    return max(GUIDED, min(rows for rows, cost in costs.items() if cost <= _WORTH * best))


def load_row_costs(store: ObjectReader, model: str, version: str) -> RowCosts | None:
    """What was measured of a version; None where nothing is there.

    Raises: EngineIntegrity, where it is damaged; what the store raises.
    """
    try:
        costs = RowCosts.model_validate_json(store.get(bundle_key(model, version, ROW_COSTS)))
        if costs.whole:
            return costs
    except ObjectNotFound:
        return None
    except ValidationError:
        pass
    raise EngineIntegrity(f"{ROW_COSTS} of {model} {version} is damaged, or of an older release.")
