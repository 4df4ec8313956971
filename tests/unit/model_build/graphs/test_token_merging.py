"""Tokens that merge: which, into what, and that each gets its result back."""

from __future__ import annotations

import pytest
import torch

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.graphs.token_merging import merge, merge_tokens


def tokens(height: int, width: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, height * width, 5, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize("size", [(4, 4), (8, 6), (5, 7), (2, 9)])
@pytest.mark.parametrize("percent", [0, 20, 40])
def test_how_many_are_left_and_where_each_went(size: tuple[int, int], percent: int) -> None:
    given = tokens(*size)
    count = given.shape[1]
    merged, places = merge(given, size, percent)
    assert merged.shape[1] == count - count * percent // 100
    assert places.shape == (2, count)
    for row in range(2):
        went, members = places[row], merged.shape[1]
        assert set(went.tolist()) == set(range(members)), "each merged token stands for at least one"
        means = torch.stack([given[row, went == place].mean(dim=0) for place in range(members)])
        assert torch.allclose(merged[row], means, atol=1e-6), "a merged token is the mean of those it stands for"


def test_without_merging_every_token_comes_back() -> None:
    given = tokens(6, 5)
    merged, places = merge(given, (6, 5), 0)
    back = torch.stack([row[place] for row, place in zip(merged, places, strict=True)])
    assert torch.equal(back, given)


def test_those_most_alike_go_first() -> None:
    """A 4 x 4 grid of unlike tokens in which one is nearly the copy of a target two cells away."""
    given = torch.eye(16).unsqueeze(0)
    given[0, 13] = given[0, 2] + 0.01 * given[0, 13]
    _, places = merge(given, (4, 4), 7)  # one of sixteen
    assert places[0, 13] == places[0, 2]
    assert len(set(places[0].tolist())) == 15


def test_rows_merge_each_for_itself() -> None:
    given = tokens(8, 8)
    together, places = merge(given, (8, 8), 40)
    for row in range(2):
        alone, place = merge(given[row : row + 1], (8, 8), 40)
        assert torch.allclose(together[row], alone[0], atol=1e-6)
        assert torch.equal(places[row], place[0])


def test_only_the_finest_level_merges(tiny_checkpoint_pipeline: object) -> None:
    unet = tiny_checkpoint_pipeline.unet  # type: ignore[attr-defined]
    inputs = torch.randn(2, 4, 9, 12), torch.tensor([500.0, 20.0]), torch.randn(2, 77, 32)
    with torch.no_grad():
        whole = unet(*inputs).sample
        merge_tokens(unet, 0.4)
        merged = unet(*inputs).sample
    names = [name for name, module in unet.named_modules() if type(module).__name__ == "_MergedAttention"]
    assert {name.partition(".attentions")[0] for name in names} == {"down_blocks.0", "up_blocks.1"}
    assert all(name.endswith("attn1") for name in names)
    error = (merged - whole).pow(2).mean().sqrt() / whole.std()
    assert 0 < error < 0.3


@pytest.mark.parametrize("ratio", [-0.1, 0.7, float("nan")])
def test_a_ratio_that_cannot_be(ratio: float) -> None:
    with pytest.raises(BuildRefused, match=r"^--token-merging"):
        merge_tokens(torch.nn.Identity(), ratio)


@pytest.fixture
def tiny_checkpoint_pipeline(tiny_checkpoint: object) -> object:
    return load(open_checkpoint(str(tiny_checkpoint)))
