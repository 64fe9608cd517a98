"""Spectra of stratigraphies written down by hand, as a file that every other command reads."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from underpaint.errors import SampleError
from underpaint.forward import count, emit, render
from underpaint.instrument import Instrument, load_instrument
from underpaint.io import save_scan
from underpaint.sample import Layer, Paint, Stratigraphy, coating_layer, ground_layer, support_layer
from underpaint.spectrum import EnergyAxis, Scan
from underpaint.synth.jobs import LibrarySettings
from underpaint.synth.library import Progress, simulate_library

PLAIN = {"ground": ground_layer, "support": support_layer, "coating": coating_layer}


class LayerSettings(BaseModel):
    """One layer: pigments in a binder, a ground, support or coating by name, or elements by mass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pigments: dict[str, float] | None = None
    pigment_to_binder: float = Field(3.0, gt=0)
    binder: str = "linseed_oil"
    ground: str | None = None
    support: str | None = None
    coating: str | None = None
    elements: dict[str, float] | None = None
    density: float | None = Field(None, gt=0, description="g/cm3; needed with elements")
    thickness_um: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> "LayerSettings":
        given = [name for name in ("pigments", "elements", *PLAIN) if getattr(self, name) is not None]
        if len(given) != 1:
            message = f"a layer needs exactly one of pigments, elements, ground, support, coating; it has {given}"
            raise ValueError(message)
        if self.elements is not None and self.density is None:
            message = "a layer of elements needs its density, g/cm3"
            raise ValueError(message)
        if self.thickness_um is None and given[0] not in {"support", "coating"}:
            message = "a layer needs its thickness_um"
            raise ValueError(message)
        return self

    def layer(self) -> Layer:
        """Return the layer."""
        if self.pigments is not None:
            paint = Paint(self.pigments, self.pigment_to_binder, self.binder, self.density)
            return paint.layer(self.thickness_um or 0.0)
        if self.elements is not None:
            return Layer(self.elements, self.density or 0.0, self.thickness_um or 0.0, "elements")
        kind = next(name for name in PLAIN if getattr(self, name) is not None)
        return PLAIN[kind](getattr(self, kind), self.thickness_um)  # type: ignore[arg-type]


class StratigraphySettings(BaseModel):
    """Layers from the surface down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    layer: tuple[LayerSettings, ...] = Field(min_length=1)

    def stratigraphy(self) -> Stratigraphy:
        """Return the stratigraphy."""
        return Stratigraphy(tuple(entry.layer() for entry in self.layer), self.name)


class ExplicitSettings(BaseModel):
    """Spectra of named stratigraphies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instrument: str = "elio"
    counts: float = Field(1e5, gt=0, description="expected counts in each spectrum")
    noise: bool = Field(True, description="draw Poisson counts; false: expected counts")
    seed: int = 0
    stratigraphy: tuple[StratigraphySettings, ...] = Field(min_length=1)


def load_job(path: str | Path) -> ExplicitSettings | LibrarySettings:
    """Read a job for ``underpaint simulate``: named stratigraphies, or a training library.

    Raises
    ------
    SampleError
        The file is missing, is not TOML, or a field is wrong; the message names it.
    """
    source = Path(path)
    try:
        table: dict[str, Any] = tomllib.loads(source.read_text("utf-8"))
        return ExplicitSettings(**table) if "stratigraphy" in table else LibrarySettings(**table)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"Cannot read the simulation {source}: {error}."
        raise SampleError(message) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        message = f"Cannot use the simulation {source}: {faults}."
        raise SampleError(message) from error


def simulate(
    path: str | Path, out: str | Path, *, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Run a job file: named stratigraphies become a scan of one row, a training library its HDF5 file."""
    job = load_job(path)
    if isinstance(job, LibrarySettings):
        return simulate_library(job, out, workers=workers, progress=progress)
    scan, instrument = simulate_spectra(job)
    save_scan(
        scan,
        out,
        settings={"simulation": job.model_dump(mode="json"), "instrument": instrument.model_dump(mode="json")},
    )
    return Path(out)


def simulate_spectra(job: ExplicitSettings) -> tuple[Scan, Instrument]:
    """Return a scan of one row with a pixel for each stratigraphy, and the instrument that saw it."""
    instrument = load_instrument(job.instrument)
    detector = instrument.detector
    expected = np.asarray(render(emit([entry.stratigraphy() for entry in job.stratigraphy], instrument), detector))
    expected *= job.counts / expected.sum(axis=1, keepdims=True)
    counts = count(expected, rng=np.random.default_rng(job.seed)) if job.noise else expected
    scan = Scan(
        counts=counts[None],
        axis=EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel),
        name="simulated",
        format="simulated",
        notes=("Simulated spectra, not a measurement.",),
        metadata={"stratigraphies": [entry.name for entry in job.stratigraphy]},
    )
    return scan, instrument
