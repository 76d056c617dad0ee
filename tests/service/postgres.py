"""A PostgreSQL of one's own: Debian's server as a process on loopback."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers import free_port

_SERVER_USER = "postgres"


def binaries() -> Path:
    """Folder of initdb and pg_ctl, newest version."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server; yields a URL prefix that lacks the database's name.

    PostgreSQL will not run as root, so then it runs as its own user.
    """
    folder = Path(tempfile.mkdtemp(prefix="mirv-postgres-"))
    port = free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam(_SERVER_USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = ["runuser", "-u", _SERVER_USER, "--"]
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, str(binaries() / command[0]), *command[1:]],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )

    try:
        run("initdb", "-D", str(data), "-U", "mirv", "-A", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        run("pg_ctl", "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql+psycopg://mirv@127.0.0.1:{port}/"
        finally:
            run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_database(url: str, name: str) -> str:
    """Make a database on this server; its URL."""
    port = url.rstrip("/").rpartition(":")[2]
    subprocess.run(
        [str(binaries() / "createdb"), "-h", "127.0.0.1", "-p", port, "-U", "mirv", name],
        check=True,
    )
    return url + name
