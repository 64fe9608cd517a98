"""Groups of ``results.h5`` that say how the scan was recorded: source, geometry, dwell time and object.

Only what is known is written, with where it is known from: ``origin`` is "given" (an instrument file or preset), "file"
(the scan's file) or "spectrum" (found in the scan's lines).
"""

from collections.abc import Mapping
from typing import Any

FIELDS: dict[str, tuple[str, str, str]] = {
    "tube.anode": ("source", "target_material", ""),
    "tube.voltage_kv": ("source", "voltage", "kV"),
    "geometry.incidence_angle_deg": ("geometry", "incidence_angle", "deg"),
    "geometry.takeoff_angle_deg": ("geometry", "takeoff_angle", "deg"),
    "geometry.scatter_angle_deg": ("geometry", "scatter_angle", "deg"),
    "geometry.source_air_cm": ("geometry", "source_air", "cm"),
    "geometry.detector_air_cm": ("geometry", "detector_air", "cm"),
    "detector.material": ("detector", "sensor_material", ""),
    "detector.thickness_um": ("detector", "sensor_thickness", "um"),
    "detector.noise_fwhm_kev": ("detector", "noise_fwhm", "keV"),
    "detector.fano": ("detector", "fano_factor", "1"),
}
"""By the instrument file's name of a value: group under ``instrument``, field, and unit."""
CLASSES = {"source": "NXsource", "geometry": "NXcollection", "detector": "NXdetector", "beam": "NXbeam"}


def write_conditions(entry: Any, facts: Mapping[str, Any], calibration: Mapping[str, Any]) -> None:
    """Write ``instrument`` (NXinstrument) and ``sample`` (NXsample).

    Parameters
    ----------
    entry : h5py.Group
    facts : mapping
        Facts of the scan: name, source, detector, times.
    calibration : mapping
        Of the run; ``known`` has each known value of the instrument with its origin.
    """
    instrument = nexus_group(entry, "instrument", "NXinstrument")
    groups = {name: nexus_group(instrument, name, kind) for name, kind in CLASSES.items() if name != "beam"}
    groups["source"]["probe"] = "x-ray"
    known = calibration.get("known", {})
    for path, (group, field, units) in FIELDS.items():
        if path in known:
            _write_field(groups[group], field, known[path], units)
    if "tube.anode" in known:
        groups["source"]["type"] = "Fixed Tube X-ray"
    energies = (known.get("source_spectrum", {}).get("value") or {}).get("energy_kev", ())
    if len(energies) == 1:
        beam = nexus_group(instrument, "beam", CLASSES["beam"])
        _write_field(beam, "incident_energy", known["source_spectrum"] | {"value": energies[0]}, "keV")
    if facts.get("detector"):
        groups["detector"]["description"] = str(facts["detector"])
    for fact, field in (("live_time_s", "count_time"), ("real_time_s", "real_time")):
        if isinstance(facts.get(fact), int | float):
            _write_field(groups["detector"], field, {"value": facts[fact], "origin": "file"}, "s")
    sample = nexus_group(entry, "sample", "NXsample")
    sample["name"] = str(facts.get("name", "scan"))
    sample["type"] = "sample"


def _write_field(group: Any, name: str, known: Mapping[str, Any], units: str) -> None:
    if known["value"] is None:
        return
    group[name] = known["value"]
    group[name].attrs["origin"] = str(known["origin"])
    if units:
        group[name].attrs["units"] = units


def nexus_group(parent: Any, name: str, nexus_class: str) -> Any:
    """Make a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group
