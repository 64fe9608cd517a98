"""Summation of the spectra of similar neighbouring pixels in scans with few counts per pixel."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaincinv

from underpaint.data.maps import Results
from underpaint.elements import Evidence, VariableFit, valid_part

Float32Array = NDArray[np.float32]
CoreSlices = tuple[slice, slice]

TARGET_COUNTS = 2e4
"""Target of the total counts of a pool. A pool is a set of pixels whose spectra are summed. Above 1e4 counts, the
network does not improve. At 1e3 counts, one in eight sets of answers is wrong."""
POOL_RADIUS = 3
"""Maximum distance of a neighbour in a pool, in pixels."""
SIMILARITY_QUANTILE = 0.99
"""Two pixels are similar if their chi-square is below this quantile of the distribution."""
MAX_LINE_DIFFERENCE_SIGMAS = 3.5
"""Maximum difference of a line between two pixels, in standard deviations. The limit keeps a line in a single pixel of
another paint from being averaged out."""
_MIN_VARIANCE = 0.25
_PIXEL_SHIFTS = sorted(
    (
        (row, column)
        for row in range(-POOL_RADIUS, POOL_RADIUS + 1)
        for column in range(-POOL_RADIUS, POOL_RADIUS + 1)
        if 0 < row**2 + column**2 <= POOL_RADIUS**2
    ),
    key=lambda pixel_shift: (pixel_shift[0] ** 2 + pixel_shift[1] ** 2, pixel_shift),
)


@dataclass(frozen=True)
class BlockEvidence:
    """Line areas of the valid spectra of a block.

    Parameters
    ----------
    evidence : Evidence
        (n, n_column) line areas of the valid spectra, with standard deviations.
    is_valid : (n_row, n_column) bool array
        True for pixels with a valid spectrum.
    """

    evidence: Evidence
    is_valid: NDArray[np.bool_]

    @classmethod
    def of_block(cls, fit: VariableFit, counts: NDArray[Any], present: NDArray[np.bool_] | None) -> "BlockEvidence":
        """Return the line areas that are fitted to (n_row, n_column, n_channel) counts."""
        is_valid, spectra = valid_part(counts, present)
        return cls(fit(spectra), is_valid.reshape(counts.shape[:2]))

    def cropped(self, core: CoreSlices) -> "BlockEvidence":
        """Return the line areas of the pixels in the core."""
        is_inside = np.zeros(self.is_valid.shape, bool)
        is_inside[core] = True
        is_selected = is_inside[self.is_valid]
        if is_selected.all():
            return BlockEvidence(self.evidence, self.is_valid[core])
        return BlockEvidence(Evidence._make(values[is_selected] for values in self.evidence), self.is_valid[core])

    def to_grid(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values of the valid spectra on the (n_row, n_column, n) grid, with NaN or False for other pixels."""
        grid_values = np.full(
            (*self.is_valid.shape, values.shape[1]), False if values.dtype == bool else np.nan, values.dtype
        )
        grid_values[self.is_valid] = values
        return grid_values


