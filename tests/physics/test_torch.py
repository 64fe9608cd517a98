"""The same transport on torch: equal to numpy, with derivatives that finite differences confirm."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.physics.forward import (
    ORDERS,
    SCATTER,
    Detail,
    Emission,
    Setting,
    Stack,
    emit,
    setting_for,
    stack_layers,
    transport,
)
from underpaint.physics.instrument import Geometry, Instrument, Tube, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer

torch = pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")
Tensor = Any
"""One of torch, which may not be there."""
GEOMETRY = Geometry(incidence_angle_deg=62.0, takeoff_angle_deg=48.0)
INSTRUMENT = Instrument(tube=Tube(voltage_kv=30.0), geometry=GEOMETRY)
DETAIL = Detail(weakest_exciting=1e-3, cells=4)


def samples() -> list[Stratigraphy]:
    """Ragged: two and three layers, one of them 5 um thick."""
    ground = ground_layer("chalk", 120.0)
    thin = Paint({"vermilion": 0.7, "zinc_white": 0.3}).layer(5.0)
    return [
        Stratigraphy((thin, Paint({"lead_white": 1.0}).layer(30.0), ground)),
        Stratigraphy((Paint({"emerald_green": 0.6, "iron_oxide_red": 0.4}).layer(25.0), ground)),
    ]


def elements() -> list[str]:
    return sorted({name for entry in samples() for layer in entry.layers for name in layer.mass_fractions})


@pytest.fixture(scope="module")
def setting() -> Setting:
    return setting_for(INSTRUMENT, elements())


@pytest.fixture(scope="module")
def stack(setting: Setting) -> Stack:
    return stack_layers(samples(), setting.elements)


def tensors(stack: Stack, dtype: Any = torch.float64) -> Stack:
    fractions, areal = (torch.asarray(array, dtype=dtype) for array in (stack.fractions, stack.areal_density))
    return Stack(fractions, areal, stack.elements)


def test_torch_equals_numpy(stack: Stack, setting: Setting) -> None:
    ours = transport(stack, setting, detail=DETAIL)
    moved = tensors(stack)
    theirs = transport(moved, setting.to(moved.areal_density), detail=DETAIL)
    for name in (*ORDERS, *SCATTER):
        expected = getattr(ours, name)
        assert isinstance(getattr(theirs, name), torch.Tensor)
        np.testing.assert_allclose(
            getattr(theirs, name), expected, rtol=1e-9, atol=1e-13 * expected.max(), err_msg=name
        )


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_single_precision_suffices(stack: Stack, setting: Setting, library: str) -> None:
    """Layers of 5 um included: no kernel subtracts what is nearly equal. 2e-5 of any line worth a count in 1e6."""
    exact = transport(stack, setting, detail=DETAIL)
    single = Stack(stack.fractions.astype(np.float32), stack.areal_density.astype(np.float32), stack.elements)
    if library == "torch":
        single = tensors(stack, torch.float32)
    rough = transport(single, setting.to(single.areal_density), detail=DETAIL)
    for name, rtol in (("line_photons", 2e-5), ("coherent", 2e-5), ("compton", 2e-5), ("multiple", 1e-3)):
        expected = getattr(exact, name)
        np.testing.assert_allclose(
            np.asarray(getattr(rough, name)), expected, rtol=rtol, atol=1e-6 * expected.max(), err_msg=name
        )


def total(emission: Emission, weights: Tensor) -> Tensor:
    """One number that every part of the emission goes into."""
    scatter = emission.coherent.sum() + emission.compton.sum() + emission.multiple.sum()
    return (emission.line_photons * weights).sum() / 1e10 + scatter / 1e10


def derivative(function: Callable[[Tensor], Tensor], at: Tensor, index: tuple[int, ...]) -> None:
    """Hold autograd against central differences at one entry."""
    variable = at.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(variable), variable)
    step = torch.zeros_like(at)
    step[index] = 1e-4 * at[index].abs()
    with torch.no_grad():
        difference = (function(at + step) - function(at - step)) / (2 * step[index])
    assert float(gradient[index]) == pytest.approx(float(difference), rel=2e-5)


@pytest.fixture(scope="module")
def weights(setting: Setting) -> Tensor:
    return torch.asarray(np.random.default_rng(5).uniform(0.5, 2.0, len(setting.lines)))


@pytest.mark.parametrize("layer", [(0, 0), (0, 1), (0, 2), (1, 0)])
def test_derivative_to_thickness(stack: Stack, setting: Setting, weights: Tensor, layer: tuple[int, int]) -> None:
    """Thickness and density enter as their product, the areal density; the first layer is 5 um thick."""
    moved = tensors(stack)
    on_device = setting.to(moved.areal_density)
    derivative(
        lambda areal: total(transport(replace(moved, areal_density=areal), on_device, detail=DETAIL), weights),
        moved.areal_density,
        layer,
    )


@pytest.mark.parametrize(("layer", "element"), [((0, 0), "Hg"), ((0, 1), "Pb"), ((1, 0), "Fe"), ((1, 1), "Ca")])
def test_derivative_to_mass_fractions(
    stack: Stack, setting: Setting, weights: Tensor, layer: tuple[int, int], element: str
) -> None:
    moved = tensors(stack)
    on_device = setting.to(moved.areal_density)
    derivative(
        lambda fractions: total(transport(replace(moved, fractions=fractions), on_device, detail=DETAIL), weights),
        moved.fractions,
        (*layer, setting.elements.index(element)),
    )


@pytest.mark.parametrize("column", [40, 120])
def test_derivative_to_the_source(stack: Stack, setting: Setting, weights: Tensor, column: int) -> None:
    """Whatever shapes the source (voltage, filters, take-off at the anode) comes through its weights."""
    moved = tensors(stack)
    on_device = setting.to(moved.areal_density)
    derivative(
        lambda weight: total(transport(moved, replace(on_device, weight=weight), detail=DETAIL), weights),
        on_device.weight,
        (column,),
    )


@pytest.mark.parametrize("name", ["incidence_angle_deg", "takeoff_angle_deg"])
def test_derivative_to_the_angles(stack: Stack, setting: Setting, weights: Tensor, name: str) -> None:
    """Against settings made anew at other angles; 0.2 %, as tables of scatter are interpolated between angles."""
    moved = tensors(stack)
    angles = [torch.tensor(angle, dtype=torch.float64, requires_grad=True) for angle in (62.0, 48.0)]
    on_device = setting.to(moved.areal_density).at_angles(angles[0], angles[1], GEOMETRY)
    gradient = torch.autograd.grad(total(transport(moved, on_device, detail=DETAIL), weights), angles)
    ours = float(gradient[0 if name.startswith("incidence") else 1])
    sides = []
    for step in (-0.25, 0.25):
        geometry = GEOMETRY.model_copy(update={name: getattr(GEOMETRY, name) + step})
        other = setting_for(INSTRUMENT.model_copy(update={"geometry": geometry}), elements()).to(moved.areal_density)
        sides.append(float(total(transport(moved, other, detail=DETAIL), weights)))
    assert ours == pytest.approx((sides[1] - sides[0]) / 0.5, rel=2e-3)


def test_the_documented_example_runs_and_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanations" / "forward-model.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102
    expected = emit(names["samples"], load_instrument("elio")).line_photons
    np.testing.assert_allclose(
        names["emission"].line_photons.detach(), expected, rtol=1e-9, atol=1e-13 * expected.max()
    )
    assert names["areal"].grad.shape == names["stack"].areal_density.shape


def test_a_stack_that_does_not_fit_the_setting_is_refused(stack: Stack, setting: Setting) -> None:
    """Elements in another order gave light that was wrong by half, and no word about it."""
    with pytest.raises(SampleError, match="in this order"):
        transport(stack_layers(samples(), setting.elements[::-1]), setting)
    with pytest.raises(SampleError, match="differ in library"):
        transport(tensors(stack), setting)
    with pytest.raises(SampleError, match="differ in library"):
        transport(tensors(stack, torch.float32), setting.to(torch.ones(1, dtype=torch.float64)))
    with pytest.raises(SampleError, match="0 samples"):
        transport(stack.part(slice(0, 0)), setting)
    with pytest.raises(SampleError, match="do not match"):
        Stack(stack.fractions, stack.areal_density, stack.elements[1:])
