"""Environment -> frozen values, read on call, so that a test or a new environment needs no restart of the import."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PREFIX = "DARKROOM_"
_ENDPOINT = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")
_INSTANCES = re.compile(r"(?:(\d{1,3})-(\d{1,3}))?")


class SettingsError(Exception):
    """One sentence for the operator."""


class Configured(BaseModel):
    """Each field is read from a variable of its name behind `prefix`. One that no field has is refused, to catch
    misspellings; an empty value counts as not set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str]

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The values in the environment (default: this process's). Raises: SettingsError, naming the variable."""
        source = os.environ if environment is None else environment
        given = {name.removeprefix(cls.prefix).lower(): source[name] for name in source if name.startswith(cls.prefix)}
        known = {name: value for name, value in given.items() if value or name not in cls.model_fields}
        try:
            return cls.model_validate(known)
        except ValidationError as refused:
            first = refused.errors(include_url=False, include_input=False)[0]
            reason = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                reason = "there is no such setting; correct its name or unset it"
            raise SettingsError(f"{cls.prefix}{str(first['loc'][0]).upper()}: {reason}.") from None


class Settings(Configured):
    """How a deployment runs, from `DARKROOM_{FIELD}`."""

    prefix = PREFIX

    store_url: str = Field("file://.darkroom/store", description="object store for bundles, and for images")
    images_url: str = Field("", description="object store for images, where they have one of their own")
    jobs_url: str = Field("sqlite:///.darkroom/jobs.db", description="job store")
    policies_url: str = Field("", description="scaling policies, where they are not kept in the job store's database")
    default_model: str = Field("crayon", description="what the model name `m` stands for")
    public_url: str = Field("", description="how callers reach this deployment; empty: as each of them did")
    signing_key: str = Field("", description="secret that signs the directory store's URLs", repr=False)
    image_url_seconds: int = Field(3600, ge=1, le=604_800, description="how long an image URL works")
    image_days: float = Field(0.0, ge=0, description="how long finished images are kept; 0: until they are deleted")
    max_body_bytes: int = Field(2_097_152, ge=1024, description="largest request body; the seeds send up to 600 KB")
    max_form_bytes: int = Field(8 << 20, ge=1024, description="largest form with image files (OpenAI's edits)")
    max_upload_bytes: int = Field(20 << 20, ge=1, description="largest image that POST /v1/uploads gives a place to")
    max_tenant_upload_bytes: int = Field(2 << 30, ge=1, description="of one tenant's uploads together; beyond it 429")
    upload_url_seconds: int = Field(900, ge=1, le=604_800, description="how long an upload may be sent")
    wait_seconds: float = Field(25.0, ge=0, description="how long a predict waits where the caller does not say")
    max_wait_seconds: float = Field(
        25.0, ge=0, description="the longest wait a caller may ask for; a gateway cuts at 30"
    )
    max_queued_jobs: int = Field(1000, ge=1, description="accepted but not started; beyond it 503")
    max_tenant_queued_jobs: int = Field(0, ge=0, description="of one tenant; beyond it 429. 0: half of all, with keys")
    max_attempts: int = Field(3, ge=1, description="runs of one job before it is given up as poisoned")
    lease_seconds: float = Field(10.0, gt=0, description="a runtime silent for this long loses its job")
    job_seconds: float = Field(900.0, gt=0, description="deadline of one job")
    api_keys: str = Field("", description="tenant=key,tenant=key; empty: no key is asked for", repr=False)
    admins: str = Field("", description="tenants who may change scaling and releases; without keys everybody may")
    cors_origins: str = Field("", description="origins whose pages may ask, such as https://app.example; * for any")
    log_level: str = Field("INFO", description="least level of what is logged: DEBUG, INFO, WARNING or ERROR")

    # AWS only
    endpoints: str = Field("", description="model=endpoint,model=endpoint; empty: workers claim from the job store")
    endpoint_type: Literal["async", "real-time"] = Field("async", description="async or real-time SageMaker endpoints")
    async_url: str = Field(
        "", description="S3 address that async requests and results lie under, at in/ sent/ out/ failed/"
    )
    access: Literal["api-key", "jwt", "iam"] = Field("api-key", description="who is asked for what; see docs/aws.md")
    api_keys_secret: str = Field("", description="secret that maps each tenant to an API key, or to a list of keys")
    instances: str = Field("", description="MIN-MAX instances of an endpoint whose model has no scaling policy")
    backlog_per_instance: int = Field(
        4, ge=1, description="requests for each instance that such an endpoint keeps near"
    )
    shift: Literal["canary", "linear"] = Field("canary", description="how a release moves traffic, from two instances")
    max_waiting: int = Field(0, ge=0, description="unfinished jobs beyond which nobody is made to wait; 0: no bound")
    rollback_alarms: str = Field("", description="names of the alarms that roll a release back, joined by commas")

    # one machine only
    host: str = Field("127.0.0.1", description="address to listen on; PORT says which port")
    allowed_hosts: str = Field("", description="names this deployment goes by beside that of its public URL; * for any")
    data_dir: str = Field(".darkroom", description="where one machine keeps bundles, images, jobs and its signing key")
    bundle: str = Field("", description="store whose bundles seed an empty one; empty: the bundled crayon")
    job_days: float = Field(30.0, gt=0, description="how long finished jobs are remembered")
    upload_hours: float = Field(24.0, ge=1, description="how long uploads and the images of data URIs are kept")
    runtimes: int = Field(1, ge=1, description="runtime processes on this machine")
    jobs_in_flight: int = Field(16, ge=1, description="jobs that one runtime works on at the same time")

    @field_validator("api_keys")
    @classmethod
    def _each_names_a_tenant_and_a_key(cls, value: str) -> str:
        pairs = _pairs(value)
        if not all(tenant and key for tenant, key in pairs):  # an empty key would let everybody in
            raise ValueError("every entry must be tenant=key")
        if len({key for _, key in pairs}) != len(pairs):
            raise ValueError("two entries have the same key")
        return value

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        plain = parts.hostname and not parts.query and not parts.fragment
        if value and not (plain and parts.scheme in ("http", "https")):
            raise ValueError("it must be an address such as https://images.example.com")
        return value.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _each_is_an_origin(cls, value: str) -> str:
        for origin in _names(value):
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError("every entry must be an origin such as https://app.example.com, or *")
        return value

    @field_validator("endpoints")
    @classmethod
    def _each_names_a_model_and_an_endpoint(cls, value: str) -> str:
        if not all(model and _ENDPOINT.fullmatch(endpoint) for model, endpoint in _pairs(value)):
            raise ValueError("every entry must be model=endpoint, where an endpoint has letters, digits and hyphens")
        return value

    @field_validator("instances")
    @classmethod
    def _two_numbers_in_order(cls, value: str) -> str:
        match = _INSTANCES.fullmatch(value)
        if not match or (value and int(match[1]) > int(match[2])):
            raise ValueError("it must be MIN-MAX, such as 0-2")
        return value

    @property
    def images_store(self) -> str:
        """URL of the object store that images go to."""
        return self.images_url or self.store_url

    @property
    def policies_store(self) -> str:
        """URL of the store of scaling policies."""
        return self.policies_url or self.jobs_url

    def endpoint_by_model(self) -> dict[str, str]:
        """Model -> the name of its SageMaker endpoint; empty where workers claim from the job store."""
        return dict(_pairs(self.endpoints))

    def instance_limits(self) -> tuple[int, int] | None:
        """(min, max) instances where no policy is stored; None where that is nobody's business here."""
        least, _, most = self.instances.partition("-")
        return (int(least), int(most)) if self.instances else None

    def hosts(self) -> list[str]:
        """The names of `allowed_hosts`."""
        return _names(self.allowed_hosts)

    def pages(self) -> list[str]:
        """The origins of `cors_origins`."""
        return _names(self.cors_origins)

    @property
    def tells_tenants_apart(self) -> bool:
        """Whether callers are more than one tenant to us."""
        return bool(self.access != "api-key" or self.api_keys or self.api_keys_secret)

    def tenant_queue(self) -> int:
        """How many jobs one tenant may have waiting."""
        most = self.max_queued_jobs
        return min(most, self.max_tenant_queued_jobs or (max(1, most // 2) if self.tells_tenants_apart else most))

    def is_administrator(self, tenant: str) -> bool:
        """Whether this tenant may do what concerns all of them. Where nobody is told from another, all may."""
        return not self.tells_tenants_apart or tenant in _names(self.admins)

    def tenants_by_key(self) -> dict[str, str]:
        """API key -> tenant; empty where no key is asked for."""
        return {key: tenant for tenant, key in _pairs(self.api_keys)}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pairs(text: str) -> list[tuple[str, str]]:
    entries = (entry.partition("=") for entry in text.split(",") if entry.strip())
    return [(name.strip(), value.strip()) for name, _, value in entries]
