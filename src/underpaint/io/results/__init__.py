"""Results on disk as NeXus HDF5, TIFF and CSV files, and files that users add to them.

``nexus`` writes and reads results. ``stored`` keeps finished blocks until all blocks are finished, and ``folder``
publishes results atomically. ``sidecars`` keeps the user's files when results are replaced. ``provenance`` records the
scan and settings of results. ``contained`` opens files of results without following links.
"""
