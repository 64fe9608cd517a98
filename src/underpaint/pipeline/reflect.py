"""Identify surface pigments from a reflectance cube: register it to the results of an X-ray scan and classify it."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data.maps import NONE_OF_LIBRARY, PRESENT_PROBABILITY, Place, Results
from underpaint.errors import ScanError
from underpaint.io import BlockStore, StoredMaps, read_results, result_folder
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
    Registration,
    cube_components,
    high_contrast_maps,
    read_points,
    register_any_orientation,
    register_by_points,
    warp_to_maps,
)
from underpaint.reflectance.resample import Resampler
from underpaint.reflectance.user_sets import user_sets
from underpaint.runtime.executors import ordered_results, thread_or_cluster_executor
from underpaint.runtime.files import remove_tree, write_json
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

_BAND_NM = 10.0
"""Width of the bands in which spectra are stored with the results."""
_PICTURE_SIDE = 1600
"""Approximate longer side of the picture of the cube, in pixels."""
_TASK = "Identifying the surface"


@dataclass(frozen=True)
class ReflectSettings:
    """Settings of :func:`reflect`.

    Parameters
    ----------
    white, dark : str, Path or None
        Reference cubes; see :func:`underpaint.reflectance.cube.open_reflectance`.
    scale : float or None
        Stored value of a reflectance of 1. If None, it is read from the file or inferred.
    library : str, Path or None
        File of measured spectra. If None, the library of the package and the user's sets are used.
    points : str, Path or None
        File of corresponding points on the cube and on the maps. If None, the registration stored with the results is
        used; without one, the cube is registered automatically.
    palette : str, Path or None
        Name or file of a palette that limits the candidates. If None, all pigments of the library are candidates.
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
        ENVI, HDF5 or TIFF stack; see :func:`underpaint.io.cubes.open_cube`.
    xrf : str or Path
        Results folder of ``underpaint identify``.
    settings : ReflectSettings or None
        References, library, points and palette. None: the defaults.
    out : str or Path or None
        Folder for a copy of the results with the surface maps. If None, the maps are added to ``xrf`` and replace those
        of an earlier cube.
    overwrite : bool
        Whether ``out`` may replace other results.
    threads : int or None
        Number of threads; None for one per core.
    progress : callable or None
        Called with the task, the number of steps done and their total.

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
    settings, step = settings or ReflectSettings(), progress or no_progress
    source = Path(xrf)
    results, facts = read_results(source), file_facts(cube)
    opened = open_reflectance(cube, white=settings.white, dark=settings.dark, scale=settings.scale)
    spectra = library_for(settings.library, settings.palette)
    step("Preparing the library", 0, 1)
    classifier = ReflectanceClassifier(spectra, opened.wavelength_nm)
    with one_blas_thread():  # the products are small: more threads only wait for one another
        small = reduce_cube(opened, step)
        registration = _registered(opened, small, source, results.shape, settings.points, step)
    target = source if out is None else Path(out)
    same = target.resolve() == source.resolve()
    with result_folder(target, overwrite=overwrite or same) as folder:
        _copy_generated(source, folder.path)
        if not same:
            copy_sidecars(source, folder.path)
        store = BlockStore(folder.path / "blocks", results.shape)
        groups = results.groups
        anywhere, surface = (_group_probability(results, groups, place) for place in ("anywhere", "surface"))
        resampler = Resampler(opened, registration.matrix, results.shape)
        identify_window = _WindowClassifier(classifier, resampler, anywhere, surface, groups)
        windows = list(resampler.windows())
        n_identified = 0
        step(_TASK, 0, results.shape[0] * results.shape[1])
        with thread_or_cluster_executor(threads=threads) as executor:
            window_arguments = ((number, (window,)) for number, window in enumerate(windows))
            for number, stacks in ordered_results(executor, identify_window, window_arguments):
                rows, columns = windows[number]
                store.put(number, rows, columns, stacks)
                n_identified += int(np.isfinite(stacks["member"][:, :, -1]).sum())
                done = rows.stop * results.shape[1] if columns.stop == results.shape[1] else 0
                step(_TASK, done, results.shape[0] * results.shape[1])
        if not n_identified:
            raise ScanError(
                f"Cannot identify the surface of {source} with {cube}: the cube has no usable spectrum at any of the "
                f"{results.shape[0]} x {results.shape[1]} pixels of the maps. Register it by corresponding points: "
                "--points FILE."
            )
        step("Writing", 0, 1)
        record = _record(cube, opened, registration, spectra, settings) | {"cube_is": facts}
        answers = _results(store, classifier, identify_window, results, record)
        add_reflectance(source, folder.path, answers)
        joined = replace(results | answers, materials=results.materials)
        write_reflectance_tiffs(folder.path, joined)
        write_summary(folder.path / SUMMARY_FILE, joined)
        del answers, joined  # they read from the store
        remove_tree(store.folder)
        _write_picture(folder.path, small, registration, results.shape)
        write_json(folder.path / CUBE_REGISTRATION_FILE, _as_record(registration, opened))
        step("Writing the report", 0, 1)
        _write_report(folder.path)
        refuse_change(cube, facts, target)
    return read_results(target)


