"""Results on disk as NeXus HDF5, TIFF and CSV files, and the additions of users.

``nexus`` writes and reads results. ``stored`` keeps blocks until all are complete, and ``folder`` publishes results
atomically. ``sidecars`` keeps scan, photograph and regions when results are replaced. ``provenance`` records the origin
of results, and ``contained`` opens their files without following links.
"""
