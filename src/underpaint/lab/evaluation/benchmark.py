"""The public benchmark: virtual panels with their ground truth, and the scoring of answers from any method.

Scoring a sheet of answers needs neither torch nor a model. The built-in methods, whose only inputs are the scans, are
also scored. ``docs/reference/benchmark.md`` describes the layout of the folder and of the sheet.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data import Scan
from underpaint.data.maps import PLACES, Results, at_place, split_place
from underpaint.elements import fit_elements
from underpaint.errors import BenchmarkError, CoverageError, MissingExtraError
from underpaint.io import load, save_scan
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.io.results.csv_text import write_csv
from underpaint.lab.evaluation.groups import group_outputs, macro_f1, mean, names_with_score, score_names
from underpaint.physics.materials import library
from underpaint.pipeline.plan import identify
from underpaint.reflectance import builtin
from underpaint.reflectance.twin import panel_reflectance, save_twin
from underpaint.runtime.files import atomic_write, claim_folder, write_json
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.untrusted import read_bounded
from underpaint.simulate import Outputs, Panel, PanelSettings, load_recipe, make_panel
from underpaint.simulate.labels import present_at

FORMAT = "underpaint benchmark 1"
DESCRIPTION_NAME = "benchmark.json"
LICENSE = "CC0-1.0"
PUBLIC_DOMAIN_LICENCES = ("CC0", "US public domain")
"""Licences that allow measured reflectance spectra to be used in public-domain cubes."""
REFLECTANCE_SOURCES = ("spectra of REVIGO and the USGS",)
"""Source that the reflectance cubes state. The names of single spectra would reveal the pigments."""
SHEET_COLUMNS = ("panel", "group", "place", "patch", "row", "column", "value")
_MAX_SHEET_BYTES = 500_000_000
_MAX_DESCRIPTION_BYTES = 10_000_000
_CLAIM_PROBABILITY = 0.5

_PALETTE_PATH = str(files("underpaint.lab.evaluation") / "data" / "benchmark_palette.toml")
_COMMON_PANEL_SETTINGS: dict[str, Any] = {"cell_pixels": 6, "gap_pixels": 1, "equal_counts": True}
PANELS = {
    "a": PanelSettings(recipe="table2", counts=1e5, seed=2401, **_COMMON_PANEL_SETTINGS),
    "b": PanelSettings(recipe=_PALETTE_PATH, counts=1e5, seed=2402, **_COMMON_PANEL_SETTINGS),
    "c": PanelSettings(recipe=_PALETTE_PATH, counts=1e4, instrument="silver_30kv", seed=2403, **_COMMON_PANEL_SETTINGS),
}
"""Settings of each panel of the full benchmark. Changed settings need a new :data:`FORMAT`."""
QUICK_PANELS = ("b", "c")
"""Panels of the quick benchmark, with 2 x 2 pixels in each crossing of paint strips."""
AREA_SIGMAS = 5.0
"""Line area, in standard deviations, above which an element is present."""


@dataclass(frozen=True)
class Truth:
    """Ground truth of a panel.

    Parameters
    ----------
    names : tuple of str
        Groups with their place, such as "mercury_red", "mercury_red.surface" and "mercury_red.below".
    is_present, is_visible : (n_row, n_column, n_name) bool arrays
        Whether a pigment of the group is present, and whether its lines are visible at the counts of the pixel.
    patch : (n_row, n_column) int array
        Number of the crossing, counted from 1. Pixels between crossings have the number 0.
    """

    names: tuple[str, ...]
    is_present: NDArray[np.bool_]
    is_visible: NDArray[np.bool_]
    patch: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        n_row, n_column = self.patch.shape
        return int(n_row), int(n_column)


Answers = Mapping[str, NDArray[np.float32]]
"""Probabilities of each panel, with the shape (n_row, n_column, n_name). NaN means no answer."""


def make_benchmark(folder: str | Path, *, quick: bool = False, progress: Progress = no_progress) -> Path:
    """Write the panels, their ground truth, and an empty sheet for answers.

    Parameters
    ----------
    folder : str or Path
        Folder to write, which must be missing or empty.
    quick : bool
        Make small panels for a trial. Scores of small panels are not comparable with those of the full benchmark.
    progress : callable
        Called with (description, number of steps done, total number of steps).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The folder holds files, or cannot be written.
    """
    target_folder = Path(folder)
    claim_folder(target_folder)
    if (target_folder / DESCRIPTION_NAME).exists():
        raise BenchmarkError(
            f"Cannot make a benchmark in {target_folder}: the folder already contains a benchmark. Give another folder."
        )
    outputs = _group_outputs()
    settings_by_panel = (
        {name: PANELS[name].model_copy(update={"cell_pixels": 2}) for name in QUICK_PANELS} if quick else PANELS
    )
    truths: dict[str, Truth] = {}
    for name, panel_settings in settings_by_panel.items():
        panel = make_panel(panel_settings, outputs=outputs, progress=partial(_panel_progress, progress, name))
        truths[name] = _panel_truth(panel, panel_settings, outputs.names)
        _write_panel(target_folder, name, panel, truths[name], panel_settings.seed)
    _write_sheet(target_folder / "sheet.csv", truths)
    description = {
        "format": FORMAT,
        "made_by": f"underpaint {__version__}",
        "license": LICENSE,
        "quick": quick,
        "places": list(PLACES),
        "groups": {name: library().group(name).label for name in _group_names(outputs.names)},
        "panels": {
            name: {
                "scan": f"{name}.h5",
                "truth": f"{name}_truth.h5",
                "reflectance": f"{name}_reflectance.hdr",
                "instrument": panel_settings.instrument,
                "mean_counts": panel_settings.counts,
            }
            for name, panel_settings in settings_by_panel.items()
        },
    }
    _write_text(target_folder / "README.md", _README)
    write_json(target_folder / DESCRIPTION_NAME, description)  # written last, because it marks a complete folder
    return target_folder


def _panel_progress(progress: Progress, name: str, _: str, n_done: int, n_total: int) -> None:
    progress(f"Simulating panel {name}", n_done, n_total)


def _group_outputs() -> Outputs:
    """Return one output for each place of each group with visible lines."""
    return group_outputs([pigment.name for pigment in library()]).with_places()


def _group_names(names: Iterable[str]) -> list[str]:
    return [group for group, place in map(split_place, names) if place == "anywhere"]


def _panel_truth(panel: Panel, settings: PanelSettings, names: tuple[str, ...]) -> Truth:
    n_row, n_column, _ = panel.scan.shape
    counts = np.asarray(panel.scan.counts.sum(axis=2), dtype=np.float64).reshape(-1, 1)
    if panel.labels is None or panel.counts_needed is None:
        raise RuntimeError("the panel was made without labels")
    is_present = present_at(panel.labels, panel.max_absent_counts, counts)
    is_visible = is_present & (panel.counts_needed <= counts)
    panel_recipe = load_recipe(settings.recipe)
    row_strips, column_strips = (
        _strip_numbers(n_strip, settings.cell_pixels, settings.gap_pixels)
        for n_strip in (len(panel_recipe.top_paints), len(panel_recipe.bottom_paints))
    )
    patch_numbers = np.where(
        (row_strips[:, None] >= 0) & (column_strips[None, :] >= 0),
        1 + row_strips[:, None] * len(panel_recipe.bottom_paints) + column_strips[None, :],
        0,
    )
    pixel_shape = (n_row, n_column, len(names))
    return Truth(names, is_present.reshape(pixel_shape), is_visible.reshape(pixel_shape), patch_numbers)


def _strip_numbers(n_strip: int, cell_pixels: int, gap_pixels: int) -> NDArray[np.int64]:
    """Return the (n_pixel,) strip number of each pixel along a row or column, or -1 for pixels between strips."""
    gap_numbers = np.full(gap_pixels, -1)
    return np.concatenate(
        [*(np.r_[gap_numbers, np.full(cell_pixels, strip_number)] for strip_number in range(n_strip)), gap_numbers]
    )


def _write_panel(target_folder: Path, name: str, panel: Panel, truth: Truth, seed: int) -> None:
    """Write the scan, the reflectance cube and the ground truth of a panel."""
    scan = panel.scan.replace(name=name, source=str(target_folder / f"{name}.h5"), metadata={})
    save_scan(scan, target_folder / f"{name}.h5")
    reflectance_library = builtin()
    public_domain_spectra = reflectance_library.subset(
        [spectrum.licence in PUBLIC_DOMAIN_LICENCES for spectrum in reflectance_library.spectra]
    )
    reflectance_cube = panel_reflectance(panel.stratigraphies, truth.shape, public_domain_spectra, seed=seed)
    save_twin(
        replace(reflectance_cube, source_patches=REFLECTANCE_SOURCES),
        target_folder / f"{name}_reflectance.hdr",
        overwrite=True,
    )
    with atomic_write(target_folder / f"{name}_truth.h5") as temporary_path, new_hdf5(temporary_path) as (file, _):
        file.attrs.update({"format": FORMAT, "license": LICENSE, "names": list(truth.names)})
        for dataset_name, dataset_values in (
            ("present", truth.is_present),
            ("visible", truth.is_visible),
            ("patch", truth.patch),
        ):
            file.create_dataset(
                dataset_name,
                data=dataset_values.astype(np.int32 if dataset_name == "patch" else np.uint8),
                compression="gzip",
            )
        for dataset_name, layer_map in panel.truth.items():
            file.create_dataset(f"layers/{dataset_name}", data=layer_map, compression="gzip")
            file[f"layers/{dataset_name}"].attrs["units"] = "um" if dataset_name.endswith("_um") else "1"


def _write_sheet(path: Path, truths: Mapping[str, Truth]) -> None:
    sheet_rows = [
        (name, *split_place(group_and_place), patch, None, None, None)
        for name, truth in truths.items()
        for patch in np.unique(truth.patch[truth.patch > 0])
        for group_and_place in truth.names
    ]
    with atomic_write(path) as temporary_path, temporary_path.open("w", newline="", encoding="utf-8") as sheet_stream:
        write_csv(sheet_stream, [SHEET_COLUMNS, *sheet_rows])


def _write_text(path: Path, file_text: str) -> None:
    with atomic_write(path) as temporary_path:
        temporary_path.write_text(file_text, encoding="utf-8")


_README = f"""# A benchmark of pigment identification by XRF scanning

