"""The one loop over the blocks of a scan: each is read here, and worked on by threads or the workers of a cluster."""

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
    """Give (number, block, result) of the blocks of a scan in their order.

    Parameters
    ----------
    scan : Scan
    work : callable
        Called with a block's (n_row, n_column, n_channel) counts, its (n_row, n_column) mask of spectra that are there
        or None, and its part of each array ``arrays``. A block is one thread's work, so the same blocks give the same
        bits, whoever works on them.
    arrays : sequence of (n_row, n_column, ...) arrays
        Of numpy, or of dask: what these share with the counts is read once.
    halo : int or None
        Pixels around a block that are given with it; the work is then called with the block's (rows, columns) among
        what is given, after the mask.
    finished : collection of int
        Numbers of blocks to leave out.
    scheduler : str or None
        Address of a dask scheduler, ``tcp://host:8786``; None: threads of this process.
    threads : int or None
        Of this process; None: one a core.
    on_start : callable, optional
        Called before the first block with how many can be worked on now: 0 while a cluster has no worker yet.

    Raises
    ------
    ClusterError, MissingExtraError
        There is no such cluster, or it fails; or dask.distributed is not installed.
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
                counts, *more = dask.compute(scan.counts[halo_block], *parts, scheduler="synchronous")
                places = () if halo is None else (core,)
                yield number, (np.asarray(counts), present, *places, *more)

    with threads_or_cluster(scheduler, threads) as executor:
        if on_start is not None:
            on_start(executor.n_workers)
        for number, result in ordered_results(executor, work, tasks()):
            yield number, blocks[number], result


def _with_halo(block: Block, shape: Sequence[int], halo: int) -> tuple[Block, Block]:
    """Return the block with what lies around it, and where the block is in that."""
    halo_block, core = [], []
    for part, size in zip(block, shape, strict=False):
        start = max(part.start - halo, 0)
        halo_block.append(slice(start, min(part.stop + halo, size)))
        core.append(slice(part.start - start, part.stop - start))
    return (halo_block[0], halo_block[1]), (core[0], core[1])
