"""Photons that stratigraphies emit. Spectra can be rendered from stored photons with different detectors."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from underpaint.errors import ScanError
from underpaint.physics.atomic import LineTable
from underpaint.physics.forward import Emission
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Stratigraphy

ENERGY_FIELDS = ("source_kev", "width_kev", "compton_kev", "compton_width_kev")
"""Energy arrays of an emission. Files store energies in 64 bits, and photon numbers in 32 bits."""
PHOTON_FIELDS = tuple(field.name for field in fields(Emission) if field.name not in {"lines", *ENERGY_FIELDS})
CHUNKS = "chunks"


@dataclass(frozen=True)
class Photons:
    """Photons that stratigraphies emit towards the detector.

    Parameters
    ----------
    stratigraphies : tuple of Stratigraphy
        Samples that emit the photons.
    instrument : Instrument
        Instrument that excites the samples. The detector of the instrument does not affect the photons.
    emission : Emission
        Photon numbers in 64-bit arrays, already rounded to the 32 bits of the file (relative error 6e-8). Spectra
        rendered from memory and from a file are therefore identical.
    """

    stratigraphies: tuple[Stratigraphy, ...]
    instrument: Instrument
    emission: Emission


def make_photons(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, emission: Emission) -> Photons:
    """Return stratigraphies with their photons. Photon numbers are rounded to the precision of the file."""
    arrays: dict[str, Any] = {
        array_name: _round_to_float32(getattr(emission, array_name)) for array_name in PHOTON_FIELDS
    }
    arrays |= {array_name: np.asarray(getattr(emission, array_name), dtype=np.float64) for array_name in ENERGY_FIELDS}
    return Photons(tuple(stratigraphies), instrument, Emission(lines=emission.lines, **arrays))


def _round_to_float32(photons: Any) -> Any:
    return np.asarray(photons, dtype=np.float32).astype(np.float64)


def photons_to_bytes(photons: Photons) -> bytes:
    """Write photons as an HDF5 file in memory, and return its bytes."""
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        write_photons(file, photons)
    return buffer.getvalue()


def photons_from_bytes(photon_bytes: bytes) -> Photons:
    """Return the photons from bytes that ``photons_to_bytes`` returned."""
    with h5py.File(BytesIO(photon_bytes), "r") as file:
        return read_chunk(file)


def write_photons(group: h5py.Group, photons: Photons) -> None:
    """Write photons into an HDF5 group. Arrays become datasets. Instrument and stratigraphies become JSON."""
    emission = photons.emission
    for array_name in PHOTON_FIELDS:
        array_values = np.asarray(getattr(emission, array_name), dtype=np.float32)
        group.create_dataset(array_name, data=array_values, compression="gzip", compression_opts=4, shuffle=True)
    for array_name in ENERGY_FIELDS:
        group.create_dataset(array_name, data=getattr(emission, array_name))
    for field in fields(LineTable):
        array_values = getattr(emission.lines, field.name)
        group.create_dataset(
            f"lines/{field.name}", data=json.dumps(array_values) if isinstance(array_values, tuple) else array_values
        )
    group.create_dataset("instrument", data=photons.instrument.model_dump_json())
    stratigraphies_json = json.dumps([_stratigraphy_record(stratigraphy) for stratigraphy in photons.stratigraphies])
    encoded_text = np.frombuffer(stratigraphies_json.encode("utf-8"), dtype=np.uint8)
    group.create_dataset("stratigraphies", data=encoded_text, compression="gzip", compression_opts=4)
    group["stratigraphies"].attrs["encoding"] = "bytes of JSON in UTF-8"


def read_chunk(group: h5py.Group) -> Photons:
    """Read photons from an HDF5 group."""
    arrays: dict[str, Any] = {
        array_name: group[array_name][()].astype(np.float64) for array_name in (*PHOTON_FIELDS, *ENERGY_FIELDS)
    }
    lines: dict[str, Any] = {array_name: _line_values(group["lines"][array_name]) for array_name in group["lines"]}
    stratigraphy_records = json.loads(group["stratigraphies"][()].tobytes().decode("utf-8"))
    return Photons(
        tuple(_stratigraphy_from_record(stratigraphy_record) for stratigraphy_record in stratigraphy_records),
        Instrument.model_validate_json(group["instrument"][()]),
        Emission(lines=LineTable(**lines), **arrays),
    )


def read_photons(path: str | Path) -> Iterator[Photons]:
    """Yield the photons in a file, chunk by chunk. Each chunk has one tube and geometry.

    To get spectra, pass the photons to ``underpaint.physics.forward.render``. Then ``underpaint.physics.forward.count``
    draws counts.

    Raises
    ------
    ScanError
        The file is missing or contains no photons.
    """
    with open_photons(path) as file:
        for chunk_name in sorted(file[CHUNKS]):
            yield read_chunk(file[CHUNKS][chunk_name])


def open_photons(path: str | Path) -> h5py.File:
    """Open a file of photons for reading.

    Raises
    ------
    ScanError
        The file is missing or contains no photons.
    """
    try:
        if not Path(path).is_file():  # opening a pipe would block
            raise OSError("there is no such file")
        file = h5py.File(path, "r")
    except OSError as error:
        raise ScanError(
            f"Cannot read the photons {path}: {error}. Write them with `underpaint simulate --photons`."
        ) from error
    if CHUNKS not in file or "job" not in file.attrs:
        file.close()
        raise ScanError(f"Cannot use {path}: it contains no photons. Write them with `underpaint simulate --photons`.")
    return file


def chunk_bytes(file: h5py.File, chunk_index: int) -> bytes:
    """Copy one chunk of a photons file into an HDF5 file in memory, without decompression. Return its bytes."""
    buffer, chunk_group = BytesIO(), file[CHUNKS][f"{chunk_index:06d}"]
    with h5py.File(buffer, "w") as copied_file:
        for member_name in chunk_group:
            chunk_group.copy(member_name, copied_file)
    return buffer.getvalue()


def _line_values(dataset: h5py.Dataset) -> Any:
    line_values = dataset[()]
    return tuple(json.loads(line_values)) if isinstance(line_values, bytes) else line_values


def _stratigraphy_record(stratigraphy: Stratigraphy) -> dict[str, Any]:
    return {"name": stratigraphy.name, "layers": [_layer_record(layer) for layer in stratigraphy.layers]}


def _layer_record(layer: Layer) -> dict[str, Any]:
    layer_scalars = {field_name: getattr(layer, field_name) for field_name in ("name", "density", "thickness_um")}
    return layer_scalars | {
        field_name: dict(getattr(layer, field_name)) for field_name in ("mass_fractions", "pigments")
    }


def _stratigraphy_from_record(stratigraphy_record: dict[str, Any]) -> Stratigraphy:
    return Stratigraphy(
        tuple(Layer(**layer_record) for layer_record in stratigraphy_record["layers"]), stratigraphy_record["name"]
    )
