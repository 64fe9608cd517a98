"""A photograph finds its place over the maps: by points exactly, by itself under one pixel."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from viewer_fakes import painted

from underpaint.elements import fit_elements
from underpaint.errors import ScanError
from underpaint.reflectance import builtin
from underpaint.reflectance.registration import (
    cube_components,
    register_any_orientation,
    register_automatically,
    register_by_points,
    transform_positions,
    warp_to_maps,
)
from underpaint.reflectance.twin import panel_reflectance, split_halves
from underpaint.simulate import PanelSettings, make_panel

CORNERS = np.array([[0.0, 0.0], [60.0, 0.0], [0.0, 40.0], [60.0, 40.0], [30.0, 20.0]])


def known_matrix() -> NDArray[np.float64]:
    """A turn of 4 degrees, eight pixels of the photograph for one of the maps, and a little perspective."""
    turn = np.deg2rad(4.0)
    return np.array(
        [[8 * np.cos(turn), -8 * np.sin(turn), 70.0], [8 * np.sin(turn), 8 * np.cos(turn), 40.0], [2e-4, 1e-4, 1.0]]
    )


def error_of(registered: NDArray[np.float64], matrix: NDArray[np.float64]) -> float:
    """Return the root mean square distance of places over the maps from where they truly lie, pixels of the maps."""
    at = np.stack(np.meshgrid(np.linspace(0, 60, 7), np.linspace(0, 40, 7)), axis=2).reshape(-1, 2)
    back = transform_positions(np.linalg.inv(registered), transform_positions(matrix, at))
    return float(np.sqrt(((back - at) ** 2).sum(axis=1).mean()))


def photographed(image: NDArray[np.float64], matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Render a picture as a camera at a matrix would see it, on a grey wall."""
    rows, columns = np.indices(size) + 0.5
    back = transform_positions(np.linalg.inv(matrix), np.column_stack([columns.ravel(), rows.ravel()]))
    at = np.array([back[:, 1] - 0.5, back[:, 0] - 0.5])
    layers = [map_coordinates(image[:, :, channel], at, order=1, cval=0.4) for channel in range(3)]
    return np.stack(layers, axis=1).reshape(*size, 3).astype(np.float32)


@pytest.mark.parametrize("n_point", [4, 5])
def test_points_give_the_transform_that_moved_them(n_point: int) -> None:
    matrix = known_matrix()
    registered = register_by_points(transform_positions(matrix, CORNERS[:n_point]).tolist(), CORNERS[:n_point].tolist())
    np.testing.assert_allclose(
        transform_positions(registered.matrix, CORNERS), transform_positions(matrix, CORNERS), atol=1e-6
    )
    assert registered.error_px == (None if n_point == 4 else pytest.approx(0.0, abs=1e-6))


def test_two_points_allow_for_shift_turn_and_scale() -> None:
    matrix = known_matrix()
    matrix[2, :2] = 0.0
    registered = register_by_points(transform_positions(matrix, CORNERS[:2]).tolist(), CORNERS[:2].tolist())
    np.testing.assert_allclose(registered.matrix, matrix, atol=1e-6)


@pytest.mark.parametrize(
    ("on_maps", "match"),
    [([], "at least 2"), ([(1, 1)], "at least 2"), ([(0, 0), (1, 1), (2, 2)], "line"), ([(3, 3), (3, 3)], "line")],
)
def test_points_that_do_not_tell_are_refused(on_maps: list[tuple[float, float]], match: str) -> None:
    with pytest.raises(ScanError, match=match):
        register_by_points([(8 * x, 8 * y) for x, y in on_maps], on_maps)


def test_a_photograph_finds_its_place_by_itself_under_a_pixel() -> None:
    image, maps = painted((40, 60), np.random.default_rng(3))
    matrix = known_matrix()
    registered = register_automatically(photographed(image, matrix, (440, 620)), maps)
    assert error_of(registered.matrix, matrix) < 0.6
    assert registered.verdict == "well"
    assert registered.error_px is not None
    assert 0.2 < registered.error_px < 0.6


@pytest.mark.parametrize(("turns", "mirrored"), [(1, False), (3, True)])
def test_a_cube_on_its_side_or_mirrored_finds_its_place(turns: int, mirrored: bool) -> None:
    image, maps = painted((40, 60), np.random.default_rng(3))
    upright = photographed(image, known_matrix(), (440, 620))
    recorded = np.rot90(upright, -turns)[:, ::-1] if mirrored else np.rot90(upright, -turns)
    registered = register_any_orientation(recorded, maps)
    assert registered.verdict == "well"
    corners = transform_positions(registered.matrix, np.array([[0.5, 0.5], [59.5, 0.5], [0.5, 39.5]]))
    expected = transform_positions(known_matrix(), np.array([[0.5, 0.5], [59.5, 0.5], [0.5, 39.5]]))
    x, y = expected.T
    back = np.column_stack([440 - y, x] if turns == 1 else [440 - y, 620 - x])
    assert np.linalg.norm(corners - back, axis=1).max() < 8 * 1.5


