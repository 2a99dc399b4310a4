"""The gradient of the sums over pairs, in closed form, block by block."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dcorr._process_group import Team
from dcorr.pairwise.backend import Incoming
from dcorr.pairwise.centring import Block, Side, shifted, weighted_sum
from dcorr.pairwise.sample import Distances, slopes, wide


def pull_blocks(
    sides: list[Side],
    weights: Tensor | None,
    incoming: Incoming,
    wanted: list[bool],
    blocks: Iterable[Block],
    team: Team | None,
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights, ``None`` where not wanted.

    In a team they are sums over the blocks of this process, to be added to those of the others.
    """
    pull = PairPull(sides, weights, incoming, wanted)
    weight_pull = WeightPull(pull) if wanted[-1] else None
    for block in blocks:
        pull.add(block)
        if weight_pull is not None:
            weight_pull.add(block)
    grads = [pull.gradient(k) if wanted[k] else None for k in range(len(sides))]
    first = team is None or team.rank == 0
    return [*grads, None if weight_pull is None else weight_pull.finish(beside_blocks=first)]


class PairPull:
    r"""The gradient of the pair moments, in closed form.

    With incoming gradients :math:`g_{ab}, g_{aa}` of the means of products and ``u`` of the row
    means, both places in which each pair stands taken together,

    .. math:: \partial L / \partial a_{ij} =
        2 w_i w_j (g_{ab} B_{ij} + 2 g_{aa} A_{ij}) + u_i w_j + w_i u_j,

    and :math:`\partial a_{ij} / \partial x_i = \alpha |x_i - x_j|^{\alpha - 2} (x_i - x_j)`.
    The derivative of the centring drops out because centring is a projection.
    """

    def __init__(
        self,
        sides: list[Side],
        weights: Tensor | None,
        incoming: Incoming,
        wanted: list[bool],
    ) -> None:
        self.sides = sides
        self.weights = weights
        self.wanted = wanted
        self.products = {pair: g.unsqueeze(-1) for pair, g in incoming.products.items()}  # (B, 1)
        self.rows = [
            None if u is None else u * side.unit
            for u, side in zip(incoming.rows, sides, strict=True)
        ]
        for side, row_means in zip(sides, incoming.row_means, strict=True):
            side.shift_by(row_means / side.unit, weights)
        plain = [self._plain(k) for k in range(len(sides))]
        self.plain = plain if all(plain) else [None] * len(sides)

    def add(self, block: Block) -> None:
        """Add the pull of a block of pairs."""
        if all(self.plain):
            self._add_plain(block)
            return
        matrices = shifted(self.sides, block)
        for k, distances in enumerate(block.distances):
            if self.wanted[k]:
                self._pull(k, self._gradient_of_powers(k, matrices, block), distances, block)

    def _add_plain(self, block: Block) -> None:
        """Add the pull of a block where no more than one matrix pulls at each side.

        A side's distances are shifted in their own place once it has been pulled itself: the less
        memory a block takes, the more of it stays in the caches.
        """
        pulled = set()
        for k, (own, plain) in enumerate(zip(block.distances, self.plain, strict=True)):
            if self.wanted[k] and plain is not None:
                other = plain[0]
                d = block.distances[other].d
                total = self.sides[other].shifted(d, block, in_place=other in pulled)
                self._pull(k, total, own, block)
                pulled.add(k)

    def _pull(self, k: int, total: Tensor, distances: Distances, block: Block) -> None:
        """Pull at a side by a gradient of its powers, which is overwritten."""
        side = self.sides[k]
        w = _forces(total, distances, side.exponent, diagonal=not block.mirrored)
        side.sample.pull(w, distances.near, block.rows, block.columns)

    def gradient(self, k: int) -> Tensor:
        """Return the gradient of a sample."""
        sample, plain = self.sides[k].sample, self.plain[k]
        if plain is None:
            return sample.gradient()
        factor = plain[1].unsqueeze(-1)
        if sample.scale is None:
            return sample.gradient().mul_(factor.to(sample.x.dtype))
        return sample.gradient() * factor  # which may have no room in the dtype of the points

    def _plain(self, k: int) -> tuple[int, Tensor] | None:
        """Return the one matrix and the factor that are the whole gradient, if they are.

        So it is for one product alone. A factor is cheaper to apply to the sum of the pulls.
        """
        if len(self.products) != 1 or self.weights is not None or self.rows[k] is not None:
            return None
        (((i, j), g),) = self.products.items()
        if k not in (i, j):
            return None
        return (j if i == k else i), self._factor(i, j, g) / self.sides[k].scale

    def _factor(self, i: int, j: int, g: Tensor) -> Tensor:
        """Return what the shifted distances of one side of a product are multiplied by."""
        share = 1.0 / self.sides[i].shift.shape[-1] if self.weights is None else 1.0
        unit = self.sides[i].unit * self.sides[j].unit
        return (4 if i == j else 2) * share**2 * g * unit

    def _gradient_of_powers(self, k: int, matrices: list[Tensor], block: Block) -> Tensor:
        """Return the gradient with respect to the shifted powers of a block."""
        rows, columns, _ = block
        side, dtype = self.sides[k], matrices[k].dtype
        n = side.shift.shape[-1]
        share = 1.0 / n if self.weights is None else 1.0
        total = torch.zeros_like(matrices[k])
        for (i, j), g in self.products.items():
            if k in (i, j):
                other = j if i == k else i
                factor = self._factor(i, j, g) / side.scale  # scaled before it is narrow
                total.addcmul_(matrices[other], factor.to(dtype).unsqueeze(-1))
        if self.weights is not None:
            total *= self.weights[:, rows, None] * self.weights[:, None, columns]
        u = self.rows[k]
        if u is not None:
            u = (u * (share / side.scale)).to(dtype)
            if self.weights is None:
                total += u[:, rows, None] + u[:, None, columns]
            else:
                total += u[:, rows, None] * self.weights[:, None, columns]
                total += self.weights[:, rows, None] * u[:, None, columns]
        return total


