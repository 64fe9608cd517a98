"""Shapes, sizes and what the networks must and must not see."""

import numpy as np
import pytest
import torch
from torch import nn

from underpaint.data.transform import normalised_log_log_root
from underpaint.lab.networks import DefaultNetwork, NetworkSpec, XuNetwork, build_network, dense_layers
from underpaint.lab.networks.default import Features
from underpaint.lab.networks.xu2022 import LogLogRootTransform


def counts(n: int, n_bin: int, seed: int = 0) -> torch.Tensor:
    rate = 50 * torch.rand((n, n_bin), generator=torch.Generator().manual_seed(seed))
    return torch.poisson(rate, generator=torch.Generator().manual_seed(seed))


def test_xu_has_the_layers_of_section_2_3() -> None:
    network = XuNetwork()
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [64, 64, 64, 64, 128, 128]
    assert [each.kernel_size for each in convolutions] == [(1, 5), (1, 3), (1, 3), (1, 3), (1, 3), (1, 3)]
    kinds = [[type(each) for each in block.children()] for block in network.blocks.children()]
    assert kinds == [[nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d, nn.MaxPool2d]] * 5
    assert [each.negative_slope for each in network.modules() if isinstance(each, nn.LeakyReLU)] == [0.01] * 5
    assert [each.p for each in network.modules() if isinstance(each, nn.Dropout)] == [0.25]
    assert network.dense.out_features == 11


def test_xu_answers_one_logit_per_class() -> None:
    assert XuNetwork().eval()(counts(2, 3815)).shape == (2, 11)


def test_xu_convolves_along_the_spectrum_alone() -> None:
    convolution = XuNetwork(64, 3).blocks.get_submodule("0.0")
    assert isinstance(convolution, nn.Conv2d)
    x = torch.rand(2, 1, 1, 64)
    flat = nn.functional.conv1d(x[:, :, 0], convolution.weight[:, :, 0], convolution.bias, padding=2)
    torch.testing.assert_close(convolution(x)[:, :, 0], flat)


def test_log_log_root_is_equation_1_over_its_maximum() -> None:
    spectra = counts(3, 40)
    transformed = LogLogRootTransform()(spectra).numpy()
    np.testing.assert_allclose(transformed, normalised_log_log_root(spectra.numpy()), rtol=1e-5)
    np.testing.assert_allclose(transformed.max(axis=1), 1.0, rtol=1e-6)


def test_log_log_root_of_nothing_is_nothing() -> None:
    assert torch.all(LogLogRootTransform()(torch.zeros(1, 8)) == 0)


def test_default_keeps_within_its_budget() -> None:
    network = DefaultNetwork(1000, 60).eval()
    products = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal products
        products += module.weight[0].numel() * output[0].numel()  # type: ignore[index]

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(counts(1, 1000), torch.tensor([[1.0, 41.0]]))
    assert products < 1.7e6
    assert 4 * sum(each.numel() for each in network.parameters()) < 4e6


def test_default_is_blind_outside_the_recorded_range() -> None:
    network = DefaultNetwork(100, 4).eval()
    nn.init.normal_(network.linear.weight)
    spectra = counts(2, 100)
    changed = spectra.clone()
    changed[:, 50:] += 1000.0
    recorded = torch.tensor([[1.0, 3.0]]).repeat(2, 1)
    torch.testing.assert_close(network(spectra, recorded), network(changed, recorded))


@pytest.mark.parametrize(("stop_kev", "n_recorded"), [(41.0, 1000), (21.0, 500), (20.99, 499), (29.9, 722)])
def test_mask_holds_the_wholly_recorded_bins(stop_kev: float, n_recorded: int) -> None:
    features, _ = Features(1000, 1.0, 0.04)(torch.ones(1, 1000), torch.tensor([[0.0, stop_kev]]))
    mask = features[0, 2]
    assert int(mask.sum()) == n_recorded
    assert torch.all(mask[:n_recorded] == 1)


def test_default_keeps_the_counts_and_not_only_the_shape() -> None:
    features = Features(10, 1.0, 0.04)
    weak, total_weak = features(torch.full((1, 10), 10.0), torch.tensor([[0.0, 10.0]]))
    strong, total_strong = features(torch.full((1, 10), 1000.0), torch.tensor([[0.0, 10.0]]))
    torch.testing.assert_close(weak[:, 0], strong[:, 0])
    assert torch.all(strong[:, 1] > weak[:, 1])
    assert float(total_strong - total_weak) == pytest.approx(2.0, abs=1e-5)


def test_default_answers_finite_numbers_to_an_empty_spectrum() -> None:
    assert torch.isfinite(DefaultNetwork(100, 4).eval()(torch.zeros(1, 100), torch.tensor([[1.0, 5.0]]))).all()


@pytest.mark.parametrize(("kind", "dense"), [("default", ("dense", "linear")), ("xu2022", ("dense",))])
def test_build_by_kind(kind: str, dense: tuple[str, ...]) -> None:
    network = build_network(NetworkSpec(kind, 96, 5, 1.0, 0.04))  # type: ignore[arg-type]
    assert dense_layers(network) == dense
