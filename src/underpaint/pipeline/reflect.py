"""Identify surface pigments from a reflectance cube, registered and resampled to the maps of a scan."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint._version import __version__
from underpaint.data.maps import NONE_OF_LIBRARY, PRESENT_PROBABILITY, Place, Results
from underpaint.errors import ScanError, UnderpaintError
from underpaint.io import BlockStore, StoredMaps, load, read_results, result_folder, split_location
from underpaint.io.results.contained import open_contained
from underpaint.io.results.nexus import add_reflectance, write_reflectance_tiffs, write_summary
from underpaint.io.results.provenance import file_facts, refuse_change
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import (
    CUBE_REGISTRATION_FILE,
    GENERATED_NAMES,
    REFLECTANCE_FILE,
    SUMMARY_FILE,
    copy_sidecars,
)
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.physics.materials import library as pigment_library
from underpaint.physics.materials import load_palette
from underpaint.reflectance import ReflectanceClassifier, ReflectanceLibrary, builtin, read
from underpaint.reflectance.cube import Overview, ReflectanceCube, open_reflectance, reduce_cube
from underpaint.reflectance.names import member_of
from underpaint.reflectance.registration import (
    Matrix,
    Registration,
    cube_components,
    high_contrast_maps,
    read_points,
    register_any_orientation,
    register_by_points,
    transform_positions,
    warp_to_maps,
)
from underpaint.reflectance.user_sets import user_sets
from underpaint.runtime.executors import ordered_results, thread_or_cluster_executor
from underpaint.runtime.files import remove_tree, write_json
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

Window = tuple[slice, slice]
_MAX_POINTS_PER_SIDE = 16
"""Maximum number of sampling points along each side of a map pixel. If a map pixel covers more pixels of the cube, only
a subset of the cube's pixels is averaged."""