def library_for(path: str | Path | None, palette: str | Path | None = None) -> ReflectanceLibrary:
    """Return the library of a file or, without a file, that of the package with the sets that the user added.

    Parameters
    ----------
    path : str, Path or None
        File of measured spectra.
    palette : str, Path or None
        Name or file of a palette. Spectra of other pigments are left out; background spectra stay.

    Raises
    ------
    ScanError
        The file or a user's set cannot be read, or no spectrum is of a pigment of the palette.
    SampleError
        The palette does not exist or is damaged.
    """
    spectra = read(path) if path is not None else builtin()
    if path is None:
        for added in user_sets().values():
            spectra = spectra.with_spectra(read(added))
    if palette is None:
        return spectra
    chosen = load_palette(palette)
    members = {member_of(name) for name in chosen.pigments}
    narrowed = spectra.subset(not spectrum.member or spectrum.member in members for spectrum in spectra.spectra)
    if not narrowed.members:
        raise ScanError(
            f"Cannot use the palette {chosen.name} with this library: none of its {len(spectra)} spectra is of the "
            f"{len(chosen.pigments)} pigments of the palette. Give another palette, or add spectra with `underpaint "
            "pigments add-reflectance`."
        )
    missing = sorted(members - set(narrowed.members))
    notes = (f"never identified at the surface, for want of a spectrum: {', '.join(missing)}",) if missing else ()
    return replace(narrowed, notes=(*narrowed.notes, *notes))


class _WindowClassifier:
    """Resamples and classifies one window of the maps."""

    def __init__(
        self,
        classifier: ReflectanceClassifier,
        resampler: Resampler,
        anywhere: NDArray[np.float32] | None,
        surface: NDArray[np.float32] | None,
        groups: Sequence[str],
    ) -> None:
        self.classifier, self.resampler, self.groups = classifier, resampler, groups
        self.anywhere, self.surface = anywhere, surface
        self.cube = resampler.cube
        band = np.round(self.cube.wavelength_nm / _BAND_NM)
        self.stored_nm, index = np.unique(band, return_inverse=True)
        self.stored_nm = self.stored_nm * _BAND_NM
        self.mixing = np.zeros((band.size, self.stored_nm.size), dtype=np.float32)
        self.mixing[np.arange(band.size), index] = 1.0

    def __call__(self, window: tuple[slice, slice]) -> dict[str, NDArray[Any]]:
        """Return a dictionary of maps of the window: member, presence, share, hidden and spectra."""
        values = self.resampler(window)
        size = values.shape[:2]
        flat = values.reshape(-1, values.shape[2])
        anywhere, surface = (
            None if each is None else each[window].reshape(-1, len(self.groups))
            for each in (self.anywhere, self.surface)
        )
        answer = self.classifier.identify(flat, anywhere, self.groups if anywhere is not None else (), surface)
        stacks = {"member": answer.probability, "presence": answer.presence, "share": answer.mixture}
        if anywhere is not None:
            stacks["hidden"] = np.where(answer.determinable, answer.hidden, np.nan)
        finite = np.isfinite(flat)
        with np.errstate(invalid="ignore", divide="ignore"):
            stacks["spectra"] = (np.nan_to_num(flat) @ self.mixing) / (finite.astype(np.float32) @ self.mixing)
        return {name: np.ascontiguousarray(part.reshape(*size, -1), np.float32) for name, part in stacks.items()}


