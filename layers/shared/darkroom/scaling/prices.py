"""The price table: what an hour of one replica costs, as of a date."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

SHIPPED = Path(__file__).parent / "prices.json"


class PriceError(Exception):
    """One sentence for the person who gave the table."""


class Price(BaseModel, frozen=True, extra="forbid"):
    name: str
    per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    what: str = ""
    source: str = ""


Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ServicePrices(BaseModel, frozen=True, extra="forbid"):
    """What AWS's other services ask for their units."""

    source: str = ""
    gateway_million_requests: Money
    lambda_million_requests: Money
    lambda_gb_second: Money
    dynamodb_million_writes: Money
    dynamodb_million_reads: Money
    s3_thousand_writes: Money
    s3_thousand_reads: Money
    s3_gb_month: Money
    sns_million_messages: Money
    gb_out: Money


class PriceTable(BaseModel, frozen=True, extra="forbid"):
    """List prices of one date; they change, so the date is always shown with them."""

    as_of: date
    currency: str
    note: str = ""
    prices: Annotated[tuple[Price, ...], Field(min_length=1)]
    aws: ServicePrices | None = None

    def price(self, name: str | None = None) -> Price:
        """A price by its name (default: the first). Raises PriceError."""
        for price in self.prices:
            if name in (None, price.name):
                return price
        raise PriceError(f"The table has no {name}; it has {', '.join(price.name for price in self.prices)}.")


def read_prices(path: Path = SHIPPED) -> PriceTable:
    """Raises: PriceError."""
    try:
        return PriceTable.model_validate_json(path.read_bytes())
    except OSError:
        raise PriceError(f"{path.name} cannot be read.") from None
    except ValidationError as refused:
        place = ".".join(str(part) for part in refused.errors()[0]["loc"])
        raise PriceError(f"{path.name}: {place or 'the table'} is not as it should be.") from None
