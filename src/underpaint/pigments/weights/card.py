"""The model card: what a trained network answers, what it was trained on, and where it fails."""

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
"""Architectures that are trained as the paper trains its own."""
LayersKind: TypeAlias = Literal["layers", "layers_dense", "layers_recurrent", "layers_composition", "layers_evidence"]
"""Architectures that answer by place, with quantities, and are told about the instrument."""
NetworkKind: TypeAlias = Literal["default"] | PaperKind | LayersKind
"""Architectures that a card can name."""


MAX_NAMES = 10_000
MAX_BINS = 65_536


def _name(text: str) -> str:
    """Refuse text that cannot be shown as it is."""
    if fault := fault_of_name(text):
        raise ValueError(f"{fault}. Names are shown to people")
    return text


_Name: TypeAlias = Annotated[str, AfterValidator(_name)]
_Names: TypeAlias = Annotated[tuple[_Name, ...], Field(max_length=MAX_NAMES)]
_Fractions: TypeAlias = Annotated[tuple[float, ...], Field(max_length=MAX_NAMES)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelAxis(_Part):
    """The fixed energy axis of a network.

    Parameters
    ----------
    start_kev : float
        Lower border of the first bin, keV.
    bin_kev : float
        Width of the bins, keV.
    n_bin : int
        Number of bins.
    """

    start_kev: float = Field(ge=-1000, le=1000)
    bin_kev: float = Field(gt=0, le=1000)
    n_bin: int = Field(ge=1, le=MAX_BINS)

    @property
    def stop_kev(self) -> float:
        """Upper border of the last bin, keV."""
        return self.start_kev + self.bin_kev * self.n_bin

    @property
    def edges_kev(self) -> NDArray[np.float64]:
        """(n_bin + 1,) borders of the bins, keV."""
        return self.start_kev + self.bin_kev * np.arange(self.n_bin + 1, dtype=np.float64)


class Training(_Part):
    """Where the weights come from."""

    library: _Names = ()
    n_spectra: int = Field(0, ge=0, le=10**12)
    seed: int = Field(0, ge=0, le=2**64)
    epochs: int = Field(0, ge=0, le=10**9)
    config: dict[str, Any] = Field(default_factory=dict)


UNBOUNDED_LOG_ODDS = 1e6
"""A threshold of log-odds beyond all answers: too few spectra of the kind were held out to leave any out."""
_Table: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]


class PredictionSets(_Part):
    """Log-odds that bound sets of stated coverage: present, absent, either, and seldom neither.

    Parameters
    ----------
    names : tuple of str
        Groups, with their places.
    levels : tuple of float
        Coverages: the set holds the truth in this share of the spectra in which the group is present and visible, and
        of those in which it is absent.
    counts : tuple of float
        Total counts that bound the bins.
    present_from, absent_to : (n_level, n_bin, n_name)
        Present belongs to the set from these log-odds on, absent up to those.
    """

    names: _Names
    levels: tuple[float, ...]
    counts: tuple[float, ...]
    present_from: _Table
    absent_to: _Table

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        expected_shape = (len(self.levels), max(len(self.counts) - 1, 0), len(self.names))
        for field in ("present_from", "absent_to"):
            table = getattr(self, field)
            fits = len(table) == expected_shape[0] and all(len(level) == expected_shape[1] for level in table)
            if not fits or any(len(row) != expected_shape[2] for level in table for row in level):
                raise ValueError(
                    f"{field} needs {expected_shape[0]} levels of {expected_shape[1]} bins of {expected_shape[2]} names"
                )
        return self

    def undecided(
        self, name: str, log_odds: NDArray[np.floating], total_counts: NDArray[np.floating], level: float
    ) -> NDArray[np.bool_]:
        """Return where the set does not hold one answer alone; nowhere for a name that it says nothing about.

        Parameters
        ----------
        name : str
        log_odds, total_counts : (...) arrays
            Beyond the bins of counts the nearest one counts.
        level : float
            One of ``levels``.
        """
        if name not in self.names:
            return np.zeros(np.shape(log_odds), dtype=bool)
        level_index, name_index = self.levels.index(level), self.names.index(name)
        edges = np.asarray(self.counts[1:-1])
        bins = np.searchsorted(edges, total_counts, side="right")
        lowest, highest = (
            np.asarray(table[level_index])[:, name_index][bins] for table in (self.present_from, self.absent_to)
        )
        return np.asarray((log_odds >= lowest) == (log_odds <= highest))


