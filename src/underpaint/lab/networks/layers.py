"""The network of layers: pigments at the surface and below it, amounts, thickness; uses instrument conditions."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.lab.networks.calibration import Calibration
from underpaint.lab.networks.default import TOKEN_WIDTH as _WIDTH
from underpaint.lab.networks.default import (
    TOTAL_CENTRE,
    Features,
    channels_last,
    n_token,
    tokens_of_spectrum,
    two_dense,
)
from underpaint.physics.atomic import family_lines
from underpaint.units import FWHM_PER_SIGMA

Body = Literal["attention", "dense", "recurrent"]
Head = Literal["free", "composition"]
N_PLACE = 3
_N_CONDITION = 32
_HIDDEN, _CODE = 256, 128
_HEADS = 4
_KEY = 48
_LOG_SIGMA = (-4.0, 2.0)


_NOISE_FWHM_KEV, _FANO = 0.09, 0.114
_HIGHEST_KEV = 40.0
_N_KNOT = 40
_RIDGE, _RIDGE_OF_SHIFTS = 1e-6, 1e-2
_SHIFT_KEV = 0.03
"""Shift of a peak, by the gain or another shape, that the ridge does not penalise."""
_MODEL_ERROR = 0.02
_MIN_VARIANCE = 0.25
_AREA_SCALE = 0.2


class Evidence(nn.Module):
    """Result of a linear fit for each family: its area over its standard deviation, and its area.

    The deviation includes the counts' noise and 2 % of the counts added to or subtracted from the area, the error of
    shapes.

    Parameters
    ----------
    families : sequence of str
        Line families (``Fe_K``).
    n_bin : int
        Bins of the fixed axis.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    """

    fit: Tensor

    def __init__(self, families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> None:
        super().__init__()
        matrix = fit_matrix(families, n_bin, start_kev, bin_kev)
        self.register_buffer("fit", torch.from_numpy(matrix.astype(np.float32)), persistent=False)

    @property
    def n_feature(self) -> int:
        """Number of features of a spectrum."""
        return 2 * len(self.fit)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_feature) features of (n, n_bin) counts, of order one."""
        area = counts @ self.fit.T
        wrong = _MODEL_ERROR * (counts @ torch.abs(self.fit.T))
        sigma = torch.sqrt(counts @ (self.fit.T**2) + wrong**2 + _MIN_VARIANCE)
        over = area / sigma
        significance = torch.sign(over) * torch.log1p(torch.abs(over))
        return torch.cat((significance, _AREA_SCALE * torch.log1p(area.clamp_min(0.0))), dim=1)


def fit_matrix(families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> NDArray[np.float64]:
    """Return the (n_family, n_bin) matrix that takes counts to the families' areas.

    Notes
    -----
    Least squares of peaks, with line ratios of an infinitely thin sample and each free to shift a little, over a
    continuous background of straight pieces, weighted by the inverse of a usual spectrum's shape. Families without a
    line on the axis have areas of zero.
    """
    edges = start_kev + bin_kev * np.arange(n_bin + 1)
    centre = 0.5 * (edges[1:] + edges[:-1])
    peaks = np.stack([_peak(family, centre, bin_kev) for family in families])
    knots = np.geomspace(edges[0], edges[-1], _N_KNOT)
    smooth = np.stack([np.interp(centre, knots, row) for row in np.eye(_N_KNOT)])
    usual = np.exp(-(((centre - 8.0) / 9.0) ** 2)) + 0.03
    shifted = _SHIFT_KEV * np.gradient(peaks, bin_kev, axis=1)
    shapes = np.concatenate((peaks, smooth, shifted))
    ridge = np.repeat((_RIDGE, _RIDGE_OF_SHIFTS), (len(peaks) + _N_KNOT, len(peaks)))
    weighted = shapes / usual
    normal = weighted @ shapes.T
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-12))
    scaled = normal / scale[:, None] / scale + np.diag(ridge)
    return np.asarray((np.linalg.solve(scaled, weighted / scale[:, None]) / scale[:, None])[: len(families)])


