"""Record of repairs of a scan, so that they can be reviewed, repeated and undone."""

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

_PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """One repair.

    Parameters
    ----------
    name : str
        ``rows``, ``pixels`` ...
    description : str
        Description of the findings and changes.
    facts : dict
        All numbers that repeating the step needs; JSON-serialisable.
    """

    name: str
    description: str
    facts: dict[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {"repair": self.name, "said": self.description, **self.facts}


def fingerprint(place: Path) -> str:
    """Return a digest (BLAKE2b, 128 bits, hexadecimal) of a file, or of all files of a folder with their names."""
    digest = blake2b(digest_size=16)
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    for file in files:
        digest.update(str(file.relative_to(place)).encode())
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()
