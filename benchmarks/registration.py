"""How well pictures of a painting are registered to its element maps by themselves, and whether the verdict is right.

Random warps of synthetic photographs: shapes in colours with cracks, uneven light and noise, of which some pigments
show no line and some element maps show shapes that the eye does not see; every fifth photograph is of another painting
or mirrored. A verdict is right where it says "well" of a place under one pixel of the maps (root mean square over the
maps; the worst corner is listed, too), "doubtful" or "wrong" of one that is farther off or of another painting.

    python benchmarks/registration.py --json FILE [--number 50] [--first 0]

With --twins, cubes of a virtual panel (`underpaint mockup fig7 --reflectance`, not a measurement) are warped instead,
each drawn anew, and registered to the element maps of its virtual scan; two more are of another panel (table2 on fig7
and the reverse, neither warped).
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from underpaint.elements import fit_elements
from underpaint.errors import ScanError
from underpaint.reflectance import builtin
from underpaint.reflectance.registration import cube_components, register_automatically, transform_positions
from underpaint.reflectance.twin import panel_reflectance, split_halves
from underpaint.simulate import PanelSettings, make_panel
from underpaint.simulate.mockups import Panel

_EVERY_OTHER = 5
_SIDE = 700
_FINE, _CELL_PIXELS = 4, 8


def main() -> None:
    """Lay the photographs, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--number", type=int, default=50, help="photographs")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--twins", action="store_true", help="cubes of a virtual panel in place of photographs")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.number)
    pictures = twins(seeds) if arguments.twins else map(synthetic, seeds)
    cases = [case_of(seed, *case) for seed, case in enumerate(pictures, arguments.first)]
    same = [case for case in cases if case["same"]]
    record = {
        "number": len(cases),
        "verdict_right": sum(case["right"] for case in cases),
        "same_painting": len(same),
        "under_a_pixel": sum(case["off_px"] < 1 for case in same),
        "corners_under_a_pixel": sum(case["worst_corner_px"] < 1 for case in same),
        "called_well": sum(case["verdict"] == "well" for case in same),
        "median_off_px": float(np.median([case["off_px"] for case in same])),
        "median_s": float(np.median([case["s"] for case in cases])),
        "cases": cases,
    }
    print(json.dumps({key: value for key, value in record.items() if key != "cases"}, indent=2))
    if arguments.json:
        plain = json.loads(json.dumps(record), parse_constant=lambda _: None)
        arguments.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


Case = tuple[NDArray[np.floating], list[NDArray[np.float32]], NDArray[np.float64], bool]
"""A picture, element maps, the matrix from the maps to the picture, and whether both are of one painting."""


def case_of(
    seed: int,
    photograph: NDArray[np.floating],
    maps: list[NDArray[np.float32]],
    matrix: NDArray[np.float64],
    same: bool,
) -> dict[str, Any]:
    """Lay one picture and compare with the truth."""
    start = time.perf_counter()
    off, corner, verdict, error, similarity = float("inf"), float("inf"), "wrong", None, None
    try:
        registered = register_automatically(photograph, maps)
        verdict, error, similarity = registered.verdict, registered.error_px, registered.similarity
        if same:
            off = mean_off(registered.matrix, matrix, maps[0].shape)
            corner = farthest(registered.matrix, matrix, maps[0].shape)
    except ScanError:
        pass
    right = (off < 1) == (verdict == "well")
    case = {"seed": seed, "same": same, "off_px": off, "worst_corner_px": corner, "verdict": verdict, "error_px": error,
            "similarity": similarity, "right": right, "s": time.perf_counter() - start}  # fmt: skip
    print({key: round(value, 2) if isinstance(value, float) else value for key, value in case.items()}, flush=True)
    return case


