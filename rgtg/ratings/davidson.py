"""Bradley–Terry strengths with ties (Davidson 1970), an effect of the position on screen, and one of the length; maximum likelihood.

Of settings i (left) and j (right), with theta = s_i - s_j + position + length * length_gap, the chances of left, right and a tie are in
the ratio exp(theta / 2) : exp(-theta / 2) : exp(tie). The log-likelihood is concave, so Newton's method finds the one maximum.
Knows nothing of votes or of how the numbers are shown.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PRECISION = 0.01  # of the prior N(0, 10²) on every number: finite strengths also for a setting that won every battle
MAX_ITERATIONS, TOLERANCE = 100, 1e-9


@dataclass(frozen=True)
class Cells:
    """Battles that are alike, counted together: settings `left` and `right` as indices and the `length_gap`, each of shape (cells,), and
    for every battle its `cell` and `outcome` (0 left, 1 right, 2 tie), of shape (battles,)."""

    num_settings: int
    left: Ints
    right: Ints
    length_gap: Floats
    cell: Ints
    outcome: Ints
    with_length: bool

    def counts(self, weights: Floats) -> Floats:
        """Sum of the weights of the battles by cell and outcome: (battles,) -> (cells, 3)."""
        return np.bincount(self.cell * 3 + self.outcome, weights, minlength=3 * len(self.left)).reshape(-1, 3).astype(np.float64, copy=False)

    @property
    def design(self) -> Floats:
        """Derivative of theta by every number but the tie: (cells, settings + 1 or 2)."""
        rows, number = np.zeros((len(self.left), self.num_settings + 1 + self.with_length)), np.arange(len(self.left))
        rows[number, self.left] += 1
        rows[number, self.right] -= 1
        rows[:, self.num_settings] = 1
        if self.with_length:
            rows[:, -1] = self.length_gap
        return rows


@dataclass(frozen=True)
class Fit:
    """Strengths with mean 0 and the other effects, in log-odds; `covariance` is that of the strengths, from the curvature."""

    strengths: Floats
    position: float
    length: float
    tie: float
    covariance: Floats


def cells_of(left: Ints, right: Ints, outcome: Ints, length_gap: Floats | None, num_settings: int) -> Cells:
    """Battles as cells; `length_gap` None leaves the length out."""
    gap = np.zeros(len(left)) if length_gap is None else length_gap
    keys, cell = np.unique(np.stack([left, right, gap], axis=1), axis=0, return_inverse=True)
    return Cells(num_settings, keys[:, 0].astype(int), keys[:, 1].astype(int), keys[:, 2], cell.reshape(-1), outcome, length_gap is not None)


def fit(cells: Cells, weights: Floats, start: Fit | None = None, design: Floats | None = None, tolerance: float = TOLERANCE) -> Fit:
    """The numbers of highest likelihood for battles with these weights; `start` is where to begin, and it ends with a step below `tolerance`."""
    design = cells.design if design is None else design
    counts, num = cells.counts(weights), cells.num_settings
    total = counts.sum(1)
    numbers = np.zeros(design.shape[1] + 1) if start is None else _packed(start, cells)
    hessian = np.eye(len(numbers))
    for _ in range(MAX_ITERATIONS):
        chances = _chances(design @ numbers[:-1], numbers[-1])
        lead, tied = chances[:, 0] - chances[:, 1], chances[:, 2]
        slope_theta = 0.5 * (counts[:, 0] - counts[:, 1] - total * lead)
        slope = np.append(design.T @ slope_theta, (counts[:, 2] - total * tied).sum()) - PRECISION * numbers
        hessian = np.empty((len(numbers), len(numbers)))
        hessian[:-1, :-1] = design.T @ (design * (total * _information(lead, tied))[:, None])
        hessian[:-1, -1] = hessian[-1, :-1] = design.T @ (-0.5 * total * tied * lead)
        hessian[-1, -1] = (total * tied * (1 - tied)).sum()
        hessian[np.diag_indices_from(hessian)] += PRECISION
        step = np.linalg.solve(hessian, slope)
        numbers = numbers + step / max(1.0, float(np.abs(step).max()))  # no leap, where the curvature is small
        if np.abs(step).max() < tolerance:
            break
    centre = np.eye(num) - 1 / num
    covariance = centre @ np.linalg.inv(hessian)[:num, :num] @ centre
    length = float(numbers[num + 1]) if cells.with_length else 0.0
    return Fit(numbers[:num] - numbers[:num].mean(), float(numbers[num]), length, float(numbers[-1]), covariance)


def log_chances(cells: Cells, fitted: Fit) -> Floats:
    """Log of the chance of what happened in every battle: (battles,)."""
    theta = cells.design @ _packed(fitted, cells)[:-1]
    return np.log(_chances(theta, fitted.tie)[cells.cell, cells.outcome])


def information(theta: Floats, tie: float) -> Floats:
    """What one battle says of theta (Fisher information): less, the surer its winner and the likelier a tie."""
    chances = _chances(theta, tie)
    return _information(chances[:, 0] - chances[:, 1], chances[:, 2])


def _information(lead: Floats, tied: Floats) -> Floats:
    return 0.25 * (1 - tied - lead**2)


def _packed(fitted: Fit, cells: Cells) -> Floats:
    return np.concatenate([fitted.strengths, [fitted.position], [fitted.length] if cells.with_length else [], [fitted.tie]])


def _chances(theta: Floats, tie: float) -> Floats:
    half, chances = theta / 2, np.empty((len(theta), 3))
    size = np.maximum(np.abs(half), tie)  # the largest exponent becomes 0
    chances[:, 0], chances[:, 1], chances[:, 2] = np.exp(half - size), np.exp(-half - size), np.exp(tie - size)
    chances /= (chances[:, 0] + chances[:, 1] + chances[:, 2])[:, None]
    return chances