Underpaint {__version__} simulated these virtual panels of crossed paint strips on a chalk ground. No painting was
measured. Each panel has two data sets:

- `NAME.h5` is an XRF scan, with its counts in `/entry/measurement/counts` (row, column, channel).
  `underpaint info NAME.h5` describes the scan, and PyMca can open it.
- `NAME_reflectance.hdr` is a reflectance cube (ENVI). 2 x 2 pixels of the cube are one pixel of the scan. The cube is
  made from spectra of REVIGO and the USGS. Do not use these two libraries to interpret the cube.

`NAME_truth.h5` is the ground truth of the panel. Do not open this file before you have answered.

Write answers into `sheet.csv` with the columns `panel,group,place,patch,row,column,value`. Each line is an answer for
one patch or for one pixel. A patch is a crossing of strips. Patches are numbered from 1, along the rows, starting at
the top left. A pixel has a row and a column, which are numbered from 0. `place` is anywhere, surface (the uppermost
paint) or below (all other layers). `value` is the probability, from 0 to 1, that the group is present at that place. A
missing or empty line counts as absent. A list of JSON objects with the same keys is also read.

    underpaint benchmark score FOLDER FOLDER/sheet.csv

Everything in this folder is in the public domain (CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/).
"""


# --- reading ---------------------------------------------------------------------------------------------


def read_description(folder: str | Path) -> dict[str, Any]:
    """Return the description in the folder of a benchmark.

    Raises
    ------
    BenchmarkError
        The folder contains no benchmark, or a benchmark of another format.
    """
    path = Path(folder) / DESCRIPTION_NAME
    try:
        description = json.loads(read_bounded(path, _MAX_DESCRIPTION_BYTES, BenchmarkError))
        file_format, panels = description["format"], description["panels"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BenchmarkError):
            raise BenchmarkError(f"{error} `underpaint benchmark make --out {folder}` makes a benchmark.") from error
        raise BenchmarkError(
            f"Cannot read {path}: the file is no description of a benchmark. Make the folder again."
        ) from error
    if file_format != FORMAT or not isinstance(panels, dict):
        raise BenchmarkError(
            f"Cannot score {folder}: its format is {file_format!r}, but this version scores {FORMAT!r}. "
            "Make the benchmark again, or use the version of underpaint that made it."
        )
    return dict(description)


def read_truths(folder: str | Path) -> dict[str, Truth]:
    """Return the ground truth of every panel by its name.

    Raises
    ------
    BenchmarkError
        A file is missing or damaged.
    """
    panels = read_description(folder)["panels"]
    return {str(name): _read_truth(Path(folder) / Path(str(panel["truth"])).name) for name, panel in panels.items()}


def _read_truth(path: Path) -> Truth:
    try:
        with h5py.File(path, "r") as truth_file:
            names = tuple(str(name) for name in truth_file.attrs["names"])
            is_present, is_visible = (
                np.asarray(truth_file[dataset_name][()], dtype=bool) for dataset_name in ("present", "visible")
            )
            patch = np.asarray(truth_file["patch"][()], dtype=np.int64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(
            f"Cannot read {path}: the file contains no ground truth of a benchmark. Make the folder again."
        ) from error
    if is_present.shape != is_visible.shape or is_present.shape != (*patch.shape, len(names)):
        raise BenchmarkError(f"Cannot read {path}: its arrays have inconsistent shapes. Make the folder again.")
    return Truth(names, is_present, is_visible, patch)


def read_sheet(path: str | Path, truths: Mapping[str, Truth]) -> dict[str, NDArray[np.float32]]:
    """Read a sheet of answers, CSV or JSON.

    Returns
    -------
    dict
        (n_row, n_column, n_name) probabilities by panel. NaN means no answer.

    Raises
    ------
    BenchmarkError
        The file cannot be read, or a line names a panel, group or place that is not in the benchmark.
    """
    sheet_path = Path(path)
    answers = {name: np.full((*truth.shape, len(truth.names)), np.nan, np.float32) for name, truth in truths.items()}
    columns_by_panel = {
        name: {output_name: output_column for output_column, output_name in enumerate(truth.names)}
        for name, truth in truths.items()
    }
    for line_number, sheet_line in enumerate(_sheet_lines(sheet_path), start=1):
        try:
            _enter_answer(sheet_line, answers, truths, columns_by_panel)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            error_reason = str(error) if isinstance(error, ValueError) else f"{error.args[0]} is not in this benchmark"
            raise BenchmarkError(
                f"Cannot read answer {line_number} of {sheet_path}: {error_reason}. "
                f"Columns are {', '.join(SHEET_COLUMNS)}, as in `sheet.csv` of the benchmark."
            ) from error
    return answers


def _sheet_lines(sheet_path: Path) -> list[dict[str, Any]]:
    sheet_bytes = read_bounded(sheet_path, _MAX_SHEET_BYTES, BenchmarkError)
    try:
        sheet_text = sheet_bytes.decode("utf-8-sig")
        if sheet_text.lstrip().startswith("["):
            return [dict(sheet_line) for sheet_line in json.loads(sheet_text)]
        return list(csv.DictReader(io.StringIO(sheet_text)))
    except (ValueError, TypeError, csv.Error) as error:
        raise BenchmarkError(
            f"Cannot read {sheet_path}: the file is neither CSV nor a list of JSON objects in UTF-8 ({error}). "
            "Save the sheet as CSV."
        ) from error


def _enter_answer(
    sheet_line: Mapping[str, Any],
    answers: Mapping[str, NDArray[np.float32]],
    truths: Mapping[str, Truth],
    columns_by_panel: Mapping[str, Mapping[str, int]],
) -> None:
    """Enter the value of one line of the sheet for all pixels that the line describes."""
    missing_columns = [field_name for field_name in ("panel", "group", "value") if field_name not in sheet_line]
    if missing_columns:
        raise ValueError(f"column {missing_columns[0]} is missing")
    if sheet_line["value"] in {"", None}:
        return
    answer_probability = float(sheet_line["value"])
    if not 0.0 <= answer_probability <= 1.0:
        raise ValueError(f"value {answer_probability:g} is no probability from 0 to 1")
    place = sheet_line.get("place") or "anywhere"
    if place not in PLACES:
        raise ValueError(f"place {place!r} is none of {', '.join(PLACES)}")
    panel = str(sheet_line["panel"])
    truth, name_column = truths[panel], columns_by_panel[panel][at_place(str(sheet_line["group"]), place)]
    patch, pixel_row, pixel_column = (
        _integer_or_none(sheet_line.get(field_name)) for field_name in ("patch", "row", "column")
    )
    if (patch is None) == (pixel_row is None or pixel_column is None):
        raise ValueError("the line needs either a patch, or a row and a column")
    if patch is not None:
        patch_pixels = truth.patch == patch
        if patch < 1 or not patch_pixels.any():
            raise ValueError(f"patch {patch} is not in panel {panel}")
        answers[panel][patch_pixels, name_column] = answer_probability
        return
    n_row, n_column = truth.shape
    if not (0 <= (pixel_row or 0) < n_row and 0 <= (pixel_column or 0) < n_column):
        raise ValueError(
            f"row {pixel_row}, column {pixel_column} is outside panel {panel} of {n_row} x {n_column} pixels"
        )
    answers[panel][pixel_row, pixel_column, name_column] = answer_probability


def _integer_or_none(cell_text: object) -> int | None:
    return None if cell_text in {"", None} else int(str(cell_text))


# --- scoring ---------------------------------------------------------------------------------------------


def score_answers(answers: Answers, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Score the answers for all pixels that belong to a patch.

    Parameters
    ----------
    answers : mapping of str to (n_row, n_column, n_name) array
        Probabilities by panel. A missing panel counts as unanswered.
    truths : mapping of str to Truth

    Returns
    -------
    dict
        Scores by panel and place. The scores of a place without answers are None.
        ``macro_f1`` is the mean F1 of the groups that are present in some patches and absent in others.
        ``always_yes_macro_f1`` is the macro F1 of the baseline that claims every group.
        ``missed`` is the fraction of visible labels that are not claimed.
        ``false_claims`` is the fraction of absent labels that are claimed.
        ``answered`` is the fraction of pixels with an answer.
        ``groups`` has the scores of each group. Groups that are present but not visible are not scored.
    """
    scores: dict[str, Any] = {}
    for panel, truth in truths.items():
        is_in_patch = truth.patch > 0
        probability = answers.get(panel, np.full(truth.is_present.shape, np.nan, np.float32))
        answers_and_labels = (probability[is_in_patch], truth.is_present[is_in_patch], truth.is_visible[is_in_patch])
        scores[panel] = {place: _score_place(place, truth.names, *answers_and_labels) for place in PLACES}
    return scores


