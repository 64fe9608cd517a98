"""Kubelka-Munk: what must hold of any film, and that K and S come back from two backings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underpaint.reflectance.kubelka_munk import (
    film_optics,
    film_reflectance,
    internal_reflectance,
    k_over_s_from_reflectance,
    measured_reflectance,
    reflectance_from_k_over_s,
)

fractions = st.floats(0.01, 0.95)
optics = st.floats(0.01, 5.0)


@given(fractions)
def test_k_over_s_and_reflectance_undo_each_other(reflectance: float) -> None:
    assert reflectance_from_k_over_s(k_over_s_from_reflectance(reflectance)) == pytest.approx(reflectance, rel=1e-9)


@given(fractions, st.floats(0.0, 0.04))
def test_the_surface_is_taken_off_and_put_on(inner: float, specular: float) -> None:
    assert internal_reflectance(measured_reflectance(inner, specular), specular) == pytest.approx(inner, rel=1e-9)


@given(optics, optics, fractions)
def test_a_film_lies_between_its_backing_and_the_opaque_paint(
    absorption: float, scattering: float, backing: float
) -> None:
    reflectance_of_film = float(film_reflectance(absorption, scattering, backing))
    low, high = sorted((backing, float(reflectance_from_k_over_s(absorption / scattering))))
    assert low - 1e-9 <= reflectance_of_film <= high + 1e-9


@given(optics, optics, fractions)
def test_two_films_on_each_other_are_one_of_both_thicknesses(
    absorption: float, scattering: float, backing: float
) -> None:
    lower = film_reflectance(absorption, scattering, backing)
    assert film_reflectance(absorption, scattering, lower) == pytest.approx(
        float(film_reflectance(2 * absorption, 2 * scattering, backing))
    )


def test_a_thin_film_shows_its_backing_and_a_thick_one_does_not() -> None:
    assert film_reflectance(1e-6, 1e-6, 0.37) == pytest.approx(0.37, abs=1e-5)
    assert film_reflectance(200.0, 100.0, 0.1) == pytest.approx(float(film_reflectance(200.0, 100.0, 0.9)), abs=1e-12)


@given(st.floats(0.02, 0.5), st.floats(0.05, 1.0))
def test_k_and_s_come_back_from_black_and_white(absorption: float, scattering: float) -> None:
    backing = np.array([[0.05], [0.85]])
    got_k, got_s = film_optics(film_reflectance(absorption, scattering, backing), backing)
    assert got_k[0] == pytest.approx(absorption, rel=1e-5)
    assert got_s[0] == pytest.approx(scattering, rel=1e-5)


def test_an_opaque_film_gives_no_k_and_s() -> None:
    backing = np.array([[0.05], [0.85]])
    got_k, got_s = film_optics(film_reflectance(40.0, 40.0, backing), backing)
    assert np.isnan(got_k).all()
    assert np.isnan(got_s).all()
