"""The library that ships, and what people's files may look like."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.errors import OutputError, ScanError
from underpaint.physics.materials import library as pigments
from underpaint.reflectance import builtin, read
from underpaint.reflectance.names import groups_of, member_of, name_table, pigment_of, pigments_of

WAVELENGTH = np.arange(400.0, 1000.0, 10.0)
AZURITE = 0.05 + 0.4 * np.exp(-(((WAVELENGTH - 460.0) / 60.0) ** 2))
VERMILION = 0.05 + 0.7 / (1.0 + np.exp(-(WAVELENGTH - 600.0) / 10.0))


def columns(path: Path, wavelength: np.ndarray, *spectra: np.ndarray, delimiter: str = ",", head: str = "nm") -> Path:
    rows = [delimiter.join([head, "Azurite, coarse".replace(",", ""), "Vermilion 10 %"])]
    rows += [delimiter.join(f"{value:.6g}" for value in row) for row in zip(wavelength, *spectra, strict=True)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_what_ships_has_its_provenance() -> None:
    library = builtin()
    assert {reference.licence for reference in library.spectra} == {"CC BY 4.0", "US public domain", "CC0"}
    assert all(reference.source and reference.patch and reference.name for reference in library.spectra)
    assert all(reference.pigment in pigments() for reference in library.spectra if reference.pigment)
    assert all(
        (np.diff(reference.wavelength_nm) > 0).all() and np.isfinite(reference.reflectance).all()
        for reference in library.spectra
    )
    films = [reference.absorption for reference in library.spectra if reference.absorption is not None]
    assert len(films) > 100
    assert all((absorption[np.isfinite(absorption)] >= 0).all() for absorption in films)


def test_every_name_in_the_tables_is_a_pigment() -> None:
    table = name_table()
    names = {*table["members"], *(other for equivalents in table["members"].values() for other in equivalents)}
    names |= {
        *filter(None, table["words"].values()),
        *table["kremer"],
        *table["usgs"].values(),
        *table["revigo"].values(),
    }
    assert {name for name in names if name not in pigments() or pigments()[name].name != name} == set()
    numbers = [number for numbers in table["kremer"].values() for number in numbers]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("name", "pigment"),
    [
        ("Azurite 40 um, gum arabic", "azurite"),
        ("Lead-tin yellow type I", "lead_tin_yellow"),
        ("LEAD_WHITE_oil", "lead_white"),
        ("Natural ultramarine (lapis)", "natural_ultramarine"),
        ("Red ochre, Roussillon", "red_earth"),
        ("Phthalo green PG7", "phthalocyanine_green"),
        ("PB29", "ultramarine"),
        ("PR 106, dry", "vermilion"),
        ("PBr7", ""),  # umber and sienna
        ("Zinnober", "vermilion"),
        ("Cadmium green", ""),
        ("something else", ""),
    ],
)
def test_names_mean_pigments(name: str, pigment: str) -> None:
    assert pigment_of(name) == pigment


def test_members_stand_for_what_light_cannot_tell_apart() -> None:
    assert member_of("natural_ultramarine") == "ultramarine"
    assert "iron_oxide_red" in pigments_of("red_earth")
    assert set(groups_of("carbon_black")) == {frozenset(), frozenset({"calcium_white"})}


def test_a_library_is_saved_and_read_with_all_it_says(tmp_path: Path) -> None:
    part = builtin().subset(reference.patch.startswith("revigo 01") for reference in builtin().spectra)
    path = part.save(tmp_path / "mine.npz")
    again = read(path)
    assert [reference.name for reference in again.spectra] == [reference.name for reference in part.spectra]
    assert [dict(reference.shares) for reference in again.spectra] == [
        dict(reference.shares) for reference in part.spectra
    ]
    np.testing.assert_allclose(again.spectra[0].reflectance, part.spectra[0].reflectance, atol=1e-4)
    with pytest.raises(OutputError):
        part.save(path)
    assert len(part.with_spectra(again)) == 2 * len(part)


@pytest.mark.parametrize("scale", [1.0, 100.0, 10_000.0])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_any_scale_unit_and_order(tmp_path: Path, scale: float, delimiter: str) -> None:
    order = np.random.default_rng(0).permutation(WAVELENGTH.size)
    path = columns(
        tmp_path / "set.csv", WAVELENGTH[order] / 1000, scale * AZURITE[order], scale * VERMILION[order],
        delimiter=delimiter, head="wavelength (um)",
    )  # fmt: skip
    library = read(path)
    assert library.members == ("azurite", "vermilion")
    np.testing.assert_allclose(library.spectra[0].wavelength_nm, WAVELENGTH)
    np.testing.assert_allclose(library.spectra[0].reflectance, AZURITE, rtol=1e-4)
    assert any("nm" in note for note in library.notes)


def test_csv_by_rows_with_gaps_and_repeated_wavelengths(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,400,500,500,600,700\nazurite,0.1,0.2,0.4,,0.1\nunheard of,0.5,0.5,0.5,0.5,0.5\n")
    library = read(path)
    np.testing.assert_allclose(library.spectra[0].wavelength_nm, [400, 500, 700])
    np.testing.assert_allclose(library.spectra[0].reflectance, [0.1, 0.3, 0.1])
    assert library.members == ("azurite",)
    assert any("unheard of" in note for note in library.notes)


@pytest.mark.parametrize("dtype", [("4", "<f4", 1.0), ("12", "<u2", 10_000.0), ("5", "<f8", 1.0)])
def test_an_envi_library_by_header_or_data(tmp_path: Path, dtype: tuple[str, str, float]) -> None:
    number, kind, scale = dtype
    (np.stack([AZURITE, VERMILION]) * scale).astype(kind).tofile(tmp_path / "set.sli")
    waves = ",\n ".join(f"{value / 1000:.4f}" for value in WAVELENGTH)
    (tmp_path / "set.hdr").write_text(
        f"ENVI\nsamples = {WAVELENGTH.size}\nlines = 2\nbands = 1\nheader offset = 0\n"
        f"file type = ENVI Spectral Library\ndata type = {number}\nbyte order = 0\nreflectance scale factor = {scale}\n"
        f"wavelength units = Micrometers\nspectra names = {{\n azurite,\n vermilion}}\nwavelength = {{\n {waves}}}\n"
    )
    for path in (tmp_path / "set.hdr", tmp_path / "set.sli"):
        library = read(path)
        assert library.members == ("azurite", "vermilion")
        np.testing.assert_allclose(library.spectra[1].reflectance, VERMILION, atol=1e-4)
        np.testing.assert_allclose(library.spectra[1].wavelength_nm, WAVELENGTH, atol=0.1)


@pytest.mark.parametrize(
    "content",
    [b"", b"one\n", b"a,b\nc,d\n", b"\x00\x01\x02", b"nm,azurite\n400,x\n500,y\n", b"nm,azurite\n-1,0.1\n0,0.2\n",
     b"ENVI\nsamples = 3\n", b"ENVI\nsamples = 3\nlines = 2\ndata type = 4\nwavelength = {1, 2}\n"],
)  # fmt: skip
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("bad.csv", "bad.hdr", "bad.npz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ScanError):
            read(tmp_path / name)


@settings(max_examples=60)
@given(st.text(alphabet=st.sampled_from("nm,;\t\n0123456789.-+eazurite \"'{}="), max_size=200))
def test_no_text_ends_in_anything_but_a_library_or_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.csv"
    path.write_text(text, encoding="utf-8")
    try:
        library = read(path)
    except ScanError:
        return
    assert all(
        np.isfinite(reference.reflectance).all() and reference.wavelength_nm[0] >= 100 for reference in library.spectra
    )


def test_what_a_table_assumes_is_noted(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("sample;vermilion\n" + "\n".join(f"{nm};0,3" for nm in range(400, 700, 20)))
    notes = " ".join(read(tmp_path / "mine.csv").notes)
    for words in ("decimal commas", "first column, 'sample'", "without a unit are assumed to be in nm"):
        assert words in notes


@pytest.mark.parametrize(
    ("name", "further_pigments"), [("lead white + azurite", {"lead_white"}), ("azurite and malachite", {"malachite"})]
)
def test_a_name_of_two_pigments_is_a_mixture(tmp_path: Path, name: str, further_pigments: set[str]) -> None:
    (tmp_path / "mine.csv").write_text(f"nm,{name}\n" + "\n".join(f"{nm},0.3" for nm in range(400, 700, 20)))
    (spectrum,) = read(tmp_path / "mine.csv").spectra
    assert spectrum.pigment == "azurite"
    assert not spectrum.pure
    assert set(spectrum.shares) == {"azurite", *further_pigments}


def test_wavenumbers_are_not_taken_for_micrometres(tmp_path: Path) -> None:
    path = columns(tmp_path / "set.csv", 1e7 / WAVELENGTH, AZURITE, VERMILION, head="wavenumber (cm-1)")
    library = read(path)
    np.testing.assert_allclose(library.spectra[0].wavelength_nm, WAVELENGTH, rtol=1e-4)
    assert any("wavenumbers converted" in note for note in library.notes)
