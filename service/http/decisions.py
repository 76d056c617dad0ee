"""The page on which corrections are accepted or refused: the only one that changes anything.

A decision wants the token of this process, which stands in the page alone: a foreign page that
makes a browser post here cannot know it. It is about what was shown, or about nothing.
"""

import secrets
import time
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, HTTPException, Request, status
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from mirv.config.errors import BadInput
from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, Changed
from mirv.service.http.environment import templates
from mirv.service.objects.corrections import (
    Correction,
    Decision,
    accept,
    look,
    refuse,
    waiting,
)
from mirv.service.objects.same_object import Difference
from mirv.service.objects.spool import Spool

_MOST_STUDIES = 50
_LONGEST_FORM, _MOST_FIELDS = 4096, 10
_LONGEST_NAME = 64
_SEALED = {
    "Content-Security-Policy": "frame-ancestors 'none'; form-action 'self'",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_LABELS = {
    Difference.PATIENT_ID: "Patient ID",
    Difference.ISSUER: "Issuer of Patient ID",
    Difference.BIRTH_DATE: "birth date",
    Difference.SEX: "sex",
    Difference.NAME: "name",
    Difference.STUDY_UID: "study",
    Difference.SERIES_UID: "series",
    Difference.STUDY_DATE: "study date",
    Difference.DETAILS: "details of patient, visit or order",
    Difference.PIXELS: "pixels",
    Difference.OTHER: "other attributes (geometry, references, segments)",
}

_Credentials = Annotated[HTTPBasicCredentials | None, Depends(HTTPBasic(auto_error=False))]


async def _form(request: Request) -> dict[str, str]:
    """Fields of a posted form; a large one is refused before it is read."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _LONGEST_FORM:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE)
    try:
        found = parse_qs(content.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
    except ValueError as fault:
        raise HTTPException(status.HTTP_400_BAD_REQUEST) from fault
    return {name: values[-1] for name, values in found.items()}


_Form = Annotated[dict[str, str], Depends(_form)]


def decision_routes(catalogue: Catalogue, spool: Spool, settings: Settings) -> APIRouter:
    """The routes of the page of corrections."""
    routes = APIRouter(default_response_class=HTMLResponse)
    pages = templates(settings)
    token = secrets.token_urlsafe(32)

    def page(said: str = "", code: int = status.HTTP_200_OK) -> Response:
        found = waiting(spool, catalogue, limit=_MOST_STUDIES + 1)
        shown: dict[str, Any] = {
            "found": found[:_MOST_STUDIES],
            "more": len(found) > _MOST_STUDIES,
            "labels": _LABELS,
            "token": token,
            "said": said,
        }
        text = pages.get_template("corrections.html").render(shown)
        return HTMLResponse(text, status_code=code, headers=_SEALED)

    def meant(form: dict[str, str]) -> Correction:
        """What a form is about, as it was shown."""
        if not secrets.compare_digest(form.get("token", "").encode(), token.encode()):
            raise HTTPException(status.HTTP_403_FORBIDDEN, "open the page of corrections anew")
        found = look(spool, catalogue, form.get("study", ""))
        if found is None or found.mark != form.get("mark", ""):
            raise Changed("something came or was decided since this page was shown")
        return found

    @routes.get("/corrections")
    def corrections() -> Response:
        return page()

    @routes.post("/corrections/accept")
    def accepted(form: _Form, who: _Credentials) -> Response:
        try:
            accept(spool, catalogue, [meant(form)], _decision(who))
        except (BadInput, Changed) as fault:
            return page(str(fault), status.HTTP_409_CONFLICT)
        return RedirectResponse("/corrections", status.HTTP_303_SEE_OTHER)

    @routes.post("/corrections/refuse")
    def refused(form: _Form, who: _Credentials) -> Response:
        try:
            refuse(catalogue, [meant(form)], _decision(who))
        except Changed as fault:
            return page(str(fault), status.HTTP_409_CONFLICT)
        return RedirectResponse("/corrections", status.HTTP_303_SEE_OTHER)

    return routes


def _decision(who: HTTPBasicCredentials | None) -> Decision:
    name = who.username[:_LONGEST_NAME] if who else ""
    return Decision(f"page {name}".strip(), time.time())
