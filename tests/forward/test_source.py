"""The tube: range, lines of the anode, filters, air."""

import numpy as np
import pytest

from underpaint.errors import InstrumentError
from underpaint.forward import source_spectrum
from underpaint.forward.source import air_transmission, filter_transmission
from underpaint.instrument import Filter, Geometry, Instrument, Tube


@pytest.mark.parametrize("anode", ["Rh", "Ag", "Mo", "W", "Pd", "Cu", "Au", "Cr"])
def test_spectrum_ends_at_the_voltage_and_has_lines(anode: str) -> None:
    energy, weight, width = source_spectrum(Instrument(tube=Tube(anode=anode, voltage_kv=40.0)))
    assert np.all(np.diff(energy) >= 0)
    assert energy.max() < 40.0
    assert np.all(weight > 0)
    assert (width == 0).any()
    assert (width > 0).any()


def test_tungsten_shines_with_l_lines_at_40_kv() -> None:
    energy, weight, width = source_spectrum(Instrument(tube=Tube(anode="W", voltage_kv=40.0)))
    assert energy[width == 0].max() < 13.0
    alpha = (width == 0) & (np.abs(energy - 8.398) < 0.03)
    assert weight[alpha].sum() > 0.01 * weight.sum()


def test_no_line_above_the_voltage() -> None:
    energy, _, width = source_spectrum(Instrument(tube=Tube(anode="Rh", voltage_kv=20.0)))
    # Rh K needs 23.22 kV
    assert energy[width == 0].max() < 4.0


def test_more_voltage_gives_more_photons() -> None:
    totals = [source_spectrum(Instrument(tube=Tube(voltage_kv=kilovolt)))[1].sum() for kilovolt in (20.0, 30.0, 50.0)]
    assert totals == sorted(totals)


def test_filters_and_air_only_take_away() -> None:
    plain = Instrument(geometry=Geometry(source_air_cm=0.0))
    sheet = Filter(formula="Al", density=2.70, thickness_um=100.0)
    energy, weight, _ = source_spectrum(plain)
    filtered = source_spectrum(plain.model_copy(update={"filters": (sheet,)}))
    np.testing.assert_allclose(filtered[1], weight * filter_transmission(sheet, energy))
    aired = source_spectrum(plain.model_copy(update={"geometry": Geometry(source_air_cm=5.0)}))
    np.testing.assert_allclose(aired[1], weight * air_transmission(5.0, energy))


def test_known_transmissions() -> None:
    """NIST (Hubbell & Seltzer 1995): Al at 10 keV 26.23 cm2/g, air at 5 keV 40.27 cm2/g."""
    sheet = Filter(formula="Al", density=2.699, thickness_um=100.0)
    assert filter_transmission(sheet, np.asarray([10.0]))[0] == pytest.approx(np.exp(-26.23 * 2.699e-2), rel=0.02)
    assert air_transmission(1.0, np.asarray([5.0]))[0] == pytest.approx(np.exp(-40.27 * 0.001205), rel=0.01)


def test_opaque_filter_is_refused() -> None:
    blocked = Instrument(filters=(Filter(formula="Pb", density=11.3, thickness_um=1e5),))
    with pytest.raises(InstrumentError, match="no photon of 'custom' passes"):
        source_spectrum(blocked)
