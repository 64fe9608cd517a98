"""Settings of training and fine-tuning."""

from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from underpaint.errors import TrainingError
from underpaint.pigments.weights import LayersKind, NetworkKind, PaperKind
from underpaint.runtime.untrusted import describe_faults, read_toml

_PAPER_DEFAULTS: dict[str, Any] = {
    "epochs": 150,
    "batch": 64,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "test_share": 0.2,
    "validation_share": 0.2,
}


def _follows_the_paper(kind: object) -> bool:
    return kind in get_args(PaperKind)


class TrainSettings(BaseModel):
    """Settings of a training run.

    Parameters
    ----------
    library : tuple of Path
        Training libraries (HDF5 files), which are concatenated.
    out : Path
        Folder of the checkpoints and the exported model.
    name : str
        Name of the model.
    kind : str
        Kind of the network.
        "xu2022", "xu2022_root", "xu2022_unscaled", "recurrent" and "autoencoder" follow the paper's protocol. The
        defaults of the protocol are Adam 1e-3, batch size 64, 150 epochs and a test set of a fifth of the spectra. In
        the protocol, spectra have no noise and the loss includes all labels. Kinds that begin with "layers" need a
        library with places.
    present : {"pigment", "lines"}
        Criterion for a present group: one of its pigments is in the paint, or lines of its element are visible. With
        "lines", the network also predicts the amount of the element in the paint and needs a library with places.
    start : Path or None
        Checkpoint with initial weights, from a network of the same kind, axis and names. None means random weights.
        Validation and test scores have no meaning if the checkpoint was trained on ``library``.
    calibration : Path or None
        Library that calibrates a network of layers. The paintings of the library must be in no training set. None means
        the validation set.
    epochs, batch : int
        Maximum number of epochs, and number of spectra per step.
    learning_rate, weight_decay : float
        Learning rate and weight decay of Adam (AdamW if the decay is not zero).
    schedule : {"cosine", "constant"}
        Schedule of the learning rate. "cosine" has a short warm-up.
    patience : int
        Number of epochs without a lower validation loss before training stops.
    seed : int
        Seed of the split, the initial weights, the order of spectra, and the noise.
    counts_min, counts_max : float
        Range of the total counts, which are drawn log-uniformly for every spectrum at every step. The paper's protocol
        does not use this range.
    counts_scale : float
        Total counts of spectra in the paper's protocol, if the library does not contain them.
    validation_share, test_share : float
        The test set has a fraction ``test_share`` of the stratigraphies. The validation set has a fraction
        ``validation_share`` of all other stratigraphies.
    fold : int or None
        Index of the fold that is the validation set. There are ``1 / validation_share`` folds. None means the first
        fold.
    threads : int or None
        Number of CPU threads, or None for the default of torch.
    precision : {"32", "bf16"}
        Precision of the network. Counts and sums always have 32 bits.
        "bf16" is about 1.5 times faster on CPUs with AVX-512 BF16 or AMX, and slower on other CPUs.
    accelerator : str
        Name of the device in Lightning: "auto", "cpu" or "gpu".
    progress : bool
        Whether to show a progress bar.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: tuple[Path, ...] = Field(min_length=1)
    out: Path
    name: str = "default"
    kind: NetworkKind = "default"
    present: Literal["pigment", "lines"] = "pigment"
    start: Path | None = None
    calibration: Path | None = None
    epochs: int = Field(40, ge=1)
    batch: int = Field(256, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = Field(12, ge=1)
    seed: int = Field(0, ge=0)
    counts_min: float = Field(1e3, gt=0)
    counts_max: float = Field(1e6, gt=0)
    counts_scale: float = Field(1e5, gt=0)
    validation_share: float = Field(0.05, gt=0, lt=1)
    test_share: float = Field(0.05, ge=0, lt=1)
    fold: int | None = Field(None, ge=0)
    threads: int | None = Field(None, ge=1)
    precision: Literal["32", "bf16"] = "bf16"
    accelerator: str = "auto"
    progress: bool = True

    @model_validator(mode="before")
    @classmethod
    def _use_paper_defaults(cls, raw_settings: Any) -> Any:
        if isinstance(raw_settings, dict) and _follows_the_paper(raw_settings.get("kind", "default")):
            return {**(_PAPER_DEFAULTS if cls is TrainSettings else {}), "name": raw_settings["kind"], **raw_settings}
        return raw_settings

    @model_validator(mode="before")
    @classmethod
    def _wrap_single_path(cls, raw_settings: Any) -> Any:
        if isinstance(raw_settings, dict) and isinstance(raw_settings.get("library"), str | Path):
            return {**raw_settings, "library": [raw_settings["library"]]}
        return raw_settings

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if self.counts_max < self.counts_min:
            raise ValueError(f"counts_max ({self.counts_max:g}) is below counts_min ({self.counts_min:g})")
        if self.fold is not None and self.fold >= self.n_fold:
            raise ValueError(
                f"fold {self.fold} does not exist; validation_share = {self.validation_share} gives {self.n_fold} folds"
            )
        return self

    @property
    def follows_paper_protocol(self) -> bool:
        """Whether the network is trained with the paper's protocol."""
        return _follows_the_paper(self.kind)

    @property
    def has_layers(self) -> bool:
        """Whether the network predicts places and quantities, with instrument conditions as input."""
        return self.kind in get_args(LayersKind)

    @property
    def n_fold(self) -> int:
        """Number of folds, which is the inverse of the validation fraction."""
        return round(1 / self.validation_share)


