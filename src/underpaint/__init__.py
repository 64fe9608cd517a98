"""Identify the pigments of a painting, at and below the surface, from its X-ray fluorescence scan.

>>> import underpaint as up
>>> up.library()["vermilion"].formula
'HgS'
"""

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from underpaint._version import __version__

if TYPE_CHECKING:
    from underpaint.data import EnergyAxis, Scan
    from underpaint.data.maps import Results
    from underpaint.display.report import write_report
    from underpaint.display.viewer import view
    from underpaint.elements import fit_elements
    from underpaint.errors import UnderpaintError
    from underpaint.io import load, read_results
    from underpaint.physics.materials import library
    from underpaint.pipeline.plan import Settings, identify, plan
    from underpaint.pipeline.run import identify_to_folder
    from underpaint.simulate import make_panel

# onnxruntime 1.29 and later reports each run to its developers unless this environment variable is set before the
# import of onnxruntime. The variable is set here, so that it applies to this process and its child processes.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__all__ = [
    "EnergyAxis",
    "Results",
    "Scan",
    "Settings",
    "UnderpaintError",
    "__version__",
    "fit_elements",
    "identify",
    "identify_to_folder",
    "library",
    "load",
    "make_panel",
    "plan",
    "read_results",
    "view",
    "write_report",
]


_MOVED_NAMES = {
    "ElementMaps": "Results",
    "PigmentMaps": "Results",
    "Spectrum": "Spectrum",
    "describe": "describe",
    "elements_to_folder": "elements_to_folder",
    "load_all": "load_all",
    "load_instrument": "load_instrument",
    "load_palette": "load_palette",
    "on_its_energy_axis": "resolve_energy_axis",
}
"""Public names of version 0.1, and their current names. The old names will be removed in version 0.3."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562), so that ``import underpaint`` is fast."""
    current_name = _MOVED_NAMES.get(name, name)
    if name not in __all__ and name not in _MOVED_NAMES:
        raise AttributeError(f"module 'underpaint' has no attribute {name!r}; there are: {', '.join(__all__)}")
    module = next(module for module in _public_modules() if current_name in getattr(module, "__all__", vars(module)))
    if name in _MOVED_NAMES:
        full_name = f"{module.__name__}.{current_name}"
        warnings.warn(f"underpaint.{name} is now {full_name}, and goes with 0.3", DeprecationWarning, stacklevel=2)
    return (
        globals().setdefault(current_name, getattr(module, current_name))
        if current_name in __all__
        else getattr(module, current_name)
    )


def _public_modules() -> Iterator[Any]:
    """Import and yield the modules with public names one by one, dependencies first."""
    from underpaint import data, errors

    yield from (errors, data)
    from underpaint.data import maps

    yield maps
    from underpaint import io

    yield io
    from underpaint.physics import instrument, materials

    yield from (instrument, materials)
    from underpaint import calibrate, elements, simulate

    yield from (simulate, elements, calibrate)
    from underpaint.pipeline import plan, run

    yield from (plan, run)
    from underpaint.display import report, viewer

    yield from (report, viewer)


def __dir__() -> list[str]:
    """Return the public names, for completion in an interpreter."""
    return sorted(__all__)
