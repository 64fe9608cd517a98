"""Virtual mock-up panels: crossing paint strips, scanned by a simulated instrument.

Virtual mock-ups replace the mock-ups of Xu et al. 2022. Data of the real mock-ups are not public. All results from
virtual mock-ups are called virtual.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis, Scan
from underpaint.io import save_scan
from underpaint.physics.forward import axis_of, count, emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library
from underpaint.runtime.progress import Progress
from underpaint.simulate.labels import visible_labels
from underpaint.simulate.outputs import Outputs
from underpaint.simulate.randomise import perturb_instrument
from underpaint.simulate.recipes import PanelRecipe, load_recipe

INSTRUMENT = "elio"
BINDER_SPREAD, DENSITY_SPREAD, THICKNESS_SPREAD = 0.10, 0.05, 0.03
VOLTAGE_SPREAD = 0.01
"""Standard deviations of pigment-to-binder ratio, density, thickness and voltage, each relative to the mean value."""
GAIN_DRIFT, ZERO_DRIFT_KEV = 0.0005, 0.003
"""Drift between batches of spectra: standard deviations of the gain (relative) and of the zero (keV)."""
BATCH_SIZE = 256


@dataclass(frozen=True)
class Mockups:
    """Spectra of known paint structures, either measured or simulated from Table 2 of Xu et al. 2022.

    Parameters
    ----------
    counts : (n, n_channel) int array
        Counts.
    top, bottom : (n,) arrays of str
        Names of the top and bottom paint of each spectrum: ``Top 1``, ``Bottom 2B``.
    top_um : (n,) array
        Thickness of the top paint in um, or NaN if unknown.
    pigments : tuple of n tuples of str
        All pigments in the top and bottom paint of each spectrum.
    instrument : Instrument
        Instrument that measured or simulated the spectra.
    axis : EnergyAxis
        Energy axis that the instrument states, by default that of the paper's network.
    stratigraphies : tuple of Stratigraphy
        Simulated stratigraphy of each spectrum. Empty for measured mock-ups.
    """

    counts: NDArray[np.int32] | NDArray[np.float32]
    top: NDArray[np.str_]
    bottom: NDArray[np.str_]
    top_um: NDArray[np.float64]
    pigments: tuple[tuple[str, ...], ...]
    instrument: Instrument
    axis: EnergyAxis = XU_NETWORK_AXIS
    stratigraphies: tuple[Stratigraphy, ...] = ()

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def structure(self) -> NDArray[np.int64]:
        """Index of each spectrum's structure (pair of top and bottom paint), as an (n,) array."""
        structure_names = np.char.add(np.char.add(self.top, "/"), self.bottom)
        return np.asarray(np.unique(structure_names, return_inverse=True)[1], dtype=np.int64)


