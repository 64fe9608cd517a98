"""The network of layers.

The network predicts which pigments are in the surface layer and which are below this layer. The network also predicts
amounts and the thickness of the surface layer. The inputs include the instrument conditions.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.lab.networks.calibration import Calibration
from underpaint.lab.networks.default import (
    LOG10_COUNTS_OFFSET,
    TOKEN_WIDTH,
    Features,
    token_convolutions,
    token_count,
    two_dense_layers,
    use_channels_last,
)
from underpaint.physics.atomic import family_lines
from underpaint.units import FWHM_PER_SIGMA

Body = Literal["attention", "dense", "recurrent"]
Head = Literal["free", "composition"]
N_PLACE = 3
_CONDITION_WIDTH = 32
_HIDDEN_WIDTH, _LATENT_WIDTH = 256, 128
_N_ATTENTION_HEAD = 4
_KEY_WIDTH = 48
_LOG_SIGMA_LIMITS = (-4.0, 2.0)


_NOISE_FWHM_KEV, _FANO_FACTOR = 0.09, 0.114
_MAX_EXCITATION_KEV = 40.0
_N_KNOT = 40
_RIDGE_PENALTY, _SHIFT_RIDGE_PENALTY = 1e-6, 1e-2
_TYPICAL_SHIFT_KEV = 0.03
"""Typical shift of peaks, in keV, from gain errors and inexact peak shapes. The fit hardly penalises this shift."""
_MODEL_ERROR = 0.02
_MIN_VARIANCE = 0.25
_AREA_SCALE = 0.2


class Evidence(nn.Module):
    """Significance and area of each line family from a linear fit, as features of a network.

    The significance is the area divided by its standard deviation. The standard deviation combines Poisson noise and a
    model error for inexact peak shapes. The model error is 2 % of all counts that the fit adds to the area or subtracts
    from it.

    Parameters
    ----------
    families : sequence of str
        Line families, such as ``Fe_K``.
    n_bin : int
        Number of bins of the fixed axis.
    start_kev, bin_kev : float
        Lower edge of the first bin and width of the bins, in keV.
    """

    area_matrix: Tensor

    def __init__(self, families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> None:
        super().__init__()
        area_matrix = fit_matrix(families, n_bin, start_kev, bin_kev)
        self.register_buffer("area_matrix", torch.from_numpy(area_matrix.astype(np.float32)), persistent=False)

    @property
    def n_feature(self) -> int:
        """Number of features per spectrum."""
        return 2 * len(self.area_matrix)

    def forward(self, counts: Tensor) -> Tensor:
        """Convert (n, n_bin) counts to (n, n_feature) features with values of about 1."""
        family_area = counts @ self.area_matrix.T
        model_error = _MODEL_ERROR * (counts @ torch.abs(self.area_matrix.T))
        sigma = torch.sqrt(counts @ (self.area_matrix.T**2) + model_error**2 + _MIN_VARIANCE)
        significance_ratio = family_area / sigma
        significance = torch.sign(significance_ratio) * torch.log1p(torch.abs(significance_ratio))
        return torch.cat((significance, _AREA_SCALE * torch.log1p(family_area.clamp_min(0.0))), dim=1)


def fit_matrix(families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> NDArray[np.float64]:
    """Return the (n_family, n_bin) matrix that converts counts to the areas of line families.

    Notes
    -----
    Peaks and a piecewise linear background are fitted by least squares. Line ratios are those of an infinitely thin
    sample. A small shift of each line family in energy is also fitted. The weight of a bin is the inverse of a typical
    spectrum. A family without a line on the energy axis has an area of zero.
    """
    edges_kev = start_kev + bin_kev * np.arange(n_bin + 1)
    centre_kev = 0.5 * (edges_kev[1:] + edges_kev[:-1])
    peaks = np.stack([_family_peaks(family, centre_kev, bin_kev) for family in families])
    knots_kev = np.geomspace(edges_kev[0], edges_kev[-1], _N_KNOT)
    background_shapes = np.stack([np.interp(centre_kev, knots_kev, unit_vector) for unit_vector in np.eye(_N_KNOT)])
    typical_spectrum = np.exp(-(((centre_kev - 8.0) / 9.0) ** 2)) + 0.03
    peak_derivatives = _TYPICAL_SHIFT_KEV * np.gradient(peaks, bin_kev, axis=1)
    component_shapes = np.concatenate((peaks, background_shapes, peak_derivatives))
    ridge_penalties = np.repeat((_RIDGE_PENALTY, _SHIFT_RIDGE_PENALTY), (len(peaks) + _N_KNOT, len(peaks)))
    weighted_shapes = component_shapes / typical_spectrum
    normal_matrix = weighted_shapes @ component_shapes.T
    diagonal_scale = np.sqrt(np.maximum(np.diag(normal_matrix), 1e-12))
    scaled_normal_matrix = normal_matrix / diagonal_scale[:, None] / diagonal_scale + np.diag(ridge_penalties)
    return np.asarray(
        (np.linalg.solve(scaled_normal_matrix, weighted_shapes / diagonal_scale[:, None]) / diagonal_scale[:, None])[
            : len(families)
        ]
    )


def _family_peaks(family: str, centre_kev: NDArray[np.float64], bin_kev: float) -> NDArray[np.float64]:
    """Return the (n_bin,) spectrum of one line family, normalised to one count in total."""
    element, _, shell = family.partition("_")
    energy_kev, line_ratio = family_lines(element, shell, _MAX_EXCITATION_KEV)
    sigma_kev = resolution_fwhm_kev(energy_kev, _NOISE_FWHM_KEV, _FANO_FACTOR) / FWHM_PER_SIGMA
    offset_sigmas = (centre_kev[:, None] - energy_kev) / sigma_kev
    return np.asarray(
        (np.exp(-0.5 * offset_sigmas**2) / (sigma_kev * np.sqrt(2 * np.pi))) @ line_ratio * bin_kev / line_ratio.sum()
    )


class LayersNetwork(nn.Module):
    """Network that converts a spectrum to 32 tokens, combines the tokens in a body, and has an output for each place.

    Parameters
    ----------
    n_bin : int
        Number of bins of the fixed axis.
    composition : (n_material, n_element) tensor
        Composition of each pigment or group, as in the model card. Only the composition head uses the composition.
    n_instrument, n_quantity : int
        Numbers of instrument inputs and of predicted quantities.
    n_amount, n_edge : int
        Numbers of predicted amounts and of class edges. A class edge is the mass fraction between two classes of an
        amount.
    families : sequence of str
        Line families whose fitted areas are additional features. May be empty.
    start_kev, bin_kev : float
        Lower edge of the first bin and width of the bins, in keV.
    body : {"attention", "dense", "recurrent"}
        Layer after the convolutions: self-attention (Vaswani et al. 2017), none, or a bidirectional GRU.
    head : {"free", "composition"}
        The head "free" has a row of weights for each material and place.
        The head "composition" computes the logits of a material from its composition.
        The composition head can predict materials that are not in the training set.

    Notes
    -----
    As in the default network, a linear path from the features runs in parallel to the deep path.
    """

    composition: Tensor

    def __init__(
        self,
        n_bin: int,
        composition: Tensor,
        *,
        n_instrument: int,
        n_quantity: int,
        n_amount: int = 0,
        n_edge: int = 0,
        families: Sequence[str] = (),
        start_kev: float = 1.0,
        bin_kev: float = 0.04,
        body: Body = "attention",
        head: Head = "free",
    ) -> None:
        super().__init__()
        self.n_bin, self.n_instrument = n_bin, n_instrument
        self.register_buffer("composition", composition.float(), persistent=False)
        self.features = Features(n_bin, start_kev, bin_kev)
        self.evidence = Evidence(families, n_bin, start_kev, bin_kev) if families else None
        n_evidence = 0 if self.evidence is None else self.evidence.n_feature
        self.told = nn.Sequential(nn.Linear(2 * n_instrument + 1, _CONDITION_WIDTH), nn.LeakyReLU(0.1))
        self.stem = token_convolutions()
        self.body = _build_body(body, token_count(n_bin))
        self.code = two_dense_layers(
            TOKEN_WIDTH * token_count(n_bin) + _CONDITION_WIDTH + n_evidence, _HIDDEN_WIDTH, _LATENT_WIDTH
        )
        n_material, n_element = composition.shape
        self.presence = _CompositionHead(n_element) if head == "composition" else _FreeHead(n_material)
        self.linear = nn.Linear(
            3 * n_bin + 1 + n_evidence, n_element if head == "composition" else N_PLACE * n_material
        )
        self.quantity = nn.Linear(_LATENT_WIDTH, 2 * n_quantity)
        self.n_edge = n_edge
        if n_amount:
            self.amount = nn.Linear(_LATENT_WIDTH + n_evidence, n_amount * n_edge)
        # one calibration for all materials is also valid for materials that are not in the training set
        self.calibration = Calibration(1 if head == "composition" else N_PLACE * n_material, n_quantity, n_amount)
        for linear_weights in (self.linear.weight, self.linear.bias):
            nn.init.zeros_(linear_weights)
        use_channels_last(self)

    def forward(self, counts: Tensor, recorded_kev: Tensor, instrument: Tensor) -> tuple[Tensor, ...]:
        """Return logits, mean and standard deviation of the quantities, and logits of amounts.

        Parameters
        ----------
        counts : (n, n_bin) tensor
            Counts per bin of the fixed axis.
        recorded_kev : (n, 2) tensor
            Lowest and highest recorded energy, in keV.
        instrument : (n, n_instrument) tensor
            Instrument conditions. Unknown conditions are NaN.

        Returns
        -------
        (n, 3 n_material) logits : of each material, first anywhere in the paint, then at the surface, then below it
        (n, n_quantity) mean : means of the quantities
        (n, n_quantity) sigma : standard deviations of the quantities
        (n, n_amount n_edge) logits : that the mass fraction reaches each class edge, from networks that predict amounts
        """
        # half precision would round counts and sums over many bins
        with torch.autocast(counts.device.type, enabled=False):
            features, log10_counts = self.features(counts.float(), recorded_kev.float())
            recorded_counts = counts.float().clamp_min(0.0) * features[:, 2]
            family_features = () if self.evidence is None else (self.evidence(recorded_counts),)
            linear_logits = self.linear(torch.cat((features.flatten(1), log10_counts, *family_features), dim=1))
            is_known = ~torch.isnan(instrument)
            condition_code = self.told(
                torch.cat((torch.nan_to_num(instrument.float()), is_known.float(), log10_counts), dim=1)
            )
        tokens = self.stem(features.unsqueeze(2)).squeeze(2).transpose(1, 2)
        latent_code = self.code(
            torch.cat((self.body(tokens, condition_code).flatten(1), condition_code, *family_features), dim=1)
        )
        logits = self.presence(latent_code.float(), linear_logits, self.composition)
        quantity_mean, log_sigma = self.quantity(latent_code).float().chunk(2, dim=1)
        sigma = torch.exp(log_sigma.clamp(*_LOG_SIGMA_LIMITS))
        if not self.training:
            logits, sigma = self.calibration(logits, sigma, log10_counts + LOG10_COUNTS_OFFSET)
        if not self.n_edge:
            return logits, quantity_mean, sigma
        return (
            logits,
            quantity_mean,
            sigma,
            self._amount_logits(
                torch.cat((latent_code.float(), *family_features), dim=1), log10_counts + LOG10_COUNTS_OFFSET
            ),
        )

    def _amount_logits(self, latent_code: Tensor, log10_counts: Tensor) -> Tensor:
        """Return log-odds of amounts. From each class edge to the next, log-odds decrease."""
        raw_outputs = self.amount(latent_code).float().unflatten(1, (-1, self.n_edge))
        logit_steps = torch.cat((raw_outputs[:, :, :1], -nn.functional.softplus(raw_outputs[:, :, 1:])), dim=2)
        logits = torch.cumsum(logit_steps, dim=2)
        if not self.training:
            logits = self.calibration.calibrate_amounts(logits, log10_counts)
        return logits.flatten(1)


class _FreeHead(nn.Module):
    """Head that adds one weighted sum for each material and place to the outputs of the linear path."""

    def __init__(self, n_material: int) -> None:
        super().__init__()
        self.dense = nn.Linear(_LATENT_WIDTH, N_PLACE * n_material)

    def forward(self, latent_code: Tensor, linear_logits: Tensor, composition: Tensor) -> Tensor:
        del composition
        return torch.as_tensor(self.dense(latent_code) + linear_logits)


class _CompositionHead(nn.Module):
    """Head that computes logits as the product of a query for each place and a key from each material's composition."""

    def __init__(self, n_element: int) -> None:
        super().__init__()
        self.question = nn.Linear(_LATENT_WIDTH, N_PLACE * _KEY_WIDTH)
        self.key = nn.Sequential(nn.Linear(n_element, 64), nn.LeakyReLU(0.1), nn.Linear(64, _KEY_WIDTH))
        self.bias = nn.Linear(n_element, N_PLACE)

    def forward(self, latent_code: Tensor, linear_logits: Tensor, composition: Tensor) -> Tensor:
        queries = self.question(latent_code).unflatten(1, (N_PLACE, _KEY_WIDTH))
        logits = queries @ self.key(composition).T / math.sqrt(_KEY_WIDTH) + self.bias(composition).T
        anywhere_logits = logits[:, :1] + (linear_logits @ composition.T).unsqueeze(1)
        return torch.cat((anywhere_logits, logits[:, 1:]), dim=1).flatten(1)


