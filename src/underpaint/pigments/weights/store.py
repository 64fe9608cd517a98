"""Where the weights lie: inside the package by name, or anywhere by path."""

from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from underpaint.errors import ModelError
from underpaint.pigments.weights.card import ModelCard
from underpaint.runtime.untrusted import faults_in_words, read_bounded

MOST_CARD_BYTES = 16 * 2**20


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
    missing = [each.name for each in (path, path.with_suffix(".json")) if not each.is_file()]
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
        return ModelCard.model_validate_json(read_bounded(path, MOST_CARD_BYTES, ModelError))
    except ValidationError as error:
        faults = faults_in_words(error.errors())
        raise ModelError(
            f"Cannot read the model card {path}: {faults}. Export the model again, or take another."
        ) from error


def _folder() -> Path:
    return Path(str(files("underpaint.pigments.weights"))) / "data"
