"""Simulation of the spectra of given stratigraphies, written as a scan."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from underpaint.data import Scan
from underpaint.errors import OutputError, SampleError
from underpaint.io import save_scan
from underpaint.physics.forward import axis_of, count, emit, render
from underpaint.physics.instrument import Detector, Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, coating_layer, ground_layer, support_layer
from underpaint.runtime.files import atomic_write
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.untrusted import plain_text, read_toml
from underpaint.simulate.jobs import LibrarySettings
from underpaint.simulate.library import open_photons_of, simulate_library, write_photons_file
from underpaint.simulate.photons import CHUNKS, Photons, make_photons, photons_to_bytes, read_chunk

LAYER_FUNCTIONS = {"ground": ground_layer, "support": support_layer, "coating": coating_layer}


class LayerSettings(BaseModel):
    """Settings of a layer: pigments in a binder, a named ground, support or coating, or elements by mass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pigments: dict[str, float] | None = None
    pigment_to_binder: float = Field(3.0, gt=0)
    binder: str = "linseed_oil"
    ground: str | None = None
    support: str | None = None
    coating: str | None = None
    elements: dict[str, float] | None = None
    density: float | None = Field(None, gt=0, description="density, g/cm3; required with elements")
    thickness_um: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check_kind(self) -> "LayerSettings":
        kinds = [name for name in ("pigments", "elements", *LAYER_FUNCTIONS) if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"a layer needs exactly one of pigments, elements, ground, support, coating; it has {kinds}"
            )
        if self.elements is not None and self.density is None:
            raise ValueError("a layer of elements needs its density, g/cm3")
        if self.thickness_um is None and kinds[0] not in {"support", "coating"}:
            raise ValueError("a layer needs its thickness_um")
        return self

    def layer(self) -> Layer:
        """Return the layer that the settings describe."""
        if self.pigments is not None:
            paint = Paint(self.pigments, self.pigment_to_binder, self.binder, self.density)
            return paint.layer(self.thickness_um or 0.0)
        if self.elements is not None:
            return Layer(self.elements, self.density or 0.0, self.thickness_um or 0.0, "elements")
        kind = next(name for name in LAYER_FUNCTIONS if getattr(self, name) is not None)
        return LAYER_FUNCTIONS[kind](getattr(self, kind), self.thickness_um)  # type: ignore[arg-type]


class StratigraphySettings(BaseModel):
    """Settings of a stratigraphy, with layers from the surface down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    layer: tuple[LayerSettings, ...] = Field(min_length=1)

    def stratigraphy(self) -> Stratigraphy:
        """Return the stratigraphy that the settings describe."""
        layers = []
        for depth, entry in enumerate(self.layer, start=1):
            try:
                layers.append(entry.layer())
            except SampleError as error:
                raise SampleError(f"Stratigraphy {self.name!r}, layer {depth} from the surface: {error}") from error
        return Stratigraphy(tuple(layers), self.name)


class ExplicitSettings(BaseModel):
    """Settings for the simulation of given stratigraphies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instrument: str | Instrument = Field("elio", description="preset, instrument file or table")
    detector: str | Detector | None = Field(
        None, description="detector of this preset or file, or a table; None: the instrument's"
    )
    counts: float = Field(1e5, gt=0, description="expected total counts of each spectrum")
    noise: bool = Field(True, description="true: draw Poisson counts; false: expected counts")
    seed: int = Field(0, ge=0)
    stratigraphy: tuple[StratigraphySettings, ...] = Field(min_length=1)


def load_job(path: str | Path, *, detector: str | None = None) -> ExplicitSettings | LibrarySettings:
    """Read a job for ``underpaint simulate``: named stratigraphies, or a training library.

    Parameters
    ----------
    path : str or Path
        TOML file of the job.
    detector : str, optional
        Preset or instrument file whose detector replaces that of the job.

    Raises
    ------
    SampleError
        The file is missing or not TOML, or a field is wrong; the message names the field.
    """
    job_path = Path(path)
    try:
        table: dict[str, Any] = read_toml(job_path, SampleError, "the simulation")
        if not table:
            raise SampleError(f"Cannot use the simulation {job_path}: it is empty. See examples/default_library.toml.")
        job = ExplicitSettings(**table) if "stratigraphy" in table else LibrarySettings(**table)
    except ValidationError as error:
        raise SampleError(
            f"Cannot use the simulation {job_path}: "
            f"{'; '.join(map(_describe_fault, _innermost_faults(error.errors())[:5]))}."
        ) from error
    if detector is None:
        return job
    return job.model_copy(update={"detector": load_instrument(detector).detector})


def _innermost_faults(faults: list[Any]) -> list[Any]:
    """Return faults without those that follow from other faults, such as a list with faulty entries."""
    locations = [fault["loc"] for fault in faults]

    def follows_from_other_fault(fault: Any) -> bool:
        location = fault["loc"]
        contains_fault = any(
            other_location[: len(location)] == location and other_location != location for other_location in locations
        )
        return contains_fault or (fault["type"] == "string_type" and isinstance(fault["input"], dict))

    return [fault for fault in faults if not follows_from_other_fault(fault)] or faults


