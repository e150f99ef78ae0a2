"""The order of tokens in a Swin transformer's image: by row, by attention window, by what merges into one.

A short tower computes one or two of the four strips of 2.5 s that HTSAT stacks in its image, for a sound that repeats
in all of them: the strips above and below are copies of its own. A shift wraps within the strips then. Where a window
spans more rows than there are, it holds copies, of which one is computed and the others are counted in its bias.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from clapedge.features.strips import IMAGE_STRIPS, Strips

MASKED = -100.0
"""Added to the attention score of two tokens that are neighbours only through the cyclic shift (Swin's constant).

It has to be this one: the scores of a trained checkpoint lie so far apart that -60 shifted embeddings by 3e-5.
"""


@dataclass(frozen=True)
class Windows:
    """How an image of tokens is cut into windows of attention.

    Attributes:
        rows: tokens from top to bottom that are computed.
        columns: tokens from left to right, and from top to bottom of the whole image.
        side: tokens along a side of a window, of the whole image.
        shift: tokens by which windows are shifted down and to the right, 0 for none.
    """

    rows: int
    columns: int
    side: int
    shift: int

    @property
    def height(self) -> int:
        """Rows of a window that are computed."""
        return min(self.rows, self.side)

    @property
    def copies(self) -> int:
        """How often a window of the whole image holds the rows that are computed of it."""
        return self.side // self.height

    @property
    def tokens(self) -> int:
        """Tokens of a window that are computed."""
        return self.height * self.side

    @property
    def count(self) -> int:
        """Windows of the image."""
        return self.rows * self.columns // self.tokens

    @property
    def cut(self) -> float:
        """Share of the neighbours that only the shift down joins, whom the border of the whole image parts.

        In the whole image the rows that are computed lie several times, and as often are joined to what is above
        them, but for the first time.
        """
        return max(self.rows, self.side) / self.columns

    def order(self) -> Tensor:
        """Return the order that reads the image window by window, after the cyclic shift to its top left corner."""
        image = raster(self.rows, self.columns).reshape(self.rows, self.columns)
        return self._in_windows(image.roll((-self.shift, -self.shift), (0, 1))).flatten()

    def places_first(self) -> Tensor:
        """Return the order that reads the first token of every window, then the second of every window, and so on."""
        return self.order().reshape(-1, self.tokens).T.flatten()

    def masks(self) -> Tensor:
        """Return what is added to the scores of shifted windows, (count, tokens, tokens); 0 for neighbours.

        Of a part of the image, rows are neighbours across its seam, see `near`.
        """
        right = _regions(self.columns, self.side, self.shift).expand(self.rows, -1)
        down = _regions(self.rows, self.side, self.shift)[:, None] if self.cut == 1 else torch.zeros(1, 1)
        return torch.where(self._together(right + 3 * down), 0.0, MASKED)

    def bias(self, table: Tensor) -> Tensor:
        """Return the bias of the places of a window, its copies counted: (heads, tokens, tokens).

        A key stands for all of its copies: the logarithm of the sum of the exponentials of their biases, which is
        exact while copies are equal. The query is the copy in the middle.

        Args:
            table: (side², side², heads), the bias of the whole window's places.
        """
        return torch.logsumexp(self._copied(table), dim=2) if self.copies > 1 else table.permute(2, 0, 1)

    def near(self, table: Tensor) -> Tensor | None:
        """Return how much of a key is on the query's side of the seam, (down, 1 or heads, tokens, tokens).

        It is the same for the windows of a row, of which there are so many from top to bottom. None where there is no
        seam, or where masks part it.

        Args:
            table: see `bias`; where a key stands for copies, those on the query's side are a share of them.
        """
        if not self.shift or self.cut == 1:
            return None
        if self.copies == 1:
            down = _regions(self.rows, self.side, self.shift)[:, None].expand(-1, self.columns)
            return self._together(down).float()[:: self.columns // self.side, None]
        places, above = self._copied(table), torch.arange(self.copies) * self.height < self.side - self.shift
        beside = above == above[self.copies // 2]
        return (torch.logsumexp(places[:, :, beside], dim=2) - torch.logsumexp(places, dim=2)).exp()[None]

    def _copied(self, table: Tensor) -> Tensor:
        """Return the biases of the middle copy's queries: (heads, tokens, copies, tokens)."""
        shape = (table.shape[-1], self.copies, self.tokens, self.copies, self.tokens)
        return table.permute(2, 0, 1).reshape(shape)[:, self.copies // 2]

    def _in_windows(self, image: Tensor) -> Tensor:
        """Return an image (rows, columns) as windows (count, tokens)."""
        down, right = self.rows // self.height, self.columns // self.side
        windows = image.reshape(down, self.height, right, self.side).transpose(1, 2)
        return windows.reshape(self.count, self.tokens)

    def _together(self, regions: Tensor) -> Tensor:
        """Return which tokens of a window lie in the same region of an image: (count, tokens, tokens) bool."""
        windows = self._in_windows(regions)
        return windows[:, :, None] == windows[:, None, :]


def raster(rows: int, columns: int) -> Tensor:
    """Return the order that reads an image row by row."""
    return torch.arange(rows * columns)


def merge_order(order: Tensor, columns: int) -> Tensor:
    """Return the order that keeps together the four tokens that merge into one of `order`.

    The four are (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), as the checkpoint's reduction expects them.

    Args:
        order: of the image after the merge.
        columns: of the image before it.
    """
    half = columns // 2
    row, column = 2 * (order // half), 2 * (order % half)
    corners = [(row + down) * columns + column + right for right in (0, 1) for down in (0, 1)]
    return torch.stack(corners, dim=1).flatten()


def short_strips(resolution: int, stages: int, window: int) -> tuple[Strips, ...]:
    """Return of how many strips a short tower can be made: those whose rows fill the windows of every stage, or divide.

    Args:
        resolution: tokens along a side of the first stage's image.
        stages: of the encoder, each of half the resolution.
        window: tokens along a side of a window.
    """

    def fits(strips: int) -> bool:
        sides = [resolution >> stage for stage in range(stages)]
        rows = [side * strips // IMAGE_STRIPS for side in sides]
        return sides[-1] * strips % IMAGE_STRIPS == 0 and all(
            height > 0 and (height % min(side, window) == 0 or min(side, window) % height == 0)
            for side, height in zip(sides, rows, strict=True)
        )

    every: tuple[Strips, ...] = get_args(Strips)
    return tuple(strips for strips in every if fits(strips))


def _regions(length: int, side: int, shift: int) -> Tensor:
    """Return the region of each place along a side of a shifted image: inside, last window, and what wrapped."""
    place = torch.arange(length)
    return (place >= length - side).long() + (place >= length - shift).long()
