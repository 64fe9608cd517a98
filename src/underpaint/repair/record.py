"""Records of the repairs of a scan, for review and repetition."""

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """Record of one repair.

    Parameters
    ----------
    name : str
        Kind of repair: ``rows``, ``pixels`` ...
    description : str
        Description of the findings and changes.
    facts : dict
        JSON-serialisable values that are needed to repeat the repair.
    """

    name: str
    description: str
    facts: dict[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serialisable record."""
        return {"repair": self.name, "said": self.description, **self.facts}


def fingerprint(path: Path) -> str:
    """Return a digest (BLAKE2b, 128 bits, hexadecimal) of a file, or of all files of a folder with their names."""
    digest = blake2b(digest_size=16)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
