"""Token merging: self-attention over fewer tokens, those most alike being averaged first (Bolya and Hoffman 2023)."""

from __future__ import annotations

from typing import Any

import torch

from model_build import BuildRefused

MAX_RATIO = 0.6  # three of four tokens may merge into the fourth, and on odd sides there are fewer of those


def merge_tokens(unet: torch.nn.Module, ratio: float) -> None:
    """Merge `ratio` of all tokens around every self-attention of the UNet's finest level that has any, in place.

    The graph stays dynamic in rows, height and width, and has no random choice in it. 0: nothing is changed.

    Raises: BuildRefused for a ratio above `MAX_RATIO`, or a UNet without self-attention.
    """
    if not ratio:
        return
    if not 0 < ratio <= MAX_RATIO:
        raise BuildRefused(f"--token-merging {ratio:g} must lie between 0 and {MAX_RATIO:g}.")
    owner: Any = unet
    levels = list(zip(owner.down_blocks, reversed(owner.up_blocks), strict=True))
    for depth, sides in enumerate(levels):
        blocks = [
            block
            for side in sides
            for attention in getattr(side, "attentions", ())
            for block in attention.transformer_blocks
        ]
        if blocks:
            grid = _Grid(2**depth)
            unet.register_forward_pre_hook(grid.see, with_kwargs=True)
            for block in blocks:
                block.attn1 = _MergedAttention(block.attn1, grid, ratio)
            return
    raise BuildRefused("The UNet has no self-attention, so there are no tokens to merge.")


class _Grid:
    """Height and width in tokens, which attention itself is not told."""

    def __init__(self, shrink: int) -> None:
        self._shrink = shrink
        self.size: tuple[int, int] = (0, 0)

    def see(self, _: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        latents = positional[0] if positional else named["sample"]
        height, width = latents.shape[2:]
        self.size = (-(-height // self._shrink), -(-width // self._shrink)) if self._shrink > 1 else (height, width)


class _MergedAttention(torch.nn.Module):
    """tokens [rows, n, C] -> [rows, n, C]: attention among merged tokens, each result given to all it stands for."""

    def __init__(self, attention: torch.nn.Module, grid: _Grid, ratio: float) -> None:
        super().__init__()
        self.attention = attention
        self._grid = grid
        self._percent = round(100 * ratio)

    def forward(self, tokens: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        merged, places = merge(tokens, self._grid.size, self._percent)
        attended: torch.Tensor = self.attention(merged, *arguments, **named)
        return _taken(attended, places)


def merge(tokens: torch.Tensor, size: tuple[int, int], percent: int) -> tuple[torch.Tensor, torch.Tensor]:
    """tokens [rows, n, C], n = height x width -> merged [rows, m, C], and where each token went: int64 [rows, n].

    Bipartite soft matching: of each 2 x 2 cell the first token is a target, the others are sources. Each source's
    nearest target by cosine is found, and the `percent` of all tokens nearest to theirs are averaged into it. Merged
    tokens are the sources left, in order of falling likeness, then the targets.
    """
    rows, count, channels = tokens.shape
    height, width = size
    order = torch.arange(count, device=tokens.device).reshape(height, width)
    targets = order[::2, ::2].reshape(-1)
    sources = torch.cat([cut.reshape(-1) for cut in (order[::2, 1::2], order[1::2, ::2], order[1::2, 1::2])])
    fixed, moving = tokens[:, targets], tokens[:, sources]

    # targets x sources: OpenVINO finds the maxima of columns side by side, those of rows one by one
    alike = torch.nn.functional.normalize(fixed, dim=-1) @ torch.nn.functional.normalize(moving, dim=-1).transpose(1, 2)
    nearest, where = alike.max(dim=1)
    ranked = nearest.topk(sources.shape[0], dim=-1).indices
    gone = count * percent // 100
    leaving, staying = ranked[:, :gone], ranked[:, gone:]
    left = sources.shape[0] - gone

    into = where.gather(1, leaving)
    ones = torch.ones_like(into, dtype=tokens.dtype)
    weight = torch.ones(rows, targets.shape[0], dtype=tokens.dtype, device=tokens.device).scatter_add(1, into, ones)
    moved = _taken(moving, leaving)
    total = fixed.scatter_add(1, into.unsqueeze(-1).expand(-1, -1, channels), moved)
    stayed = _taken(moving, staying)
    merged = torch.cat([stayed, total / weight.unsqueeze(-1)], dim=1)

    # Of sources: those that stay have the first places, those that leave their target's; then back to grid order.
    ahead = torch.arange(left, device=tokens.device).expand(rows, -1)
    of_sources = torch.zeros_like(ranked).scatter(1, ranked, torch.cat([into + left, ahead], dim=1))
    of_targets = (torch.arange(targets.shape[0], device=tokens.device) + left).expand(rows, -1)
    back = torch.zeros_like(order).reshape(-1).scatter(0, torch.cat([sources, targets]), order.reshape(-1))
    return merged, torch.cat([of_sources, of_targets], dim=1)[:, back]


def _taken(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """tokens [rows, n, C], places int64 [rows, m] -> [rows, m, C]; whole tokens are copied, not channel by channel."""
    rows, count, channels = tokens.shape
    first = torch.arange(rows, device=tokens.device).unsqueeze(-1) * count
    return tokens.reshape(rows * count, channels)[places + first]