def _describe_fault(fault: Any) -> str:
    value, location = fault["input"], plain_text(".".join(map(str, fault["loc"])))[:200]
    value_text = f" (it is {ascii(value)[:80]})" if isinstance(value, str | int | float) else ""
    return f"{location}: {fault['msg']}{value_text}"


def simulate(
    job: ExplicitSettings | LibrarySettings | str | Path,
    out: str | Path,
    *,
    photons: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run a job: write a scan of one row for given stratigraphies, or the HDF5 file of a training library.

    Parameters
    ----------
    job : ExplicitSettings, LibrarySettings, str or Path
        Settings, or their TOML file.
    out : path
        File to write.
    photons : path, optional
        HDF5 file of the photons; if it exists, the transport is not repeated.
    workers : int, optional
        Number of processes (training libraries); None: one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers are used (training libraries).
    progress : callable, optional

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    OutputError
        The file exists.
    """
    job = load_job(job) if isinstance(job, str | Path) else job
    if isinstance(job, LibrarySettings):
        return simulate_library(job, out, photons=photons, workers=workers, scheduler=scheduler, progress=progress)
    scan_path = Path(out)
    if scan_path.exists():
        raise OutputError(f"Cannot write {scan_path}: it exists. Delete it or choose another name.")
    (progress or no_progress)("Simulating", 0, 1)
    scan, instrument = simulate_spectra(job, photons=photons)
    settings = {"simulation": job.model_dump(mode="json"), "instrument": instrument.model_dump(mode="json")}
    save_scan(scan, scan_path, settings=settings)
    return scan_path


def explicit_instrument(job: ExplicitSettings) -> Instrument:
    """Return the instrument of a job, with the detector of the job if it has one."""
    instrument = load_instrument(job.instrument) if isinstance(job.instrument, str) else job.instrument
    detector = load_instrument(job.detector).detector if isinstance(job.detector, str) else job.detector
    return instrument if detector is None else instrument.model_copy(update={"detector": detector})


def simulate_spectra(job: ExplicitSettings, *, photons: str | Path | None = None) -> tuple[Scan, Instrument]:
    """Return a scan of one row with a pixel for each stratigraphy, and the simulated instrument."""
    instrument = explicit_instrument(job)
    detector = instrument.detector
    photons_used = _photons(job, instrument) if photons is None else _stored_photons(job, instrument, Path(photons))
    expected_counts = np.asarray(render(photons_used.emission, detector))
    _check_recorded(expected_counts.sum(axis=1), job, detector)
    expected_counts *= job.counts / expected_counts.sum(axis=1, keepdims=True)
    counts = count(expected_counts, rng=np.random.default_rng(job.seed)) if job.noise else expected_counts
    scan = Scan(
        counts=counts[None],
        axis=axis_of(detector),
        name="simulated",
        format="simulated",
        notes=("Simulated spectra, not a measurement.",),
        metadata={"stratigraphies": [entry.name for entry in job.stratigraphy]},
    )
    return scan, instrument


def _check_recorded(totals: NDArray[np.float64], job: ExplicitSettings, detector: Detector) -> None:
    """Raise an error for spectra without counts, which cannot be scaled."""
    # smaller totals are rounding errors
    empty_rows = np.flatnonzero(~(np.isfinite(totals) & (totals > np.finfo(np.float32).tiny)))
    if empty_rows.size:
        index = int(empty_rows[0])
        name = job.stratigraphy[index].name or f"stratigraphy {index + 1}"
        last_kev = detector.zero_kev + detector.gain_kev * detector.n_channel
        raise SampleError(
            f"Cannot simulate {job.counts:g} counts of {name!r}: none of its photons is recorded between "
            f"{detector.zero_kev:g} and {last_kev:g} keV. Make its layers thicker, the air and the detector's window "
            "thinner, or move the detector's channels."
        )


def _photons(job: ExplicitSettings, instrument: Instrument) -> Photons:
    stratigraphies = [entry.stratigraphy() for entry in job.stratigraphy]
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument))


def _stored_photons(job: ExplicitSettings, instrument: Instrument, path: Path) -> Photons:
    """Return the photons of a file; if it does not exist, compute and write them."""
    request = {
        "stratigraphy": [entry.model_dump(mode="json") for entry in job.stratigraphy],
        "instrument": instrument.model_dump(mode="json", exclude={"detector"}),
    }
    if not path.exists():
        _store_photons(_photons(job, instrument), path, request, job.seed)
    with open_photons_of(path, request) as file:
        return read_chunk(file[CHUNKS]["000000"])


def _store_photons(photons: Photons, path: Path, request: dict[str, Any], seed: int) -> None:
    with (
        atomic_write(path) as temporary_path,
        h5py.File(BytesIO(photons_to_bytes(photons)), "r") as chunk,
        h5py.File(temporary_path, "w") as file,
    ):
        write_photons_file(file, iter([chunk]), seed)
        file.attrs["job"] = json.dumps(request)
