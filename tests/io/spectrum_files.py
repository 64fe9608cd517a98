"""Text of small files of single spectra and lists of them, written by hand as the programs write them."""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
COUNTS = np.random.default_rng(3).integers(0, 90, (4, 64))
"""Four spectra of 64 channels."""


def rtx_text(spectra: Counts = COUNTS, gains: tuple[float, ...] = (0.02,) * 4) -> str:
    """An ARTAX project: spectra in nested folders, each with its times, axis and a result."""
    template = """<ClassInstance Type="TRTSpectrum" Name="point {number}"><TRTHeaderedClass>
<ClassInstance Type="TRTSpectrumHardwareHeader">
<RealTime>3000</RealTime><LifeTime>{live}</LifeTime></ClassInstance>
<ClassInstance Type="TRTGeneratorHeader"><HighVoltage>40</HighVoltage></ClassInstance></TRTHeaderedClass>
<ClassInstance Type="TRTSpectrumHeader"><ChannelCount>{size}</ChannelCount><CalibAbs>-0,1</CalibAbs>
<CalibLin>{gain}</CalibLin></ClassInstance><Channels>{channels}</Channels>
<ClassInstance Type="TRTResult" Name="Results"><Result><Atom>14</Atom></Result></ClassInstance></ClassInstance>"""
    inner = "\n".join(
        template.format(
            number=place + 1, live=1000 + place, size=len(spectrum), gain=gain, channels=",".join(map(str, spectrum))
        )
        for place, (spectrum, gain) in enumerate(zip(spectra, gains, strict=True))
    )
    return (
        '<?xml version="1.0" encoding="WINDOWS-1252" standalone="yes"?>\n<TRTProject>'
        '<ClassInstance Type="TRTProject">\n'
        f'<ChildClassInstances><ClassInstance Type="TRTBase" Name="été"><ChildClassInstances>{inner}'
        "</ChildClassInstances></ClassInstance></ChildClassInstances></ClassInstance></TRTProject>"
    )


def s1pxrf_text(counts: Counts = COUNTS[0], end: str = "\r") -> str:
    """An export of S1PXRF, its lines ended by carriage returns alone."""
    head = [
        "Bruker AXS Handheld Inc. S1PXRF Spectrum ",
        'Label,"A1"',
        "Duration Time,60.5",
        "Live Time,57.25",
        "HV ADC,40.000000",
        "eV per channel,20.5",
        f"Number of Channels,{len(counts)}",
        "Channel#,Intensity",
    ]
    return end.join([*head, *(f'{channel},"{count}"' for channel, count in enumerate(counts))]) + end


def iaea_text(counts: Counts = COUNTS[0], energies: str = "$MCA_CAL:\n3\n-0.1 0.02 0.0 keV\n", end: str = "\n") -> str:
    """An IAEA spectrum as Ortec's Maestro writes it."""
    lines = "\n".join(
        "".join(f"{count:10d}" for count in counts[start : start + 8]) for start in range(0, len(counts), 8)
    )
    text = f"$SPEC_ID:\nA1\n$MEAS_TIM:\n57.25 60.5\n$DATA:\n0 {len(counts) - 1}\n{lines}\n$ROI:\n0\n{energies}"
    return text.replace("\n", end)


def spec_text(spectra: Counts = COUNTS, calibration: str = "-0.1 0.02 0", head: str = "#F a.mca\n#D Sun\n\n") -> str:
    """A SPEC file: a scan with one spectrum each, its counts over several lines."""
    text = head
    for place, spectrum in enumerate(spectra):
        lines = "\\\n".join(
            " ".join(map(str, spectrum[start : start + 16])) + " " for start in range(0, len(spectrum), 16)
        )
        text += f"#S {place + 1} a title\n#D Sun\n#@MCA %16C\n#@CHANN {len(spectrum)} 0 {len(spectrum) - 1} 1\n"
        text += f"#@CTIME 10 {8 + place} 9\n#@CALIB {calibration}\n@A {lines}\n\n"
    return text


def gsecars_text(spectra: Counts = COUNTS, end: str = "\n", quadratic: float = 0.0) -> str:
    """Detectors side by side, each with its own axis and live time."""
    count, size = spectra.shape
    each = range(count)
    lines = [
        "VERSION:    3.1",
        f"ELEMENTS:   {count}",
        "DATE:       Jan 30, 2013 15:25:17.766",
        f"CHANNELS:   {size}",
        "REAL_TIME:  " + " ".join("9.5" for _ in each),
        "LIVE_TIME:  " + " ".join(f"{8 + place}.25" for place in each),
        "CAL_OFFSET: " + " ".join(f"{-0.1 + 0.001 * place:.6e}" for place in each),
        "CAL_SLOPE:  " + " ".join(f"{0.02 + 0.0001 * place:.6e}" for place in each),
        "CAL_QUAD:   " + " ".join(f"{quadratic:e}" for _ in each),
        'ENVIRONMENT: 13IDA:E:Energy.VAL="11800.00" (Mono Energy request)',
        "DATA: ",
        *(" " + " ".join(map(str, row)) for row in spectra.T),
    ]
    return end.join(lines) + end


def emsa_text(
    counts: Counts = COUNTS[0], *, comma: bool = False, pairs: bool = False, columns: int = 1, unit: str = "keV"
) -> str:
    """An EMSA/MAS spectrum, with the decimal sign, the columns and the unit of choice."""
    scale = {"keV": 1.0, "eV": 1000.0, "": 1000.0}[unit]
    numbers = [f"{-0.1 * scale + 0.02 * scale * channel:.3f} {count}.5" for channel, count in enumerate(counts)]
    words = numbers if pairs else [f"{count}.5" for count in counts]
    lines = [", ".join(words[start : start + columns]) for start in range(0, len(words), columns)]
    text = f"#NPOINTS : {len(counts)}.\n#NCOLUMNS : {columns}\n#XUNITS : {unit}\n#DATATYPE : {'XY' if pairs else 'Y'}\n"
    text += (
        f"#XPERCHAN : {0.02 * scale:.4f}\n#OFFSET : {-0.1 * scale:.4f}\n#LIVETIME  -s: 57.25\n#REALTIME : 6.05E+001\n"
    )
    text += "#SPECTRUM : here\n" + "\n".join(lines) + "\n#ENDOFDATA : \n"
    return "#FORMAT : EMSA/MAS Spectral Data File\n" + (re_comma(text) if comma else text)


def re_comma(text: str) -> str:
    """Write numbers with a comma, and put semicolons between those of a line."""
    return text.replace(", ", " ; ").replace(".", ",")
