"""Small whole files of every format, written by the libraries that are known for them, to be damaged.

The Bruker maps and spectra are real ones where they are at hand (``bruker_samples``), since no library writes them.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import spectrum_files
from bruker_samples import sample
from mca_files import mca_text
from test_bruker_spectra import small_spx
from test_damaged_stacks import CUBE, WRITERS
from test_edf import fabio_edf, pymca_edf, xia
from test_ripple_emsa_library import signal

from underpaint import io
from underpaint.data import EnergyAxis, Scan

SMALL = CUBE[:3, :4]
Maker = Callable[[Path], str]
"""Writes files to an empty folder and returns which of them to read; "" for the folder."""


def _mca(folder: Path) -> str:
    (folder / "a.mca").write_text(mca_text(CUBE[0, 0], live="2.5"), "latin-1")
    return "a.mca"


def _mca_folder(folder: Path) -> str:
    (folder / "colonneXrighe.txt").write_text("righe  3\ncolonne  4\ndwell-time 3,5\n", "latin-1")
    for number, counts in enumerate(SMALL.reshape(-1, 16)):
        (folder / f"None_{number + 1}.mca").write_text(mca_text(counts), "latin-1")
    return ""


def _pymca(folder: Path) -> str:
    save = pytest.importorskip("PyMca5.PyMcaIO.ArraySave", reason="PyMca5 is not installed")
    save.save3DArrayAsHDF5(SMALL.astype(np.int32), str(folder / "a.h5"), interpretation="spectrum")
    return "a.h5"


def _silx(folder: Path) -> str:
    nxdata = pytest.importorskip("silx.io.nxdata", reason="silx is not installed")
    axes = [np.arange(3.0), np.arange(4.0), 0.1 + 0.5 * np.arange(16)]
    nxdata.save_NXdata(
        str(folder / "a.h5"), SMALL, axes, signal_name="fluo", axes_names=["y", "x", "energy"], axes_long_names=None
    )
    return "a.h5"


def _panel(folder: Path) -> str:
    scan = Scan(SMALL, axis=EnergyAxis(0.02, 0.0, 16), live_time_s=np.ones((3, 4)), step_mm=(1.0, 1.0))
    io.save_scan(scan, folder / "a.h5")
    return "a.h5"


def _hdf5_plugin(folder: Path) -> str:
    plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("counts", data=SMALL, chunks=(1, 2, 16), compression=plugin.Blosc())
    return "a.h5"


def _fabio(folder: Path) -> str:
    fabio_edf(folder / "a.edf", SMALL.astype(np.int32), {"MCA a": "0.1", "MCA b": "0.5", "MCA c": "0.0"})
    return "a.edf"


def _pymca_edf(folder: Path) -> str:
    pymca_edf(folder / "a.edf", SMALL.astype(np.float32), "HighByteFirst")
    return "a.edf"


def _xia(folder: Path) -> str:
    xia(folder, SMALL)
    return ""


def _tiff_with_energies(folder: Path) -> str:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(folder / "a.tif", np.moveaxis(SMALL, 2, 0).astype(np.uint16), photometric="minisblack")
    np.savetxt(folder / "a.txt", 0.02 * np.arange(16))
    return "a.tif"


def _tiff_folder(folder: Path) -> str:
    tifffile = pytest.importorskip("tifffile")
    for channel in range(4):
        tifffile.imwrite(folder / f"c_{channel}.tif", SMALL[:, :, channel].astype(np.float32), compression="zlib")
    np.savetxt(folder / "energies.txt", 0.02 * np.arange(4))
    return ""


def _ripple(folder: Path) -> str:
    pytest.importorskip("rsciio.ripple").file_writer(str(folder / "a.rpl"), signal(SMALL, by_vector=True))
    return "a.rpl"


def _ripple_raw(folder: Path) -> str:
    pytest.importorskip("rsciio.ripple").file_writer(str(folder / "a.rpl"), signal(SMALL, by_vector=False))
    return "a.raw"


def _emsa(folder: Path) -> str:
    axis = {"name": "Energy", "size": 16, "offset": 0.0, "scale": 0.02, "units": "keV", "navigate": False}
    metadata = {"General": {"title": "a"}, "Signal": {"signal_type": "EDS"}}
    signal = {"data": CUBE[0, 0].astype(float), "axes": [axis], "metadata": metadata, "original_metadata": {}}
    pytest.importorskip("rsciio.msa").file_writer(str(folder / "a.msa"), signal, encoding="latin-1")
    return "a.msa"


def _npz(folder: Path) -> str:
    np.savez_compressed(folder / "a.npz", det_1=SMALL, gain_kev=0.02, zero_kev=0.0, live_time_s=np.ones((3, 4)))
    return "a.npz"


def _npz_plain(folder: Path) -> str:
    np.savez(folder / "a.npz", det_1=SMALL, det_2=SMALL.astype(np.float32), step_mm=np.ones(2))
    return "a.npz"


def _zarr(version: int) -> Maker:
    def write(folder: Path) -> str:
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.create_group(folder / "a.zarr", zarr_format=version)
            root.create_array("scan/data", data=SMALL, chunks=(2, 2, 16))
        return "a.zarr"

    return write


def _mca_grid(folder: Path) -> str:
    for row, column in np.ndindex(3, 4):
        (folder / f"r{row}_c{column}.mca").write_text(mca_text(SMALL[row, column]), "latin-1")
    return ""


def _text(content: str) -> Maker:
    def write(folder: Path) -> str:
        (folder / "a").write_bytes(content.encode("cp1252"))
        return "a"

    return write


def _esprit(folder: Path) -> str:
    names = ("width", "height", "depth", "offset", "data-length", "data-type", "byte-order", "record-by")
    values = (4, 3, 16, 0, 2, "unsigned", "little-endian", "image")
    scale = "depthscaleorigin -0.956\ndepthscaleincrement 0,020\ndepthscaleunits keV\n"
    pairs = (f"{name}\t{value}\n" for name, value in zip(names, values, strict=True))
    (folder / "a.rpl").write_text("".join(pairs) + scale)
    (folder / "a.raw").write_bytes(np.moveaxis(SMALL, 2, 0).astype("<u2").tobytes())
    return "a.rpl"


def _spx(folder: Path) -> str:
    small_spx(folder / "a.spx")
    return "a.spx"


def _csv_map(folder: Path) -> str:
    lines = [f"{row};{column};" + ";".join(map(str, SMALL[row, column])) for row in range(3) for column in range(4)]
    head = "row;column;" + ";".join(f"{0.02 * (channel + 1):.2f} keV" for channel in range(16))
    (folder / "a.csv").write_text("\n".join([head, *lines]), "utf-8")
    return "a.csv"


def _real(name: str) -> Maker:
    def copy(folder: Path) -> str:
        (folder / name).write_bytes(sample(name).read_bytes())
        return name

    return copy


def _single(write: Callable[[Path], None]) -> Maker:
    def single(folder: Path) -> str:
        write(folder / "a")
        return "a"

    return single


MAKERS: dict[str, Maker] = {
    "mca": _mca,
    "mca folder": _mca_folder,
    "mca folder of rows and columns": _mca_grid,
    "rtx": _text(spectrum_files.rtx_text()),
    "s1pxrf": _text(spectrum_files.s1pxrf_text()),
    "iaea": _text(spectrum_files.iaea_text()),
    "spec": _text(spectrum_files.spec_text()),
    "gsecars": _text(spectrum_files.gsecars_text()),
    "column": _text("\n".join(map(str, spectrum_files.COUNTS[0]))),
    "emsa pairs": _text(spectrum_files.emsa_text(comma=True, pairs=True, columns=3, unit="")),
    "ripple esprit": _esprit,
    "hdf5 pymca": _pymca,
    "hdf5 silx": _silx,
    "hdf5 panel": _panel,
    "hdf5 blosc": _hdf5_plugin,
    "edf fabio": _fabio,
    "edf pymca": _pymca_edf,
    "edf xia folder": _xia,
    "tiff with energies": _tiff_with_energies,
    "tiff folder": _tiff_folder,
    "ripple": _ripple,
    "ripple raw": _ripple_raw,
    "emsa": _emsa,
    "npz": _npz,
    "npz plain": _npz_plain,
    "zarr 2": _zarr(2),
    "zarr 3": _zarr(3),
    "spx small": _spx,
    "csv map": _csv_map,
    "spx": _real("bruker_nano.spx"),
    "pdz 24": _real("pdz24_example.pdz"),
    "pdz 25": _real("pdz25_example.pdz"),
    "bcf": _real("over16bit.bcf"),
    "bcf packed": _real("16x16_12bit_packed_8bit.bcf"),
} | {name.replace("_", " "): _single(writer) for name, writer in WRITERS.items()}