def _forces(total: Tensor, distances: Distances, exponent: float, *, diagonal: bool) -> Tensor:
    """Return a gradient of powers, which is overwritten, over the distances: 0 where those are."""
    d, near = distances
    if near is not None or exponent != 1.0:
        return total.mul_(slopes(d, exponent))
    total.div_(d)
    if diagonal:
        total.diagonal(dim1=-2, dim2=-1).zero_()
    return total


class WeightPull:
    r"""The gradient of the pair moments with respect to the weights.

    For weights of sum 1, and up to a constant that the normalisation of weights removes,
    :math:`\partial / \partial w_i = 2 g_{ab} \sum_j w_j A_{ij} B_{ij} + \sum_j a_{ij} u_j`.
    """

    def __init__(self, pull: PairPull) -> None:
        assert pull.weights is not None
        self.pull = pull
        self.weights = pull.weights
        self.grad = torch.zeros_like(pull.weights, dtype=wide(pull.weights))

    def add(self, block: Block) -> None:
        """Add the pull of a block of pairs."""
        matrices = shifted(self.pull.sides, block)
        for (k, m), g in self.pull.products.items():
            self._add(matrices[k] * matrices[m], self._factor(k, m, g), self.weights, block)
        for a, u in zip(matrices, self.pull.rows, strict=True):
            if u is not None:
                self._add(a, 1.0, u, block)

    def _add(self, matrix: Tensor, factor: Tensor | float, vector: Tensor, block: Block) -> None:
        self.grad[:, block.rows] += factor * weighted_sum(matrix, vector, block.columns)
        if block.mirrored:
            self.grad[:, block.columns] += factor * weighted_sum(matrix.mT, vector, block.rows)

    def _factor(self, k: int, m: int, g: Tensor) -> Tensor:
        factor: Tensor = 2 * g * self.pull.sides[k].unit * self.pull.sides[m].unit
        return factor

    def finish(self, *, beside_blocks: bool) -> Tensor:
        """Return the gradient, with what the blocks leave out: the diagonal and the shifts."""
        grad = self.grad
        if not beside_blocks:
            return grad
        shifts = [side.shift.to(grad.dtype) for side in self.pull.sides]
        for (k, m), g in self.pull.products.items():
            grad = grad + self._factor(k, m, g) * self.weights * 4 * shifts[k] * shifts[m]
        for shift, u in zip(shifts, self.pull.rows, strict=True):
            if u is not None:
                total, product = (t.sum(-1, keepdim=True) for t in (u, u * shift))
                grad = grad + shift * total + product - 2 * shift * u
        return grad
