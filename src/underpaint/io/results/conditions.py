"""Writing of the measurement's conditions into ``results.h5``: source, geometry, dwell time and object.

Only known values are written. The attribute ``origin`` states where a value is from: "given" (an instrument file or
preset), "file" (the scan's file) or "spectrum" (lines in the scan's spectra).
"""

from collections.abc import Mapping
from typing import Any

INSTRUMENT_FIELDS: dict[str, tuple[str, str, str]] = {
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
"""Subgroup of ``instrument``, field name and unit for each setting. Keys are the settings' names in instrument files.
"""
GROUP_CLASSES = {"source": "NXsource", "geometry": "NXcollection", "detector": "NXdetector", "beam": "NXbeam"}


def write_conditions(entry_group: Any, scan_facts: Mapping[str, Any], calibration: Mapping[str, Any]) -> None:
    """Write the groups ``instrument`` (NXinstrument) and ``sample`` (NXsample).

    Parameters
    ----------
    entry_group : h5py.Group
        Group ``entry`` of ``results.h5``.
    scan_facts : mapping
        Summary of the scan, with its name, source, detector and times.
    calibration : mapping
        Calibration of the run, whose item ``known`` has the known settings of the instrument with their origins.
    """
    instrument = nexus_group(entry_group, "instrument", "NXinstrument")
    groups = {
        name: nexus_group(instrument, name, nexus_class)
        for name, nexus_class in GROUP_CLASSES.items()
        if name != "beam"
    }
    groups["source"]["probe"] = "x-ray"
    known_values = calibration.get("known", {})
    for value_name, (group, field, units) in INSTRUMENT_FIELDS.items():
        if value_name in known_values:
            _write_field(groups[group], field, known_values[value_name], units)
    if "tube.anode" in known_values:
        groups["source"]["type"] = "Fixed Tube X-ray"
    energies = (known_values.get("source_spectrum", {}).get("value") or {}).get("energy_kev", ())
    if len(energies) == 1:
        beam = nexus_group(instrument, "beam", GROUP_CLASSES["beam"])
        _write_field(beam, "incident_energy", known_values["source_spectrum"] | {"value": energies[0]}, "keV")
    if scan_facts.get("detector"):
        groups["detector"]["description"] = str(scan_facts["detector"])
    for fact_name, field in (("live_time_s", "count_time"), ("real_time_s", "real_time")):
        if isinstance(scan_facts.get(fact_name), int | float):
            _write_field(groups["detector"], field, {"value": scan_facts[fact_name], "origin": "file"}, "s")
    sample = nexus_group(entry_group, "sample", "NXsample")
    sample["name"] = str(scan_facts.get("name", "scan"))
    sample["type"] = "sample"


def _write_field(group: Any, name: str, known_value: Mapping[str, Any], units: str) -> None:
    if known_value["value"] is None:
        return
    group[name] = known_value["value"]
    group[name].attrs["origin"] = str(known_value["origin"])
    if units:
        group[name].attrs["units"] = units


def nexus_group(parent: Any, name: str, nexus_class: str) -> Any:
    """Create a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group
