"""A PostgreSQL of one's own: Debian's server as a process on loopback."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers import free_port

_SERVER_USER = "postgres"


def binaries() -> Path:
    """Folder of initdb and pg_ctl, newest version."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that can be stopped and started again.

    Attributes
    ----------
    url : str
        Lacks the database's name.
    """

    folder: Path
    port: int
    as_user: tuple[str, ...]

    @property
    def url(self) -> str:
        """Prefix of its databases' URLs."""
        return f"postgresql+psycopg://mirv@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        )
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """Stop at once: every connection breaks."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def create(self) -> None:
        """Make its data folder."""
        self._run("initdb", "-U", "mirv", "-A", "trust", "--no-sync")

    def _run(self, command: str, *arguments: str) -> None:
        program = str(binaries() / command)
        subprocess.run(
            [*self.as_user, program, "-D", str(self.folder / "data"), *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Run a server. PostgreSQL will not run as root, so then it runs as its own user."""
    folder = Path(tempfile.mkdtemp(prefix="mirv-postgres-"))
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        account = pwd.getpwnam(_SERVER_USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = ("runuser", "-u", _SERVER_USER, "--")
    server = Server(folder, free_port(), as_user)
    try:
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server; yields a URL prefix that lacks the database's name."""
    with postgres_server() as server:
        yield server.url


def create_database(url: str, name: str) -> str:
    """Make a database on this server; its URL."""
    port = url.rstrip("/").rpartition(":")[2]
    subprocess.run(
        [str(binaries() / "createdb"), "-h", "127.0.0.1", "-p", port, "-U", "mirv", name],
        check=True,
    )
    return url + name