def _group_probability(results: Results, groups: Sequence[str], place: Place) -> NDArray[np.float32] | None:
    """Return the (row, column, group) probability of groups at a place; NaN for groups without a map of that place."""
    if not any(results.holds(name, place) for name in groups):
        return None
    unknown = np.full(results.shape, np.nan, np.float32)
    maps = [results[name, place] if results.holds(name, place) else unknown for name in groups]
    return np.stack(maps, axis=2).astype(np.float32)


def _registered(
    cube: ReflectanceCube,
    small: Overview,
    folder: Path,
    shape: tuple[int, int],
    points: str | Path | None,
    progress: Progress,
) -> Registration:
    """Return the registration of the cube: by the points of a file, stored with the results, or automatic.

    Raises
    ------
    ScanError
        The points cannot be used, or the automatic registration is refused.
    """
    if points is not None:
        pairs = read_points(points, cube.stored_cube.shape[:2], shape)
        return register_by_points([pair[:2] for pair in pairs], [pair[2:] for pair in pairs], "cube")
    stored = _stored_registration(folder, cube)
    if stored is not None:
        return stored
    maps = ResultMaps(folder)
    try:
        registration = register_any_orientation(cube_components(small.channels), high_contrast_maps(maps), progress)
    except ScanError as error:
        raise ScanError(
            f"Cannot register {cube.stored_cube.source} to the maps of {folder}. {error} For points, give a file with "
            "x and y on the cube and column and row on the maps, in pixels, on each line: --points FILE."
        ) from error
    finally:
        maps.close()
    return replace(registration, matrix=np.diag([small.pixel_side, small.pixel_side, 1.0]) @ registration.matrix)


def _as_record(registration: Registration, cube: ReflectanceCube) -> dict[str, Any]:
    return {
        "matrix": registration.matrix.tolist(),
        "how": registration.method,
        "error_px": registration.error_px,
        "similarity": registration.similarity,
        "verdict": registration.verdict,
        "cube": _identity(cube),
        "meaning": "matrix takes (column, row, 1) of the maps to (x, y, 1) of the cube, pixels, first at 0.5",
    }


def _identity(cube: ReflectanceCube) -> list[Any]:
    return [Path(cube.stored_cube.source).name, *cube.stored_cube.shape]


def _stored_registration(folder: Path, cube: ReflectanceCube) -> Registration | None:
    """Return the registration stored with the results for a cube of this name and size; None if there is none.

    Raises
    ------
    ScanError
        The stored registration is damaged.
    """
    try:
        with open_contained(folder, CUBE_REGISTRATION_FILE) as file:
            record = json.loads(file.read(2**20))
        if record["cube"] != _identity(cube):
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


def _record(
    cube: str | Path,
    opened: ReflectanceCube,
    registration: Registration,
    spectra: ReflectanceLibrary,
    settings: ReflectSettings,
) -> dict[str, Any]:
    """Return the settings and the provenance of the surface maps, JSON-serialisable."""
    return {
        "cube": str(cube),
        "cube_shape": list(opened.stored_cube.shape),
        "bands_used": int(opened.bands.size),
        "wavelength_nm": [float(opened.wavelength_nm[0]), float(opened.wavelength_nm[-1])],
        "white": None if settings.white is None else str(settings.white),
        "dark": None if settings.dark is None else str(settings.dark),
        "scale": opened.scale,
        "library": "that of the package" if settings.library is None else str(settings.library),
        "library_notes": [] if settings.library is None and settings.palette is None else list(spectra.notes),
        "palette": None if settings.palette is None else str(settings.palette),
        "library_spectra": len(spectra),
        "library_sources": list(spectra.sources),
        "registration": _as_record(registration, opened),
        "version": __version__,
    }


