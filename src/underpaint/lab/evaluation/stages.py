"""The stages of a long evaluation: each keeps its figures in a file, and is not run twice."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from underpaint.runtime.files import claim_folder, plain, write_json


class Stages:
    """A folder of finished stages.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    facts : dict
        What all figures depend on: settings, model, versions. A stage that was kept with others is run again.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self._facts = folder, facts
        claim_folder(folder)

    def take(self, name: str, make: Callable[[], dict[str, Any]], facts: dict[str, Any] | None = None) -> Any:
        """Return a stage's figures: those that are kept, or what ``make`` returns.

        Parameters
        ----------
        name : str
            Of the stage and its file.
        make : callable
            Computes the figures, plain values.
        facts : dict, optional
            What this stage depends on besides.
        """
        own = plain({**self._facts, **(facts or {})})
        path = self.folder / f"{name}.json"
        kept = self._read(path)
        if kept.get("facts") == own:
            return kept["figures"]
        start = time.perf_counter()
        figures = plain(make())
        record = {"facts": own, "seconds": round(time.perf_counter() - start, 1), "figures": figures}
        write_json(path, record)
        return figures

    def seconds(self) -> dict[str, float]:
        """Return how long each stage took when it was run."""
        kept = {path.stem: self._read(path) for path in sorted(self.folder.glob("*.json"))}
        return {name: record["seconds"] for name, record in kept.items() if "seconds" in record}

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            # not written by this class, which writes whole files: run again
            return {}
        return kept if isinstance(kept, dict) else {}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
