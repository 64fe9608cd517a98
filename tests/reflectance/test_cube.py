"""Cubes of spectral images become reflectance; faulty ones are repaired with a note or refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cube_files import WAVELENGTH_NM, reflectance, write_envi
from underpaint.errors import ScanError
from underpaint.io.cubes import open_cube
from underpaint.reflectance.cube import MIN_REFLECTANCE, ReflectanceCube, open_reflectance, reduce_cube

TRUE = reflectance()


def all_of(cube: ReflectanceCube) -> NDArray[np.float32]:
    return cube.read(slice(0, cube.shape[0]), slice(0, cube.shape[1]))


def noted(cube: ReflectanceCube, words: str) -> bool:
    return any(words in note for note in cube.notes)


# --- formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_is_read_in_any_interleave_by_header_or_data(tmp_path: Path, interleave: str) -> None:
    header = write_envi(tmp_path, TRUE, interleave=interleave)
    for place in (header, tmp_path / "cube.raw"):
        cube = open_reflectance(place)
        np.testing.assert_allclose(all_of(cube), TRUE, rtol=1e-6)
        np.testing.assert_allclose(cube.wavelength_nm, WAVELENGTH_NM, atol=0.01)
        np.testing.assert_allclose(cube.read(slice(3, 5), slice(7, 9)), TRUE[3:5, 7:9], rtol=1e-6)
        assert cube.notes == ()


def test_envi_of_big_bytes_an_offset_and_capitals(tmp_path: Path) -> None:
    header = write_envi(tmp_path, TRUE, byte_order=1, header_offset=16)
    (tmp_path / "cube.raw").write_bytes(bytes(16) + TRUE.transpose(0, 2, 1).astype(">f4").tobytes())
    header.write_text(header.read_text().replace("samples", "Samples").replace("= nm", "= Nanometers"))
    np.testing.assert_allclose(all_of(open_reflectance(header)), TRUE, rtol=1e-6)


def test_a_header_in_latin_1_is_read(tmp_path: Path) -> None:
    header = write_envi(tmp_path, TRUE, wavelength=WAVELENGTH_NM / 1000, unit="um")
    header.write_bytes(header.read_text().replace("= um", "= \xb5m").encode("latin-1"))
    np.testing.assert_allclose(open_reflectance(header).wavelength_nm, WAVELENGTH_NM, atol=0.01)


@pytest.mark.parametrize("unit", ["wavenumber (cm-1)", "Wavenumber", "1/cm"])
def test_wavenumbers_are_converted_to_nm(tmp_path: Path, unit: str) -> None:
    header = write_envi(tmp_path, TRUE, wavelength=1e7 / WAVELENGTH_NM, unit=unit)
    np.testing.assert_allclose(open_reflectance(header).wavelength_nm, WAVELENGTH_NM, atol=0.01)


def test_pixels_that_a_rectified_cube_fills_with_zeros_have_no_reflectance(tmp_path: Path) -> None:
    values = TRUE.copy()
    values[:3, :, :] = 0.0
    read = open_reflectance(write_envi(tmp_path, values)).read(slice(0, 6), slice(0, 5))
    assert np.isnan(read[:3]).all()
    assert np.isfinite(read[3:]).all()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_hdf5_finds_the_bands_by_their_wavelengths(tmp_path: Path, order: tuple[int, int, int]) -> None:
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["scan/reflectance"] = TRUE.transpose(order)
        file["scan/wavelength"] = WAVELENGTH_NM / 1000
        file["scan/wavelength"].attrs["units"] = "um"
    cube = open_reflectance(tmp_path / "cube.h5")
    np.testing.assert_allclose(all_of(cube), TRUE, rtol=1e-6)
    np.testing.assert_allclose(cube.wavelength_nm, WAVELENGTH_NM, atol=0.01)


def test_a_large_packed_cube_is_read_in_large_blocks_and_a_small_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file.create_dataset("cube", data=TRUE, chunks=(24, 30, 1), compression="gzip")
        file["cube"].attrs["wavelength"] = WAVELENGTH_NM
    at_once = open_reflectance(tmp_path / "cube.h5")
    (tmp_path / "cube.h5").rename(tmp_path / "other.h5")
    np.testing.assert_allclose(all_of(at_once), TRUE, rtol=1e-6)
    monkeypatch.setattr("underpaint.reflectance.cube.BLOCK_BYTES", 1000)
    in_blocks = open_reflectance(tmp_path / "other.h5")
    np.testing.assert_allclose(all_of(in_blocks), TRUE, rtol=1e-6)
    assert in_blocks.block_bytes > 1000
    assert open_reflectance(write_envi(tmp_path, TRUE)).block_bytes == 1000


def test_hdf5_of_several_cubes_wants_a_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        for name in ("one", "two"):
            file[name] = TRUE
            file[name].attrs["wavelengths"] = WAVELENGTH_NM
    with pytest.raises(ScanError, match="several"):
        open_reflectance(tmp_path / "cube.h5")
    np.testing.assert_allclose(all_of(open_reflectance(f"{tmp_path / 'cube.h5'}::two")), TRUE, rtol=1e-6)


def test_tiff_stacks_and_folders_take_the_list_beside_them(tmp_path: Path) -> None:
    images = np.moveaxis(TRUE, 2, 0)
    tifffile.imwrite(tmp_path / "cube.tif", images, photometric="minisblack")
    (tmp_path / "cube_wavelengths.txt").write_text("wavelength (nm)\n" + "\n".join(map(str, WAVELENGTH_NM)))
    folder = tmp_path / "bands"
    folder.mkdir()
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"band_{number:03d}.tif", image, compression="zlib")
    (folder / "wavelengths.csv.txt").write_text("")
    (folder / "wavelengths.txt").write_text("\n".join(map(str, WAVELENGTH_NM)))
    for place in (tmp_path / "cube.tif", folder):
        cube = open_reflectance(place)
        np.testing.assert_allclose(all_of(cube), TRUE, rtol=1e-6)
        assert noted(cube, "wavelengths from")


# --- references and scale -------------------------------------------------------------------------------

LIGHT = (200 + 3000 * np.exp(-(((WAVELENGTH_NM - 700) / 150) ** 2))) * (0.6 + 0.4 * np.linspace(0, 1, 30))[:, None]
DARK = np.full((30, WAVELENGTH_NM.size), 90.0)


def recorded(tmp_path: Path, n_line: int = 12) -> dict[str, Path]:
    """A camera's counts of the cube, with frames of white and dark that differ from column to column."""
    rng = np.random.default_rng(1)
    files = {"cube": TRUE * LIGHT + DARK, "white": np.broadcast_to(LIGHT + DARK, (n_line, *LIGHT.shape)),
             "dark": np.broadcast_to(DARK, (n_line, *DARK.shape))}  # fmt: skip
    return {
        name: write_envi(tmp_path, rng.poisson(values).astype(np.uint16), name=name) for name, values in files.items()
    }


