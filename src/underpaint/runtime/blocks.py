"""Parallel processing of the blocks of a scan: this process reads blocks, threads or a cluster process them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.runtime.executors import ordered_results, threads_or_cluster

Block = tuple[slice, slice]


def map_blocks(
    scan: Scan,
    work: Callable[..., Any],
    *,
    arrays: Sequence[NDArray[Any]] = (),
    halo: int | None = None,
    finished: Collection[int] = (),
    scheduler: str | None = None,
    threads: int | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Block, Any]]:
    """Process the blocks of a scan in parallel, and yield (number, block, result) in the order of the blocks.

    Parameters
    ----------
    scan : Scan
    work : callable
        Function that processes a block. Arguments: (n_row, n_column, n_channel) counts, an (n_row, n_column) mask of
        present spectra or None, and the part of each of ``arrays``. A block is processed by one thread, so that results
        are bit-identical for all executors.
    arrays : sequence of (n_row, n_column, ...) arrays
        NumPy or dask arrays; data that they share with the counts are read once.
    halo : int or None
        Width of the margin around a block in pixels. If set, the (rows, columns) of the block in the padded array are
        an additional argument of ``work`` after the mask.
    finished : collection of int
        Numbers of blocks to skip.
    scheduler : str or None
        Address of a dask scheduler, ``tcp://host:8786``; None: threads of this process.
    threads : int or None
        Number of threads of this process; None: one per core.
    on_start : callable, optional
        Called before the first block with the number of workers (0 for a cluster that has none yet).

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
        for number, block in enumerate(blocks):
            if number not in finished:
                halo_block, core = _with_halo(block, scan.shape, halo or 0)
                present = None if scan.present is None else scan.present[halo_block]
                array_parts = (array[halo_block] for array in arrays)
                counts, *block_arrays = dask.compute(scan.counts[halo_block], *array_parts, scheduler=dask.get)
                core_argument = () if halo is None else (core,)
                yield number, (np.asarray(counts), present, *core_argument, *block_arrays)

    with threads_or_cluster(scheduler, threads) as executor:
        if on_start is not None:
            on_start(executor.n_workers)
        for number, result in ordered_results(executor, work, tasks()):
            yield number, blocks[number], result


def _with_halo(block: Block, shape: Sequence[int], halo: int) -> tuple[Block, Block]:
    """Return the block with its margin, and the slices of the block within it."""
    halo_block, core = [], []
    for block_range, size in zip(block, shape, strict=False):
        start = max(block_range.start - halo, 0)
        halo_block.append(slice(start, min(block_range.stop + halo, size)))
        core.append(slice(block_range.start - start, block_range.stop - start))
    return (halo_block[0], halo_block[1]), (core[0], core[1])