@dataclass(frozen=True)
class Pooling:
    """Summation of the spectra of similar neighbours.

    Parameters
    ----------
    family_columns : (n,) int array
        Columns of the fit that belong to the families by which pixels are compared.
    target_counts : float
        Target counts of a pool.

    Notes
    -----
    The pool of a pixel contains similar pixels within :data:`POOL_RADIUS`. Two pixels are similar if two conditions
    hold. The sum of squared differences of line areas, each divided by its variance, is below the 99 % point of
    chi-square. No line differs by more than 3.5 sigma. The nearest pixels are added first, until the pool has its
    target counts. Sums of counts remain Poisson-distributed.
    """

    family_columns: NDArray[np.intp]
    target_counts: float = TARGET_COUNTS

    def __call__(
        self, block_evidence: BlockEvidence, counts: NDArray[Any], pixel_counts: NDArray[np.float64], core: CoreSlices
    ) -> tuple[Float32Array, NDArray[np.float64], Float32Array]:
        """Return the summed spectra of the core, the counts of each spectrum, and the number of pixels in each pool.

        Parameters
        ----------
        block_evidence : BlockEvidence
            Line areas of the block and its halo.
        counts : (n_row, n_column, n_channel) array
            Spectra of the block and its halo.
        pixel_counts : (n_row, n_column) array
            Total counts of each spectrum.
        core : (slice, slice)
            Rows and columns of the block without its halo. Pixels of the halo may join pools.

        Returns
        -------
        (*core, n_channel), (*core) and (*core, 1) arrays
            Summed spectra, total counts of each summed spectrum, and number of pixels in each pool.
        """
        member_matrix = self.pool_membership(block_evidence, pixel_counts, core)
        shape = block_evidence.is_valid[core].shape
        valid_counts = np.where(block_evidence.is_valid[:, :, None], counts, 0).reshape(-1, counts.shape[-1])
        spectra = np.asarray(member_matrix @ valid_counts.astype(np.float32)).reshape(*shape, -1)
        n_pixel = np.where(block_evidence.is_valid[core], member_matrix.sum(axis=1).reshape(shape), np.nan).astype(
            np.float32
        )
        pool_counts = np.asarray(member_matrix @ np.nan_to_num(pixel_counts).ravel()).reshape(shape)
        return spectra, pool_counts, n_pixel[:, :, None]

    def with_note(self, results: Results) -> Results:
        """Return results with a note on the pooling."""
        n_pixel = results.map("pool")
        note = (
            "Pixels have few counts: the input of the network was the sum of each pixel and its similar neighbours, "
            f"{np.nanmedian(n_pixel):.0f} pixels in the median (pool.tif). Element maps are of single pixels. "
            "With --pool off, the network also uses single pixels."
        )
        notes = (*results.process_notes["pigments"], note)
        return replace(results, process_notes={**results.process_notes, "pigments": notes})

    def pool_membership(
        self, block_evidence: BlockEvidence, pixel_counts: NDArray[np.float64], core: CoreSlices
    ) -> csr_array:
        """Return a sparse (n_core, n_row * n_column) matrix with 1 for each pixel in the pool of a core pixel."""
        block_shape = pixel_counts.shape
        valid_counts = np.where(block_evidence.is_valid, np.nan_to_num(pixel_counts), 0.0)
        area, area_sigma = (
            block_evidence.to_grid(axis_slice[:, self.family_columns])
            for axis_slice in (block_evidence.evidence.area, block_evidence.evidence.sigma)
        )
        variance = np.maximum(area_sigma**2, _MIN_VARIANCE)
        pixel_index, pooled_counts = np.arange(valid_counts.size).reshape(block_shape), valid_counts[core].copy()
        core_index = np.arange(pooled_counts.size).reshape(pooled_counts.shape)
        core_indices, member_indices = [core_index.ravel()], [pixel_index[core].ravel()]
        max_chi_square = float(
            2.0 * gammaincinv(0.5 * self.family_columns.size, SIMILARITY_QUANTILE)
        )  # quantile of chi squared
        for pixel_shift in _PIXEL_SHIFTS:
            neighbour_starts = [axis_slice.start + step for axis_slice, step in zip(core, pixel_shift, strict=True)]
            # limits of the pixels in the core that have a neighbour at this shift
            first_indices = [max(0, -start) for start in neighbour_starts]
            stop_indices = [
                min(core_length, axis_length - start)
                for core_length, axis_length, start in zip(
                    pooled_counts.shape, block_shape, neighbour_starts, strict=True
                )
            ]
            if first_indices[0] >= stop_indices[0] or first_indices[1] >= stop_indices[1]:
                continue
            core_window = slice(first_indices[0], stop_indices[0]), slice(first_indices[1], stop_indices[1])
            needs_counts = pooled_counts[core_window] < self.target_counts
            if not needs_counts.any():
                continue
            core_slices, neighbour_slices = (
                tuple(
                    slice(start_index + axis_slice.start, start_index + axis_slice.stop)
                    for start_index, axis_slice in zip(start_indices, core_window, strict=True)
                )
                for start_indices in ([axis_slice.start for axis_slice in core], neighbour_starts)
            )
            squared_differences = (area[core_slices] - area[neighbour_slices]) ** 2 / (
                variance[core_slices] + variance[neighbour_slices]
            )
            is_similar = (
                needs_counts
                & (squared_differences.sum(axis=2) < max_chi_square)
                & (squared_differences.max(axis=2) < MAX_LINE_DIFFERENCE_SIGMAS**2)
            )
            pooled_counts[core_window] += np.where(is_similar, valid_counts[neighbour_slices], 0.0)
            core_indices.append(core_index[core_window][is_similar])
            member_indices.append(pixel_index[neighbour_slices][is_similar])
        row, column = np.concatenate(core_indices), np.concatenate(member_indices)
        return csr_array((np.ones(row.size, np.float32), (row, column)), shape=(pooled_counts.size, valid_counts.size))


def plan_pooling(fit: VariableFit, sample: NDArray[Any]) -> Pooling | None:
    """Return a pooling that compares the line families visible in a scan, or None without a visible family."""
    shown_families = {*fit.detected_families(), *fit.families_in_pixels(sample)}
    columns = np.asarray([index for index, name in enumerate(fit.names) if name in shown_families], np.intp)
    return Pooling(columns) if columns.size else None


def has_few_counts(pixel_counts: NDArray[np.float64]) -> bool:
    """Return whether more than half of the pixels of a scan have fewer counts than the target of a pool."""
    recorded_counts = pixel_counts[pixel_counts > 0]
    return bool(recorded_counts.size > 1 and np.median(recorded_counts) < TARGET_COUNTS)
