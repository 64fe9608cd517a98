"""Errors that a user can correct. Each message states what failed, the value found, what is allowed and what to do."""

import re


def reason_of(error: BaseException | str) -> str:
    """Return the message of an error without its opening "Cannot ...:", for a message that itself states what failed.

    For errors of the operating system, the reason omits the number and the path.

    Examples
    --------
    >>> reason_of(ScanError("Cannot read a.h5: the file is empty. Copy it again."))
    'the file is empty. Copy it again.'
    """
    text = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return re.sub(r"\ACannot [^\n]*?: ", "", text)


class UnderpaintError(Exception):
    """Base class of all errors that the command line prints as a plain message, without a traceback.

    Examples
    --------
    >>> import underpaint as up
    >>> try:
    ...     up.load("nowhere.h5")
    ... except up.UnderpaintError as error:
    ...     print(error)
    Cannot read nowhere.h5: there is no such file or folder. Check the path.
    """


class FormulaError(UnderpaintError, ValueError):
    """A chemical formula cannot be read. The message shows the position of the fault."""


class SampleError(UnderpaintError, ValueError):
    """A pigment, paint, layer, palette or stratigraphy is unknown or physically impossible."""


class InstrumentError(UnderpaintError, ValueError):
    """An instrument setting is out of range or an instrument file cannot be read."""


class ScanError(UnderpaintError, ValueError):
    """A file is not a scan, is damaged, or contradicts itself."""


class CalibrationError(UnderpaintError, ValueError):
    """The energy axis is missing or cannot be determined."""


class CoverageError(UnderpaintError, ValueError):
    """A model or a fit needs channels that the scan did not record."""


class OutputError(UnderpaintError, OSError):
    """Results cannot be written to the requested place."""


class MissingExtraError(UnderpaintError, ImportError):
    """An optional dependency is missing. The message names the extra to install."""


class ModelError(UnderpaintError, ValueError):
    """A trained model or its card is missing, damaged or unsuitable."""


class TrainingError(UnderpaintError, ValueError):
    """A training library or its settings cannot be used."""


class ClusterError(UnderpaintError, OSError):
    """A worker process or cluster cannot be reached, has died, or has different package versions from this machine."""


class BenchmarkError(UnderpaintError, ValueError):
    """A benchmark folder or a sheet of answers is missing, damaged or unsuitable."""
