"""Results on disk: HDF5 in the layout of NeXus, TIFF, CSV, and users' additions.

``nexus`` writes and reads them; ``stored`` keeps blocks until they are complete, ``folder`` publishes them atomically;
``sidecars`` (scan, photograph, regions) are kept when results are replaced; ``provenance`` records their origin;
``contained`` opens their files without following links.
"""