def _score_place(
    place: str,
    names: Sequence[str],
    probability: NDArray[np.float32],
    is_present: NDArray[np.bool_],
    is_visible: NDArray[np.bool_],
) -> dict[str, Any] | None:
    place_columns = [output_column for output_column, name in enumerate(names) if split_place(name)[1] == place]
    groups = [split_place(names[output_column])[0] for output_column in place_columns]
    answers, is_label_present, is_label_visible = (
        probability[:, place_columns],
        is_present[:, place_columns],
        is_visible[:, place_columns],
    )
    is_answered = np.isfinite(answers)
    if not is_answered.any():
        return None
    scores_by_group = score_names(answers, is_label_present, is_label_visible, groups)
    is_claimed = np.nan_to_num(answers, nan=0.0) > _CLAIM_PROBABILITY
    return {
        "macro_f1": macro_f1(scores_by_group),
        "always_yes_macro_f1": mean(
            [scores_by_group[name].always_yes_f1 for name in names_with_score(scores_by_group)]
        ),
        "missed": mean((~is_claimed)[is_label_present & is_label_visible].astype(float).tolist()),
        "false_claims": mean(is_claimed[~is_label_present].astype(float).tolist()),
        "answered": float(is_answered.mean()),
        "groups": {name: scores_by_group[name].as_dict() for name in groups},
    }


