"""Simulation of a scan with one pixel for each given stratigraphy."""

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
    """Settings of one layer: pigments in a binder, elements by mass, or a named ground, support or coating."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pigments: dict[str, float] | None = None
    pigment_to_binder: float = Field(3.0, gt=0)
    binder: str = "linseed_oil"
    ground: str | None = None
    support: str | None = None
    coating: str | None = None
    elements: dict[str, float] | None = None
    density: float | None = Field(None, gt=0, description="density in g/cm3, required if elements are given")
    thickness_um: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check_single_kind(self) -> "LayerSettings":
        layer_kinds = [
            field_name
            for field_name in ("pigments", "elements", *LAYER_FUNCTIONS)
            if getattr(self, field_name) is not None
        ]
        if len(layer_kinds) != 1:
            raise ValueError(
                f"a layer needs exactly one of pigments, elements, ground, support, coating, and this layer has "
                f"{layer_kinds}"
            )
        if self.elements is not None and self.density is None:
            raise ValueError("a layer of elements needs a density in g/cm3")
        if self.thickness_um is None and layer_kinds[0] not in {"support", "coating"}:
            raise ValueError("a layer needs its thickness_um")
        return self

    def layer(self) -> Layer:
        """Return the layer that the settings describe."""
        if self.pigments is not None:
            paint = Paint(self.pigments, self.pigment_to_binder, self.binder, self.density)
            return paint.layer(self.thickness_um or 0.0)
        if self.elements is not None:
            return Layer(self.elements, self.density or 0.0, self.thickness_um or 0.0, "elements")
        layer_kind = next(field_name for field_name in LAYER_FUNCTIONS if getattr(self, field_name) is not None)
        return LAYER_FUNCTIONS[layer_kind](getattr(self, layer_kind), self.thickness_um)  # type: ignore[arg-type]


class StratigraphySettings(BaseModel):
    """Settings of one stratigraphy: a name, and the layers from the surface downwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    layer: tuple[LayerSettings, ...] = Field(min_length=1)

    def stratigraphy(self) -> Stratigraphy:
        """Return the stratigraphy that the settings describe."""
        layers = []
        for layer_number, layer_settings in enumerate(self.layer, start=1):
            try:
                layers.append(layer_settings.layer())
            except SampleError as error:
                raise SampleError(
                    f"Stratigraphy {self.name!r}, layer {layer_number} from the surface: {error}"
                ) from error
        return Stratigraphy(tuple(layers), self.name)


class ExplicitSettings(BaseModel):
    """Settings of a simulation of given stratigraphies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instrument: str | Instrument = Field("elio", description="instrument: preset, instrument file or table")
    detector: str | Detector | None = Field(
        None, description="preset or file whose detector is used, or a table. None means the instrument's detector"
    )
    counts: float = Field(1e5, gt=0, description="expected total counts of each spectrum")
    noise: bool = Field(True, description="whether to draw Poisson counts instead of expected counts")
    seed: int = Field(0, ge=0)
    stratigraphy: tuple[StratigraphySettings, ...] = Field(min_length=1)


def load_job(path: str | Path, *, detector: str | None = None) -> ExplicitSettings | LibrarySettings:
    """Read a job of ``underpaint simulate``: stratigraphies, or the settings of a training library.

    Parameters
    ----------
    path : str or Path
        TOML file of the job.
    detector : str, optional
        Preset or instrument file whose detector replaces the job's detector.

    Raises
    ------
    SampleError
        The file is missing or is not TOML, or a field is wrong. The message names the field.
    """
    job_path = Path(path)
    try:
        job_table: dict[str, Any] = read_toml(job_path, SampleError, "the simulation")
        if not job_table:
            raise SampleError(
                f"Cannot use the simulation {job_path}: the file is empty. See examples/default_library.toml."
            )
        job = ExplicitSettings(**job_table) if "stratigraphy" in job_table else LibrarySettings(**job_table)
    except ValidationError as error:
        raise SampleError(
            f"Cannot use the simulation {job_path}: "
            f"{'; '.join(map(_describe_fault, _innermost_faults(error.errors())[:5]))}."
        ) from error
    if detector is None:
        return job
    return job.model_copy(update={"detector": load_instrument(detector).detector})


def _innermost_faults(faults: list[Any]) -> list[Any]:
    """Return the faults without those that only follow from other faults."""
    locations = [fault["loc"] for fault in faults]

    def follows_from_other_fault(fault: Any) -> bool:
        field_location = fault["loc"]
        contains_fault = any(
            other_location[: len(field_location)] == field_location and other_location != field_location
            for other_location in locations
        )
        return contains_fault or (fault["type"] == "string_type" and isinstance(fault["input"], dict))

    return [fault for fault in faults if not follows_from_other_fault(fault)] or faults


def _describe_fault(fault: Any) -> str:
    faulty_value, location = fault["input"], plain_text(".".join(map(str, fault["loc"])))[:200]
    value_text = f" (it is {ascii(faulty_value)[:80]})" if isinstance(faulty_value, str | int | float) else ""
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
    """Simulate a job. Write a training library, or a scan of one row for given stratigraphies.

    Parameters
    ----------
    job : ExplicitSettings, LibrarySettings, str or Path
        Settings of the job, or their TOML file.
    out : path
        File to write.
    photons : path, optional
        HDF5 file of the photons that the samples emit. If the file exists, it is read and only the detector is
        simulated.
    workers : int, optional
        Number of processes that simulate a training library, by default one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers simulate the training library.
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
    """Return the instrument of a job. If the job sets a detector, it replaces the instrument's detector."""
    instrument = load_instrument(job.instrument) if isinstance(job.instrument, str) else job.instrument
    detector = load_instrument(job.detector).detector if isinstance(job.detector, str) else job.detector
    return instrument if detector is None else instrument.model_copy(update={"detector": detector})


