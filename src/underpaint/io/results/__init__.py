"""Results on disk: HDF5 in the layout of NeXus, TIFF, CSV, and what users add beside them.

``nexus`` writes and reads them; ``stored`` holds blocks until they are whole, ``folder`` puts them in their place at
once; ``sidecars`` (scan, photograph, regions) stay when results are made anew; ``provenance`` says what they were made
from; ``contained`` opens their files so that no link leads out of the folder.
"""