def test_counts_become_reflectance_by_references_averaged_along_the_scan(tmp_path: Path) -> None:
    files = recorded(tmp_path, n_line=400)
    cube = open_reflectance(files["cube"], white=files["white"], dark=files["dark"])
    assert np.nanmedian(np.abs(all_of(cube) - TRUE)) < 0.02
    np.testing.assert_allclose(np.nanmean(all_of(cube), axis=(0, 1)), TRUE.mean(axis=(0, 1)), rtol=0.03)
    assert noted(cube, "mean of 400 lines")


def test_counts_without_a_reference_are_refused(tmp_path: Path) -> None:
    files = recorded(tmp_path)
    with pytest.raises(ScanError, match="--white"):
        open_reflectance(files["cube"])
    with pytest.raises(ScanError, match="Add --white"):
        open_reflectance(files["cube"], dark=files["dark"])
    assert noted(open_reflectance(files["cube"], white=files["white"]), "no dark reference")


def test_exchanged_references_are_refused(tmp_path: Path) -> None:
    files = recorded(tmp_path)
    with pytest.raises(ScanError, match="exchanged"):
        open_reflectance(files["cube"], white=files["dark"], dark=files["white"])


def test_references_of_another_size_or_other_wavelengths_are_refused(tmp_path: Path) -> None:
    files = recorded(tmp_path)
    narrow = write_envi(tmp_path, np.full((5, 17, 57), 900, np.uint16), name="narrow")
    fewer = write_envi(tmp_path, np.full((5, 30, 40), 900, np.uint16), name="fewer", wavelength=WAVELENGTH_NM[:40])
    moved = write_envi(tmp_path, np.full((5, 30, 57), 900, np.uint16), name="moved", wavelength=WAVELENGTH_NM + 7)
    as_high = write_envi(tmp_path, np.ones((24, 23, 57), np.float32), name="as_high")
    for white, words in (
        (as_high, "24 rows and 23 columns"),
        (narrow, "5 rows and 17 columns"),
        (fewer, "40 bands, the cube 57"),
        (moved, "7.0 nm"),
    ):
        with pytest.raises(ScanError, match=words):
            open_reflectance(files["cube"], white=white)


