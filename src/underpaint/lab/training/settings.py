"""Settings of training and fine-tuning, from a TOML file or from Python."""

from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from underpaint.errors import TrainingError
from underpaint.pigments.weights import LayersKind, NetworkKind, PaperKind
from underpaint.runtime.untrusted import describe_faults, read_toml

_PAPER: dict[str, Any] = {
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
        Training libraries (HDF5); several are joined.
    out : Path
        Folder of the checkpoints and the exported model.
    name : str
        Name of the model.
    kind : str
        Network. "xu2022", "xu2022_root", "xu2022_unscaled", "recurrent" and "autoencoder" follow the paper's protocol:
        the defaults change to those of the paper (Adam 1e-3, batch 64, 150 epochs, 1:4 test split), the spectra have no
        noise and
        every label counts. "layers" and what begins with it needs a library with places.
    present : {"pigment", "lines"}
        Evidence for a group: one of its pigments in the paint, or visible lines of its element from any material. With
        "lines" the network also answers the amount of the element in the paint; it needs a library with places.
    start : Path or None
        Checkpoint to start from, of the same kind, axis and names; None starts from random weights. It must not be
        trained on ``library``, or validation and test are meaningless.
    calibration : Path or None
        Library for the final calibration of a network of layers, of paintings that are in no training set; None takes
        the validation set.
    epochs, batch : int
        Most epochs; spectra per step.
    learning_rate, weight_decay : float
        Of Adam (AdamW where the decay is not zero).
    schedule : {"cosine", "constant"}
        Course of the learning rate over the epochs; "cosine" has a short warm-up.
    patience : int
        Epochs without a better validation loss before stopping.
    seed : int
        Seed of the split, the weights, the order and the noise.
    counts_min, counts_max : float
        Range of the total counts, drawn log-uniformly for every spectrum at every step; the paper's protocol
        has none.
    counts_scale : float
        Total counts of a spectrum where the library does not give them (the paper's protocol only,
        which has no noise).
    validation_share, test_share : float
        Share of the stratigraphies held out for early stopping (of what the test leaves), and for the test.
    fold : int or None
        Which of the ``1 / validation_share`` folds is the validation set; None means the first.
    threads : int or None
        CPU threads; None leaves torch's choice.
    precision : {"32", "bf16"}
        Arithmetic of the network; what counts and adds up stays in 32 bits either way. "bf16" trains about 1.5 times
        faster on CPUs that have it (AVX-512 BF16, AMX), and slower on others.
    accelerator : str
        Lightning's name of the device: "auto", "cpu", "gpu".
    progress : bool
        Show a progress bar.
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
    def _defaults_of_the_paper(cls, data: Any) -> Any:
        if isinstance(data, dict) and _follows_the_paper(data.get("kind", "default")):
            return {**(_PAPER if cls is TrainSettings else {}), "name": data["kind"], **data}
        return data

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list_of_one(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("library"), str | Path):
            return {**data, "library": [data["library"]]}
        return data

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.counts_max < self.counts_min:
            raise ValueError(f"counts_max ({self.counts_max:g}) is below counts_min ({self.counts_min:g})")
        if self.fold is not None and self.fold >= self.n_fold:
            raise ValueError(
                f"fold {self.fold} does not exist; a validation share of {self.validation_share} has {self.n_fold}"
            )
        return self

    @property
    def paper_protocol(self) -> bool:
        """Whether the network is trained as the paper trains its own; the default network is not."""
        return _follows_the_paper(self.kind)

    @property
    def has_layers(self) -> bool:
        """Whether the network answers by place and quantity, with instrument conditions as input."""
        return self.kind in get_args(LayersKind)

    @property
    def n_fold(self) -> int:
        """Number of folds that the validation share makes."""
        return round(1 / self.validation_share)


class FinetuneSettings(TrainSettings):
    """Settings of fine-tuning on labelled spectra; the defaults are the paper's.

    Parameters
    ----------
    dense_epochs : int
        Most epochs of the first step, which trains the dense layers alone.
    fresh_dense : bool
        Begin with new dense layers instead of the model's own.
    split : {"structure", "pixel"}
        "structure" keeps the spectra of one stratigraphy on one side of the split; "pixel" mixes them, as the paper
        does, and so tests on structures that it has trained on.
    labels : Path or None
        CSV file of what is known at some pixels (see :func:`~.labelled_scan`); ``library`` is then the
        scan. None takes ``library`` as a training library.
    hidden_labels : bool
        Train with the labels of pigments that do not show, too, as the paper does.
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
    """Read settings of fine-tuning from a TOML file, as :func:`load_settings` does for training."""
    return _load(path, FinetuneSettings)


def load_settings(path: str | Path) -> TrainSettings:
    """Read settings from a TOML file; relative paths start at the file's folder.

    Parameters
    ----------
    path : str or Path
        TOML file with the fields of :class:`TrainSettings`.

    Raises
    ------
    TrainingError
        The file is missing, is not TOML, or holds a field or a value that is not allowed.
    """
    return _load(path, TrainSettings)


def _load(path: str | Path, model: type[_Settings]) -> _Settings:
    source = Path(path)
    try:
        settings = model.model_validate(read_toml(source, TrainingError, "the training settings"))
    except ValidationError as error:
        raise TrainingError(
            f"Cannot read the training settings {source}: {describe_faults(error.errors())}."
        ) from error
    folder = source.parent
    paths: dict[str, Any] = {"library": tuple(folder / each for each in settings.library), "out": folder / settings.out}
    for field in ("start", "calibration", "labels"):
        if getattr(settings, field, None) is not None:
            paths[field] = folder / getattr(settings, field)
    return settings.model_copy(update=paths)
