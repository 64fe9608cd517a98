"""The formats that are read, as ``underpaint formats`` shows them; each reader's module describes its layout."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name : str
        What it is called.
    endings : tuple of str
        Usual endings; they play no part in recognising it.
    recognised_by : str
        What in a file's content tells it.
    source : str
        Where its specification is from.
    extra : str
        Optional dependency that it needs; "" for none.
    written : bool
        Whether ``underpaint convert`` writes it.
    """

    name: str
    endings: tuple[str, ...]
    recognised_by: str
    source: str
    extra: str = ""
    written: bool = False


FORMATS = (
    Format(
        "Amptek .mca, one spectrum or a folder of a map",
        (".mca",),
        "first line <<PMCA SPECTRUM>>; a folder that holds such files",
        "Amptek, DPPMCA software: the text files that it writes",
    ),
    Format(
        "HDF5: PyMca stacks, NXdata, own panels",
        (".h5", ".hdf5", ".nxs"),
        "HDF5 signature; then the 3-D arrays inside",
        "The HDF Group, HDF5 file format 3.0; NeXus NXdata (NIAC); PyMca5 source, HDF5Stack1D",
        written=True,
    ),
    Format(
        "HyperSpy signal, in HDF5 or zarr",
        (".hspy", ".zspy"),
        "Experiments/*/data and axis-0 beside it",
        "documentation of rosettasciio: HSpy and ZSpy specification (2022-2026)",
    ),
    Format(
        "HDF5 of XGLab CRONO",
        (".hdf5", ".h5"),
        "/XRF/Spectra and /XRF/EnergyVector inside",
        "unpublished; as in the sources of cronomaxrf 0.0.12",
    ),
    Format(
        "HDF5 of XRF-Maps (APS)",
        (".h5", ".h50"),
        "/MAPS/Spectra/mca_arr or /MAPS/mca_arr inside",
        "XRF-Maps source, src/io/file/hdf5_io.cpp",
    ),
    Format(
        "HDF5 of PyXRF (NSLS-II)",
        (".h5",),
        "/xrfmap/det*/counts inside",
        "PyXRF source, pyxrf/model/load_data_from_db.py",
    ),
    Format(
        "maxrf4u datastack",
        (".datastack",),
        "zip signature with members of a zarr store",
        "maxrf4u 0.1.27 source, storage.py",
        extra="zarr",
    ),
    Format(
        "EDF stack, one file or a folder",
        (".edf",),
        "a header in braces with DataType or Dim_1",
        "fabio source, edfimage.py; PyMca5 source, EdfFile, EDFStack, XiaEdf",
    ),
    Format(
        "TIFF stack, one file or a folder",
        (".tif", ".tiff"),
        "TIFF or BigTIFF signature; a page a channel",
        "Adobe, TIFF revision 6.0 (1992)",
    ),
    Format(
        "CSV, one spectrum or a table of pixels",
        (".csv", ".txt", ".dat"),
        "lines of numbers, at most one heading",
        "RFC 4180; the columns are this project's own",
    ),
    Format(
        "zarr store, version 2 or 3",
        (".zarr",),
        "a folder with zarr.json, .zgroup or .zarray",
        "zarr-specs.readthedocs.io, core specification 2 and 3.0",
        extra="zarr",
        written=True,
    ),
    Format(
        "Bruker map",
        (".bcf",),
        "AAMVHFSS at byte 0",
        "unpublished; found by P. Jokubauskas, documented in rosettasciio (2016-2026)",
        extra="bruker",
    ),
    Format(
        "Bruker spectrum, Esprit",
        (".spx",),
        "XML whose outer element is TRTSpectrum",
        "unpublished; names as in rosettasciio (2016-2026)",
    ),
    Format(
        "Bruker ARTAX project, a list of spectra",
        (".rtx",),
        "XML whose outer element is TRTProject",
        "unpublished; names as in .spx",
    ),
    Format(
        "Bruker S1PXRF text, hand-held",
        (".csv",),
        "first line with S1PXRF",
        "unpublished; read off files of a Tracer",
    ),
    Format(
        "SPEC file, a list of spectra",
        (".mca", ".spec", ".dat"),
        "first line #F or #S; spectra are the lines @A",
        "Certified Scientific Software: SPEC standard data file format; PyMca5, silx: specfile",
    ),
    Format(
        "IAEA spectrum, Ortec and others",
        (".spe",),
        "a first line $KEY:",
        "IAEA, SPEDAC user's manual (1994); Ortec, software file structure manual",
    ),
    Format(
        "GSECARS spectrum of several detectors",
        (".mca", ".xrf"),
        "lines VERSION: and ELEMENTS:",
        "names of its header; M. Rivers, EPICS MCA software",
    ),
    Format(
        "Bruker spectrum, hand-held, version 24 or 25",
        (".pdz",),
        "record 25 with the text pdz25, or bytes 01 01 with a plausible gain",
        "B. Ducraux, pdz-tool: pdz_version_25_file_format.md (2024)",
    ),
    Format(
        "ripple",
        (".rpl", ".raw"),
        "a text file with width, height, depth and record-by; .raw: by the .rpl beside it",
        "D. Bright (NIST), manual of Lispix: raw and rpl files",
    ),
    Format(
        "EMSA/MAS spectrum",
        (".msa", ".emsa", ".txt"),
        "first line #FORMAT with EMSA",
        "ISO 22029:2022; R. Egerton et al., EMSA Bulletin 21 (1991) 35",
    ),
    Format(
        "numpy archive",
        (".npz",),
        "zip signature with .npy members; nothing is unpickled",
        "numpy documentation: numpy.lib.format, versions 1.0-3.0",
    ),
)
"""All formats, maps first."""