def test_one_spectrum_of_white_serves_all_columns(tmp_path: Path) -> None:
    level = 3000 * np.ones(WAVELENGTH_NM.size)
    header = write_envi(tmp_path, (TRUE * level).astype(np.uint16))
    white = write_envi(tmp_path, level[None, None].astype(np.uint16), name="white")
    np.testing.assert_allclose(all_of(open_reflectance(header, white=white)), TRUE, atol=0.001)


@pytest.mark.parametrize(("factor", "dtype"), [(100.0, "float32"), (10000.0, "uint16"), (100.0, "uint8")])
def test_the_scale_is_seen_and_noted(tmp_path: Path, factor: float, dtype: str) -> None:
    cube = open_reflectance(write_envi(tmp_path, (TRUE * factor).astype(dtype)))
    np.testing.assert_allclose(all_of(cube), TRUE, atol=0.011 if dtype == "uint8" else 1e-3)
    assert noted(cube, f"{factor:g} is assumed to be a reflectance of 1")


def test_the_files_scale_and_the_given_one_are_used(tmp_path: Path) -> None:
    stored = (TRUE * 4000).astype(np.uint16)
    by_file = open_reflectance(write_envi(tmp_path, stored, reflectance_scale_factor=4000))
    given = open_reflectance(write_envi(tmp_path, stored, name="other"), scale=4000)
    for cube in (by_file, given):
        np.testing.assert_allclose(all_of(cube), TRUE, atol=1e-3)
    with pytest.raises(ScanError, match="above 0"):
        open_reflectance(tmp_path / "cube.hdr", scale=-1)


# --- faults ---------------------------------------------------------------------------------------------