def paint_mockups(n_spectra: int, counts: float, seed: int, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Simulate spectra of the 64 structures of Table 2 of Xu et al. 2022.

    The instrument is an ELIO whose tube, angles, air paths and response deviate slightly from the preset. The top
    paint's thickness increases along each strip. Binder and density vary between spectra, and the calibration drifts.

    Parameters
    ----------
    n_spectra : int
        Total number of spectra.
    counts : float
        Mean of the spectra's total counts.
    seed : int
        Seed of all random values.
    axis : EnergyAxis
        Energy axis that the instrument states. The true energy axis drifts around this axis.
    """
    rng = np.random.default_rng(seed)
    instrument = perturbed_instrument(rng)
    recipe = load_recipe("table2")
    paint_pairs = [(top, bottom) for top in recipe.top_paints for bottom in recipe.bottom_paints]
    n_spectra_by_pair = [len(indices) for indices in np.array_split(np.arange(n_spectra), len(paint_pairs))]
    strip_points = [
        (*paint_pair, position)
        for paint_pair, n in zip(paint_pairs, n_spectra_by_pair, strict=True)
        for position in np.linspace(0.0, 1.0, n)
    ]
    structures = [_draw_structure(recipe, top, bottom, position, rng) for top, bottom, position in strip_points]
    stratigraphies = [stratigraphy for stratigraphy, _ in structures]
    return Mockups(
        counts=_simulate_counts(stratigraphies, instrument, counts, axis, rng),
        top=np.asarray([strip_point[0] for strip_point in strip_points]),
        bottom=np.asarray([strip_point[1] for strip_point in strip_points]),
        top_um=np.asarray([thickness for _, thickness in structures]),
        pigments=tuple(
            tuple({**recipe.top_paints[top], **recipe.bottom_paints[bottom]}) for top, bottom, _ in strip_points
        ),
        instrument=instrument,
        axis=axis,
        stratigraphies=tuple(stratigraphies),
    )


def perturbed_instrument(rng: np.random.Generator) -> Instrument:
    """Return an ELIO with random deviations, such as tube lines 1 to 1.7 times as strong as in Ebel's model."""
    elio_instrument = perturb_instrument(load_instrument(INSTRUMENT), rng)
    tube = elio_instrument.tube
    window = tube.window.model_copy(update={"thickness_um": tube.window.thickness_um * rng.lognormal(0.0, 0.2)})
    tube_update = {
        "voltage_kv": tube.voltage_kv * (1.0 + rng.normal(0.0, VOLTAGE_SPREAD)),
        "line_factor": rng.uniform(1.0, 1.7),
        "window": window,
    }
    return elio_instrument.model_copy(update={"tube": tube.model_copy(update=tube_update)})


def _draw_structure(
    recipe: PanelRecipe, top: str, bottom: str, strip_position: float, rng: np.random.Generator
) -> tuple[Stratigraphy, float]:
    """Return the layers at a position along a strip (0 to 1), and the thickness of the top paint in um."""
    thickness_um = _thickness_at(recipe.top_thickness_um, strip_position, rng)
    layers = (
        _draw_layer(recipe, recipe.top_paints[top], thickness_um, rng),
        _draw_layer(
            recipe, recipe.bottom_paints[bottom], _thickness_at(recipe.bottom_thickness_um, rng.random(), rng), rng
        ),
        ground_layer(recipe.ground, _thickness_at(recipe.ground_thickness_um, rng.random(), rng)),
    )
    return Stratigraphy(layers, f"{top} over {bottom}"), thickness_um


def _thickness_at(limits_um: tuple[float, float], strip_position: float, rng: np.random.Generator) -> float:
    min_um, max_um = limits_um
    return float(
        np.clip(min_um + (max_um - min_um) * (strip_position + rng.normal(0.0, THICKNESS_SPREAD)), min_um, max_um)
    )


def _draw_layer(recipe: PanelRecipe, mass_fractions: object, thickness_um: float, rng: np.random.Generator) -> Layer:
    pigment_to_binder = recipe.pigment_to_binder * rng.lognormal(0.0, BINDER_SPREAD)
    paint = Paint(
        dict(mass_fractions),  # type: ignore[call-overload]
        pigment_to_binder=pigment_to_binder,
        binder=recipe.binder,
        formulas=recipe.formulas,
    )
    layer = paint.layer(thickness_um)
    density = layer.density * float(rng.lognormal(0.0, DENSITY_SPREAD))
    return Layer(layer.mass_fractions, density, thickness_um, layer.name, layer.pigments)


def _simulate_counts(
    stratigraphies: list[Stratigraphy],
    instrument: Instrument,
    counts: float,
    axis: EnergyAxis,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    spectrum_batches = []
    for first_sample in range(0, len(stratigraphies), BATCH_SIZE):
        emission = emit(stratigraphies[first_sample : first_sample + BATCH_SIZE], instrument, single=True)
        # the calibration drifts between batches as much as that of a real scanner within a day
        gain_factor, zero_shift_kev = 1.0 + rng.normal(0.0, GAIN_DRIFT), rng.normal(0.0, ZERO_DRIFT_KEV)
        assumed_axis = EnergyAxis(
            axis.gain_kev * gain_factor, axis.zero_kev * gain_factor + zero_shift_kev, axis.n_channel
        )
        spectrum_batches.append(np.asarray(render(emission, instrument.detector, assumed_axis), dtype=np.float64))
    expected_counts = np.concatenate(spectrum_batches)
    return count(expected_counts * counts / expected_counts.sum(axis=1).mean(), rng=rng)


class PanelSettings(BaseModel):
    """Settings of a virtual panel and of its scan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str = Field("fig7", description="fig7, table2 or a TOML file with tops, bottoms and thicknesses")
    instrument: str = Field("elio", description="preset or instrument file")
    perturb: bool = Field(True, description="add small random deviations to the instrument")
    cell_pixels: int = Field(12, ge=1, description="side of the square where two strips cross, in pixels")
    gap_pixels: int = Field(3, ge=0, description="distance between strips in pixels")
    step_mm: float = Field(1.0, gt=0, description="distance between neighbouring pixels in mm")
    counts: float = Field(1e5, gt=0, description="mean total counts of a pixel")
    equal_counts: bool = Field(False, description="give every pixel the same expected total counts")
    live_time_s: float = Field(10.0, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class Panel:
    """The scan of a virtual panel, and the true layers in each pixel.

    Parameters
    ----------
    scan : Scan
        Scan with simulated counts.
    truth : dict
        (row, column) maps. ``top/<pigment>`` and ``bottom/<pigment>`` are mass fractions in the dry paint.
        ``top_thickness_um``, ``bottom_thickness_um`` and ``ground_thickness_um`` are zero where the layer is missing.
    stratigraphies : tuple
        Stratigraphy of each pixel, row by row.
    instrument : Instrument
        Simulated instrument.
    labels, counts_needed, max_absent_counts : (n_pixel, n_name) arrays or None
        Results of :func:`underpaint.simulate.labels.visible_labels`. The arrays are None if no outputs were given.
    """

    scan: Scan
    truth: dict[str, NDArray[np.float32]]
    stratigraphies: tuple[Stratigraphy, ...]
    instrument: Instrument
    labels: NDArray[np.uint8] | None = None
    counts_needed: NDArray[np.float32] | None = None
    max_absent_counts: NDArray[np.float32] | None = None


def make_panel(
    settings: PanelSettings,
    *,
    outputs: Outputs | None = None,
    lines: bool = False,
    progress: Progress | None = None,
    block: int = 512,
) -> Panel:
    """Simulate the scan of a virtual panel. All random values depend only on ``settings.seed``.

    Parameters
    ----------
    settings : PanelSettings
        Settings of the panel and of its scan.
    outputs : Outputs, optional
        Network outputs to label. If None, the panel has no labels.
    lines : bool
        Whether a group counts as present if its element has lines from any source.
    progress : callable, optional
    block : int
        Number of pixels that are simulated at once.

    Returns
    -------
    Panel

    Examples
    --------
    >>> import underpaint as up
    >>> from underpaint.simulate import PanelSettings
    >>> panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=1, gap_pixels=0))
    >>> panel.scan.shape[:2] == panel.truth["top_thickness_um"].shape
    True
    """
    recipe = load_recipe(settings.recipe)
    rng = np.random.default_rng(settings.seed)
    instrument = load_instrument(settings.instrument)
    instrument = perturb_instrument(instrument, rng) if settings.perturb else instrument
    grid = _make_grid(recipe, settings, rng)
    stratigraphies = tuple(_pixel_stratigraphy(recipe, grid, pixel) for pixel in range(grid.n_pixel))
    expected_counts, *labels = _render_panel(stratigraphies, instrument, outputs, progress, block, by_lines=lines)
    counts = count(_scale_to_counts(expected_counts, settings), rng=rng)
    scan = Scan(
        counts=counts.reshape(*grid.shape, -1),
        axis=axis_of(instrument.detector),
        name=Path(settings.recipe).stem + "_panel",
        format="simulated",
        live_time_s=np.full(grid.shape, settings.live_time_s),
        step_mm=(settings.step_mm, settings.step_mm),
        notes=("The scan is simulated from a virtual panel, not measured.",),
        metadata=settings.model_dump(mode="json"),
    )
    return Panel(scan, _truth_maps(recipe, grid), stratigraphies, instrument, *labels)


@dataclass(frozen=True)
class _Grid:
    """(row, column) maps of strip indices (-1 between strips) and of layer thicknesses in um."""

    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    top_um: NDArray[np.float64]
    bottom_um: NDArray[np.float64]
    ground_um: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        n_row, n_column = self.top.shape
        return int(n_row), int(n_column)

    @property
    def n_pixel(self) -> int:
        return self.top.size


def _make_grid(recipe: PanelRecipe, settings: PanelSettings, rng: np.random.Generator) -> _Grid:
    row_strips = _strip_indices(len(recipe.top_paints), settings)
    column_strips = _strip_indices(len(recipe.bottom_paints), settings)
    grid_shape = (row_strips.size, column_strips.size)
    row_position = np.linspace(0, 1, row_strips.size)[:, None]
    column_position = np.linspace(0, 1, column_strips.size)[None, :]
    # the thickness of a drawn-down film changes along its strip; each strip gets a random direction
    top_position = _strip_directions(rng, len(recipe.top_paints), row_strips)[:, None] * (column_position - 0.5) + 0.5
    bottom_position = (
        _strip_directions(rng, len(recipe.bottom_paints), column_strips)[None, :] * (row_position - 0.5) + 0.5
    )
    return _Grid(
        top=np.broadcast_to(row_strips[:, None], grid_shape).copy(),
        bottom=np.broadcast_to(column_strips[None, :], grid_shape).copy(),
        top_um=_thickness_map(top_position, recipe.top_thickness_um, grid_shape, rng),
        bottom_um=_thickness_map(bottom_position, recipe.bottom_thickness_um, grid_shape, rng),
        ground_um=_thickness_map(np.full(grid_shape, 0.5), recipe.ground_thickness_um, grid_shape, rng),
    )


def _strip_indices(n_strips: int, settings: PanelSettings) -> NDArray[np.int64]:
    gap_indices = np.full(settings.gap_pixels, -1)
    strips_with_gaps = [
        np.concatenate([gap_indices, np.full(settings.cell_pixels, strip_index)]) for strip_index in range(n_strips)
    ]
    return np.concatenate([*strips_with_gaps, gap_indices]).astype(np.int64)


def _strip_directions(rng: np.random.Generator, n_strips: int, strip_indices: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(rng.choice([-1.0, 1.0], size=n_strips)[strip_indices], dtype=np.float64)


def _thickness_map(
    strip_position: NDArray[np.float64],
    limits_um: tuple[float, float],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    min_um, max_um = limits_um
    thickness_noise = rng.normal(0.0, 0.03, size=shape)
    return np.clip(min_um + (max_um - min_um) * (strip_position + thickness_noise), min_um, max_um) + np.zeros(shape)


def _pixel_stratigraphy(recipe: PanelRecipe, grid: _Grid, pixel: int) -> Stratigraphy:
    row, column = divmod(pixel, grid.shape[1])
    layers: list[Layer] = []
    if grid.top[row, column] >= 0:
        layers.append(recipe.top(list(recipe.top_paints)[grid.top[row, column]], float(grid.top_um[row, column])))
    if grid.bottom[row, column] >= 0:
        bottom_paint = list(recipe.bottom_paints)[grid.bottom[row, column]]
        layers.append(recipe.bottom(bottom_paint, float(grid.bottom_um[row, column])))
    layers.append(ground_layer(recipe.ground, float(grid.ground_um[row, column])))
    return Stratigraphy(tuple(layers))


def _render_panel(
    stratigraphies: tuple[Stratigraphy, ...],
    instrument: Instrument,
    outputs: Outputs | None,
    progress: Progress | None,
    block: int,
    *,
    by_lines: bool,
) -> Any:
    spectrum_blocks, labels = [], []
    axis = axis_of(instrument.detector)
    for first_sample in range(0, len(stratigraphies), block):
        samples = stratigraphies[first_sample : first_sample + block]
        emission = emit(samples, instrument)
        spectrum_blocks.append(np.asarray(render(emission, instrument.detector, axis), dtype=np.float32))
        if outputs is not None:
            labels.append(
                visible_labels(
                    samples, emission, spectrum_blocks[-1], outputs, instrument.detector, axis, by_lines=by_lines
                )
            )
        if progress is not None:
            progress("Simulating the panel", min(first_sample + block, len(stratigraphies)), len(stratigraphies))
    return np.concatenate(spectrum_blocks), *(
        np.concatenate(label_blocks) for label_blocks in zip(*labels, strict=True)
    )


def _scale_to_counts(expected_counts: NDArray[np.float32], settings: PanelSettings) -> NDArray[np.float32]:
    total_counts = expected_counts.sum(axis=1, keepdims=True)
    count_scale = settings.counts / (total_counts if settings.equal_counts else total_counts.mean())
    return np.asarray(expected_counts * count_scale, dtype=np.float32)


def _truth_maps(recipe: PanelRecipe, grid: _Grid) -> dict[str, NDArray[np.float32]]:
    truth = {
        "top_thickness_um": np.where(grid.top >= 0, grid.top_um, 0.0),
        "bottom_thickness_um": np.where(grid.bottom >= 0, grid.bottom_um, 0.0),
        "ground_thickness_um": grid.ground_um,
    }
    for layer_name, strip_map, paint_fractions in (
        ("top", grid.top, recipe.top_paints),
        ("bottom", grid.bottom, recipe.bottom_paints),
    ):
        fractions_by_strip: list[dict[str, Any]] = [dict(paint) for paint in paint_fractions.values()]
        for map_name in sorted({pigment for paint in fractions_by_strip for pigment in paint}):
            fraction_by_strip = np.asarray([paint.get(map_name, 0.0) for paint in fractions_by_strip] + [0.0])
            truth[f"{layer_name}/{library()[map_name].name}"] = fraction_by_strip[strip_map]
    return {map_name: truth_map.astype(np.float32) for map_name, truth_map in truth.items()}


def save_panel(panel: Panel, path: str | Path) -> Path:
    """Write the scan and the truth maps of a panel to a new HDF5 file, which PyMca can open."""
    settings = {"panel": panel.scan.metadata, "instrument": panel.instrument.model_dump(mode="json")}
    save_scan(panel.scan.replace(source=str(path)), path, truth=panel.truth, settings=settings)
    return Path(path)