class _AttentionBody(nn.Module):
    """Body with one self-attention block over the tokens, their positions and the instrument conditions."""

    def __init__(self, n_token: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(n_token, TOKEN_WIDTH))
        self.told = nn.Linear(_CONDITION_WIDTH, TOKEN_WIDTH)
        self.before, self.after = nn.LayerNorm(TOKEN_WIDTH), nn.LayerNorm(TOKEN_WIDTH)
        self.mixed, self.joined = (
            nn.Linear(TOKEN_WIDTH, 3 * TOKEN_WIDTH),
            nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH),
        )
        self.each = nn.Sequential(
            nn.Linear(TOKEN_WIDTH, 2 * TOKEN_WIDTH), nn.GELU(), nn.Linear(2 * TOKEN_WIDTH, TOKEN_WIDTH)
        )

    def forward(self, tokens: Tensor, condition_code: Tensor) -> Tensor:
        tokens = tokens + self.position + self.told(condition_code).unsqueeze(1)
        head_shape = (-1, tokens.shape[1], _N_ATTENTION_HEAD, TOKEN_WIDTH // _N_ATTENTION_HEAD)
        query, key, value = (
            attention_heads.reshape(head_shape).transpose(1, 2)
            for attention_heads in _apply_to_tokens(self.mixed, self.before(tokens)).chunk(3, dim=2)
        )
        attention_output = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + _apply_to_tokens(self.joined, attention_output.transpose(1, 2).flatten(2))
        return tokens + _apply_to_tokens(self.each, self.after(tokens))


def _apply_to_tokens(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Return a layer's output for each token.

    The input is reshaped to a matrix, so that the ONNX exporter preserves the names of the weights.
    """
    outputs = torch.as_tensor(layer(tokens.flatten(0, 1)))
    return outputs.reshape(-1, tokens.shape[1], outputs.shape[1])


class _DenseBody(nn.Module):
    """Body that returns the tokens unchanged."""

    def forward(self, tokens: Tensor, condition_code: Tensor) -> Tensor:
        del condition_code
        return tokens


class _RecurrentBody(nn.Module):
    """Body with a bidirectional gated recurrent unit over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(TOKEN_WIDTH + _CONDITION_WIDTH, TOKEN_WIDTH // 2, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor, condition_code: Tensor) -> Tensor:
        condition_code = condition_code.unsqueeze(1).expand(-1, tokens.shape[1], -1)
        # rounding errors of half precision would accumulate along the tokens
        with torch.autocast(tokens.device.type, enabled=False):
            hidden_states, _ = self.recurrent(torch.cat((tokens.float(), condition_code.float()), dim=2))
        return torch.as_tensor(hidden_states)


def _build_body(body_kind: Body, n_token: int) -> nn.Module:
    match body_kind:
        case "attention":
            return _AttentionBody(n_token)
        case "recurrent":
            return _RecurrentBody()
    return _DenseBody()