class Resampler:
    """Function that returns the mean reflectance in each pixel of the maps.

    The cube is sampled at evenly spaced points within a map pixel, about one point per pixel of the cube. The mean is
    taken over the points with a value. The mean is NaN if fewer than half of the points have a value.

    Parameters
    ----------
    cube : ReflectanceCube
    matrix : (3, 3) array
        Transforms (column, row, 1) of the element maps to (x, y, 1) of the cube, in pixels. The centre of the first
        pixel is at 0.5.
    shape : (int, int)
        Rows and columns of the maps.
    """

    def __init__(self, cube: ReflectanceCube, matrix: Matrix, shape: tuple[int, int]) -> None:
        self.cube, self.matrix, self.shape = cube, matrix, shape
        corners = np.array([[0, 0], [shape[1], 0], [0, shape[0]], [shape[1], shape[0]]], dtype=np.float64)
        cube_corners = transform_positions(matrix, corners)
        pixel_sides = [
            np.hypot(*(transform_positions(matrix, corners + unit_step) - cube_corners).T)
            for unit_step in ([1, 0], [0, 1])
        ]
        self.cube_pixels_per_map_pixel = float(max((pixel_sides[0] * pixel_sides[1]).max(), 1.0))
        self.points_per_side = int(np.clip(np.ceil(np.max(pixel_sides) - 1e-3), 1, _MAX_POINTS_PER_SIDE))

    def windows(self) -> Iterator[Window]:
        """Yield windows of the maps, each covering about one block of the cube."""
        n_row, n_column = self.shape
        n_pixel = max(
            1, int(self.cube.block_bytes / (4 * self.cube.stored_cube.shape[2] * self.cube_pixels_per_map_pixel))
        )
        rows = min(max(1, n_pixel // n_column), n_row)
        columns = n_column if n_pixel >= n_column else n_pixel
        for row in range(0, n_row, rows):
            for column in range(0, n_column, columns):
                yield slice(row, min(row + rows, n_row)), slice(column, min(column + columns, n_column))

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Return the (n_row, n_column, n_band) reflectance of a window of the maps."""
        rows, columns = window
        window_shape = (rows.stop - rows.start, columns.stop - columns.start)
        n_pixel, points_per_side = window_shape[0] * window_shape[1], self.points_per_side
        sample_offsets = (np.arange(points_per_side) + 0.5) / points_per_side
        sample_rows = (rows.start + np.arange(window_shape[0])[:, None] + sample_offsets).ravel()
        sample_columns = (columns.start + np.arange(window_shape[1])[:, None] + sample_offsets).ravel()
        positions = np.stack(np.meshgrid(sample_columns, sample_rows), axis=2).reshape(-1, 2)
        pixel_row, pixel_column = (np.arange(n_pixels).repeat(points_per_side) for n_pixels in window_shape)
        pixel_index = (pixel_row[:, None] * window_shape[1] + pixel_column).ravel()
        x, y = np.floor(transform_positions(self.matrix, positions)).astype(np.int64).T
        n_row, n_column, n_band = self.cube.shape
        is_inside = (x >= 0) & (y >= 0) & (x < n_column) & (y < n_row)
        mean_reflectance = np.full((n_pixel, n_band), np.nan, dtype=np.float32)
        if not is_inside.any():
            return mean_reflectance.reshape(*window_shape, n_band)
        x, y, pixel_index = x[is_inside], y[is_inside], pixel_index[is_inside]
        first_pixel, last_pixel = (int(y.min()), int(x.min())), (int(y.max()) + 1, int(x.max()) + 1)
        spectra = self.cube.read(slice(first_pixel[0], last_pixel[0]), slice(first_pixel[1], last_pixel[1])).reshape(
            -1, n_band
        )
        cube_index = (y - first_pixel[0]) * (last_pixel[1] - first_pixel[1]) + (x - first_pixel[1])
        sum_matrix = csr_array((np.ones(x.size, np.float32), (pixel_index, cube_index)), shape=(n_pixel, len(spectra)))
        is_valid = np.isfinite(spectra)
        if is_valid.all():
            reflectance_sum, n_valid = sum_matrix @ spectra, sum_matrix.sum(axis=1)[:, None]
        else:
            reflectance_sum, n_valid = (
                sum_matrix @ np.where(is_valid, spectra, np.float32(0)),
                sum_matrix @ is_valid.astype(np.float32),
            )
        is_covered = n_valid >= 0.5 * points_per_side**2
        np.divide(
            reflectance_sum, n_valid, out=mean_reflectance, where=np.broadcast_to(is_covered, mean_reflectance.shape)
        )
        return mean_reflectance.reshape(*window_shape, n_band)


_BAND_WIDTH_NM = 10.0
"""Width of the bands of stored spectra, in nm."""
_PICTURE_SIDE_PIXELS = 1600
"""Approximate longer side of the picture of the cube, in pixels."""
_TASK_TEXT = "Identifying the surface"


@dataclass(frozen=True)
class ReflectSettings:
    """Settings of :func:`reflect`.

    Parameters
    ----------
    white, dark : str, Path or None
        Reference cubes, as in :func:`underpaint.reflectance.cube.open_reflectance`.
    scale : float or None
        Stored value that corresponds to a reflectance of 1. None means the value of the file or an inferred value.
    library : str, Path or None
        File of measured spectra. None means the library of the package and the user's sets of spectra.
    points : str, Path or None
        File of corresponding points on the cube and on the maps. None means the registration stored with the results,
        or an automatic registration.
    palette : str, Path or None
        Name or file of a palette that limits the candidates. None means all pigments of the library.
    """

    white: str | Path | None = None
    dark: str | Path | None = None
    scale: float | None = None
    library: str | Path | None = None
    points: str | Path | None = None
    palette: str | Path | None = None


def reflect(
    cube: str | Path,
    xrf: str | Path,
    settings: ReflectSettings | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Results:
    """Identify the pigments at a painting's surface from a reflectance cube and the results of its X-ray scan.

    Parameters
    ----------
    cube : str or Path
        ENVI, HDF5 or TIFF stack, as in :func:`underpaint.io.cubes.open_cube`.
    xrf : str or Path
        Results folder of ``underpaint identify``.
    settings : ReflectSettings or None
        References, library, points and palette, or None for the defaults.
    out : str or Path or None
        Folder for a copy of the results with the surface maps. None means that the maps are added to ``xrf`` and
        replace those of an earlier cube.
    overwrite : bool
        Whether ``out`` may replace other results.
    threads : int or None
        Number of threads, or None for one per core.
    progress : callable or None
        Called with the task, the number of completed steps and the total number.

    Returns
    -------
    Results
        Results read from the folder, including ``surface_member``, ``surface_presence``, ``surface_share``, ``hidden``
        and ``reflectance``.

    Raises
    ------
    UnderpaintError
        The cube, a reference, the library or the results cannot be used, or the cube cannot be registered. The results
        are then unchanged.
    """
    settings, report_progress = settings or ReflectSettings(), progress or no_progress
    source_folder = Path(xrf)
    results, source_facts = read_results(source_folder), file_facts(cube)
    reflectance_cube = _open_cube(cube, settings)
    spectral_library = library_for(settings.library, settings.palette)
    report_progress("Preparing the library", 0, 1)
    classifier = ReflectanceClassifier(spectral_library, reflectance_cube.wavelength_nm)
    target_folder = source_folder if out is None else Path(out)
    is_same_folder = target_folder.resolve() == source_folder.resolve()
    with result_folder(target_folder, overwrite=overwrite or is_same_folder) as output_folder:
        with one_blas_thread():  # the matrix products are too small for several threads
            cube_overview = reduce_cube(reflectance_cube, report_progress)
            registration = _register_cube(
                reflectance_cube, cube_overview, source_folder, results.shape, settings.points, report_progress
            )
        _copy_generated(source_folder, output_folder.path)
        if not is_same_folder:
            copy_sidecars(source_folder, output_folder.path)
        store = BlockStore(output_folder.path / "blocks", results.shape)
        groups = results.groups
        probability_anywhere, probability_at_surface = (
            _group_probability(results, groups, place) for place in ("anywhere", "surface")
        )
        resampler = Resampler(reflectance_cube, registration.matrix, results.shape)
        identify_window = _WindowClassifier(classifier, resampler, probability_anywhere, probability_at_surface, groups)
        windows = list(resampler.windows())
        n_identified = 0
        report_progress(_TASK_TEXT, 0, results.shape[0] * results.shape[1])
        with thread_or_cluster_executor(threads=threads) as executor:
            window_arguments = ((window_index, (window,)) for window_index, window in enumerate(windows))
            for window_index, stacks in ordered_results(executor, identify_window, window_arguments):
                rows, columns = windows[window_index]
                store.put(window_index, rows, columns, stacks)
                n_identified += int(np.isfinite(stacks["member"][:, :, -1]).sum())
                n_done = rows.stop * results.shape[1] if columns.stop == results.shape[1] else 0
                report_progress(_TASK_TEXT, n_done, results.shape[0] * results.shape[1])
        if not n_identified:
            raise ScanError(
                f"Cannot identify the surface of {source_folder} with {cube}: the cube has no usable spectrum at the "
                f"{results.shape[0]} x {results.shape[1]} pixels of the maps. Register the cube by corresponding "
                "points: "
                "--points FILE."
            )
        report_progress("Writing", 0, 1)
        provenance = _provenance(cube, reflectance_cube, registration, spectral_library, settings) | {
            "cube_is": source_facts
        }
        surface_results = _surface_results(store, classifier, identify_window, results, provenance)
        add_reflectance(source_folder, output_folder.path, surface_results)
        joined_results = replace(results | surface_results, materials=results.materials)
        write_reflectance_tiffs(output_folder.path, joined_results)
        write_summary(output_folder.path / SUMMARY_FILE, joined_results)
        del surface_results, joined_results  # both objects read from the store
        remove_tree(store.folder)
        _write_picture(output_folder.path, cube_overview, registration, results.shape)
        write_json(output_folder.path / CUBE_REGISTRATION_FILE, _registration_record(registration, reflectance_cube))
        report_progress("Writing the report", 0, 1)
        _write_report(output_folder.path)
        refuse_change(cube, source_facts, target_folder)
    return read_results(target_folder)


def _open_cube(location: str | Path, settings: ReflectSettings) -> ReflectanceCube:
    """Open the cube. If that fails because the path is an XRF scan or a results folder, the error states this."""
    try:
        return open_reflectance(location, white=settings.white, dark=settings.dark, scale=settings.scale)
    except ScanError as error:
        kind = _xrf_kind(location)
        if not kind:
            raise
        raise ScanError(
            f"Cannot read {location} as a reflectance cube: it is {kind}. Give the image cube of a hyperspectral "
            "camera (ENVI, HDF5 or a TIFF stack with wavelengths), and the results of the XRF scan with --xrf."
        ) from error


def _xrf_kind(location: str | Path) -> str:
    """Return "a results folder", a description of an XRF scan with an energy axis, or "" for other files."""
    if (split_location(location)[0] / RESULTS_FILE).is_file():
        return "a results folder"
    with suppress(UnderpaintError):
        scan = load(location)
        if scan.axis is not None:
            n_row, n_column, n_channel = scan.shape
            return f"an XRF scan of {n_row} x {n_column} pixels with {n_channel} channels"
    return ""


def library_for(path: str | Path | None, palette: str | Path | None = None) -> ReflectanceLibrary:
    """Return the spectral library of a file, or that of the package with the user's sets of spectra.

    Parameters
    ----------
    path : str, Path or None
        File of measured spectra.
    palette : str, Path or None
        Name or file of a palette. Spectra of other pigments are omitted, and background spectra are kept.

    Raises
    ------
    ScanError
        The file or a user's set of spectra cannot be read, or no spectrum belongs to a pigment of the palette.
    SampleError
        The palette does not exist or is damaged.
    """
    spectral_library = read(path) if path is not None else builtin()
    if path is None:
        for user_set in user_sets().values():
            spectral_library = spectral_library.with_spectra(read(user_set))
    if palette is None:
        return spectral_library
    loaded_palette = load_palette(palette)
    members = {member_of(name) for name in loaded_palette.pigments}
    palette_library = spectral_library.subset(
        not spectrum.member or spectrum.member in members for spectrum in spectral_library.spectra
    )
    if not palette_library.members:
        raise ScanError(
            f"Cannot use the palette {loaded_palette.name} with this library: none of the {len(spectral_library)} "
            "spectra "
            f"is that of one of the {len(loaded_palette.pigments)} pigments of the palette. Give another palette, or "
            "add "
            "spectra with `underpaint pigments add-reflectance`."
        )
    missing_members = sorted(members - set(palette_library.members))
    notes = (
        (f"not identifiable at the surface, because the library has no spectrum: {', '.join(missing_members)}",)
        if missing_members
        else ()
    )
    return replace(palette_library, notes=(*palette_library.notes, *notes))


class _WindowClassifier:
    """Resampling and classification of single windows of the maps."""

    def __init__(
        self,
        classifier: ReflectanceClassifier,
        resampler: Resampler,
        anywhere: NDArray[np.float32] | None,
        surface: NDArray[np.float32] | None,
        groups: Sequence[str],
    ) -> None:
        self.classifier, self.resampler, self.groups = classifier, resampler, groups
        self.probability_anywhere, self.probability_at_surface = anywhere, surface
        self.cube = resampler.cube
        band_numbers = np.round(self.cube.wavelength_nm / _BAND_WIDTH_NM)
        self.stored_wavelength_nm, band_index = np.unique(band_numbers, return_inverse=True)
        self.stored_wavelength_nm = self.stored_wavelength_nm * _BAND_WIDTH_NM
        self.band_matrix = np.zeros((band_numbers.size, self.stored_wavelength_nm.size), dtype=np.float32)
        self.band_matrix[np.arange(band_numbers.size), band_index] = 1.0

    def __call__(self, window: tuple[slice, slice]) -> dict[str, NDArray[Any]]:
        """Return the maps of a window by name: member, presence, share, hidden and spectra."""
        spectra = self.resampler(window)
        window_shape = spectra.shape[:2]
        flat_spectra = spectra.reshape(-1, spectra.shape[2])
        anywhere, surface = (
            None if probability is None else probability[window].reshape(-1, len(self.groups))
            for probability in (self.probability_anywhere, self.probability_at_surface)
        )
        classification = self.classifier.identify(
            flat_spectra, anywhere, self.groups if anywhere is not None else (), surface
        )
        stacks = {
            "member": classification.probability,
            "presence": classification.presence,
            "share": classification.mixture,
        }
        if anywhere is not None:
            stacks["hidden"] = np.where(classification.determinable, classification.hidden, np.nan)
        is_finite = np.isfinite(flat_spectra)
        with np.errstate(invalid="ignore", divide="ignore"):
            stacks["spectra"] = (np.nan_to_num(flat_spectra) @ self.band_matrix) / (
                is_finite.astype(np.float32) @ self.band_matrix
            )
        return {
            name: np.ascontiguousarray(window_values.reshape(*window_shape, -1), np.float32)
            for name, window_values in stacks.items()
        }


def _group_probability(results: Results, groups: Sequence[str], place: Place) -> NDArray[np.float32] | None:
    """Return the (n_row, n_column, n_group) probability of groups at a place, NaN for groups without this map."""
    if not any(results.holds(name, place) for name in groups):
        return None
    unknown_probability = np.full(results.shape, np.nan, np.float32)
    maps = [results[name, place] if results.holds(name, place) else unknown_probability for name in groups]
    return np.stack(maps, axis=2).astype(np.float32)


def _register_cube(
    cube: ReflectanceCube,
    cube_overview: Overview,
    folder: Path,
    shape: tuple[int, int],
    points: str | Path | None,
    progress: Progress,
) -> Registration:
    """Return the registration of the cube: from a file of points, as stored with the results, or automatic.

    Raises
    ------
    ScanError
        The points cannot be used, or the automatic registration is refused.
    """
    if points is not None:
        point_pairs = read_points(points, cube.stored_cube.shape[:2], shape)
        return register_by_points([pair[:2] for pair in point_pairs], [pair[2:] for pair in point_pairs], "cube")
    stored_registration = _stored_registration(folder, cube)
    if stored_registration is not None:
        return stored_registration
    maps = ResultMaps(folder)
    try:
        registration = register_any_orientation(
            cube_components(cube_overview.channels), high_contrast_maps(maps), progress
        )
    except ScanError as error:
        raise ScanError(
            f"Cannot register {cube.stored_cube.source} to the maps of {folder}. {error} For points, give a file with "
            "x and y on the cube and column and row on the maps, in pixels, on each line: --points FILE."
        ) from error
    finally:
        maps.close()
    return replace(
        registration, matrix=np.diag([cube_overview.pixel_side, cube_overview.pixel_side, 1.0]) @ registration.matrix
    )


def _registration_record(registration: Registration, cube: ReflectanceCube) -> dict[str, Any]:
    return {
        "matrix": registration.matrix.tolist(),
        "how": registration.method,
        "error_px": registration.error_px,
        "similarity": registration.similarity,
        "verdict": registration.verdict,
        "cube": _cube_identity(cube),
        "meaning": "matrix takes (column, row, 1) of the maps to (x, y, 1) of the cube, pixels, first at 0.5",
    }


def _cube_identity(cube: ReflectanceCube) -> list[Any]:
    return [Path(cube.stored_cube.source).name, *cube.stored_cube.shape]


def _stored_registration(folder: Path, cube: ReflectanceCube) -> Registration | None:
    """Return the registration stored with the results for a cube of this name and size, or None.

    Raises
    ------
    ScanError
        The stored registration is damaged.
    """
    try:
        with open_contained(folder, CUBE_REGISTRATION_FILE) as file:
            record = json.loads(file.read(2**20))
        if record["cube"] != _cube_identity(cube):
            return None
        matrix = np.asarray(record["matrix"], dtype=np.float64).reshape(3, 3)
        if not np.isfinite(matrix).all() or record["how"] not in {"points", "mutual information"}:
            raise ValueError("its matrix or its method is not valid")
        return Registration(matrix, record["how"], record["error_px"], record["similarity"], record["verdict"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ScanError(
            f"Cannot read {folder / CUBE_REGISTRATION_FILE}: {error}. Remove the file, or give points: --points FILE."
        ) from error


def _provenance(
    cube: str | Path,
    reflectance_cube: ReflectanceCube,
    registration: Registration,
    spectral_library: ReflectanceLibrary,
    settings: ReflectSettings,
) -> dict[str, Any]:
    """Return the settings and the provenance of the surface maps as JSON values."""
    return {
        "cube": str(cube),
        "cube_shape": list(reflectance_cube.stored_cube.shape),
        "bands_used": int(reflectance_cube.bands.size),
        "wavelength_nm": [float(reflectance_cube.wavelength_nm[0]), float(reflectance_cube.wavelength_nm[-1])],
        "white": None if settings.white is None else str(settings.white),
        "dark": None if settings.dark is None else str(settings.dark),
        "scale": reflectance_cube.scale,
        "library": "that of the package" if settings.library is None else str(settings.library),
        "library_notes": [] if settings.library is None and settings.palette is None else list(spectral_library.notes),
        "palette": None if settings.palette is None else str(settings.palette),
        "library_spectra": len(spectral_library),
        "library_sources": list(spectral_library.sources),
        "registration": _registration_record(registration, reflectance_cube),
        "version": __version__,
    }


def _surface_results(
    store: BlockStore,
    classifier: ReflectanceClassifier,
    window_classifier: _WindowClassifier,
    results: Results,
    record: dict[str, Any],
) -> Results:
    """Return the maps of all members that are present in at least one pixel, and of all groups."""
    members = classifier.members
    stored_maps = {
        "member": store.stack("member", len(members)),
        "presence": store.stack("presence", len(members) - 1),
        "share": store.stack("share", len(members) - 1),
    }
    present_members = [
        index
        for index in range(len(members) - 1)
        if any(
            np.nanmax(stored_maps[name][:, :, index], initial=0) > PRESENT_PROBABILITY
            for name in ("member", "presence")
        )
    ]
    maps_by_quantity: dict[str, Any] = {
        "surface_member": _select_maps(stored_maps["member"], [*present_members, len(members) - 1]),
        "surface_presence": _select_maps(stored_maps["presence"], present_members),
        "surface_share": _select_maps(stored_maps["share"], present_members),
        "reflectance": (
            window_classifier.stored_wavelength_nm,
            _open_spectra(store, window_classifier.stored_wavelength_nm.size),
        ),
    }
    if window_classifier.probability_anywhere is not None:
        maps_by_quantity["hidden"] = window_classifier.groups, store.stack("hidden", len(window_classifier.groups))
    names = [*(members[index] for index in present_members), NONE_OF_LIBRARY]
    library_pigments = pigment_library()
    labels = {name: library_pigments[name].label for name in names if name in library_pigments} | {
        NONE_OF_LIBRARY: "none of the library"
    }
    notes = [*window_classifier.cube.notes, *record["library_notes"]]
    registration_record = record["registration"]
    if registration_record["verdict"] != "well":
        notes.insert(0, _registration_warning(registration_record))
    if window_classifier.probability_anywhere is None:
        notes.append("the results have no pigment groups, so that the surface is identified by reflectance alone")
    elif undetermined_groups := classifier.undeterminable(window_classifier.groups):
        group_names = ", ".join(undetermined_groups)
        notes.append(
            f"the presence of {group_names} below the surface is not determined: the library has no spectrum of the "
            "group, or the group contains a white"
        )
    result_settings = record | {
        "labels": labels,
        "member_spectra": _median_spectra(classifier.library, names, window_classifier.stored_wavelength_nm),
    }
    return Results.of_reflectance(
        names, maps_by_quantity, step_mm=results.step_mm, notes=tuple(notes), settings=result_settings
    )


def _median_spectra(
    spectral_library: ReflectanceLibrary, names: Sequence[str], wavelength_nm: NDArray[np.float64]
) -> dict[str, list[float | None]]:
    """Return the median library spectrum of each member, for comparison with the spectrum of a pixel."""
    median_spectra: dict[str, list[float | None]] = {}
    for name in names:
        member_spectra = [
            np.interp(wavelength_nm, spectrum.wavelength_nm, spectrum.reflectance, left=np.nan, right=np.nan)
            for spectrum in spectral_library.spectra
            if spectrum.member == name and spectrum.pure
        ]
        if member_spectra:
            is_measured_band = np.isfinite(member_spectra).any(axis=0)
            median_spectrum = np.full(wavelength_nm.size, np.nan)
            median_spectrum[is_measured_band] = np.nanmedian(np.array(member_spectra)[:, is_measured_band], axis=0)
            median_spectra[name] = [
                round(reflectance, 4) if np.isfinite(reflectance) else None for reflectance in median_spectrum.tolist()
            ]
    return median_spectra


def _registration_warning(registration_record: dict[str, Any]) -> str:
    error_text = (
        ""
        if registration_record["error_px"] is None
        else f" (error about {registration_record['error_px']:.1f} pixels of the maps)"
    )
    return (
        f"the registration of the cube to the maps is doubtful{error_text}: check the registration in the viewer, and "
        "give corresponding points (--points) if it is wrong"
    )


def _select_maps(stored_maps: StoredMaps, indices: Sequence[int]) -> StoredMaps:
    shape = (stored_maps.shape[0], stored_maps.shape[1], len(indices))
    return StoredMaps(shape, stored_maps.dtype, lambda index: stored_maps[:, :, indices[index]])


class _StoredSpectra:
    """Spectra in a block store, which are read window by window."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._values = np.memmap(path, np.float32, "r", shape=(shape[2], shape[0], shape[1]))

    def __getitem__(self, slices: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        rows, columns, bands = slices
        return np.moveaxis(self._values[bands, rows, columns], 0, 2)


def _open_spectra(store: BlockStore, n_band: int) -> _StoredSpectra:
    return _StoredSpectra(store.folder / "spectra.float32", (*store.shape, n_band))


def _copy_generated(source: Path, target: Path) -> None:
    """Copy the files of the results folder, except files that are written again."""
    for name in GENERATED_NAMES:
        path = source / name
        if name in {RESULTS_FILE, SUMMARY_FILE, REFLECTANCE_FILE, "surface", "hidden"} or path.is_symlink():
            continue
        if path.is_dir():
            shutil.copytree(path, target / name, symlinks=True)
        elif path.is_file():
            shutil.copy2(path, target / name)


def _write_picture(folder: Path, cube_overview: Overview, registration: Registration, shape: tuple[int, int]) -> None:
    from PIL import Image

    pixels_per_map_pixel = max(1, _PICTURE_SIDE_PIXELS // max(shape))
    overview_matrix = np.diag([1 / cube_overview.pixel_side, 1 / cube_overview.pixel_side, 1.0]) @ registration.matrix
    picture = warp_to_maps(cube_overview.rgb, overview_matrix, shape, pixels_per_map_pixel)
    Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(folder / REFLECTANCE_FILE, format="PNG")


def _write_report(folder: Path) -> None:
    # the import of Matplotlib takes a second
    from underpaint.display.report import write_report

    write_report(folder)
