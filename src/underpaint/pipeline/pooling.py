"""Spectra of like neighbours are summed where one pixel has few counts: what is known of them is known of all."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaincinv

from underpaint.data.maps import Results
from underpaint.elements import Evidence, VariableFit, valid_part

Single = NDArray[np.float32]
Core = tuple[slice, slice]

TARGET_COUNTS = 2e4
"""Counts of a pool: at 1e4 the network's answers are as good as they get, at 1e3 one set in eight is wrong."""
RADIUS = 3
"""Farthest neighbour of a pool, pixels."""
MOST_UNLIKE = 0.99
"""Quantile of the squared differences of pixels of one paint up to which two are alike."""
MOST_SIGMAS = 3.5
"""Largest difference of one line, so that a line of one pixel of another paint stays."""
_LEAST_VARIANCE = 0.25
_SHIFTS = sorted(
    (
        (row, column)
        for row in range(-RADIUS, RADIUS + 1)
        for column in range(-RADIUS, RADIUS + 1)
        if 0 < row**2 + column**2 <= RADIUS**2
    ),
    key=lambda shift: (shift[0] ** 2 + shift[1] ** 2, shift),
)


@dataclass(frozen=True)
class Shown:
    """What the sound spectra of a block show.

    Parameters
    ----------
    evidence : Evidence
        Of these, (n, n_column).
    sound : (n_row, n_column) bool array
        Where they are.
    """

    evidence: Evidence
    sound: NDArray[np.bool_]

    @classmethod
    def of_block(cls, fit: VariableFit, counts: NDArray[Any], present: NDArray[np.bool_] | None) -> "Shown":
        """Return what (n_row, n_column, n_channel) counts show."""
        sound, spectra = valid_part(counts, present)
        return cls(fit(spectra), sound.reshape(counts.shape[:2]))

    def only(self, core: Core) -> "Shown":
        """Return the part of some rows and columns."""
        inside = np.zeros(self.sound.shape, bool)
        inside[core] = True
        selected = inside[self.sound]
        if selected.all():
            return Shown(self.evidence, self.sound[core])
        return Shown(Evidence._make(values[selected] for values in self.evidence), self.sound[core])

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (n_row, n_column, n) of (n, n) values of the sound spectra; NaN, or False, elsewhere."""
        full = np.full((*self.sound.shape, values.shape[1]), False if values.dtype == bool else np.nan, values.dtype)
        full[self.sound] = values
        return full


@dataclass(frozen=True)
class Pooling:
    """How like neighbours are summed.

    Parameters
    ----------
    columns : (n,) int array
        Families by which pixels are compared, among the columns of the fit.
    target : float
        Counts that a pool shall have.

    Notes
    -----
    A pixel joins the pool of another within :data:`RADIUS` where the sum over families of the squared differences of
    areas, over their variances, stays below the 99 % point of chi-square, and none differs by more than 3.5 deviations.
    The nearest join first, until the pool has its counts. Sums of counts are counts: their noise stays Poisson's.
    """

    columns: NDArray[np.intp]
    target: float = TARGET_COUNTS

    def __call__(
        self, shown: Shown, counts: NDArray[Any], pixel_counts: NDArray[np.float64], core: Core
    ) -> tuple[Single, NDArray[np.float64], Single]:
        """Return the summed spectra of the core, their counts, and how many pixels are in each.

        Parameters
        ----------
        shown : Shown
            Of the block and what lies around it.
        counts : (n_row, n_column, n_channel) array
        pixel_counts : (n_row, n_column) array
        core : (slice, slice)
            Rows and columns of the pixels to answer; those around them may join.

        Returns
        -------
        (*core, n_channel), (*core) and (*core, 1) arrays
        """
        joined = self.joined(shown, pixel_counts, core)
        shape = shown.sound[core].shape
        clean = np.where(shown.sound[:, :, None], counts, 0).reshape(-1, counts.shape[-1])
        spectra = np.asarray(joined @ clean.astype(np.float32)).reshape(*shape, -1)
        n_pixel = np.where(shown.sound[core], joined.sum(axis=1).reshape(shape), np.nan).astype(np.float32)
        n_counts = np.asarray(joined @ np.nan_to_num(pixel_counts).ravel()).reshape(shape)
        return spectra, n_counts, n_pixel[:, :, None]

    def noted(self, results: Results) -> Results:
        """Return results with a note of what was summed."""
        n_pixel = results.map("pool")
        note = (
            "Pixels have few counts: the network was given the sum of each pixel and its like neighbours, "
            f"{np.nanmedian(n_pixel):.0f} pixels in the median (pool.tif). Element maps are of single pixels. "
            "With --pool off the network gets single pixels, too."
        )
        notes = (*results.process_notes["pigments"], note)
        return replace(results, process_notes={**results.process_notes, "pigments": notes})

    def joined(self, shown: Shown, pixel_counts: NDArray[np.float64], core: Core) -> csr_array:
        """Return which pixels are summed for each of the core: (n_core, n_row * n_column) of ones."""
        shape = pixel_counts.shape
        total = np.where(shown.sound, np.nan_to_num(pixel_counts), 0.0)
        area, sigma = (shown.spread(part[:, self.columns]) for part in (shown.evidence.area, shown.evidence.sigma))
        variance = np.maximum(sigma**2, _LEAST_VARIANCE)
        index, pooled = np.arange(total.size).reshape(shape), total[core].copy()
        number = np.arange(pooled.size).reshape(pooled.shape)
        rows, columns = [number.ravel()], [index[core].ravel()]
        most = float(2.0 * gammaincinv(0.5 * self.columns.size, MOST_UNLIKE))  # quantile of chi squared
        for shift in _SHIFTS:
            starts = [part.start + step for part, step in zip(core, shift, strict=True)]
            # of the core, what has a neighbour there
            low = [max(0, -start) for start in starts]
            high = [min(n, size - start) for n, size, start in zip(pooled.shape, shape, starts, strict=True)]
            if low[0] >= high[0] or low[1] >= high[1]:
                continue
            window = slice(low[0], high[0]), slice(low[1], high[1])
            short = pooled[window] < self.target
            if not short.any():
                continue
            at, neighbour = (
                tuple(slice(first + part.start, first + part.stop) for first, part in zip(firsts, window, strict=True))
                for firsts in ([part.start for part in core], starts)
            )
            squared = (area[at] - area[neighbour]) ** 2 / (variance[at] + variance[neighbour])
            similar = short & (squared.sum(axis=2) < most) & (squared.max(axis=2) < MOST_SIGMAS**2)
            pooled[window] += np.where(similar, total[neighbour], 0.0)
            rows.append(number[window][similar])
            columns.append(index[neighbour][similar])
        row, column = np.concatenate(rows), np.concatenate(columns)
        return csr_array((np.ones(row.size, np.float32), (row, column)), shape=(pooled.size, total.size))


def plan_pooling(fit: VariableFit, sample: NDArray[Any]) -> Pooling | None:
    """Return how pixels of a scan are compared: by the families that it shows; None where it shows none."""
    names = {*fit.shown(), *fit.shown_by_pixels(sample)}
    columns = np.asarray([index for index, name in enumerate(fit.names) if name in names], np.intp)
    return Pooling(columns) if columns.size else None


def few_counts(pixel_counts: NDArray[np.float64]) -> bool:
    """Whether half of a scan's pixels have fewer counts than a pool shall have."""
    known = pixel_counts[pixel_counts > 0]
    return bool(known.size > 1 and np.median(known) < TARGET_COUNTS)
