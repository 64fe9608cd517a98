"""Layers of the virtual paintings in the figures, and scans of these paintings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer
from underpaint.simulate.recipes import figure7_recipe

BATCH_SIZE = 256
BARE = "bare"
"""Name of the paint that marks pixels without a layer."""
TOP_UM, LOWER_UM, GROUND_UM = (30.0, 100.0), (100.0, 150.0), 175.0
"""Thicknesses of upper paint, lower paint and ground, in um, within the range of the paper's mock-ups."""
N_THICKNESS = 6
ABSENT, BELOW, ABOVE = 0, 1, 2
"""Codes for a pigment that is absent in a pixel, only in the covered layer, or in the uppermost layer."""

MassFractions = Mapping[str, float]


@dataclass(frozen=True)
class Painting:
    """Virtual painting, defined by the paints and thicknesses of each pixel.

    Parameters
    ----------
    upper_paints, lower_paints : mapping of str to (mapping of str to float)
        Mass fractions of the dry pigments in each paint of the upper and the lower layer.
    upper_paint, lower_paint : (n_row, n_column) arrays of str
        Paint of each pixel in the upper and the lower layer, or ``bare`` without a layer.
    upper_um, lower_um : (n_row, n_column) arrays
        Thickness of each layer, in um. Thicknesses have few distinct values, because each distinct stratigraphy is
        simulated once.
    formulas : mapping of str to str
        Chemical formulas that replace those of the library.
    """

    upper_paints: Mapping[str, MassFractions]
    lower_paints: Mapping[str, MassFractions]
    upper_paint: NDArray[np.str_]
    lower_paint: NDArray[np.str_]
    upper_um: NDArray[np.float64]
    lower_um: NDArray[np.float64]
    formulas: Mapping[str, str]

    def stratigraphies(self) -> tuple[list[Stratigraphy], NDArray[np.int64]]:
        """Return the distinct stratigraphies, and the (n_row, n_column) index of the stratigraphy of each pixel."""
        pixel_keys = list(
            zip(
                *(
                    layer_array.ravel()
                    for layer_array in (self.upper_paint, self.upper_um, self.lower_paint, self.lower_um)
                ),
                strict=True,
            )
        )
        index_by_key = {
            layer_key: stratigraphy_index for stratigraphy_index, layer_key in enumerate(dict.fromkeys(pixel_keys))
        }
        stratigraphy_index = np.asarray([index_by_key[layer_key] for layer_key in pixel_keys]).reshape(
            self.upper_paint.shape
        )
        return [self._stratigraphy(*layer_key) for layer_key in index_by_key], stratigraphy_index

    def places(self, pigments: Sequence[str]) -> NDArray[np.int64]:
        """Return the (n_row, n_column) place codes of the pigments, ``ABSENT``, ``BELOW`` or ``ABOVE``."""
        place_codes = np.full(self.upper_paint.shape, ABSENT)
        for paints, paint_of_pixel, place_code in (
            (self.lower_paints, self.lower_paint, BELOW),
            (self.upper_paints, self.upper_paint, ABOVE),
        ):
            paints_with_pigment = [name for name, fractions in paints.items() if set(pigments) & set(fractions)]
            place_codes[np.isin(paint_of_pixel, paints_with_pigment)] = place_code
        return place_codes

    def _stratigraphy(self, upper_name: str, upper_um: float, lower_name: str, lower_um: float) -> Stratigraphy:
        layers: list[Layer] = []
        for paints, name, thickness_um in (
            (self.upper_paints, upper_name, upper_um),
            (self.lower_paints, lower_name, lower_um),
        ):
            if name != BARE:
                layers.append(Paint(dict(paints[name]), formulas=self.formulas).layer(float(thickness_um)))
        return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def scan_painting(
    painting: Painting, instrument: Instrument, counts: float, rng: np.random.Generator, name: str, live_time_s: float
) -> Scan:
    """Simulate the scan of a painting with the full forward model, in the channels of the paper's network.

    Parameters
    ----------
    painting : Painting
        The painting.
    instrument : Instrument
        The instrument.
    counts : float
        Mean total counts per pixel. The counts of a pixel depend on its paints.
    rng : Generator
        Random number generator for the counts.
    name : str
        Name of the scan.
    live_time_s : float
        Live time per pixel in s, which is stored in the scan and does not affect the counts.
    """
    stratigraphies, stratigraphy_index = painting.stratigraphies()
    expected_counts = expected_spectra(stratigraphies, instrument)
    expected_counts *= counts / expected_counts[stratigraphy_index].sum(axis=2).mean()
    spectra = np.stack([count(expected_counts[row_indices], rng=rng) for row_indices in stratigraphy_index])
    return Scan(
        counts=spectra,
        axis=XU_NETWORK_AXIS,
        name=name,
        format="simulated",
        live_time_s=np.full(stratigraphy_index.shape, live_time_s),
        notes=("Simulated: a virtual painting, not a measurement.",),
    )