class FinetuneSettings(TrainSettings):
    """Settings of fine-tuning on labelled spectra, with the defaults of the paper.

    Parameters
    ----------
    dense_epochs : int
        Maximum number of epochs of the first step, which trains only the dense layers.
    fresh_dense : bool
        Whether to re-initialise the dense layers.
    split : {"structure", "pixel"}
        "structure" keeps the spectra of a stratigraphy in one set of the split.
        "pixel" splits spectra at random, as in the paper. With "pixel", the same structures are in training and test
        set.
    labels : Path or None
        CSV file with the known pigments of some pixels (see :func:`~.labelled_scan`).
        If ``labels`` is given, ``library`` is the scan. If ``labels`` is None, ``library`` is a training library.
    hidden_labels : bool
        Whether to train also with labels of pigments that are not visible, as in the paper.
    """

    epochs: int = Field(60, ge=1)
    dense_epochs: int = Field(20, ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "constant"
    validation_share: float = Field(0.2, gt=0, lt=1)
    test_share: float = Field(0.8, ge=0, lt=1)
    fresh_dense: bool = False
    split: Literal["structure", "pixel"] = "structure"
    labels: Path | None = None
    hidden_labels: bool = False


_Settings = TypeVar("_Settings", bound=TrainSettings)


def load_finetune_settings(path: str | Path) -> FinetuneSettings:
    """Read settings of fine-tuning from a TOML file. Paths in the file are relative to its folder."""
    return _load_from_toml(path, FinetuneSettings)


def load_settings(path: str | Path) -> TrainSettings:
    """Read settings of training from a TOML file. Paths in the file are relative to its folder.

    Parameters
    ----------
    path : str or Path
        TOML file with the fields of :class:`TrainSettings`.

    Raises
    ------
    TrainingError
        The file is missing, is not TOML, or has a field or a value that is not allowed.
    """
    return _load_from_toml(path, TrainSettings)


def _load_from_toml(path: str | Path, settings_class: type[_Settings]) -> _Settings:
    settings_path = Path(path)
    try:
        settings = settings_class.model_validate(read_toml(settings_path, TrainingError, "the training settings"))
    except ValidationError as error:
        raise TrainingError(
            f"Cannot read the training settings {settings_path}: {describe_faults(error.errors())}."
        ) from error
    folder = settings_path.parent
    resolved_paths: dict[str, Any] = {
        "library": tuple(folder / path for path in settings.library),
        "out": folder / settings.out,
    }
    for setting_name in ("start", "calibration", "labels"):
        if getattr(settings, setting_name, None) is not None:
            resolved_paths[setting_name] = folder / getattr(settings, setting_name)
    return settings.model_copy(update=resolved_paths)
