"""Results of the transport for stratigraphies (photons), from which spectra can be rendered repeatedly."""

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
"""Energy arrays of an emission, stored in 64 bits; arrays of photons are stored in 32 bits."""
PHOTON_FIELDS = tuple(field.name for field in fields(Emission) if field.name not in {"lines", *ENERGY_FIELDS})
CHUNKS = "chunks"


@dataclass(frozen=True)
class Photons:
    """Emission of stratigraphies towards a detector.

    Parameters
    ----------
    stratigraphies : tuple of Stratigraphy
        Samples.
    instrument : Instrument
        Instrument; its detector does not affect the photons.
    emission : Emission
        Emission in 64-bit arrays, rounded to the 32 bits of the file (relative error 6e-8), so that spectra rendered
        from memory and from a file are identical.
    """

    stratigraphies: tuple[Stratigraphy, ...]
    instrument: Instrument
    emission: Emission


def make_photons(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, emission: Emission) -> Photons:
    """Return the photons of stratigraphies, with photon numbers rounded to the precision of the file."""
    arrays: dict[str, Any] = {name: _rounded(getattr(emission, name)) for name in PHOTON_FIELDS}
    arrays |= {name: np.asarray(getattr(emission, name), dtype=np.float64) for name in ENERGY_FIELDS}
    return Photons(tuple(stratigraphies), instrument, Emission(lines=emission.lines, **arrays))


def _rounded(photons: Any) -> Any:
    return np.asarray(photons, dtype=np.float32).astype(np.float64)


def photons_to_bytes(photons: Photons) -> bytes:
    """Return photons as the bytes of an HDF5 file."""
    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        write_photons(file, photons)
    return stream.getvalue()


def photons_from_bytes(data: bytes) -> Photons:
    """Return the photons that ``photons_to_bytes`` wrote."""
    with h5py.File(BytesIO(data), "r") as file:
        return read_chunk(file)


def write_photons(group: h5py.Group, photons: Photons) -> None:
    """Write photons into an HDF5 group: a dataset for each array, JSON for instrument and stratigraphies."""
    emission = photons.emission
    for name in PHOTON_FIELDS:
        values = np.asarray(getattr(emission, name), dtype=np.float32)
        group.create_dataset(name, data=values, compression="gzip", compression_opts=4, shuffle=True)
    for name in ENERGY_FIELDS:
        group.create_dataset(name, data=getattr(emission, name))
    for field in fields(LineTable):
        values = getattr(emission.lines, field.name)
        group.create_dataset(f"lines/{field.name}", data=json.dumps(values) if isinstance(values, tuple) else values)
    group.create_dataset("instrument", data=photons.instrument.model_dump_json())
    text = json.dumps([_to_table(stratigraphy) for stratigraphy in photons.stratigraphies])
    encoded_text = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    group.create_dataset("stratigraphies", data=encoded_text, compression="gzip", compression_opts=4)
    group["stratigraphies"].attrs["encoding"] = "bytes of JSON in UTF-8"


def read_chunk(group: h5py.Group) -> Photons:
    """Return the photons of an HDF5 group."""
    arrays: dict[str, Any] = {name: group[name][()].astype(np.float64) for name in (*PHOTON_FIELDS, *ENERGY_FIELDS)}
    lines: dict[str, Any] = {name: _line_values(group["lines"][name]) for name in group["lines"]}
    tables = json.loads(group["stratigraphies"][()].tobytes().decode("utf-8"))
    return Photons(
        tuple(_from_table(table) for table in tables),
        Instrument.model_validate_json(group["instrument"][()]),
        Emission(lines=LineTable(**lines), **arrays),
    )


def read_photons(path: str | Path) -> Iterator[Photons]:
    """Yield the photons of a file chunk by chunk; each chunk has one tube and geometry.

    ``underpaint.physics.forward.render`` renders their spectra, ``underpaint.physics.forward.count`` draws counts.

    Raises
    ------
    ScanError
        The file is missing or contains no photons.
    """
    with open_photons(path) as file:
        for name in sorted(file[CHUNKS]):
            yield read_chunk(file[CHUNKS][name])


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


def chunk_bytes(file: h5py.File, index: int) -> bytes:
    """Return a chunk of a file of photons as the bytes of an HDF5 file, without decompression."""
    stream, group = BytesIO(), file[CHUNKS][f"{index:06d}"]
    with h5py.File(stream, "w") as copy:
        for name in group:
            group.copy(name, copy)
    return stream.getvalue()


def _line_values(dataset: h5py.Dataset) -> Any:
    values = dataset[()]
    return tuple(json.loads(values)) if isinstance(values, bytes) else values


def _to_table(stratigraphy: Stratigraphy) -> dict[str, Any]:
    return {"name": stratigraphy.name, "layers": [_layer_table(layer) for layer in stratigraphy.layers]}


def _layer_table(layer: Layer) -> dict[str, Any]:
    scalars = {name: getattr(layer, name) for name in ("name", "density", "thickness_um")}
    return scalars | {name: dict(getattr(layer, name)) for name in ("mass_fractions", "pigments")}


def _from_table(table: dict[str, Any]) -> Stratigraphy:
    return Stratigraphy(tuple(Layer(**layer) for layer in table["layers"]), table["name"])
