"""Model card of a trained network: outputs, training data, scores and limits."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from underpaint.data.maps import split_place
from underpaint.errors import ModelError
from underpaint.runtime.untrusted import describe_faults, fault_of_name, read_bounded

PaperKind: TypeAlias = Literal["xu2022", "xu2022_root", "xu2022_unscaled", "recurrent", "autoencoder"]
"""Architectures that are trained as by Xu and colleagues (2022)."""
LayersKind: TypeAlias = Literal["layers", "layers_dense", "layers_recurrent", "layers_composition", "layers_evidence"]
"""Architectures that receive the known values of the instrument, and predict places and quantities."""
NetworkKind: TypeAlias = Literal["default"] | PaperKind | LayersKind
"""Architectures that a model card may name."""


MAX_NAMES = 10_000
MAX_BINS = 65_536


def _displayable_name(name: str) -> str:
    """Return a name, or raise an error if the name cannot be displayed unchanged."""
    if name_fault := fault_of_name(name):
        raise ValueError(f"{name_fault}. Names must be displayable")
    return name


_Name: TypeAlias = Annotated[str, AfterValidator(_displayable_name)]
_Names: TypeAlias = Annotated[tuple[_Name, ...], Field(max_length=MAX_NAMES)]
_Fractions: TypeAlias = Annotated[tuple[float, ...], Field(max_length=MAX_NAMES)]


class _CardSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelAxis(_CardSection):
    """The fixed energy axis of a network.

    Parameters
    ----------
    start_kev : float
        Lower border of the first bin, in keV.
    bin_kev : float
        Width of the bins, in keV.
    n_bin : int
        Number of bins.
    """

    start_kev: float = Field(ge=-1000, le=1000)
    bin_kev: float = Field(gt=0, le=1000)
    n_bin: int = Field(ge=1, le=MAX_BINS)

    @property
    def stop_kev(self) -> float:
        """Upper border of the last bin, in keV."""
        return self.start_kev + self.bin_kev * self.n_bin

    @property
    def edges_kev(self) -> NDArray[np.float64]:
        """(n_bin + 1,) borders of the bins, in keV."""
        return self.start_kev + self.bin_kev * np.arange(self.n_bin + 1, dtype=np.float64)


class Training(_CardSection):
    """Training data and settings from which the weights were obtained."""

    library: _Names = ()
    n_spectra: int = Field(0, ge=0, le=10**12)
    seed: int = Field(0, ge=0, le=2**64)
    epochs: int = Field(0, ge=0, le=10**9)
    config: dict[str, Any] = Field(default_factory=dict)


UNBOUNDED_LOG_ODDS = 1e6
"""Log-odds threshold that no prediction reaches, for bins with too few held-out spectra to determine a threshold."""
_ThresholdTable: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]


class PredictionSets(_CardSection):
    """Log-odds thresholds of prediction sets with stated coverage.

    A prediction set contains "present", "absent", both or, rarely, neither.

    Parameters
    ----------
    names : tuple of str
        Names of groups, with places.
    levels : tuple of float
        Coverages. The sets contain the true answer for this fraction of the spectra in which the group is present and
        visible. The sets also contain the true answer for this fraction of the spectra without the group.
    counts : tuple of float
        Borders of the bins of total counts.
    present_from, absent_to : (n_level, n_bin, n_name)
        The set contains "present" for log-odds of at least ``present_from``, and "absent" for log-odds of at most
        ``absent_to``.
    """

    names: _Names
    levels: tuple[float, ...]
    counts: tuple[float, ...]
    present_from: _ThresholdTable
    absent_to: _ThresholdTable

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        expected_shape = (len(self.levels), max(len(self.counts) - 1, 0), len(self.names))
        for field_name in ("present_from", "absent_to"):
            threshold_table = getattr(self, field_name)
            has_expected_shape = len(threshold_table) == expected_shape[0] and all(
                len(level) == expected_shape[1] for level in threshold_table
            )
            if not has_expected_shape or any(
                len(bin_thresholds) != expected_shape[2] for level in threshold_table for bin_thresholds in level
            ):
                raise ValueError(
                    f"{field_name} needs {expected_shape[0]} levels of {expected_shape[1]} bins of "
                    f"{expected_shape[2]} names"
                )
        return self

    def is_ambiguous(
        self, name: str, log_odds: NDArray[np.floating], total_counts: NDArray[np.floating], level: float
    ) -> NDArray[np.bool_]:
        """Return a mask of spectra whose prediction set does not contain exactly one answer, false for unknown names.

        Parameters
        ----------
        name : str
        log_odds, total_counts : (...) arrays
            Log-odds of the name, and total counts of each spectrum. Counts outside all bins use the nearest bin.
        level : float
            Coverage, one of ``levels``.
        """
        if name not in self.names:
            return np.zeros(np.shape(log_odds), dtype=bool)
        level_index, name_index = self.levels.index(level), self.names.index(name)
        inner_edges = np.asarray(self.counts[1:-1])
        bin_indices = np.searchsorted(inner_edges, total_counts, side="right")
        present_limits, absent_limits = (
            np.asarray(threshold_table[level_index])[:, name_index][bin_indices]
            for threshold_table in (self.present_from, self.absent_to)
        )
        return np.asarray((log_odds >= present_limits) == (log_odds <= absent_limits))


class ModelCard(_CardSection):
    """Description of a trained network, for users and for the code that runs the network.

    Parameters
    ----------
    name, version : str
        Name for ``--model``, and version of the weights.
    kind : str
        Architecture, one of :data:`NetworkKind`. The architecture determines the inputs of the ONNX file.
    axis : ModelAxis
        Energy axis to which counts are rebinned.
    needs_full_axis : bool
        Whether a scan has to cover the whole axis.
    narrowest_kev : (float, float) or None
        Maximum start and minimum stop of the energy ranges in training, in keV. A scan has to cover this range, or the
        whole axis for None.
    names, kinds, groups, labels, elements : tuple
        Entries for each output, in the format of :meth:`underpaint.data.maps.Results.of_pigments`.
    instrument_inputs : tuple of str
        Values of the instrument that the network receives, in the order of its input.
    quantities : tuple of str
        Quantities that the network predicts in addition to presence (:mod:`underpaint.data.maps`), in the order of its
        outputs.
    composition : tuple of tuple of float
        Square roots of the mass fractions of each material, for networks that receive them as an input.
    amounts : tuple of str
        Groups, with places, for which the network predicts the mass fraction of the group's element in the dry paint.
        For a network with amounts, a group is present if the lines of its element are visible, regardless of their
        source.
    amount_edges : tuple of float
        Mass fractions for which the network predicts the log-odds of at least this amount.
    families : tuple of str
        Line families whose areas are an input of the network. A linear fit inside the network computes the areas.
    sets : PredictionSets or None
        Thresholds of the prediction sets, or None without held-out spectra.
    training : Training
        Data, seed, epochs and configuration.
    figures : dict
        Measured scores, by name.
    limits : tuple of str
        Limits of the model, in sentences.
    package_version : str
        Version of the package that trained the network.
    """

    name: _Name
    version: _Name = "1"
    kind: NetworkKind = "default"
    axis: ModelAxis
    needs_full_axis: bool = False
    narrowest_kev: tuple[float, float] | None = None
    names: _Names
    kinds: tuple[Literal["group", "member"], ...]
    groups: tuple[_Names, ...]
    labels: _Names
    elements: tuple[_Names, ...]
    instrument_inputs: _Names = ()
    quantities: _Names = ()
    composition: tuple[_Fractions, ...] = ()
    amounts: _Names = ()
    amount_edges: _Fractions = ()
    families: _Names = ()
    sets: PredictionSets | None = None
    training: Training = Training()
    figures: dict[str, Any] = Field(default_factory=dict)
    limits: _Names = ()
    package_version: _Name = ""

    @model_validator(mode="after")
    def _check_entries(self) -> Self:
        for field_name in ("kinds", "groups", "labels", "elements"):
            n_entry = len(getattr(self, field_name))
            if n_entry != len(self.names):
                raise ValueError(
                    f"{field_name} has {n_entry} entries for {len(self.names)} names; one per name is needed"
                )
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(
                f"names has {len(self.names)} entries, {len(set(self.names))} of them different; each needs one"
            )
        for name in (*self.names, *self.amounts):
            split_place(name)
        if bool(self.amounts) != bool(self.amount_edges) or list(self.amount_edges) != sorted(set(self.amount_edges)):
            raise ValueError(
                f"amount_edges has {len(self.amount_edges)} entries for {len(self.amounts)} amounts; edges must "
                "increase, and amounts need edges"
            )
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of the ONNX file, in their order."""
        quantities = ("quantity", "sigma") if self.quantities else ()
        return ("log_odds", "probability", *quantities, *(("amount",) if self.amounts else ()))

    def output_width(self, output: str) -> int:
        """Return the number of values per spectrum of an output of the ONNX file."""
        if output == "amount":
            return len(self.amounts) * len(self.amount_edges)
        return len(self.quantities if output in {"quantity", "sigma"} else self.names)

    def entries_of(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return the entries of selected outputs as keyword arguments for ``Results.of_pigments``.

        Parameters
        ----------
        indices : sequence of int
            Positions in ``names``.
        """
        field_names = ("names", "kinds", "groups", "labels", "elements")
        return {field_name: tuple(getattr(self, field_name)[index] for index in indices) for field_name in field_names}

    def write(self, path: Path) -> None:
        """Write the model card as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


MAX_CARD_BYTES = 16 * 2**20


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that are included in the package."""
    return tuple(sorted(path.stem for path in _weights_folder().glob("*.onnx") if path.with_suffix(".json").is_file()))


def model_path(name_or_path: str | Path) -> Path:
    """Find the ONNX file of a model.

    Parameters
    ----------
    name_or_path : str or Path
        Name of an included model ("default"), or path of an ``.onnx`` file or its ``.json`` model card.

    Returns
    -------
    Path
        Path of the ONNX file. The model card is beside it, with the suffix ``.json``.

    Raises
    ------
    ModelError
        The model does not exist, or one of its two files is missing.
    """
    model_text = str(name_or_path)
    path = (
        _weights_folder() / f"{model_text}.onnx"
        if model_text in shipped_models()
        else Path(name_or_path).with_suffix(".onnx")
    )
    missing_files = [model_file.name for model_file in (path, path.with_suffix(".json")) if not model_file.is_file()]
    if missing_files:
        raise ModelError(
            f"Cannot open model {model_text!r}: {' and '.join(missing_files)} not found. Shipped models: "
            f"{', '.join(shipped_models()) or 'none'}; or give the path of an .onnx file with its .json card beside it."
        )
    return path


def load_card(name_or_path: str | Path) -> ModelCard:
    """Read a model card.

    Parameters
    ----------
    name_or_path : str or Path
        Name or path, as for :func:`model_path`.

    Raises
    ------
    ModelError
        The model does not exist, or its model card is damaged or larger than 16 MiB.
    """
    path = model_path(name_or_path).with_suffix(".json")
    try:
        return ModelCard.model_validate_json(read_bounded(path, MAX_CARD_BYTES, ModelError))
    except ValidationError as error:
        faults = describe_faults(error.errors())
        raise ModelError(
            f"Cannot read the model card {path}: {faults}. Export the model again, or take another."
        ) from error


def _weights_folder() -> Path:
    return Path(str(files("underpaint.pigments.weights"))) / "data"