def _results(
    store: BlockStore,
    classifier: ReflectanceClassifier,
    classified: _WindowClassifier,
    results: Results,
    record: dict[str, Any],
) -> Results:
    """Return the maps of all members that are present in some pixel, and of all groups."""
    members = classifier.members
    stored = {
        "member": store.stack("member", len(members)),
        "presence": store.stack("presence", len(members) - 1),
        "share": store.stack("share", len(members) - 1),
    }
    likely = [
        index
        for index in range(len(members) - 1)
        if any(np.nanmax(stored[name][:, :, index], initial=0) > PRESENT_PROBABILITY for name in ("member", "presence"))
    ]
    parts: dict[str, Any] = {
        "surface_member": _chosen(stored["member"], [*likely, len(members) - 1]),
        "surface_presence": _chosen(stored["presence"], likely),
        "surface_share": _chosen(stored["share"], likely),
        "reflectance": (classified.stored_nm, _spectra(store, classified.stored_nm.size)),
    }
    if classified.anywhere is not None:
        parts["hidden"] = classified.groups, store.stack("hidden", len(classified.groups))
    names = [*(members[index] for index in likely), NONE_OF_LIBRARY]
    library_pigments = pigment_library()
    labels = {name: library_pigments[name].label for name in names if name in library_pigments} | {
        NONE_OF_LIBRARY: "none of the library"
    }
    notes = [*classified.cube.notes, *record["library_notes"]]
    place = record["registration"]
    if place["verdict"] != "well":
        notes.insert(0, _doubt(place))
    if classified.anywhere is None:
        notes.append("the results hold no pigment groups: the surface is identified by reflectance alone")
    elif without := classifier.undeterminable(classified.groups):
        named = ", ".join(without)
        notes.append(
            f"whether {named} lie below the surface is not determined: the library has no spectrum of the group, or "
            "the group contains a white"
        )
    facts = record | {"labels": labels, "member_spectra": _typical(classifier.library, names, classified.stored_nm)}
    return Results.of_reflectance(names, parts, step_mm=results.step_mm, notes=tuple(notes), settings=facts)


def _typical(
    spectra: ReflectanceLibrary, names: Sequence[str], wavelength_nm: NDArray[np.float64]
) -> dict[str, list[float | None]]:
    """Return the median spectrum of each member in the library, for comparison with the spectrum of a pixel."""
    median_spectra: dict[str, list[float | None]] = {}
    for name in names:
        values = [
            np.interp(wavelength_nm, spectrum.wavelength_nm, spectrum.reflectance, left=np.nan, right=np.nan)
            for spectrum in spectra.spectra
            if spectrum.member == name and spectrum.pure
        ]
        if values:
            has_value = np.isfinite(values).any(axis=0)
            median_spectrum = np.full(wavelength_nm.size, np.nan)
            median_spectrum[has_value] = np.nanmedian(np.array(values)[:, has_value], axis=0)
            median_spectra[name] = [
                round(value, 4) if np.isfinite(value) else None for value in median_spectrum.tolist()
            ]
    return median_spectra


def _doubt(place: dict[str, Any]) -> str:
    off = "" if place["error_px"] is None else f" (error about {place['error_px']:.1f} pixels of the maps)"
    return (
        f"the registration of the cube to the maps is doubtful{off}: check it in the viewer, and if it is wrong give "
        "corresponding points (--points)"
    )


def _chosen(stored: StoredMaps, indices: Sequence[int]) -> StoredMaps:
    shape = (stored.shape[0], stored.shape[1], len(indices))
    return StoredMaps(shape, stored.dtype, lambda index: stored[:, :, indices[index]])


class _Rows:
    """Spectra in a block store, read window by window."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._values = np.memmap(path, np.float32, "r", shape=(shape[2], shape[0], shape[1]))

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        rows, columns, bands = key
        return np.moveaxis(self._values[bands, rows, columns], 0, 2)


def _spectra(store: BlockStore, n_band: int) -> _Rows:
    return _Rows(store.folder / "spectra.float32", (*store.shape, n_band))


def _copy_generated(source: Path, target: Path) -> None:
    """Copy the files of the results folder, except those that are written again."""
    for name in GENERATED_NAMES:
        path = source / name
        if name in {RESULTS_FILE, SUMMARY_FILE, REFLECTANCE_FILE, "surface", "hidden"} or path.is_symlink():
            continue
        if path.is_dir():
            shutil.copytree(path, target / name, symlinks=True)
        elif path.is_file():
            shutil.copy2(path, target / name)


def _write_picture(folder: Path, small: Overview, registration: Registration, shape: tuple[int, int]) -> None:
    from PIL import Image

    pixels_per_map_pixel = max(1, _PICTURE_SIDE // max(shape))
    to_small = np.diag([1 / small.pixel_side, 1 / small.pixel_side, 1.0]) @ registration.matrix
    picture = warp_to_maps(small.rgb, to_small, shape, pixels_per_map_pixel)
    Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(folder / REFLECTANCE_FILE, format="PNG")


def _write_report(folder: Path) -> None:
    # imported here because Matplotlib takes a second to import
    from underpaint.display.report import write_report

    write_report(folder)
