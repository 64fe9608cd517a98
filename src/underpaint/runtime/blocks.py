"""The loop over the blocks of a scan: this process reads each block; threads or a cluster process it."""

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
    """Yield (number, block, result) of the blocks of a scan in their order.

    Parameters
    ----------
    scan : Scan
    work : callable
        Called with a block's (n_row, n_column, n_channel) counts, its (n_row, n_column) mask of present spectra or
        None, and its part of each of ``arrays``. One thread processes a block, so the same blocks give the same bits
        with every executor.
    arrays : sequence of (n_row, n_column, ...) arrays
        NumPy or dask arrays; data that they share with the counts are read once.
    halo : int or None
        Width of the margin around a block, pixels; ``work`` then gets the block's (rows, columns) within the padded
        array after the mask.
    finished : collection of int
        Numbers of blocks to skip.
    scheduler : str or None
        Address of a dask scheduler, ``tcp://host:8786``; None: threads of this process.
    threads : int or None
        Threads of this process; None: one per core.
    on_start : callable, optional
        Called before the first block with the number of workers; 0 while a cluster has none yet.

    Raises
    ------
    ClusterError, MissingExtraError
        The cluster cannot be reached or fails; or dask.distributed is not installed.
    ScanError
        A block cannot be read.
    """
    blocks = list(scan.blocks())

    def tasks() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, block in enumerate(blocks):
            if number not in finished:
                halo_block, core = _with_halo(block, scan.shape, halo or 0)
                present = None if scan.present is None else scan.present[halo_block]
                parts = (array[halo_block] for array in arrays)
                counts, *more = dask.compute(scan.counts[halo_block], *parts, scheduler=dask.get)
                places = () if halo is None else (core,)
                yield number, (np.asarray(counts), present, *places, *more)

    with threads_or_cluster(scheduler, threads) as executor:
        if on_start is not None:
            on_start(executor.n_workers)
        for number, result in ordered_results(executor, work, tasks()):
            yield number, blocks[number], result


def _with_halo(block: Block, shape: Sequence[int], halo: int) -> tuple[Block, Block]:
    """Return the padded block, and the place of the block within it."""
    halo_block, core = [], []
    for part, size in zip(block, shape, strict=False):
        start = max(part.start - halo, 0)
        halo_block.append(slice(start, min(part.stop + halo, size)))
        core.append(slice(part.start - start, part.stop - start))
    return (halo_block[0], halo_block[1]), (core[0], core[1])