def _peak(family: str, centre: NDArray[np.float64], bin_kev: float) -> NDArray[np.float64]:
    """Return (n_bin,) a family's peaks on an axis; one count in all."""
    element, _, shell = family.partition("_")
    energy, ratio = family_lines(element, shell, _HIGHEST_KEV)
    sigma = resolution_fwhm_kev(energy, _NOISE_FWHM_KEV, _FANO) / FWHM_PER_SIGMA
    offset = (centre[:, None] - energy) / sigma
    return np.asarray((np.exp(-0.5 * offset**2) / (sigma * np.sqrt(2 * np.pi))) @ ratio * bin_kev / ratio.sum())


class LayersNetwork(nn.Module):
    """Convolutions into 32 tokens of the spectrum, a body that mixes them, and outputs by place.

    Parameters
    ----------
    n_bin : int
        Bins of the fixed axis.
    composition : (n_material, n_element) tensor
        What each pigment or group is made of, as the card keeps it. Only the composition head looks at its values.
    n_instrument, n_quantity : int
        Number of instrument inputs; number of quantities.
    n_amount, n_edge : int
        Amounts answered, and mass shares that bound their classes.
    families : sequence of str
        Line families whose areas by a linear fit are additional inputs; empty for none.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    body : {"attention", "dense", "recurrent"}
        What follows the convolutions: self-attention (Vaswani et al. 2017), nothing, or a bidirectional GRU.
    head : {"free", "composition"}
        "free" learns a row of weights for each material and place. "composition" uses the lines of a material's
        elements, so that it can predict materials outside its training.

    Notes
    -----
    As in :class:`~underpaint.lab.networks.DefaultNetwork` a linear path from the features is parallel to the deep one.
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
        n_area = 0 if self.evidence is None else self.evidence.n_feature
        self.told = nn.Sequential(nn.Linear(2 * n_instrument + 1, _N_CONDITION), nn.LeakyReLU(0.1))
        self.stem = tokens_of_spectrum()
        self.body = _body(body, n_token(n_bin))
        self.code = two_dense(_WIDTH * n_token(n_bin) + _N_CONDITION + n_area, _HIDDEN, _CODE)
        n_material, n_element = composition.shape
        self.presence = _CompositionHead(n_element) if head == "composition" else _FreeHead(n_material)
        self.linear = nn.Linear(3 * n_bin + 1 + n_area, n_element if head == "composition" else N_PLACE * n_material)
        self.quantity = nn.Linear(_CODE, 2 * n_quantity)
        self.n_edge = n_edge
        if n_amount:
            self.amount = nn.Linear(_CODE + n_area, n_amount * n_edge)
        # materials that were not trained on share the calibration of all
        self.calibration = Calibration(1 if head == "composition" else N_PLACE * n_material, n_quantity, n_amount)
        for weights in (self.linear.weight, self.linear.bias):
            nn.init.zeros_(weights)
        channels_last(self)

    def forward(self, counts: Tensor, recorded: Tensor, instrument: Tensor) -> tuple[Tensor, ...]:
        """Return logits, mean and standard deviation of the quantities on their own scales, and logits of amounts.

        Parameters
        ----------
        counts : (n, n_bin) tensor
            Counts per bin of the fixed axis.
        recorded : (n, 2) tensor
            Start and stop of the recorded range, keV.
        instrument : (n, n_instrument) tensor
            NaN where not known.

        Returns
        -------
        (n, 3 n_material) logits : all anywhere first, then at the surface, then below it
        (n, n_quantity) mean, (n, n_quantity) sigma
        (n, n_amount n_edge) logits : that a mass share reaches each edge; none where no amounts are answered
        """
        # Half precision is too coarse for counts and for evidence that adds up over bins.
        with torch.autocast(counts.device.type, enabled=False):
            features, total = self.features(counts.float(), recorded.float())
            inside = counts.float().clamp_min(0.0) * features[:, 2]
            areas = () if self.evidence is None else (self.evidence(inside),)
            evidence = self.linear(torch.cat((features.flatten(1), total, *areas), dim=1))
            is_known = ~torch.isnan(instrument)
            condition = self.told(torch.cat((torch.nan_to_num(instrument.float()), is_known.float(), total), dim=1))
        tokens = self.stem(features.unsqueeze(2)).squeeze(2).transpose(1, 2)
        code = self.code(torch.cat((self.body(tokens, condition).flatten(1), condition, *areas), dim=1))
        logits = self.presence(code.float(), evidence, self.composition)
        mean, log_sigma = self.quantity(code).float().chunk(2, dim=1)
        sigma = torch.exp(log_sigma.clamp(*_LOG_SIGMA))
        if not self.training:
            logits, sigma = self.calibration(logits, sigma, total + TOTAL_CENTRE)
        if not self.n_edge:
            return logits, mean, sigma
        return logits, mean, sigma, self._amounts(torch.cat((code.float(), *areas), dim=1), total + TOTAL_CENTRE)

    def _amounts(self, code: Tensor, log10_counts: Tensor) -> Tensor:
        """Return log-odds that fall from edge to edge: the first, less what each further one takes."""
        free = self.amount(code).float().unflatten(1, (-1, self.n_edge))
        steps = torch.cat((free[:, :, :1], -nn.functional.softplus(free[:, :, 1:])), dim=2)
        logits = torch.cumsum(steps, dim=2)
        if not self.training:
            logits = self.calibration.amount(logits, log10_counts)
        return logits.flatten(1)


class _FreeHead(nn.Module):
    """A row of weights for each material and place; the linear path's evidence is by material and place, too."""

    def __init__(self, n_material: int) -> None:
        super().__init__()
        self.dense = nn.Linear(_CODE, N_PLACE * n_material)

    def forward(self, code: Tensor, evidence: Tensor, composition: Tensor) -> Tensor:
        del composition
        return torch.as_tensor(self.dense(code) + evidence)


