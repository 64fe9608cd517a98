"""Long tasks in processes of their own: the page stays quick, and cancelling leaves no unfinished results."""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from underpaint.display.viewer.page_words import page_notes, page_words
from underpaint.errors import OutputError

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
COMMAND = (sys.executable, "-m", "underpaint", "work")
"""Reads one job (JSON, a line) and answers with lines of JSON; ends when its standard input is closed."""
_PATIENCE_S = 20.0
_POLL_S = 0.2
_MOST_KEPT = 50
MOST_AT_ONCE = 2
"""Number of long runs at a time, and of short ones: both share memory and processors."""
MOST_QUEUED = 100
_LONG = {"identify", "elements"}


class Run:
    """A job in a process of its own.

    Parameters
    ----------
    job : mapping
        JSON-serialisable; ``what`` is the kind of task.
    command : sequence of str
        As :data:`COMMAND`.
    turn : Semaphore or None
        Acquired before the process begins and released when it has ended; None: the process begins at once.
    """

    def __init__(
        self, job: Mapping[str, Any], command: Sequence[str] = COMMAND, turn: threading.Semaphore | None = None
    ) -> None:
        self.key = secrets.token_hex(8)
        self.job = dict(job)
        self._began = time.monotonic()
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {"state": QUEUED, "step": "Waiting for other runs to end", "done": 0, "total": 0}
        self._command = list(command)
        self._turn = turn or threading.Semaphore()
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._errors: list[str] = []
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        if self._turn.acquire(blocking=False):
            try:
                self._begin()
            except BaseException:
                self._turn.release()
                raise
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
            if self._facts["state"] not in {QUEUED, RUNNING} or self._cancelled:
                return
            self._cancelled = True
            self._facts |= {"step": "Cancelling", "done": 0, "total": 0}
            process = self._process
        if process is not None:
            _close_input(process)
            threading.Thread(target=_end, args=(process,), daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until it has ended, and return its state."""
        self._reader.join(timeout_s)
        return self.state()

    def _begin(self) -> bool:
        """Begin the process, unless the job was cancelled while it waited."""
        with self._lock:
            if self._cancelled:
                return False
            self._process = subprocess.Popen(  # noqa: S603 - our own program; the job goes through its standard input
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                encoding="utf-8",
            )  # fmt: skip
            self._facts |= {"state": RUNNING, "step": "Starting"}
        self._drainer.start()
        return True

    def _drain(self) -> None:
        if self._process is not None and self._process.stderr is not None:
            with self._process.stderr as stream:
                for line in stream:
                    self._errors = [*self._errors[-20:], line]

    def _follow(self) -> None:
        held = self._process is not None
        while not held and not self._cancelled:
            held = self._turn.acquire(timeout=_POLL_S)
        try:
            if self._process is not None or (held and self._begin()):
                self._follow_process()
        except OSError as error:
            self._errors = [str(error)]
        finally:
            if held:
                self._turn.release()
        with self._lock:
            self._ended = time.monotonic()
            if self._cancelled:
                self._facts |= {"state": CANCELLED, "step": "Cancelled"}
            elif self._facts["state"] in {QUEUED, RUNNING}:
                code = None if self._process is None else self._process.returncode
                lines = "".join(self._errors).strip().splitlines()
                why = lines[-1] if lines else f"it ended with code {code}"
                self._facts |= {"state": FAILED, "error": f"The run broke off: {why}"}

    def _follow_process(self) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.write(json.dumps(self.job) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended already, which what it printed explains; or it was cancelled
        with process.stdout as stream:
            for line in stream:
                self._take(line)
        process.wait()
        self._drainer.join(_PATIENCE_S)
        _close_input(process)

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return
        with self._lock:
            if self._cancelled or self._facts["state"] != RUNNING or not isinstance(message, dict):
                return
            if "progress" in message:
                step, done, total = message["progress"]
                self._facts |= {"step": step, "done": done, "total": total}
            elif "error" in message:
                self._facts |= {"state": FAILED, "error": page_words(str(message["error"]))}
            elif "result" in message:
                self._facts |= {"state": DONE, "result": page_notes(message["result"]), "step": "Done"}


def _close_input(process: subprocess.Popen[str]) -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()
    except OSError:
        pass


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()


class Runs:
    """All runs of a server: a limited number at once, the others wait."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._turns = {long: threading.Semaphore(MOST_AT_ONCE) for long in (False, True)}

    def start(self, job: Mapping[str, Any]) -> Run:
        """Begin a job, or queue it.

        Raises
        ------
        OutputError
            Too many runs wait, or the server is being closed.
        """
        with self._lock:
            waiting = sum(own.state()["state"] == QUEUED for own in self._runs.values())
            if self._closed or waiting >= MOST_QUEUED:
                reason = "the viewer is being closed" if self._closed else f"{waiting} others wait already"
                raise OutputError(f"Cannot run: {reason}. Try again later.")
            run = Run(job, turn=self._turns[job.get("what") in _LONG])
            self._runs[run.key] = run
            for key in list(self._runs)[:-_MOST_KEPT]:
                if self._runs[key].state()["state"] not in {QUEUED, RUNNING}:
                    del self._runs[key]
        return run

    def get(self, key: str) -> Run | None:
        """Return a run, or None."""
        return self._runs.get(key)

    def of(self, what: str) -> list[Run]:
        """Return the runs of one kind of job, the first one first."""
        return [run for run in list(self._runs.values()) if run.job.get("what") == what]

    def scan_of(self, folder: Path) -> str | None:
        """Return the scan of the last run of this server that wrote to a folder; None if there is none."""
        for run in reversed(list(self._runs.values())):
            facts = run.state()
            result = facts.get("result")
            if run.job.get("what") in _LONG and isinstance(result, dict) and Path(result["folder"]).resolve() == folder:
                return str(run.job["scan"])
        return None

    def close(self) -> None:
        """Cancel all that still runs or waits, and wait until it has ended."""
        with self._lock:
            self._closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(_PATIENCE_S)