def farthest(matrix: NDArray[np.float64], true: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return how far a matrix puts the worst corner of the maps from its true place, pixels of the maps."""
    n_row, n_column = shape
    return float(_distances(matrix, true, np.array([[0, 0], [n_column, 0], [0, n_row], [n_column, n_row]])).max())


def mean_off(matrix: NDArray[np.float64], true: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return the root mean square distance of places all over the maps from their true ones, pixels of the maps."""
    rows, columns = (np.linspace(0, size, 9) for size in shape)
    at = np.stack(np.meshgrid(columns, rows), axis=2).reshape(-1, 2)
    return float(np.sqrt((_distances(matrix, true, at) ** 2).mean()))


def _distances(matrix: NDArray[np.float64], true: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    back = transform_positions(np.linalg.inv(matrix), transform_positions(true, at.astype(np.float64)))
    return np.asarray(np.linalg.norm(back - at, axis=1))


def twins(seeds: range) -> Iterator[Case]:
    """Yield components of virtual cubes with element maps: warped ones of the same panel, then two of another one."""
    panel = make_panel(PanelSettings(recipe="fig7", cell_pixels=_CELL_PIXELS))
    maps, shape = element_maps(panel), panel.scan.shape[:2]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        channels = cube_channels(panel, _FINE, seed)
        matrix = warp(shape, rng)
        image = _photographed(channels, matrix, float(np.log(rng.uniform(0.1, 0.6))))
        yield cube_components(list(np.moveaxis(image, 2, 0))), maps, matrix, True
    small = [make_panel(PanelSettings(recipe=name, cell_pixels=2)) for name in ("fig7", "table2")]
    for of_cube, of_maps in (small[::-1], small):
        channels = cube_channels(of_cube, 2, seeds.start)
        yield cube_components(list(np.moveaxis(channels, 2, 0))), element_maps(of_maps), np.diag([2.0, 2.0, 1.0]), False


def element_maps(panel: Panel) -> list[NDArray[np.float32]]:
    """Return the eight strongest element maps of a panel's virtual scan."""
    results = fit_elements(panel.scan)
    strongest = sorted(results.lines, key=lambda name: -float(np.nanpercentile(results[name], 95)))[:8]
    return [results[name] for name in strongest]


def cube_channels(panel: Panel, magnification: int, seed: int) -> NDArray[np.float64]:
    """Return the logarithm of a panel's reflectance in twelve groups of bands, (height, width, 12)."""
    drawn_from, _ = split_halves(builtin())
    shape = panel.scan.shape[:2]
    twin = panel_reflectance(panel.stratigraphies, shape, drawn_from, magnification=magnification, seed=seed)
    groups = np.array_split(np.log(np.maximum(twin.reflectance, 1e-3)), 12, axis=2)
    return np.stack([group.mean(axis=2) for group in groups], axis=2)


def synthetic(seed: int) -> Case:
    """Return a photograph, element maps, the matrix from the maps to the photograph, and whether both are of one."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(50, 110)), int(rng.integers(60, 150)))
    same = seed % _EVERY_OTHER != _EVERY_OTHER - 1
    paint, maps = painting(shape, rng)
    if not same:
        paint = paint[:, ::-1] if seed % (2 * _EVERY_OTHER) == _EVERY_OTHER - 1 else painting(shape, rng)[0]
    matrix = warp(shape, rng)
    return photographed(paint, matrix, rng), maps, matrix, same


def painting(shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
    """Return a painting four times as fine as its maps, and the maps of its elements."""
    fine = _FINE
    n_row, n_column = shape[0] * fine, shape[1] * fine
    n_pigment = int(rng.integers(4, 8))
    colors = rng.uniform(0.05, 0.9, (n_pigment + 1, 3))
    label = np.zeros((n_row, n_column), dtype=int)
    hidden = np.zeros((n_row, n_column), dtype=bool)
    for number in range(int(rng.integers(12, 40))):
        blob = _blob((n_row, n_column), rng)
        if number % 7 == 6:
            hidden |= blob
        else:
            label[blob] = rng.integers(0, n_pigment + 1)
    texture = gaussian_filter(rng.standard_normal((n_row, n_column)), 2.0)
    light = 1 + 0.25 * texture / texture.std() * rng.uniform(0.1, 0.5)
    cracks = np.abs(gaussian_filter(rng.standard_normal((n_row, n_column)), 4.0))
    paint = colors[label] * light[:, :, None]
    paint[cracks < 0.02 * cracks.std()] *= 0.5
    maps = []
    for pigment in range(n_pigment):
        if pigment % 3 == 2:
            continue  # of no line: a lake, a black
        amount = (label == pigment) * rng.uniform(0.5, 1.0) + 0.3 * (label == (pigment + 1) % n_pigment)
        maps.append(_counts(amount, fine, rng))
    maps.append(_counts(hidden * 0.8, fine, rng))
    return np.clip(paint, 0, 1), maps


def _counts(amount: NDArray[np.float64], fine: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return Poisson counts of an element in coarse pixels, with a beam somewhat larger than one."""
    image = gaussian_filter(amount.astype(float), 0.5 * fine)
    n_row, n_column = (size // fine for size in amount.shape)
    mean = image.reshape(n_row, fine, n_column, fine).mean(axis=(1, 3))
    return np.asarray(rng.poisson(10 ** rng.uniform(1.5, 3) * mean + 8), dtype=np.float32)


def _blob(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
    a, b = rng.uniform(0.04, 0.3, 2) * min(shape)
    turn = rng.uniform(0, np.pi)
    u = (rows - row) * np.cos(turn) + (columns - column) * np.sin(turn)
    v = -(rows - row) * np.sin(turn) + (columns - column) * np.cos(turn)
    power = rng.choice([1.0, 2.0, 6.0])
    return np.asarray(np.abs(u / a) ** power + np.abs(v / b) ** power < 1)


def warp(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random matrix from the maps to a photograph: shift, turn, scale, shear and perspective."""
    n_row, n_column = shape
    fit = _SIDE / max(shape) * rng.uniform(0.6, 0.95)
    turn = np.deg2rad(rng.uniform(-7, 7))
    linear = fit * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ (np.eye(2) + rng.uniform(-0.03, 0.03, (2, 2)))
    height, width = _size(shape)
    middle = np.array([width, height]) * (0.5 + rng.uniform(-0.08, 0.08, 2))
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, middle - linear @ [n_column / 2, n_row / 2]
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.06, 0.06, 2) / [width, height]
    registered = tilt @ matrix
    return np.asarray(registered / registered[2, 2])


def _size(shape: tuple[int, int]) -> tuple[int, int]:
    scale = _SIDE / max(shape)
    return round(shape[0] * scale), round(shape[1] * scale)


def photographed(
    paint: NDArray[np.float64], matrix: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return what a camera sees: the painting on a wall, with uneven light, noise and a little blur."""
    image = _photographed(paint, matrix, rng.uniform(0.1, 0.8))
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width)) + 0.5
    slope = rng.uniform(-0.3, 0.3, 2)
    image = image * (1 + slope[0] * (columns / width - 0.5) + slope[1] * (rows / height - 0.5))[:, :, None]
    image = gaussian_filter(image, (0.8, 0.8, 0)) + 0.02 * rng.standard_normal(image.shape)
    return np.asarray(np.clip(image, 0, 1), dtype=np.float32)


def _photographed(paint: NDArray[np.floating], matrix: NDArray[np.float64], wall: float) -> NDArray[np.float64]:
    """Return a painting, four times as fine as its maps, as it lies before a wall."""
    height, width = _size((paint.shape[0] // _FINE, paint.shape[1] // _FINE))
    rows, columns = np.indices((height, width)) + 0.5
    back = transform_positions(np.linalg.inv(matrix), np.column_stack([columns.ravel(), rows.ravel()])) * _FINE
    at = np.array([back[:, 1] - 0.5, back[:, 0] - 0.5])
    layers = [map_coordinates(paint[:, :, index], at, order=1, cval=wall) for index in range(paint.shape[2])]
    return np.stack(layers, axis=1).reshape(height, width, -1)


if __name__ == "__main__":
    main()
