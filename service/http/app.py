"""Status page, health and metrics: what the node has, does, waits for and could not send.

Read-only, but for decisions on corrections. On a loopback bind only local host names are served
(so a foreign page cannot reach in by DNS rebinding); on any other bind a password is required.
"""

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mirv.config.errors import SettingsError
from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue
from mirv.service.http.access import LOCAL_NAMES, password_check
from mirv.service.http.api import api_routes, open_routes
from mirv.service.http.decisions import decision_routes
from mirv.service.http.pages import page_routes
from mirv.service.objects.spool import Spool
from mirv.service.peers.admission import is_loopback
from mirv.service.runtime.state import NodeState
from mirv.service.study.plan import SOFTWARE_VERSION


def create_app(
    catalogue: Catalogue, spool: Spool, settings: Settings, state: NodeState | None = None
) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    state : NodeState, optional
        What the node knows of itself beside the catalogue.

    Raises
    ------
    SettingsError
        The bind is reachable from outside and no password is set.
    """
    loopback = is_loopback(settings.http.bind)
    if not loopback and settings.http.password is None:
        raise SettingsError(
            f"http: bind {settings.http.bind} is reachable from outside, wanted http.password"
        )
    app = FastAPI(title="mirv node", version=SOFTWARE_VERSION, docs_url=None, redoc_url=None)
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_NAMES, settings.http.bind])
    guard = [Depends(password_check(settings))] if settings.http.password else []
    state = state or NodeState()
    app.include_router(open_routes(catalogue, spool, state))
    app.include_router(page_routes(catalogue, spool, settings, state), dependencies=guard)
    app.include_router(decision_routes(catalogue, spool, settings), dependencies=guard)
    app.include_router(api_routes(catalogue), prefix="/api", dependencies=guard)
    app.mount("/static", StaticFiles(packages=[("mirv.service.http", "static")]), name="static")
    return app