def simulate_spectra(job: ExplicitSettings, *, photons: str | Path | None = None) -> tuple[Scan, Instrument]:
    """Return a scan of one row, with one pixel for each stratigraphy. Also return the simulated instrument."""
    instrument = explicit_instrument(job)
    detector = instrument.detector
    emitted_photons = (
        _compute_photons(job, instrument)
        if photons is None
        else _load_or_compute_photons(job, instrument, Path(photons))
    )
    expected_counts = np.asarray(render(emitted_photons.emission, detector))
    _require_recorded_counts(expected_counts.sum(axis=1), job, detector)
    expected_counts *= job.counts / expected_counts.sum(axis=1, keepdims=True)
    counts = count(expected_counts, rng=np.random.default_rng(job.seed)) if job.noise else expected_counts
    scan = Scan(
        counts=counts[None],
        axis=axis_of(detector),
        name="simulated",
        format="simulated",
        notes=("The spectra are simulated, not measured.",),
        metadata={"stratigraphies": [stratigraphy_settings.name for stratigraphy_settings in job.stratigraphy]},
    )
    return scan, instrument


def _require_recorded_counts(total_counts: NDArray[np.float64], job: ExplicitSettings, detector: Detector) -> None:
    """Raise an error if a spectrum has no counts, because it cannot be scaled."""
    # totals below the smallest 32-bit float are rounding errors
    empty_rows = np.flatnonzero(~(np.isfinite(total_counts) & (total_counts > np.finfo(np.float32).tiny)))
    if empty_rows.size:
        row_index = int(empty_rows[0])
        stratigraphy_name = job.stratigraphy[row_index].name or f"stratigraphy {row_index + 1}"
        stop_kev = detector.zero_kev + detector.gain_kev * detector.n_channel
        raise SampleError(
            f"Cannot simulate {job.counts:g} counts of {stratigraphy_name!r}: no photon is recorded between "
            f"{detector.zero_kev:g} and {stop_kev:g} keV. Make the layers thicker, the air and the detector's window "
            f"thinner, or move the detector's channels."
        )


def _compute_photons(job: ExplicitSettings, instrument: Instrument) -> Photons:
    stratigraphies = [stratigraphy_settings.stratigraphy() for stratigraphy_settings in job.stratigraphy]
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument))


def _load_or_compute_photons(job: ExplicitSettings, instrument: Instrument, photons_path: Path) -> Photons:
    """Return the photons in a file. If the file does not exist, compute the photons and write them."""
    photons_request = {
        "stratigraphy": [stratigraphy_settings.model_dump(mode="json") for stratigraphy_settings in job.stratigraphy],
        "instrument": instrument.model_dump(mode="json", exclude={"detector"}),
    }
    if not photons_path.exists():
        _store_photons(_compute_photons(job, instrument), photons_path, photons_request, job.seed)
    with open_photons_of(photons_path, photons_request) as file:
        return read_chunk(file[CHUNKS]["000000"])


def _store_photons(photons: Photons, path: Path, photons_request: dict[str, Any], seed: int) -> None:
    with (
        atomic_write(path) as temporary_path,
        h5py.File(BytesIO(photons_to_bytes(photons)), "r") as chunk_file,
        h5py.File(temporary_path, "w") as file,
    ):
        write_photons_file(file, iter([chunk_file]), seed)
        file.attrs["job"] = json.dumps(photons_request)
