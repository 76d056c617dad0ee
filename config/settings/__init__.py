"""Typed settings of the node: one YAML file, every fault said at once.

Every field can be set in the file; ``MIRV_`` environment variables override it
(``MIRV_LISTENER__PORT=104``).
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentFault

from mirv.config.errors import SettingsError, read_given
from mirv.config.settings.fields import DatabaseUrl
from mirv.config.settings.keeping import Backlog, Delivery, Retention
from mirv.config.settings.network import (
    AnyDestination,
    Followed,
    Http,
    IdentityRules,
    Listener,
    Source,
    Webhook,
)
from mirv.config.settings.processing import (
    Extraction,
    Outputs,
    PriorityRule,
    Priors,
    Reading,
    Retrieval,
)


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="MIRV_", env_nested_delimiter="__"
    )

    folder: Path = Field(Path("mirv-data"), description="Spool, database and exports live here")
    database_url: DatabaseUrl | None = Field(
        None, description="Catalogue; none: SQLite in the folder, else postgresql+psycopg://..."
    )
    workflow_database_url: DatabaseUrl | None = Field(
        None, description="DBOS system database; none: SQLite in the folder"
    )
    quiet_s: float = Field(30, ge=0, description="A study is settled after this long without news")
    profiles: tuple[str, ...] = Field(
        ("henry2022", "mirv2025"), min_length=1, description="Extraction profiles: names or paths"
    )
    compare_with_prior: bool = Field(
        True, description="Measure the response since the patient's latest earlier study"
    )
    spaces: tuple[str, ...] = Field(
        ("sarc021-lung-paper", "sarc021-lung-published-compat"),
        description="Frozen feature spaces; each says which profile it belongs to",
    )
    worker_silent_s: float = Field(
        60, gt=0, description="A worker without a heartbeat for so long is dead: others go on"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="And above")
    listener: Listener = Field(Listener(), description="Where objects come in")
    destinations: tuple[AnyDestination, ...] = Field((), description="Where results go")
    sources: tuple[Source, ...] = Field(
        (), description="Asked in this order for images that a segmentation waits for"
    )
    fetch_again_s: float = Field(900, gt=0, description="Before images not found are asked again")
    follow: tuple[Followed, ...] = Field(
        (), description="Orthancs whose new objects are fetched as they come"
    )
    identity: IdentityRules = Field(
        IdentityRules(), description="Who issued Patient IDs that come without an issuer"
    )
    priors: Priors | None = Field(None, description="none: no earlier study is fetched")
    retrieval: Retrieval = Field(
        Retrieval(), description="Which study `mirv retrieve` takes for a patient of a trial"
    )
    priorities: tuple[PriorityRule, ...] = Field(
        (), description="Which runs go first; the first rule that fits counts"
    )
    limits: Backlog = Field(Backlog(), description="When the node fetches no more")
    reading: Reading = Field(Reading(), description="How segmentations become lesions")
    extraction: Extraction = Field(Extraction(), description="Where and how far it may go")
    outputs: Outputs = Field(Outputs(), description="What is written")
    delivery: Delivery = Field(Delivery(), description="How results are sent")
    retention: Retention = Field(Retention(), description="How long objects are kept")
    webhook: Webhook | None = Field(None, description="Whom to tell of runs; none: nobody")
    http: Http = Field(Http(), description="Status page")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind in ("destinations", "sources", "follow"):
            names = [one.name for one in getattr(self, kind)]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind}: found {', '.join(twice)} more than once")
        places = {one.name for one in self.sources} | {one.name for one in self.follow}
        for rule in self.identity.issuers:
            if rule.source is not None and rule.source not in places:
                raise ValueError(f"identity.issuers: found no source or follow {rule.source}")
        if self.priors is not None and not self.sources:
            raise ValueError("priors: wanted sources to ask")
        return self


def load_settings(
    path: Path | None = None, *, extras: Collection[str] | None = None, **overrides: Any
) -> Settings:
    """Read settings from a YAML file (none: defaults and environment).

    Parameters
    ----------
    path : Path, optional
    extras : collection of str, optional
        Names that ``outputs.extras`` may have. Only who loads the outputs knows them; none: they
        are not looked at here.
    **overrides
        Instead of what the file says.

    Raises
    ------
    SettingsError
        Lists every fault: field, what was found, what was wanted.
    """
    content: dict[str, Any] = {}
    if path is not None:
        text = read_given(path, f"settings file {path}", SettingsError)
        try:
            loaded = yaml.safe_load(text)
        # A date or number that is none is a ValueError, brackets without end a RecursionError.
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise SettingsError(f"settings file {path}: not YAML: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise SettingsError(f"settings file {path}: wanted a mapping at the top")
        if odd := [key for key in loaded or {} if not isinstance(key, str)]:
            raise SettingsError(f"settings file {path}: found {odd[0]!r}, wanted names of settings")
        content = loaded or {}
    given = {**content, **overrides}
    try:
        settings = Settings(**given)
    except EnvironmentFault as error:  # a variable that is no value of its setting
        raise _wrong(path, [f"  {error}"]) from error
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']) or 'settings'}: {fault['msg']}"
            f" (found {_shown(fault['loc'], fault['input'])})"
            for fault in error.errors()
        ]
        outputs = given.get("outputs")
        named = outputs.get("extras") if isinstance(outputs, dict) else None
        raise _wrong(path, faults + _unknown(named, extras)) from error
    if faults := _unknown(settings.outputs.extras, extras):
        raise _wrong(path, faults)
    return settings


def _wrong(path: Path | None, faults: Sequence[str]) -> SettingsError:
    where = f" in {path}" if path else ""
    return SettingsError(f"{len(faults)} fault(s){where}:\n" + "\n".join(faults))


def _unknown(named: Any, extras: Collection[str] | None) -> list[str]:
    """A fault for each extra output of a name that no output has."""
    if extras is None or not isinstance(named, list | tuple):
        return []
    return [
        f"  outputs.extras.{place}: wanted one of {', '.join(extras)} (found {name!r})"
        for place, name in enumerate(named)
        if isinstance(name, str) and name not in extras
    ]


def _shown(where: tuple[int | str, ...], found: Any) -> str:
    """What was found, for a message; never what may be a password."""
    last = where[-1] if where else ""
    if last in ("password", "key") or (str(last).endswith("url") and "@" in str(found)):
        return "a secret"
    if isinstance(found, dict):
        return f"fields {', '.join(map(str, found))}"
    return f"fields of {type(found).__name__}" if isinstance(found, BaseModel) else repr(found)
