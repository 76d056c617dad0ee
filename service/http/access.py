"""Who may open a page."""

import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, status
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from mirv.config.settings import Settings

LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]", "testserver"]


def password_check(settings: Settings) -> Callable[..., None]:
    basic = HTTPBasic(realm="mirv node")
    password = settings.http.password
    expected = password.get_secret_value().encode() if password else b""

    def check(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> None:
        if not secrets.compare_digest(credentials.password.encode(), expected):
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, headers={"WWW-Authenticate": "Basic"})

    return check