class _CompositionHead(nn.Module):
    """A query by place, answered by the composition of a material; the linear path's evidence is by element."""

    def __init__(self, n_element: int) -> None:
        super().__init__()
        self.question = nn.Linear(_CODE, N_PLACE * _KEY)
        self.key = nn.Sequential(nn.Linear(n_element, 64), nn.LeakyReLU(0.1), nn.Linear(64, _KEY))
        self.bias = nn.Linear(n_element, N_PLACE)

    def forward(self, code: Tensor, evidence: Tensor, composition: Tensor) -> Tensor:
        questions = self.question(code).unflatten(1, (N_PLACE, _KEY))
        answers = questions @ self.key(composition).T / math.sqrt(_KEY) + self.bias(composition).T
        anywhere = answers[:, :1] + (evidence @ composition.T).unsqueeze(1)
        return torch.cat((anywhere, answers[:, 1:]), dim=1).flatten(1)


class _Attention(nn.Module):
    """One pre-norm block of self-attention over the tokens, their energies and the instrument known."""

    def __init__(self, n_token: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(n_token, _WIDTH))
        self.told = nn.Linear(_N_CONDITION, _WIDTH)
        self.before, self.after = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.mixed, self.joined = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.each = nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        tokens = tokens + self.position + self.told(condition).unsqueeze(1)
        shape = (-1, tokens.shape[1], _HEADS, _WIDTH // _HEADS)
        query, key, value = (
            part.reshape(shape).transpose(1, 2) for part in _each(self.mixed, self.before(tokens)).chunk(3, dim=2)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + _each(self.joined, attended.transpose(1, 2).flatten(2))
        return tokens + _each(self.each, self.after(tokens))


def _each(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Return a layer's output for each token; with a matrix as input the exporter keeps the names of the weights."""
    answers = torch.as_tensor(layer(tokens.flatten(0, 1)))
    return answers.reshape(-1, tokens.shape[1], answers.shape[1])


class _Dense(nn.Module):
    """The tokens as they are."""

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        del condition
        return tokens


class _Recurrent(nn.Module):
    """A gated recurrent unit over the tokens, from both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(_WIDTH + _N_CONDITION, _WIDTH // 2, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        condition = condition.unsqueeze(1).expand(-1, tokens.shape[1], -1)
        # rounding to half precision would add up along the tokens
        with torch.autocast(tokens.device.type, enabled=False):
            attended, _ = self.recurrent(torch.cat((tokens.float(), condition.float()), dim=2))
        return torch.as_tensor(attended)


def _body(kind: Body, n_token: int) -> nn.Module:
    match kind:
        case "attention":
            return _Attention(n_token)
        case "recurrent":
            return _Recurrent()
    return _Dense()
