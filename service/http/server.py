"""Runs the web application in a thread of the node."""

import threading

import uvicorn
from fastapi import FastAPI

from mirv.config.errors import Unavailable
from mirv.config.settings.network import Http


class HttpServer:
    """The status page on its own thread; `start` returns when it answers.

    Parameters
    ----------
    app : FastAPI
    http : Http
        Bind and port.
    """

    def __init__(self, app: FastAPI, http: Http) -> None:
        config = uvicorn.Config(
            app, host=http.bind, port=http.port, log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self, seconds: float = 20) -> None:
        """Start and wait until it listens.

        Raises
        ------
        Unavailable
            It does not listen: the port is taken, most often.
        """
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(seconds / 0.05)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.05)
        raise Unavailable("the status page did not start: is its port in use?")

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._server.should_exit = True
        self._thread.join(20)
