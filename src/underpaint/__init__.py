"""Find the pigments of a painting in its X-ray fluorescence scan, the paint underneath included.

>>> import underpaint as up
>>> up.library()["vermilion"].formula
'HgS'
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# From release 1.29 on, onnxruntime reports each run to its makers unless this is set when it is first imported; here,
# so that it holds for whoever imports it first, and for all processes that are begun from this one.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# By name, not by an import statement: the doors open when they are asked for, so that ``import underpaint`` is fast.
_DOORS = {
    "load": "underpaint.io",
    "load_all": "underpaint.io",
    "describe": "underpaint.io",
    "read_results": "underpaint.io",
    "identify": "underpaint.pipeline.run",
    "identify_to_folder": "underpaint.pipeline.run",
    "elements_to_folder": "underpaint.pipeline.run",
    "on_its_energy_axis": "underpaint.pipeline.run",
    "fit_elements": "underpaint.elements",
    "write_report": "underpaint.display.report",
    "view": "underpaint.display.viewer",
    "library": "underpaint.physics.materials",
    "load_palette": "underpaint.physics.materials",
    "load_instrument": "underpaint.physics.instrument",
    "make_panel": "underpaint.simulate",
    "Scan": "underpaint.data",
    "Spectrum": "underpaint.data",
    "EnergyAxis": "underpaint.data",
    "PigmentMaps": "underpaint.data.maps",
    "ElementMaps": "underpaint.data.maps",
    "UnderpaintError": "underpaint.errors",
}

__all__ = ["__version__", *_DOORS]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    """Open a public door when it is first asked for (PEP 562)."""
    if name not in _DOORS:
        raise AttributeError(f"module 'underpaint' has no attribute {name!r}; there are: {', '.join(sorted(_DOORS))}")
    value = getattr(import_module(_DOORS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names for completion."""
    return sorted(__all__)