def expected_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> NDArray[np.float64]:
    """Return the (n, n_channel) expected spectra in the channels of the paper's network."""
    batches = [
        np.asarray(
            render(
                emit(stratigraphies[batch_start : batch_start + BATCH_SIZE], instrument),
                instrument.detector,
                XU_NETWORK_AXIS,
            )
        )
        for batch_start in range(0, len(stratigraphies), BATCH_SIZE)
    ]
    return np.concatenate(batches).astype(np.float64)


def crossed_strips(cell_pixels: int, gap_pixels: int, rng: np.random.Generator) -> Painting:
    """Return the panel of the paper's Figure 7. Four top paints cross six bottom paints.

    Strips get thinner along their length.
    """
    panel_recipe = figure7_recipe()
    row_paints, column_paints = (
        _strip_of_pixels(list(paints), cell_pixels, gap_pixels)
        for paints in (panel_recipe.top_paints, panel_recipe.bottom_paints)
    )
    pixel_shape = (row_paints.size, column_paints.size)
    return Painting(
        upper_paints=panel_recipe.top_paints,
        lower_paints=panel_recipe.bottom_paints,
        upper_paint=np.broadcast_to(row_paints[:, None], pixel_shape),
        lower_paint=np.broadcast_to(column_paints, pixel_shape),
        upper_um=_stepped_thickness(
            list(panel_recipe.top_paints), row_paints, pixel_shape[1], panel_recipe.top_thickness_um, rng
        ),
        lower_um=_stepped_thickness(
            list(panel_recipe.bottom_paints), column_paints, pixel_shape[0], panel_recipe.bottom_thickness_um, rng
        ).T,
        formulas=panel_recipe.formulas,
    )


def _strip_of_pixels(strip_names: list[str], cell_pixels: int, gap_pixels: int) -> NDArray[np.str_]:
    return np.asarray(
        [
            *([BARE] * gap_pixels),
            *(
                paint_name
                for strip_name in strip_names
                for paint_name in ([strip_name] * cell_pixels + [BARE] * gap_pixels)
            ),
        ]
    )


def _stepped_thickness(
    strip_names: list[str],
    strip_of_pixel: NDArray[np.str_],
    n_pixel: int,
    thickness_limits_um: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (n_strip_pixel, n_pixel) thicknesses, in um, with steps along each strip in a random direction."""
    thickness_step = np.minimum(np.arange(n_pixel) * N_THICKNESS // n_pixel, N_THICKNESS - 1)
    thickness_profile_um = np.linspace(*thickness_limits_um, N_THICKNESS)[thickness_step]
    profile_by_name = {strip_name: thickness_profile_um[:: rng.choice([-1, 1])] for strip_name in strip_names}
    return np.stack([profile_by_name.get(strip_name, np.zeros(n_pixel)) for strip_name in strip_of_pixel])
