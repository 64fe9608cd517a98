"""Answers about components, clusters, an embedding and correlations of the maps."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.display.viewer import exploration
from underpaint.display.viewer.open_results import ResultRequests, Routes, entry_facts
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.windows import fits_memory
from underpaint.errors import ScanError
from underpaint.io.results.result_maps import computed_entry


class ExplorationRequests(ResultRequests):
    """Answers about what belongs together; each is computed once."""

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("POST", "explore"): self._explore,
            ("GET", "embedding"): self._embedding,
        }

    @cached_property
    def _detected(self) -> exploration.Lines:
        return exploration.detected_lines(self.results.maps)

    @cached_property
    def _places(self) -> NDArray[np.float32]:
        return exploration.embedding(self._detected)

    def _explore(self, request: Request) -> Answer:
        """Answer with components, clusters or correlations; maps are added to the lists."""
        sent = request.json()
        with self.results.working:
            makers = {"components": self._components, "clusters": self._clusters, "correlation": self._correlation}
            if sent.get("what") not in makers:
                raise ScanError(f"Cannot explore: choose {', '.join(makers)}.")
            return json_answer(makers[sent["what"]](sent))

    def _components(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = exploration.whole_number(sent.get("n"), 2, exploration.MOST_COMPONENTS, "components")
        counts = None
        if self.results.source.state == READY and fits_memory(self.results.source.scan()):
            store = self.results.windows.open(self.results.source.scan())
            counts = None if store is None or store.counts.shape[1:] != self.results.maps.shape else store.counts
        parts = exploration.components(self._detected, n, counts)
        names = [f"component {number}" for number in range(1, len(parts.maps) + 1)]
        maps = [
            self._add_map("component", f"{name} of {len(names)}", "counts", image)
            for name, image in zip(names, parts.maps, strict=True)
        ]
        return {
            "maps": maps,
            "spectra": None if parts.spectra is None else parts.spectra.tolist(),
            "shares": parts.shares.tolist(),
            "words": [exploration.line_share(shares) for shares in parts.strongest],
        }

    def _clusters(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = exploration.whole_number(sent.get("n"), 2, exploration.MOST_CLUSTERS, "clusters")
        parts = exploration.clusters(self._detected, n)
        return {
            **self._add_map("cluster", f"{n} clusters", "1", parts.picture),
            "shares": parts.shares.tolist(),
            "strongest": parts.strongest,
        }

    def _correlation(self, _: dict[str, Any]) -> dict[str, Any]:
        lines = self._detected
        return {
            "names": lines.names,
            "numbers": lines.numbers,
            "correlation": exploration.correlation(lines).round(3).tolist(),
        }

    def _embedding(self, _: Request) -> Answer:
        """Answer with a place in a plane for each pixel: (n_row, n_column, 2) float32."""
        with self.results.working:
            return Answer(self._places.astype("<f4").tobytes(), "application/octet-stream")

    def _add_map(self, kind: str, label: str, unit: str, image: NDArray[np.float32]) -> dict[str, Any]:
        entry = computed_entry("exploration", label.replace(" ", "_"), label, kind, unit)
        return {"map": self.results.maps.add(entry, lambda: image), "entry": entry_facts(entry)}