def test_unsorted_and_repeated_wavelengths_are_put_in_order(tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(57)
    wavelength = WAVELENGTH_NM[order]
    wavelength[np.argmax(wavelength)] = WAVELENGTH_NM[3]
    cube = open_reflectance(write_envi(tmp_path, TRUE[:, :, order], wavelength=wavelength))
    assert cube.shape[2] == 56
    assert (np.diff(cube.wavelength_nm) > 0).all()
    np.testing.assert_allclose(all_of(cube)[:, :, -1], TRUE[:, :, 55], rtol=1e-6)
    assert noted(cube, "sorted")
    assert noted(cube, "another band has the same wavelength")


def test_bad_saturated_missing_and_constant_bands_are_left_out(tmp_path: Path) -> None:
    values = TRUE.copy()
    values[:, :, 3], values[:, :, 10], values[:, :, 20] = np.nan, 0.25, 9 + values[:, :, 20]
    values[2, 5, 30] = -9999.0
    bbl = "{" + ", ".join("0" if band in {0, 56} else "1" for band in range(57)) + "}"
    cube = open_reflectance(write_envi(tmp_path, values, bbl=bbl, data_ignore_value=-9999))
    assert set(np.arange(57)) - set(cube.bands.tolist()) == {0, 3, 10, 20, 56}
    assert np.isnan(all_of(cube)[2, 5]).sum() == 1
    for words in ("2 of 57 bands are marked as bad", "2 of 57 bands are saturated or missing", "the same value"):
        assert noted(cube, words)


def test_saturated_counts_are_missing_and_not_bright(tmp_path: Path) -> None:
    counts = np.minimum(TRUE * 5200, 4095).astype(np.uint16)
    white = write_envi(tmp_path, np.full((9, 30, 57), 4000, np.uint16), name="white")
    cube = open_reflectance(write_envi(tmp_path, counts), white=white)
    saturated = np.isnan(all_of(cube))
    assert saturated.any()
    assert np.nanmax(all_of(cube)) < 4095 / 4000
    assert noted(cube, "4095 are saturated")


def test_dark_noise_has_a_logarithm(tmp_path: Path) -> None:
    values = TRUE.copy()
    values[0, 0] = -0.01
    assert all_of(open_reflectance(write_envi(tmp_path, values)))[0, 0] == pytest.approx(MIN_REFLECTANCE)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bands": 60}, "declares"),
        ({"data_type": 5}, "32 bits, not the 64"),
        ({"data_type": 12}, "32 bits, not the 16"),
        ({"data_type": 6}, "real numbers"),
        ({"data_type": 99}, "damaged"),
        ({"interleave": "tiled"}, "bsq, bil or bip"),
        ({"lines": None}, "damaged"),
        ({"samples": -30}, "real numbers"),
        ({"byte_order": 1}, "byte order"),
        ({"wavelength": "{400, 500}"}, "2 wavelengths for 57 bands"),
        ({"wavelength": "{" + ", ".join(["x"] * 57) + "}"}, "could not convert"),
        ({"wavelength_units": "GHz"}, "unit is 'GHz'"),
        ({"bbl": "{1, 0}"}, "2 marks of bad bands"),
        ({"bbl": "{" + ", ".join(["0"] * 55 + ["1"] * 2) + "}"}, "2 of its 57 bands are usable"),
    ],
)
def test_headers_that_contradict_the_data_are_refused(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    header = write_envi(tmp_path, TRUE)
    given = {key.replace("_", " "): value for key, value in changed.items()}
    lines = [line for line in header.read_text().splitlines() if line.partition(" = ")[0] not in given]
    lines += [f"{key} = {value}" for key, value in given.items() if value is not None]
    header.write_text("\n".join(lines))
    with pytest.raises(ScanError, match=words):
        open_reflectance(header)


def test_swapped_bytes_and_lost_signs_of_integers_are_refused(tmp_path: Path) -> None:
    stored = (TRUE * 10000).astype(np.uint16)
    with pytest.raises(ScanError, match="byte order is reversed"):
        open_reflectance(write_envi(tmp_path, stored.byteswap(), name="swapped"))
    bright = (TRUE * 60000).astype(np.uint16)
    with pytest.raises(ScanError, match="negative"):
        open_reflectance(write_envi(tmp_path, bright, name="signed", data_type=2))


@pytest.mark.parametrize("missing", ["data", "cut"])
def test_missing_and_cut_data_are_refused(tmp_path: Path, missing: str) -> None:
    header = write_envi(tmp_path, TRUE)
    data = tmp_path / "cube.raw"
    if missing == "data":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:-400])
    with pytest.raises(ScanError, match="not in its folder" if missing == "data" else "cut off"):
        open_reflectance(header)


def test_a_wrong_unit_is_corrected_by_size_and_no_unit_noted(tmp_path: Path) -> None:
    for name, unit in (("stated", "Micrometers"), ("unstated", "Unknown")):
        cube = open_reflectance(write_envi(tmp_path, TRUE, name=name, unit=unit))
        np.testing.assert_allclose(cube.wavelength_nm, WAVELENGTH_NM, atol=0.01)
        assert noted(cube, "nm")


