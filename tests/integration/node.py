"""A node as its own process, as an administrator runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.peers import free_port, stop, wait_until

MIRV = str(Path(sys.executable).parent / "mirv")


@dataclass
class NodeProcess:
    """A node with its settings file; started, killed and started again at will.

    Attributes
    ----------
    folder : Path
    settings : dict
        As written to ``mirv.yaml``.
    """

    folder: Path
    settings: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.folder / "mirv.yaml"

    @property
    def port(self) -> int:
        """Of the DICOM listener."""
        return int(self.settings["listener"]["port"])

    @property
    def url(self) -> str:
        """Of the status page."""
        return f"http://127.0.0.1:{self.settings['http']['port']}"

    def start(self) -> None:
        """Start and wait until it takes objects in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [MIRV, "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "TCP_NODELAY": "1"},
                start_new_session=True,
            )
        wait_until(self._up, 60, f"node answers; its log: {self.log()[-3000:]}")

    def _up(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"node ended with {self.process.returncode}: {self.log()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """``kill -9`` of the node and every process it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None:
            stop(self.process)
            self.process = None

    def log(self) -> str:
        """What it logged so far."""
        path = self.folder / "node.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def api(self, path: str) -> Any:
        """A list of the status page's API."""
        answer = httpx.get(f"{self.url}/api/{path}", timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def metrics(self) -> str:
        """What the node measures of itself."""
        answer = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.text

    def runs(self, **wanted: str) -> list[dict[str, Any]]:
        """Runs whose fields have these values."""
        return [
            run for run in self.api("runs") if all(run[name] == v for name, v in wanted.items())
        ]

    def done(self, study_uid: str) -> bool:
        """True when the study has runs, all have ended, and every result is delivered."""
        runs = self.runs(study_uid=study_uid)
        mine = {run["run_id"] for run in runs}
        is_open = any(run["state"] in ("queued", "running") for run in runs)
        waiting = any(row["run_id"] in mine for row in self.api("deliveries?state=waiting"))
        return bool(runs) and not is_open and not waiting

    def wait_for(self, study_uid: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until the study is done; its current run."""
        wait_until(
            lambda: self.done(study_uid),
            seconds,
            f"{study_uid} done; runs {self.runs(study_uid=study_uid)}; log {self.log()[-3000:]}",
        )
        (current,) = (run for run in self.runs(study_uid=study_uid) if run["superseded_by"] is None)
        return current

    def mirv(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command on this node's settings."""
        return run_mirv(*arguments, "--config", str(self.config))


def run_mirv(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a ``mirv`` command."""
    return subprocess.run(
        [MIRV, *arguments], capture_output=True, text=True, timeout=900, check=False
    )


@contextmanager
def node(
    folder: Path, destinations: list[dict[str, Any]], **settings: Any
) -> Iterator[NodeProcess]:
    """A running node that sends its results to `destinations`."""
    made = NodeProcess(
        folder,
        {
            "folder": str(folder / "node"),
            "quiet_s": 1.0,
            "listener": {"port": free_port()},
            "http": {"port": free_port()},
            "destinations": destinations,
            "delivery": {"first_retry_s": 0.5, "longest_retry_s": 2},
            **settings,
        },
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()
