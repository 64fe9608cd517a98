"""Process the blocks of a scan in parallel. This process reads the blocks, and threads or a cluster process them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.runtime.executors import ordered_results, thread_or_cluster_executor

Block = tuple[slice, slice]


def map_blocks(
    scan: Scan,
    process_block: Callable[..., Any],
    *,
    arrays: Sequence[NDArray[Any]] = (),
    halo: int | None = None,
    finished_blocks: Collection[int] = (),
    scheduler: str | None = None,
    threads: int | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Block, Any]]:
    """Process the blocks of a scan in parallel, and yield (number, block, result) in the order of the blocks.

    Parameters
    ----------
    scan : Scan
    process_block : callable
        Function that processes a block. The arguments are (n_row, n_column, n_channel) counts, an (n_row, n_column)
        mask of present spectra or None, and the block's part of each array. One thread processes a block, so that
        results are bit-identical for all executors.
    arrays : sequence of (n_row, n_column, ...) arrays
        NumPy or dask arrays. Data from which both the counts and an array are computed are read only once.
    halo : int or None
        Width of the margin around a block, in pixels. If set, ``process_block`` gets a further argument after the mask:
        the (rows, columns) of the block in the padded array.
    finished_blocks : collection of int
        Numbers of blocks to skip.
    scheduler : str or None
        Address of a dask scheduler, such as ``tcp://host:8786``. If None, threads of this process are used.
    threads : int or None
        Number of threads of this process. If None, one per core is used.
    on_start : callable, optional
        Function that is called with the number of workers before the first block. A cluster may have 0 workers.

    Raises
    ------
    ClusterError
        The cluster cannot be reached or fails.
    MissingExtraError
        dask.distributed is not installed.
    ScanError
        A block cannot be read.
    """
    blocks = list(scan.blocks())

    def tasks() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for block_number, block in enumerate(blocks):
            if block_number not in finished_blocks:
                halo_block, inner_slices = _add_halo(block, scan.shape, halo or 0)
                is_present = None if scan.present is None else scan.present[halo_block]
                array_parts = (array[halo_block] for array in arrays)
                counts, *block_arrays = dask.compute(scan.counts[halo_block], *array_parts, scheduler=dask.get)
                inner_argument = () if halo is None else (inner_slices,)
                yield block_number, (np.asarray(counts), is_present, *inner_argument, *block_arrays)

    with thread_or_cluster_executor(scheduler, threads) as executor:
        if on_start is not None:
            on_start(executor.n_workers)
        for block_number, result in ordered_results(executor, process_block, tasks()):
            yield block_number, blocks[block_number], result


def _add_halo(block: Block, shape: Sequence[int], halo: int) -> tuple[Block, Block]:
    """Return the slices of a block with its margin, and the slices of the block within the padded array."""
    halo_block, inner_slices = [], []
    for block_range, n_pixel in zip(block, shape, strict=False):
        halo_start = max(block_range.start - halo, 0)
        halo_block.append(slice(halo_start, min(block_range.stop + halo, n_pixel)))
        inner_slices.append(slice(block_range.start - halo_start, block_range.stop - halo_start))
    return (halo_block[0], halo_block[1]), (inner_slices[0], inner_slices[1])
