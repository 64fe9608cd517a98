"""dask.array, imported without xarray and pandas.

dask.array would import these packages (0.4 s, 80 MB) only to recognise their arrays.
"""

import sys

if {"xarray", "dask.array"} & {*sys.modules}:
    import dask.array as da
else:
    sys.modules["xarray"] = None  # type: ignore[assignment]
    try:
        import dask.array as da
    finally:
        del sys.modules["xarray"]

__all__ = ["da"]