class ModelCard(_Part):
    """What a user and the code that runs the network need to know about it.

    Parameters
    ----------
    name, version : str
        Name as given to ``--model``, and version of the weights.
    kind : str
        Architecture, one of :data:`NetworkKind`; says which inputs the ONNX file takes.
    axis : ModelAxis
        Energy axis that counts are moved to.
    needs_full_axis : bool
        True where a scan has to cover the whole axis.
    narrowest_kev : (float, float) or None
        The latest start and the earliest stop of the recorded ranges in training, keV: a scan has to cover it.
        None stands for the whole axis.
    names, kinds, groups, labels, elements : tuple
        As :meth:`underpaint.data.maps.Results.of_pigments` takes them, one entry per output.
    instrument_inputs : tuple of str
        What the network is told about the instrument, in the order of its input; empty where it is told nothing.
    quantities : tuple of str
        What it answers beside presence (:mod:`underpaint.data.maps`), in the order of its outputs.
    composition : tuple of tuple of float
        What each material is made of (square roots of mass fractions); empty where it is not told.
    amounts : tuple of str
        Groups, with places, whose element's mass share in the dry paint is answered; where there are any, a group is
        present where the lines of its element show, whatever brings them, and not where a pigment does.
    amount_edges : tuple of float
        Mass shares; the network answers the log-odds that a share reaches each of them.
    families : tuple of str
        Line families whose areas by a linear fit the network is given, computed within it.
    sets : PredictionSets or None
        What makes the answers sets of stated coverage; None where no spectra were held out for it.
    training : Training
        Data, seed, epochs and configuration.
    figures : dict
        What was measured, by name.
    limits : tuple of str
        What the model cannot do, in sentences.
    package_version : str
        Version of the package that made it.
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
    def _one_entry_per_name(self) -> Self:
        for field in ("kinds", "groups", "labels", "elements"):
            n_entry = len(getattr(self, field))
            if n_entry != len(self.names):
                raise ValueError(f"{field} has {n_entry} entries for {len(self.names)} names; one per name is needed")
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(
                f"names has {len(self.names)} entries, {len(set(self.names))} of them different; each needs one"
            )
        for name in (*self.names, *self.amounts):
            split_place(name)
        if bool(self.amounts) != bool(self.amount_edges) or list(self.amount_edges) != sorted(set(self.amount_edges)):
            raise ValueError(
                f"amount_edges has {len(self.amount_edges)} entries for {len(self.amounts)} amounts; they must rise, "
                "and there are some where there are amounts"
            )
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the ONNX file's outputs, in their order."""
        quantities = ("quantity", "sigma") if self.quantities else ()
        return ("log_odds", "probability", *quantities, *(("amount",) if self.amounts else ()))

    def output_width(self, output: str) -> int:
        """Return how many numbers an output of the ONNX file has for each spectrum."""
        if output == "amount":
            return len(self.amounts) * len(self.amount_edges)
        return len(self.quantities if output in {"quantity", "sigma"} else self.names)

    def of_names(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return what the card says of some of its names, by field, as maps of them want it.

        Parameters
        ----------
        indices : sequence of int
            Positions in ``names``.
        """
        fields = ("names", "kinds", "groups", "labels", "elements")
        return {field: tuple(getattr(self, field)[index] for index in indices) for field in fields}

    def write(self, path: Path) -> None:
        """Write the card as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


MAX_CARD_BYTES = 16 * 2**20


def shipped() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(path.stem for path in _folder().glob("*.onnx") if path.with_suffix(".json").is_file()))


def model_path(name_or_path: str | Path) -> Path:
    """Find the ONNX file of a model.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name ("default"), or the path of an ``.onnx`` file or of its ``.json`` card.

    Returns
    -------
    Path
        The ONNX file; its card lies beside it with the ending ``.json``.

    Raises
    ------
    ModelError
        There is no such model, or one of its two files is missing.
    """
    text = str(name_or_path)
    path = _folder() / f"{text}.onnx" if text in shipped() else Path(name_or_path).with_suffix(".onnx")
    missing = [file.name for file in (path, path.with_suffix(".json")) if not file.is_file()]
    if missing:
        raise ModelError(
            f"Cannot open model {text!r}: {' and '.join(missing)} not found. Shipped models: "
            f"{', '.join(shipped()) or 'none'}; or give the path of an .onnx file with its .json card beside it."
        )
    return path


def load_card(name_or_path: str | Path) -> ModelCard:
    """Read the card of a model.

    Parameters
    ----------
    name_or_path : str or Path
        As for :func:`model_path`.

    Raises
    ------
    ModelError
        There is no such model, or its card is damaged or larger than 16 MiB.
    """
    path = model_path(name_or_path).with_suffix(".json")
    try:
        return ModelCard.model_validate_json(read_bounded(path, MAX_CARD_BYTES, ModelError))
    except ValidationError as error:
        faults = describe_faults(error.errors())
        raise ModelError(
            f"Cannot read the model card {path}: {faults}. Export the model again, or take another."
        ) from error


def _folder() -> Path:
    return Path(str(files("underpaint.pigments.weights"))) / "data"