Method = Callable[[Scan, Truth], NDArray[np.float32]]


def score_methods(folder: str | Path, progress: Progress = no_progress) -> dict[str, dict[str, Any] | None]:
    """Score the built-in methods, which receive the scans but neither the instrument nor the ground truth.

    Returns
    -------
    dict
        Result of :func:`~underpaint.lab.evaluation.benchmark.score_answers` for each method.
        Panels that a method cannot answer are left out. The result for PyMca is None if PyMca is not installed.
    """
    truths, panels = read_truths(folder), read_description(folder)["panels"]
    scans = {name: load(Path(folder) / Path(str(panels[name]["scan"])).name) for name in truths}
    scores: dict[str, dict[str, Any] | None] = {}
    for method_number, (method_name, method) in enumerate(METHODS.items()):
        progress(f"Answers of {method_name}", method_number, len(METHODS))
        try:
            scores[method_name] = score_answers(_panel_answers(method, scans, truths), truths)
        except MissingExtraError:
            scores[method_name] = None
    return scores


def _panel_answers(
    method: Method, scans: Mapping[str, Scan], truths: Mapping[str, Truth]
) -> dict[str, NDArray[np.float32]]:
    answers = {}
    for name, truth in truths.items():
        with suppress(CoverageError):  # raised if the scan lacks energies that the method needs
            answers[name] = method(scans[name], truth)
    return answers


