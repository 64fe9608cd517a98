"""Long tasks in separate processes, so that pages stay responsive and cancelling leaves no unfinished results."""

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
"""Command that reads one job as a line of JSON and writes lines of JSON. The process ends when its standard input is
closed."""
_TIME_LIMIT_S = 20.0
_POLL_S = 0.2
_MAX_FINISHED_RUNS = 50
MAX_SIMULTANEOUS = 2
"""Maximum number of long runs at a time. The same limit applies separately to short runs."""
MAX_QUEUED = 100
_LONG_JOBS = {"identify", "elements"}


class Run:
    """A job in a separate process.

    Parameters
    ----------
    job : mapping
        JSON-serialisable job; ``what`` is the kind of task.
    command : sequence of str
        Command of the process, like :data:`COMMAND`.
    turn : Semaphore or None
        Semaphore that is acquired before the process starts and released after it ends. If None, the process starts
        immediately.
    """

    def __init__(
        self, job: Mapping[str, Any], command: Sequence[str] = COMMAND, turn: threading.Semaphore | None = None
    ) -> None:
        self.key = secrets.token_hex(8)
        self.job = dict(job)
        self._start_s = time.monotonic()
        self._end_s: float | None = None
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"state": QUEUED, "step": "Waiting for other runs to end", "done": 0, "total": 0}
        self._command = list(command)
        self._turn = turn or threading.Semaphore()
        self._process: subprocess.Popen[str] | None = None
        self._is_cancelled = False
        self._errors: list[str] = []
        self._error_thread = threading.Thread(target=self._read_errors, daemon=True)
        if self._turn.acquire(blocking=False):
            try:
                self._start_process()
            except BaseException:
                self._turn.release()
                raise
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def state(self) -> dict[str, Any]:
        """Return ``state``, ``step``, ``done``, ``total`` and ``seconds`` of the run, and ``result`` or ``error``."""
        with self._lock:
            seconds = (self._end_s or time.monotonic()) - self._start_s
            return {"run": self.key, "job": self.job, "seconds": round(seconds, 1), **self._state}

    def cancel(self) -> None:
        """Cancel the run; its process is killed if it does not end within the time limit."""
        with self._lock:
            if self._state["state"] not in {QUEUED, RUNNING} or self._is_cancelled:
                return
            self._is_cancelled = True
            self._state |= {"step": "Cancelling", "done": 0, "total": 0}
            process = self._process
        if process is not None:
            _close_input(process)
            threading.Thread(target=_end_process, args=(process,), daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until the run ends, and return its state."""
        self._supervisor.join(timeout_s)
        return self.state()

    def _start_process(self) -> bool:
        """Start the process unless the job was cancelled; return whether the process was started."""
        with self._lock:
            if self._is_cancelled:
                return False
            self._process = subprocess.Popen(  # noqa: S603 - a fixed program; the job is sent to its standard input
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                encoding="utf-8",
            )  # fmt: skip
            self._state |= {"state": RUNNING, "step": "Starting"}
        self._error_thread.start()
        return True

    def _read_errors(self) -> None:
        if self._process is not None and self._process.stderr is not None:
            with self._process.stderr as stream:
                for error_line in stream:
                    self._errors = [*self._errors[-20:], error_line]

    def _supervise(self) -> None:
        has_turn = self._process is not None
        while not has_turn and not self._is_cancelled:
            has_turn = self._turn.acquire(timeout=_POLL_S)
        try:
            if self._process is not None or (has_turn and self._start_process()):
                self._follow_process()
        except OSError as error:
            self._errors = [str(error)]
        finally:
            if has_turn:
                self._turn.release()
        with self._lock:
            self._end_s = time.monotonic()
            if self._is_cancelled:
                self._state |= {"state": CANCELLED, "step": "Cancelled"}
            elif self._state["state"] in {QUEUED, RUNNING}:
                exit_code = None if self._process is None else self._process.returncode
                error_lines = "".join(self._errors).strip().splitlines()
                reason = error_lines[-1] if error_lines else f"the process ended with code {exit_code}"
                self._state |= {"state": FAILED, "error": f"The run failed: {reason}"}

    def _follow_process(self) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.write(json.dumps(self.job) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            pass  # either the run was cancelled, or the process has ended and its output states the reason
        with process.stdout as stream:
            for output_line in stream:
                self._read_message(output_line)
        process.wait()
        self._error_thread.join(_TIME_LIMIT_S)
        _close_input(process)

    def _read_message(self, line: str) -> None:
        try:
            worker_message = json.loads(line)
        except ValueError:
            return
        with self._lock:
            if self._is_cancelled or self._state["state"] != RUNNING or not isinstance(worker_message, dict):
                return
            if "progress" in worker_message:
                step_name, n_done, n_total = worker_message["progress"]
                self._state |= {"step": step_name, "done": n_done, "total": n_total}
            elif "error" in worker_message:
                self._state |= {"state": FAILED, "error": page_words(str(worker_message["error"]))}
            elif "result" in worker_message:
                self._state |= {"state": DONE, "result": page_notes(worker_message["result"]), "step": "Done"}


def _close_input(process: subprocess.Popen[str]) -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()
    except OSError:
        pass


def _end_process(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()


class Runs:
    """All runs of a server. A limited number of runs proceed at the same time; further runs are queued."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._is_closed = False
        self._lock = threading.Lock()
        self._turns = {is_long: threading.Semaphore(MAX_SIMULTANEOUS) for is_long in (False, True)}

    def start(self, job: Mapping[str, Any]) -> Run:
        """Start or queue a job.

        Raises
        ------
        OutputError
            Too many runs are queued, or the server is being closed.
        """
        with self._lock:
            n_waiting = sum(queued.state()["state"] == QUEUED for queued in self._runs.values())
            if self._is_closed or n_waiting >= MAX_QUEUED:
                reason = "the viewer is being closed" if self._is_closed else f"{n_waiting} runs are queued already"
                raise OutputError(f"Cannot run: {reason}. Try again later.")
            run = Run(job, turn=self._turns[job.get("what") in _LONG_JOBS])
            self._runs[run.key] = run
            for key in list(self._runs)[:-_MAX_FINISHED_RUNS]:
                if self._runs[key].state()["state"] not in {QUEUED, RUNNING}:
                    del self._runs[key]
        return run

    def get(self, key: str) -> Run | None:
        """Return the run with a key; None for an unknown key."""
        return self._runs.get(key)

    def of_kind(self, job_kind: str) -> list[Run]:
        """Return the runs of one kind of job, the earliest first."""
        return [run for run in list(self._runs.values()) if run.job.get("what") == job_kind]

    def scan_of(self, folder: Path) -> str | None:
        """Return the scan of the latest run that wrote to a folder; None without such a run."""
        for run in reversed(list(self._runs.values())):
            run_state = run.state()
            run_result = run_state.get("result")
            if (
                run.job.get("what") in _LONG_JOBS
                and isinstance(run_result, dict)
                and Path(run_result["folder"]).resolve() == folder
            ):
                return str(run.job["scan"])
        return None

    def close(self) -> None:
        """Cancel all running and queued runs, and wait until they end."""
        with self._lock:
            self._is_closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(_TIME_LIMIT_S)
