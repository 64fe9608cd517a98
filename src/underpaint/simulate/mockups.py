"""Virtual mock-up panels: paint strips that cross, scanned by a virtual instrument.

They stand in place of the paper's, which are not public: every figure made from them is called virtual.
"""

from dataclasses import dataclass, replace
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
from underpaint.simulate.labels import labels_shown
from underpaint.simulate.outputs import Outputs
from underpaint.simulate.randomise import perturbed
from underpaint.simulate.recipes import PanelRecipe, load_recipe

INSTRUMENT = "elio"
BINDER_SPREAD, DENSITY_SPREAD, THICKNESS_SPREAD = 0.10, 0.05, 0.03
VOLTAGE_SPREAD = 0.01
"""Standard deviations, relative, of binder, density, thickness and voltage."""
GAIN_DRIFT, ZERO_DRIFT_KEV = 0.0005, 0.003
"""Standard deviations of the energy scale from part to part: relative, and keV."""
AT_ONCE = 256


@dataclass(frozen=True)
class Mockups:
    """Counted spectra of known structures: the 64 of Table 2, virtual, or a user's.

    Parameters
    ----------
    counts : (n, n_channel) int array
        On the channels of ``axis``.
    top, bottom : (n,) arrays of str
        Names of the paints: ``Top 1``, ``Bottom 2B``.
    top_um : (n,) array
        Thickness of the top, um; NaN where it is not known.
    pigments : tuple of n tuples of str
        What lies in top and bottom, by pigment name.
    instrument : Instrument
        The machine that looked: an ELIO, perturbed.
    axis : EnergyAxis
        As the machine states it; by default the channels of the paper's network.
    stratigraphies : tuple of Stratigraphy
        What was painted; empty where the mock-ups are measured ones.
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
        """(n,) number of each spectrum's structure."""
        names = np.char.add(np.char.add(self.top, "/"), self.bottom)
        return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def paint_mockups(n_spectra: int, counts: float, seed: int, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Paint and measure the virtual mock-ups; everything is drawn from the seed.

    Parameters
    ----------
    n_spectra : int
        Of the 64 structures together.
    counts : float
        Mean counts of a spectrum.
    seed : int
    axis : EnergyAxis
        As the machine states it.

    The machine is an ELIO whose tube, angles, air and response are off by a little; each strip grows from its
    thinnest to its thickest; binder and density scatter from spectrum to spectrum, and the calibration drifts. The
    physics is the full forward model: scatter, all orders, noise.
    """
    rng = np.random.default_rng(seed)
    instrument = machine(rng)
    recipe = load_recipe("table2")
    pairs = [(top, bottom) for top in recipe.tops for bottom in recipe.bottoms]
    sizes = [len(part) for part in np.array_split(np.arange(n_spectra), len(pairs))]
    rows = [(*pair, place) for pair, n in zip(pairs, sizes, strict=True) for place in np.linspace(0.0, 1.0, n)]
    drawn = [_structure(recipe, top, bottom, place, rng) for top, bottom, place in rows]
    stratigraphies = [stratigraphy for stratigraphy, _ in drawn]
    return Mockups(
        counts=_measure(stratigraphies, instrument, counts, axis, rng),
        top=np.asarray([row[0] for row in rows]),
        bottom=np.asarray([row[1] for row in rows]),
        top_um=np.asarray([thickness for _, thickness in drawn]),
        pigments=tuple(tuple({**recipe.tops[top], **recipe.bottoms[bottom]}) for top, bottom, _ in rows),
        instrument=instrument,
        axis=axis,
        stratigraphies=tuple(stratigraphies),
    )


def machine(rng: np.random.Generator) -> Instrument:
    """Return an ELIO as one could meet it; measured tubes have lines up to 1.7 times as strong as Ebel's."""
    elio = perturbed(load_instrument(INSTRUMENT), rng)
    tube = elio.tube
    window = tube.window.model_copy(update={"thickness_um": tube.window.thickness_um * rng.lognormal(0.0, 0.2)})
    update = {
        "voltage_kv": tube.voltage_kv * (1.0 + rng.normal(0.0, VOLTAGE_SPREAD)),
        "line_factor": rng.uniform(1.0, 1.7),
        "window": window,
    }
    return elio.model_copy(update={"tube": tube.model_copy(update=update)})


def _structure(
    recipe: PanelRecipe, top: str, bottom: str, place: float, rng: np.random.Generator
) -> tuple[Stratigraphy, float]:
    """Return the layers at a place along a strip, and the top's thickness, um."""
    thickness = _along(recipe.top_thickness_um, place, rng)
    layers = (
        _layer(recipe, recipe.tops[top], thickness, rng),
        _layer(recipe, recipe.bottoms[bottom], _along(recipe.bottom_thickness_um, rng.random(), rng), rng),
        ground_layer(recipe.ground, _along(recipe.ground_thickness_um, rng.random(), rng)),
    )
    return Stratigraphy(layers, f"{top} over {bottom}"), thickness


def _along(limits: tuple[float, float], place: float, rng: np.random.Generator) -> float:
    low, high = limits
    return float(np.clip(low + (high - low) * (place + rng.normal(0.0, THICKNESS_SPREAD)), low, high))


def _layer(recipe: PanelRecipe, shares: object, thickness: float, rng: np.random.Generator) -> Layer:
    ratio = recipe.pigment_to_binder * rng.lognormal(0.0, BINDER_SPREAD)
    paint = Paint(dict(shares), pigment_to_binder=ratio, binder=recipe.binder, formulas=recipe.formulas)  # type: ignore[call-overload]
    layer = paint.layer(thickness)
    density = layer.density * float(rng.lognormal(0.0, DENSITY_SPREAD))
    return Layer(layer.mass_fractions, density, thickness, layer.name, layer.pigments)


def _measure(
    stratigraphies: list[Stratigraphy],
    instrument: Instrument,
    counts: float,
    axis: EnergyAxis,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    parts = []
    for start in range(0, len(stratigraphies), AT_ONCE):
        emission = emit(stratigraphies[start : start + AT_ONCE], instrument, single=True)
        # the calibration drifts from part to part, as it does in the course of a day
        gain, zero = 1.0 + rng.normal(0.0, GAIN_DRIFT), rng.normal(0.0, ZERO_DRIFT_KEV)
        seen = EnergyAxis(axis.gain_kev * gain, axis.zero_kev * gain + zero, axis.n_channel)
        parts.append(np.asarray(render(emission, instrument.detector, seen), dtype=np.float64))
    expected = np.concatenate(parts)
    return count(expected * counts / expected.sum(axis=1).mean(), rng=rng)


class PanelSettings(BaseModel):
    """A virtual panel and its scan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str = Field("fig7", description="fig7, table2 or a TOML file with tops, bottoms and thicknesses")
    instrument: str = Field("elio", description="preset or file; the virtual machine is perturbed away from it")
    perturb: bool = Field(True, description="draw one actual machine of the preset's kind")
    cell_pixels: int = Field(12, ge=1, description="side of a crossing, pixels")
    gap_pixels: int = Field(3, ge=0, description="bare width between strips, pixels")
    step_mm: float = Field(1.0, gt=0, description="distance between pixels, mm")
    counts: float = Field(1e5, gt=0, description="mean counts per pixel over the panel")
    equal_counts: bool = Field(False, description="give every pixel the same expected counts")
    live_time_s: float = Field(10.0, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class Panel:
    """A scanned virtual panel with what lies under each pixel.

    Parameters
    ----------
    scan : Scan
        Simulated counts.
    truth : dict
        (row, column) maps: ``top/<pigment>`` and ``bottom/<pigment>`` mass shares of the dry paint,
        ``top_thickness_um``, ``bottom_thickness_um``, ``ground_thickness_um``; zero where there is no such layer.
    stratigraphies : tuple
        One per pixel, row-major.
    labels, counts_needed, hidden : (n_pixel, n_name) arrays or None
        Labels by output, the counts at which each is visible, and those up to which it is absent, where outputs were
        given (:func:`underpaint.simulate.labels.labels_shown`).
    """

    scan: Scan
    truth: dict[str, NDArray[np.float32]]
    stratigraphies: tuple[Stratigraphy, ...]
    instrument: Instrument
    labels: NDArray[np.uint8] | None = None
    counts_needed: NDArray[np.float32] | None = None
    hidden: NDArray[np.float32] | None = None


def make_panel(
    settings: PanelSettings,
    *,
    outputs: Outputs | None = None,
    lines: bool = False,
    progress: Progress | None = None,
    block: int = 512,
) -> Panel:
    """Paint and scan a virtual panel; every draw comes from ``settings.seed``.

    With ``lines`` a group of ``outputs`` is present where lines of its element show, whatever brings them.

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
    instrument = perturbed(instrument, rng) if settings.perturb else instrument
    grid = _lay_out(recipe, settings, rng)
    stratigraphies = tuple(_stratigraphy(recipe, grid, pixel) for pixel in range(grid.n_pixel))
    expected, *labels = _expected(stratigraphies, instrument, outputs, progress, block, lines=lines)
    counts = count(_scaled(expected, settings), rng=rng)
    scan = Scan(
        counts=counts.reshape(*grid.shape, -1),
        axis=axis_of(instrument.detector),
        name=Path(settings.recipe).stem + "_panel",
        format="simulated",
        live_time_s=np.full(grid.shape, settings.live_time_s),
        step_mm=(settings.step_mm, settings.step_mm),
        notes=("Simulated: a virtual panel, not a measurement.",),
        metadata=settings.model_dump(mode="json"),
    )
    return Panel(scan, _truth(recipe, grid), stratigraphies, instrument, *labels)


@dataclass(frozen=True)
class _Grid:
    """What lies where: indices of the strips (-1: none) and thicknesses, (row, column)."""

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


def _lay_out(recipe: PanelRecipe, settings: PanelSettings, rng: np.random.Generator) -> _Grid:
    rows = _strips(len(recipe.tops), settings)
    columns = _strips(len(recipe.bottoms), settings)
    shape = (rows.size, columns.size)
    along_rows = np.linspace(0, 1, rows.size)[:, None]
    along_columns = np.linspace(0, 1, columns.size)[None, :]
    # a drawn-down film thins steadily along its strip; each strip is drawn in its own direction
    top_slope = _direction(rng, len(recipe.tops), rows)[:, None] * (along_columns - 0.5) + 0.5
    bottom_slope = _direction(rng, len(recipe.bottoms), columns)[None, :] * (along_rows - 0.5) + 0.5
    return _Grid(
        top=np.broadcast_to(rows[:, None], shape).copy(),
        bottom=np.broadcast_to(columns[None, :], shape).copy(),
        top_um=_thickness(top_slope, recipe.top_thickness_um, shape, rng),
        bottom_um=_thickness(bottom_slope, recipe.bottom_thickness_um, shape, rng),
        ground_um=_thickness(np.full(shape, 0.5), recipe.ground_thickness_um, shape, rng),
    )


def _strips(count: int, settings: PanelSettings) -> NDArray[np.int64]:
    bare = np.full(settings.gap_pixels, -1)
    parts = [np.concatenate([bare, np.full(settings.cell_pixels, index)]) for index in range(count)]
    return np.concatenate([*parts, bare]).astype(np.int64)


def _direction(rng: np.random.Generator, count: int, strips: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(rng.choice([-1.0, 1.0], size=count)[strips], dtype=np.float64)


def _thickness(
    slope: NDArray[np.float64], limits: tuple[float, float], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    low, high = limits
    scatter = rng.normal(0.0, 0.03, size=shape)
    return np.clip(low + (high - low) * (slope + scatter), low, high) + np.zeros(shape)


def _stratigraphy(recipe: PanelRecipe, grid: _Grid, pixel: int) -> Stratigraphy:
    row, column = divmod(pixel, grid.shape[1])
    layers: list[Layer] = []
    if grid.top[row, column] >= 0:
        layers.append(recipe.top(list(recipe.tops)[grid.top[row, column]], float(grid.top_um[row, column])))
    if grid.bottom[row, column] >= 0:
        name = list(recipe.bottoms)[grid.bottom[row, column]]
        layers.append(recipe.bottom(name, float(grid.bottom_um[row, column])))
    layers.append(ground_layer(recipe.ground, float(grid.ground_um[row, column])))
    return Stratigraphy(tuple(layers))


def _expected(
    stratigraphies: tuple[Stratigraphy, ...],
    instrument: Instrument,
    outputs: Outputs | None,
    progress: Progress | None,
    block: int,
    *,
    lines: bool,
) -> Any:
    spectra, labels = [], []
    axis = axis_of(instrument.detector)
    for start in range(0, len(stratigraphies), block):
        part = stratigraphies[start : start + block]
        emission = emit(part, instrument)
        spectra.append(np.asarray(render(emission, instrument.detector, axis), dtype=np.float32))
        if outputs is not None:
            labels.append(labels_shown(part, emission, spectra[-1], outputs, instrument.detector, axis, lines=lines))
        if progress is not None:
            progress("Simulating the panel", min(start + block, len(stratigraphies)), len(stratigraphies))
    return np.concatenate(spectra), *(np.concatenate(each) for each in zip(*labels, strict=True))


def _scaled(expected: NDArray[np.float32], settings: PanelSettings) -> NDArray[np.float32]:
    totals = expected.sum(axis=1, keepdims=True)
    scale = settings.counts / (totals if settings.equal_counts else totals.mean())
    return np.asarray(expected * scale, dtype=np.float32)


def _truth(recipe: PanelRecipe, grid: _Grid) -> dict[str, NDArray[np.float32]]:
    truth = {
        "top_thickness_um": np.where(grid.top >= 0, grid.top_um, 0.0),
        "bottom_thickness_um": np.where(grid.bottom >= 0, grid.bottom_um, 0.0),
        "ground_thickness_um": grid.ground_um,
    }
    for place, strips, paints in (("top", grid.top, recipe.tops), ("bottom", grid.bottom, recipe.bottoms)):
        shares: list[dict[str, Any]] = [dict(paint) for paint in paints.values()]
        for name in sorted({pigment for paint in shares for pigment in paint}):
            by_strip = np.asarray([paint.get(name, 0.0) for paint in shares] + [0.0])
            truth[f"{place}/{library()[name].name}"] = by_strip[strips]
    return {name: values.astype(np.float32) for name, values in truth.items()}


def save_panel(panel: Panel, path: str | Path) -> Path:
    """Write a panel's scan and truth to one HDF5 file that PyMca opens; refuse to overwrite."""
    settings = {"panel": panel.scan.metadata, "instrument": panel.instrument.model_dump(mode="json")}
    save_scan(replace(panel.scan, source=str(path)), path, truth=panel.truth, settings=settings)
    return Path(path)
