"""Files that are not read: what they are, as far as their first bytes tell, and what to do with them."""

import re
import struct

_ARCHIVES = {
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_NUMPY = "Put it into an .npz file with its energies: numpy.savez(name, counts=..., gain_kev=..., zero_kev=...)."
_PICTURE = "A scan is a spectrum for each pixel: export the spectra from the scanner's program, not its pictures."
_TABLE = "Save the sheet with the counts as CSV."
_EXPORT = "Export the spectra from the program that wrote it as HDF5, ripple, EMSA (.msa) or CSV."
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x93NUMPY", "a single numpy array (.npy)", _NUMPY),
    (b"\x80\x04\x95", "a Python pickle, which could run code", _NUMPY),
    (b"MATLAB 5.0", "a MATLAB file", "Save it in MATLAB with -v7.3, which is HDF5, or write the counts as HDF5."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Microsoft Office or of a program that stores like it", _TABLE),
    (b"%PDF", "a PDF document", "Give the scan that it reports on."),
    (b"\x89PNG", "a PNG picture", _PICTURE),
    (b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (b"GIF8", "a GIF picture", _PICTURE),
    (b"ENVI", "the header of an ENVI cube", "Convert it to HDF5 or ripple (Spectral Python: spectral.open_image)."),
    (b"SIMPLE  =", "a FITS file", "Write its cube as HDF5 (astropy.io.fits)."),
    (b"CDF\x01", "a netCDF 3 file", "Write it as netCDF 4, which is HDF5 (nccopy -k nc4)."),
    (b"CDF\x02", "a netCDF 3 file", "Write it as netCDF 4, which is HDF5 (nccopy -k nc4)."),
    (b"TDSm", "a LabVIEW TDMS file", "Export it as HDF5 or CSV (npTDMS)."),
    (b"WDF1", "a Renishaw Raman file", "It holds no X-ray spectra."),
    (b"root\x00\x00", "a ROOT file", "Write its histograms as CSV or HDF5 (uproot)."),
    (b"MAPSPECTRA_DATA", "an EDAX map (.spd)", "Export it from TEAM or APEX as HDF5 or ripple, or with rosettasciio."),
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8, or as plain text, in an editor or spreadsheet."),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8, or as plain text, in an editor or spreadsheet."),
    (b"{", "JSON text", _EXPORT),
    (b"<!DOCTYPE html", "a web page", "The download failed: fetch the file itself."),
    (b"<html", "a web page", "The download failed: fetch the file itself."),
    (b"version https://git-lfs", "the pointer of a file in Git LFS", "Fetch the file itself: git lfs pull."),
)
_CNF_FIRST_SECTION, _CNF_KINDS = 112, range(0x12000, 0x12020)
_CNF = "a Canberra or Genie spectrum (CNF)", "Export it from Genie 2000 as .spe (IAEA), or as text of one count a line."
_OFFICE_ZIP = (b"[Content_Types].xml", b"xl/", b"mimetypeapplication/vnd.oasis")
_SHOWN = 24


def what_it_is(head: bytes) -> str:
    """Say what a file seems to be by its first bytes, and what to do; sentences that go on from "Cannot read FILE:"."""
    archive = next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), None)
    if archive is None and head[257:262] == b"ustar":
        archive = "tar"
    if archive is not None:
        return f"it is a packed archive ({archive}). Unpack it and give the folder."
    for kind, advice in _kinds(head):
        return f"it is {kind}. {advice}"
    text = not set(head) & set(range(9))
    begins = repr(head[:_SHOWN].decode("utf-8", "replace").strip()) if text else head[:8].hex(" ")
    return f"it is {'text' if text else 'binary data'} that begins {begins}, no format known here. {_EXPORT}"


def _kinds(head: bytes) -> list[tuple[str, str]]:
    stripped = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kinds = [(kind, advice) for magic, kind, advice in _SIGNATURES if stripped.startswith(magic)]
    if head.startswith(b"PK\x03\x04") and any(name in head for name in _OFFICE_ZIP):
        kinds.append(("a spreadsheet or document", _TABLE))
    if len(head) >= _CNF_FIRST_SECTION + 4:
        (section,) = struct.unpack_from("<I", head, _CNF_FIRST_SECTION)
        kinds += [_CNF] if section in _CNF_KINDS else []
    if head.startswith(b"\xff\xff") and b"\x00" in head[:32] and re.search(rb"[0-3]\d[A-Za-z]{3}\d\d", head[:32]):
        kinds.append(("an Ortec spectrum (CHN)", "Export it from Maestro as .spe (ASCII)."))
    match = re.match(rb"<\?xml[^>]*>\s*(?:<!--.*?-->\s*)*<([A-Za-z_][\w:.-]*)", stripped, re.DOTALL)
    if match:
        kinds.append((f"XML of another kind (<{match[1].decode('latin-1')[:40]}>)", _EXPORT))
    if stripped.startswith((b"#F ", b"[attenuators]")) or b"\n[fit]" in stripped.replace(b"\r", b"\n"):
        remedy = "Give the spectrum or the stack that it belongs to, and this file with --instrument."
        kinds.append(("a configuration of PyMca's fit", remedy))
    return kinds
