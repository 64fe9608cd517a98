"""What takes long, in a process of its own: the page stays quick, and cancelling leaves nothing half-made."""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
COMMAND = (sys.executable, "-m", "underpaint", "work")
"""Reads one job (JSON, a line) and answers with lines of JSON; ends when its standard input is closed."""
_PATIENCE_S = 20.0
_MOST_KEPT = 50


class Run:
    """A job in a process of its own.

    Parameters
    ----------
    job : mapping
        JSON-serialisable; ``what`` says what is to be done.
    command : sequence of str
        As :data:`COMMAND`.
    """

    def __init__(self, job: Mapping[str, Any], command: Sequence[str] = COMMAND) -> None:
        self.key = secrets.token_hex(8)
        self.job = dict(job)
        self._began = time.monotonic()
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {"state": RUNNING, "step": "Starting", "done": 0, "total": 0}
        self._process = subprocess.Popen(  # noqa: S603 - our own program; the job goes through its standard input
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8",
        )  # fmt: skip
        self._cancelled = False
        self._errors: list[str] = []
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def state(self) -> dict[str, Any]:
        """Return how far it is: ``state``, ``step``, ``done``, ``total``, ``seconds``; ``result`` or ``error``."""
        with self._lock:
            seconds = (self._ended or time.monotonic()) - self._began
            return {"run": self.key, "job": self.job, "seconds": round(seconds, 1), **self._facts}

    def cancel(self) -> None:
        """Ask it to stop; it is ended by force when it does not listen."""
        with self._lock:
            if self._facts["state"] != RUNNING or self._cancelled:
                return
            self._cancelled = True
            self._facts |= {"step": "Cancelling", "done": 0, "total": 0}
        self._close_input()
        threading.Thread(target=self._end, daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until it has ended, and return its state."""
        self._reader.join(timeout_s)
        return self.state()

    def _close_input(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            pass

    def _end(self) -> None:
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _drain(self) -> None:
        if self._process.stderr is not None:
            with self._process.stderr as stream:
                for line in stream:
                    self._errors = [*self._errors[-20:], line]

    def _follow(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(self.job) + "\n")
                self._process.stdin.flush()
        except OSError:
            pass  # it has ended already; why stands in what it printed
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self._take(line)
        self._process.wait()
        self._drainer.join(_PATIENCE_S)
        self._close_input()
        with self._lock:
            self._ended = time.monotonic()
            if self._cancelled:
                self._facts |= {"state": CANCELLED, "step": "Cancelled"}
            elif self._facts["state"] == RUNNING:
                said = "".join(self._errors).strip().splitlines()
                why = said[-1] if said else f"it ended with code {self._process.returncode}"
                self._facts |= {"state": FAILED, "error": f"The run broke off: {why}"}

    def _take(self, line: str) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        with self._lock:
            if self._cancelled or self._facts["state"] != RUNNING or not isinstance(told, dict):
                return
            if "progress" in told:
                step, done, total = told["progress"]
                self._facts |= {"step": step, "done": done, "total": total}
            elif "error" in told:
                self._facts |= {"state": FAILED, "error": told["error"]}
            elif "result" in told:
                self._facts |= {"state": DONE, "result": told["result"], "step": "Done"}


class Runs:
    """All runs of a server."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def start(self, job: Mapping[str, Any]) -> Run:
        """Begin a job."""
        run = Run(job)
        self._runs[run.key] = run
        for key in list(self._runs)[:-_MOST_KEPT]:
            if self._runs[key].state()["state"] != RUNNING:
                del self._runs[key]
        return run

    def get(self, key: str) -> Run | None:
        """Return a run, or None."""
        return self._runs.get(key)

    def close(self) -> None:
        """Cancel all that still runs, and wait until it has ended."""
        for run in self._runs.values():
            run.cancel()
        for run in self._runs.values():
            run.wait(_PATIENCE_S)