def _network_method(model: str) -> Method:
    def answer(scan: Scan, truth: Truth) -> NDArray[np.float32]:
        results = identify(scan, model=model)
        return np.stack([_group_probability(results, *split_place(name)) for name in truth.names], axis=2)

    return answer


def _group_probability(network_results: Results, group: str, place: Any) -> NDArray[np.float32]:
    """Return the (n_row, n_column) probability of a group, or of its most probable member if the group is no output."""
    members = [name for name, material in network_results.materials.items() if group in material.groups]
    output_names = [group] if group in network_results.materials else members
    member_maps = [network_results[name, place] for name in output_names if network_results.holds(name, place)]
    if not member_maps:
        return np.full(
            network_results.shape, 0.0 if output_names and place in network_results.places else np.nan, np.float32
        )
    return np.asarray(np.fmax.reduce(member_maps), dtype=np.float32)


def _threshold_method(fit_engine: Any) -> Method:
    def answer(scan: Scan, truth: Truth) -> NDArray[np.float32]:
        results = fit_elements(scan, engine=fit_engine)
        claims = np.full((*truth.shape, len(truth.names)), np.nan, np.float32)
        for group_number, (group, place) in enumerate(map(split_place, truth.names)):
            if place == "anywhere":
                claims[:, :, group_number] = results.max_significance(library().group(group).key_families) > AREA_SIGMAS
        return claims

    return answer


def _always_yes(_: Scan, truth: Truth) -> NDArray[np.float32]:
    return np.ones((*truth.shape, len(truth.names)), np.float32)


METHODS: Mapping[str, Method] = {
    "underpaint, default network": _network_method("default"),
    "network of Xu et al. 2022": _network_method("xu2022"),
    f"element maps over {AREA_SIGMAS:g} sigma": _threshold_method("underpaint"),
    f"PyMca's areas over {AREA_SIGMAS:g} sigma": _threshold_method("pymca"),
    "always yes": _always_yes,
}
