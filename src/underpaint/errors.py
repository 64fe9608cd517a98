"""The errors that a user can mend; each message says what failed, the value met, what is allowed, what to do."""


class UnderpaintError(Exception):
    """Base of all errors that the command line prints as a plain message, without a traceback.

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
    """A chemical formula cannot be read; the message points at the place of the fault."""


class SampleError(UnderpaintError, ValueError):
    """A pigment, paint, layer, palette or stratigraphy is not physical or not known."""


class InstrumentError(UnderpaintError, ValueError):
    """An instrument setting is out of range or an instrument file cannot be read."""


class ScanError(UnderpaintError, ValueError):
    """A file is not a scan, is damaged, or contradicts itself."""


class CalibrationError(UnderpaintError, ValueError):
    """The energy axis cannot be found or is missing."""


class CoverageError(UnderpaintError, ValueError):
    """A model or a fit needs channels that the scan did not record."""


class OutputError(UnderpaintError, OSError):
    """Results cannot be written where they were asked for."""


class MissingExtraError(UnderpaintError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


class ModelError(UnderpaintError, ValueError):
    """A trained model or its card is missing, damaged, or does not fit what is asked of it."""


class TrainingError(UnderpaintError, ValueError):
    """A training library or its settings cannot be used."""


class ClusterError(UnderpaintError, OSError):
    """Worker processes or a cluster cannot be reached, died, or differ from this machine."""