def test_a_cube_without_wavelengths_is_refused_and_a_list_helps(tmp_path: Path) -> None:
    header = write_envi(tmp_path, TRUE, wavelength=None)
    with pytest.raises(ScanError, match=r"wavelengths\.txt"):
        open_reflectance(header)
    (tmp_path / "wavelengths.txt").write_text("\n".join(f"{value / 1000:.4f}" for value in WAVELENGTH_NM))
    np.testing.assert_allclose(open_reflectance(header).wavelength_nm, WAVELENGTH_NM, atol=0.1)


def test_what_is_no_cube_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no cube")
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((20, 30, 3), np.uint8))
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["image"] = np.zeros((20, 30))
    library = write_envi(tmp_path, TRUE, name="library", file_type="ENVI Spectral Library")
    zeros = write_envi(tmp_path, np.zeros_like(TRUE), name="zeros")
    for place in (tmp_path / "text.txt", tmp_path / "photo.tif", tmp_path / "flat.h5", library, zeros, tmp_path):
        with pytest.raises(ScanError, match=r"Cannot (read|use)"):
            open_reflectance(place)
    with pytest.raises(ScanError, match="no such file"):
        open_cube(tmp_path / "nowhere.hdr")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    header = write_envi(inside, TRUE)
    (inside / "cube.raw").rename(outside / "cube.raw")
    (inside / "cube.raw").symlink_to(outside / "cube.raw")
    with pytest.raises(ScanError, match="link to another place"):
        open_reflectance(header)


def test_the_overview_is_the_mean_of_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.reflectance.cube.OVERVIEW_SIDE", 10)
    monkeypatch.setattr("underpaint.reflectance.cube.BLOCK_BYTES", 40_000)
    small = reduce_cube(open_reflectance(write_envi(tmp_path, TRUE)))
    assert small.pixel_side == 3
    assert small.rgb.shape == (8, 10, 3)
    first = np.log(TRUE[3:6, 6:9, :5].mean())
    assert small.channels[0][1, 2] == pytest.approx(first, abs=1e-4)


def test_damaged_files_are_refused_or_read_and_never_crash(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Cuts, changed bytes and digits, lost lines: of header, data, HDF5, TIFF and the list beside it."""
    rng = np.random.default_rng(0)
    small = reflectance(8, 9)
    write_envi(tmp_path, (small * 10000).astype(np.uint16))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["a/cube"], file["a/wavelength"] = small, WAVELENGTH_NM
    tifffile.imwrite(tmp_path / "c.tif", np.moveaxis(small, 2, 0), photometric="minisblack")
    (tmp_path / "c.txt").write_text("\n".join(map(str, WAVELENGTH_NM)))
    opened = {"cube.hdr": "cube.hdr", "cube.raw": "cube.hdr", "c.h5": "c.h5", "c.tif": "c.tif", "c.txt": "c.tif"}
    messages = []
    for number in range(150):
        name = list(opened)[number % len(opened)]
        whole_file = (tmp_path / name).read_bytes()
        damaged = bytearray(whole_file)
        for place in rng.integers(0, len(damaged), 12):
            damaged[place] = rng.integers(0, 256) if number % 3 else rng.integers(48, 58)
        if number % 7 == 0:
            damaged = damaged[: rng.integers(0, len(damaged))]
        (tmp_path / name).write_bytes(bytes(damaged))
        try:
            reduce_cube(open_reflectance(tmp_path / opened[name]))
        except ScanError as error:
            messages.append(str(error))
        (tmp_path / name).write_bytes(whole_file)
    assert 0 < len(messages) < 150
    assert max(map(len, messages)) < 1500
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.5, "cut off: copy the file again. If it is complete"), (2.0, "data type = 4"), (0.7, "cut off")],
)
def test_a_data_file_of_another_size_is_cut_off_before_its_type_is_wrong(
    tmp_path: Path, share: float, words: str
) -> None:
    header = write_envi(tmp_path, (TRUE * 10000).astype(np.uint16))
    stored = (tmp_path / "cube.raw").read_bytes()
    (tmp_path / "cube.raw").write_bytes((2 * stored)[: int(share * len(stored))])
    with pytest.raises(ScanError, match=words):
        open_cube(header)
