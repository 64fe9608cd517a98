"""Hypothesis strategies for layers and stratigraphies, and the instruments that the physics tests share."""

from collections.abc import Sequence

from hypothesis import strategies as st

from underpaint.physics.instrument import Geometry, Instrument, SourceSpectrum
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, support_layer

PIGMENTS = (
    "lead_white",
    "zinc_white",
    "vermilion",
    "chrome_yellow",
    "cobalt_blue",
    "emerald_green",
    "iron_oxide_red",
    "chalk",
    "carmine_lake",
    "titanium_white",
)


def monochromatic(
    *energies_kev: float, incidence: float = 60.0, takeoff: float = 45.0, weight: Sequence[float] = ()
) -> Instrument:
    """An instrument without air, excited by single energies."""
    return Instrument(
        source_spectrum=SourceSpectrum(
            energy_kev=energies_kev, weight=tuple(weight) or tuple(1.0 for _ in energies_kev)
        ),
        geometry=Geometry(
            incidence_angle_deg=incidence, takeoff_angle_deg=takeoff, source_air_cm=0.0, detector_air_cm=0.0
        ),
    )


@st.composite
def paint_layers(draw: st.DrawFn, max_pigments: int = 3) -> Layer:
    """A film of one to some pigments in oil, 2 to 200 um."""
    names = draw(st.lists(st.sampled_from(PIGMENTS), min_size=1, max_size=max_pigments, unique=True))
    shares = {name: draw(st.floats(0.05, 1.0)) for name in names}
    return Paint(shares, pigment_to_binder=draw(st.floats(1.0, 6.0))).layer(draw(st.floats(2.0, 200.0)))


@st.composite
def stratigraphies(draw: st.DrawFn, max_paints: int = 3) -> Stratigraphy:
    """Paint layers, mostly over a ground, at times over a support."""
    layers = draw(st.lists(paint_layers(), min_size=1, max_size=max_paints))
    if draw(st.booleans()):
        layers = [*layers, ground_layer(draw(st.sampled_from(["chalk", "gypsum", "lead_white"])), 150.0)]
        if draw(st.booleans()):
            layers = [*layers, support_layer("canvas")]
    return Stratigraphy(tuple(layers))
