"""The price table has a date and says what is wrong with another."""

import pytest

from darkroom.scaling.prices import PriceError, read_prices


def test_the_shipped_table_is_dated_and_sourced():
    table = read_prices()
    assert table.as_of.year >= 2025
    assert "Check" in table.note
    assert all(price.source and price.per_hour > 0 for price in table.prices)
    assert table.price() == table.prices[0]
    assert table.aws is not None
    assert table.aws.source
    assert table.price("g4dn.xlarge").per_hour < table.price("g5.xlarge").per_hour


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(PriceError, match="it has"):
        read_prices().price("gold")
    with pytest.raises(PriceError, match="cannot be read"):
        read_prices(tmp_path / "none.json")
    (tmp_path / "p.json").write_text(
        '{"as_of": "2026-01-01", "currency": "USD", "prices": [{"name": "x", "per_hour": -1}]}'
    )
    with pytest.raises(PriceError, match=r"prices\.0\.per_hour"):
        read_prices(tmp_path / "p.json")