def test_a_panel_of_stripes_does_not_lie_a_stripe_off() -> None:
    """Seven colours over one another in columns and rows, as on panels that are made for trials."""
    rng = np.random.default_rng(1)
    down, across = (np.repeat(rng.uniform(0, 1, (n, 3)), 5, axis=0) for n in (8, 12))
    image = np.where(np.arange(40)[:, None, None] // 5 % 2 == 0, down[:, None], across[None])
    maps = [np.asarray(image[:, :, channel] ** 2, np.float32) for channel in range(3)]
    matrix = known_matrix()
    registered = register_automatically(photographed(image, matrix, (440, 620)), maps)
    assert error_of(registered.matrix, matrix) < 1.0


@cache
def components_of_twin(recipe: str) -> NDArray[np.float64]:
    drawn_from, _ = split_halves(builtin())
    panel = make_panel(PanelSettings(recipe=recipe, cell_pixels=2))
    twin = panel_reflectance(panel.stratigraphies, panel.scan.shape[:2], drawn_from)
    groups = np.array_split(np.log(np.maximum(twin.reflectance, 1e-3)), 12, axis=2)
    return cube_components([group.mean(axis=2) for group in groups])


@cache
def maps_of_panel(recipe: str) -> list[NDArray[np.float32]]:
    results = fit_elements(make_panel(PanelSettings(recipe=recipe, cell_pixels=2)).scan)
    strongest = sorted(results.lines, key=lambda name: -float(np.nanpercentile(results[name], 95)))[:8]
    return [results[name] for name in strongest]


@pytest.mark.parametrize(("of_cube", "of_maps"), [("fig7", "fig7"), ("table2", "fig7"), ("fig7", "table2")])
def test_a_cube_of_another_panel_is_not_called_well(of_cube: str, of_maps: str) -> None:
    components, maps = components_of_twin(of_cube), maps_of_panel(of_maps)
    if of_cube == of_maps:
        registered = register_automatically(components, maps)
        assert registered.verdict == "well"
        assert np.abs(registered.matrix[2, :2]).max() < 1e-6
        corners = np.array([[0.0, 0], [57, 0], [0, 39], [57, 39]])
        assert np.abs(transform_positions(registered.matrix, corners) - 2 * corners).max() < 1.0
        return
    try:
        registered = register_automatically(components, maps)
    except ScanError:
        return
    assert registered.verdict == "doubtful"


def test_a_mirrored_painting_is_never_called_well() -> None:
    image, maps = painted((40, 60), np.random.default_rng(3))
    try:
        registered = register_automatically(photographed(image[:, ::-1], known_matrix(), (440, 620)), maps)
    except ScanError:
        return
    assert registered.verdict == "doubtful"


@pytest.mark.parametrize(
    "photograph", [np.full((90, 120, 3), 0.5), np.random.default_rng(0).uniform(0, 1, (90, 120, 3))]
)
def test_a_photograph_of_another_object_is_not_registered(photograph: NDArray[np.float64]) -> None:
    _, maps = painted((40, 60), np.random.default_rng(3))
    with pytest.raises(ScanError, match="no position of it matches"):
        register_automatically(photograph.astype(np.float32), maps)


def test_maps_without_structure_are_refused() -> None:
    with pytest.raises(ScanError, match="the maps are uniform"):
        register_automatically(np.zeros((50, 50, 3)), [np.ones((20, 30), np.float32)])


def test_the_warped_photograph_is_the_painting_again() -> None:
    image, _ = painted((40, 60), np.random.default_rng(3))
    matrix = known_matrix()
    again = warp_to_maps(photographed(image, matrix, (440, 620)), matrix, (40, 60), 2)
    assert again.shape == (80, 120, 3)
    inside = again[1::2, 1::2][4:-4, 4:-4]
    assert np.median(np.abs(inside - image[4:-4, 4:-4])) < 0.02


def test_a_panel_of_equal_fields_matches_some_pixels_off_as_well_and_is_doubtful() -> None:
    fields = np.tile([[0, 1, 2, 3], [2, 3, 0, 1]], (6, 6)).repeat(4, axis=0).repeat(4, axis=1)
    rng = np.random.default_rng(0)
    maps = [rng.poisson(400.0 * (fields[8:40, 16:80] == each) + 5).astype(np.float32) for each in range(4)]
    colours = np.array([[0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.2, 0.3, 0.8], [0.7, 0.7, 0.3]])
    picture = colours[fields.repeat(2, axis=0).repeat(2, axis=1)]
    assert register_automatically(picture + rng.normal(0, 0.02, picture.shape), maps).verdict == "doubtful"
