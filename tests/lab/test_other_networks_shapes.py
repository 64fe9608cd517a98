"""The recurrent network and the autoencoder's: shapes, and that every weight can learn."""

import pytest
import torch
from torch import nn

from underpaint.lab.networks import (
    AutoencoderNetwork,
    Decoder,
    NetworkSpec,
    RecurrentNetwork,
    XuNetwork,
    build_network,
    dense_layers,
    parameter_count,
)

FUTURE_NETWORKS = (RecurrentNetwork, AutoencoderNetwork)


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_one_logit_per_pigment_at_the_papers_sizes(kind: type[nn.Module]) -> None:
    assert kind().eval()(torch.rand(2, 3815)).shape == (2, 11)


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
@pytest.mark.parametrize("n_channel", [64, 70, 101])
def test_any_number_of_channels_fits(kind: type[nn.Module], n_channel: int) -> None:
    assert kind(n_channel, 3).eval()(torch.rand(2, n_channel)).shape == (2, 3)


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_gradients_reach_every_weight(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind(200, 4)
    network(100 * torch.rand(8, 200)).square().sum().backward()
    without = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert without == []


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_an_empty_spectrum_has_a_finite_answer(kind: type[nn.Module]) -> None:
    assert torch.isfinite(kind(80, 3).eval()(torch.zeros(1, 80))).all()


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_the_input_is_that_of_the_papers_network(kind: type[nn.Module]) -> None:
    ours, paper = kind(80, 3).get_submodule("transform"), XuNetwork(80, 3).transform
    spectra = 100 * torch.rand(4, 80)
    torch.testing.assert_close(ours(spectra), paper(spectra))


def test_the_last_channel_is_read_though_its_patch_is_not_full() -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(71, 3).eval()
    spectra = torch.ones(1, 71)
    spectra[0, 0] = 9.0
    changed = spectra.clone()
    changed[0, 70] = 9.0
    assert not torch.allclose(network(spectra), network(changed))


def test_the_recurrent_network_takes_109_steps_of_the_papers_spectrum() -> None:
    network = RecurrentNetwork()
    assert network.patches(torch.rand(2, 1, 3815)).shape[-1] == 109
    assert network.recurrent.bidirectional


def test_the_decoder_turns_codes_into_spectra_of_the_same_length() -> None:
    network = AutoencoderNetwork(101, 3)
    codes = network.encoder(torch.rand(2, 101))
    assert codes.shape == (2, 64)
    assert Decoder(101)(codes).shape == (2, 101)


@pytest.mark.parametrize("kind", ["recurrent", "autoencoder"])
def test_the_other_kinds_are_built_by_name_and_begin_fine_tuning_with_their_dense_layer(kind: str) -> None:
    network = build_network(NetworkSpec(kind, 96, 5, 1.0, 0.04))  # type: ignore[arg-type]
    assert dense_layers(network) == ("dense",)
    assert network(torch.rand(3, 96)).shape == (3, 5)


def test_parameters_are_counted_by_hand_too() -> None:
    assert parameter_count(nn.Linear(3, 2)) == 3 * 2 + 2
    convolutions = sum(n_in * n_out * size + 3 * n_out for n_in, n_out, size in ((1, 64, 5), *((64, 64, 3),) * 3))
    convolutions += 64 * 128 * 3 + 3 * 128 + 128 * 128 * 3 + 3 * 128
    assert parameter_count(XuNetwork()) == convolutions + 128 * 119 * 11 + 11
