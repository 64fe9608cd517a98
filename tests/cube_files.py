"""Small cubes on disk whose every number is known."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAVELENGTH_NM = np.linspace(420.0, 980.0, 57)
TYPES = {"uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "uint16": 12}
ORDERS = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}


def reflectance(n_row: int = 24, n_column: int = 30, seed: int = 0) -> NDArray[np.float32]:
    """Return smooth spectra between 0.03 and 0.9 in patches, (row, column, band)."""
    rng = np.random.default_rng(seed)
    at = (WAVELENGTH_NM - 420.0) / 560.0
    patches = []
    for _ in range(12):
        centre, width, low, high = rng.uniform(0.1, 0.9), rng.uniform(0.03, 0.2), *rng.uniform((0.03, 0.5), (0.2, 0.9))
        patches.append(low + (high - low) / (1 + np.exp(-(at - centre) / width)))
    patches[0] = np.full(at.size, 0.85)
    index = (np.arange(n_row)[:, None] // 6 * 5 + np.arange(n_column) // 6) % 12
    return np.asarray(np.array(patches)[index], dtype=np.float32)


def write_envi(
    folder: Path,
    values: NDArray[Any],
    *,
    name: str = "cube",
    interleave: str = "bil",
    wavelength: NDArray[np.float64] | None = WAVELENGTH_NM,
    unit: str = "nm",
    **entries: Any,
) -> Path:
    """Write a cube and its header, and return the header; an entry of None is left out."""
    stored = np.ascontiguousarray(values.transpose(ORDERS[interleave]))
    (folder / f"{name}.raw").write_bytes(stored.tobytes())
    facts: dict[str, Any] = {
        "samples": values.shape[1],
        "lines": values.shape[0],
        "bands": values.shape[2],
        "header offset": 0,
        "data type": TYPES[values.dtype.name],
        "interleave": interleave,
        "byte order": 0,
        "wavelength units": unit,
    }
    if wavelength is not None:
        facts["wavelength"] = "{" + ", ".join(f"{value:.6g}" for value in wavelength) + "}"
    facts |= {key.replace("_", " "): value for key, value in entries.items()}
    lines = [f"{key} = {value}" for key, value in facts.items() if value is not None]
    path = folder / f"{name}.hdr"
    path.write_text("\n".join(["ENVI", *lines]) + "\n", encoding="utf-8")
    return path
