"""The environment and `.env` files in, frozen settings out, or `SettingsError` with every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path  # noqa: TC003  as above
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from producer.settings.environment import FILE_SUFFIX, PREFIX, read_environment, read_secret_files
from producer.settings.trekkpliktige import parse_trekkpliktige, read_trekkpliktige, require_single
from producer.settings.types import (
    ApiUrl,
    BaseUrl,
    Brokers,
    ExistingFile,
    KafkaName,
    NetworksText,
    Port,
    PrivateJwk,
    RegistryUrl,
    Seconds,
    TrekkpliktigeText,
    Url,
    WebhookUrl,
    secret_part_fault,
)
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.kafka.properties_file import has_brokers, read_properties
from trekkpaalegg.kafka.security import security_faults

Need = Literal["api", "maskinporten", "kafka", "trekkpliktige", "webhook", "receiver"]
ALL_NEEDS: frozenset[Need] = frozenset({"api", "maskinporten", "kafka"})

_POLL_INTERVAL_WITH_NOTIFICATION_SECONDS = 21_600


class Settings(BaseModel):
    """Every setting there is; an attribute is the name in lower case, without `TREKKPAALEGG_`.

    Those that a command needs are never empty once `load_settings` was told of the need; for other commands they
    may be. Secrets show masked. Intervals are in seconds, 0 as a port means any free one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_url: ApiUrl = ""
    source: Literal["polling", "notification"] = "polling"
    trekkpliktige: TrekkpliktigeText = ()
    trekkpliktige_file: ExistingFile | None = None
    authentication: Literal["egen", "systembruker", "delegert"] = "systembruker"
    poll_interval_seconds: Seconds = 300
    maks_antall: Annotated[int, Field(ge=1)] = 2500
    max_concurrent_calls: Annotated[int, Field(ge=1)] = 5
    workers: Annotated[int, Field(ge=1)] | None = None
    overlap_sekvensnummer: Annotated[int, Field(ge=0)] = 1000
    reconcile_interval_seconds: Seconds = 86_400
    topic_prefix: KafkaName = "trekkpaalegg"
    application_id: KafkaName = "trekkpaalegg-producer"
    instance_id: KafkaName | None = None
    consumer_group: str | None = None
    ledger: SecretStr | None = None
    forward_url: str | None = None
    forward_secret: SecretStr | None = None
    consumer_http_port: str | None = None
    http_host: str = "0.0.0.0"  # noqa: S104  probes and scrapers come from outside the container
    http_port: Port = 8080
    webhook_port: Port | None = None
    webhook_secret: SecretStr | None = None
    webhook_url: WebhookUrl | None = None
    webhook_allowed_addresses: NetworksText = ()
    webhook_proxies: NetworksText = ()
    webhook_calls_per_second: Annotated[int, Field(ge=1)] = 200
    notification_transport: Literal["push", "pull"] = "push"
    pull_interval_seconds: Seconds = 30
    altinn_url: BaseUrl = "https://platform.altinn.no"
    altinn_scopes: str = "altinn:events.subscribe"
    maskinporten_client_id: str = ""
    maskinporten_client_jwk: PrivateJwk = SecretStr("")
    maskinporten_scopes: str = "skatteetaten:trekkpaalegg"
    maskinporten_well_known_url: Url | None = None
    maskinporten_issuer: Url | None = None
    maskinporten_token_endpoint: Url | None = None
    kafka_brokers: Brokers = ""
    kafka_ca_path: ExistingFile | None = None
    kafka_certificate_path: ExistingFile | None = None
    kafka_private_key_path: ExistingFile | None = None
    kafka_schema_registry: RegistryUrl | None = None
    kafka_schema_registry_user: str | None = None
    kafka_schema_registry_password: SecretStr | None = None
    kafka_schema_registry_ca_path: ExistingFile | None = None
    kafka_properties_file: ExistingFile | None = None

    kafka_file_properties: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """What `KAFKA_PROPERTIES_FILE` held; it may hold passwords, so it is in no repr. No setting of its own."""
    warnings: tuple[str, ...] = ()
    """What is odd about the settings without being wrong. No setting of its own."""

    @property
    def receives(self) -> bool:
        """Whether the service takes calls that tell of changes."""
        return self.source == "notification" and self.notification_transport == "push"

    @property
    def pulls(self) -> bool:
        """Whether the service asks for what tells of changes."""
        return self.source == "notification" and self.notification_transport == "pull"

    @property
    def calls_share(self) -> int:
        """How many calls to the API this worker may have under way, so that all workers together keep to the limit."""
        return self.max_concurrent_calls // (self.workers or 1)


def setting_name(field: str) -> str:
    """The environment variable of an attribute of `Settings`."""
    bare = field.startswith(("maskinporten_", "kafka_"))
    return field.upper() if bare else PREFIX + field.upper()


_DERIVED = frozenset({"kafka_file_properties", "warnings"})
SETTING_NAMES = {setting_name(field): field for field in Settings.model_fields if field not in _DERIVED}
"""Every environment variable that is read, and its attribute."""


def _is_secret(field: str) -> bool:
    annotation = Settings.model_fields[field].annotation
    return SecretStr in (annotation, *get_args(annotation))


SECRET_NAMES = tuple(name for name, field in SETTING_NAMES.items() if _is_secret(field))
"""Settings that may be given as a file too, in the name with `_FILE` after it."""
SECRET_FILE_NAMES = frozenset(name + FILE_SUFFIX for name in SECRET_NAMES)


def load_settings(env_file: Path | None, environ: Mapping[str, str], *, needs: frozenset[Need] = ALL_NEEDS) -> Settings:
    """Read all settings; `needs` says what the command will talk to, and so which of them must be given.

    Raises `SettingsError` with every fault at once.
    """
    settings, faults = read_settings(env_file, environ, needs=needs)
    if faults:
        raise SettingsError(faults)
    return settings


def read_settings(
    env_file: Path | None, environ: Mapping[str, str], *, needs: frozenset[Need] = ALL_NEEDS
) -> tuple[Settings, list[str]]:
    """As `load_settings`, but what can be used of them beside the faults; a faulty one has its default.

    Steps: 1. gather the text of every name, secrets also from their files; 2. give each its type; 3. read the files
    that they name; 4. check what only shows between them. Every step adds to one list of faults.
    """
    given, faults = read_environment(env_file, environ, [*SETTING_NAMES, *SECRET_FILE_NAMES])
    given |= read_secret_files(given, SECRET_NAMES, faults)
    values: dict[str, Any] = {field: given[name] for name, field in SETTING_NAMES.items() if name in given}
    if values.get("source") == "notification":
        values.setdefault("poll_interval_seconds", _POLL_INTERVAL_WITH_NOTIFICATION_SECONDS)
    settings = Settings.model_validate(_typed({field: text for field, text in values.items() if text}, faults))
    settings = settings.model_copy(update=_read_files(settings, faults))
    faults += _missing(settings, needs, frozenset(values))
    faults += _conflicts(settings, needs, frozenset(values))
    return settings, faults


def _typed(values: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    """The values whose type is right; the others are told in `faults`."""
    good = {}
    for field, value in values.items():
        try:
            Settings.model_validate({field: value})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=True)[0]
            faults.append(f"{setting_name(field)}: {_plain(first['type'], first['msg'], first.get('ctx', {}))}")
        except SettingsError as error:
            faults += error.faults
        else:
            good[field] = value
    return good


def _plain(kind: str, message: str, context: dict[str, Any]) -> str:
    """What is wrong in words for the person who must mend it; never the value."""
    kinds = {
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "int_parsing_size": "must be a whole number of ordinary size",
        "float_parsing": "must be a number",
        "finite_number": "must be a number",
        "greater_than": f"must be more than {context.get('gt')}",
        "greater_than_equal": f"must be {context.get('ge')} or more",
        "less_than_equal": f"must be {context.get('le')} or less",
        "literal_error": f"must be {context.get('expected')}",
    }
    return kinds.get(kind, message.removeprefix("Value error, "))


def _read_files(settings: Settings, faults: list[str]) -> dict[str, Any]:
    """What the files that the settings name hold, and the warnings."""
    found: dict[str, Any] = {}
    try:
        if settings.kafka_properties_file is not None:
            found["kafka_file_properties"] = read_properties(settings.kafka_properties_file)
    except SettingsError as error:
        faults += error.faults
    single = settings.authentication == "egen"
    try:
        if settings.trekkpliktige:
            # The text was good once already; this reads the warnings and the count.
            read = parse_trekkpliktige(",".join(settings.trekkpliktige), PREFIX + "TREKKPLIKTIGE")
            found["warnings"] = read.warnings
            require_single(read, single=single)
        if settings.trekkpliktige_file is not None:
            read = read_trekkpliktige(settings.trekkpliktige_file)
            found["warnings"] = (*found.get("warnings", ()), *read.warnings)
            require_single(read, single=single)
    except SettingsError as error:
        faults += error.faults
    return found


def _missing(settings: Settings, needs: frozenset[Need], given: frozenset[str]) -> list[str]:
    """Faults for what the command needs and nobody gave; a value given wrongly has its own fault already."""
    faults = []

    def require(field: str, hint: str) -> None:
        if field not in given:
            faults.append(f"{setting_name(field)}: missing; {hint}")

    if "api" in needs:
        require("api_url", "give the API's base address, up to and with /v1")
    if needs & {"api", "trekkpliktige"} and not given & {"trekkpliktige", "trekkpliktige_file"}:
        require("trekkpliktige", "give organisation numbers, or a file of them in TREKKPAALEGG_TREKKPLIKTIGE_FILE")
    if "maskinporten" in needs:
        require("maskinporten_client_id", "give the client's id from Maskinporten")
        require("maskinporten_client_jwk", "give the client's private RSA key as a JWK")
        if not {"maskinporten_issuer", "maskinporten_token_endpoint"} <= given:
            require(
                "maskinporten_well_known_url", "give it, or both MASKINPORTEN_ISSUER and MASKINPORTEN_TOKEN_ENDPOINT"
            )
    if "webhook" in needs:
        require("webhook_url", "give the public base address at which Altinn reaches the receiver")
        require("webhook_secret", "give the last part of its address")
    if "receiver" in needs and settings.receives:
        hint = "with TREKKPAALEGG_SOURCE=notification give it, or set TREKKPAALEGG_NOTIFICATION_TRANSPORT=pull"
        require("webhook_port", hint)
        require("webhook_secret", hint)
    if "kafka" in needs and not has_brokers(settings.kafka_file_properties):
        require("kafka_brokers", "give host:port, several separated by commas")
    return faults


def _conflicts(settings: Settings, needs: frozenset[Need], given: frozenset[str]) -> list[str]:
    faults = []
    if settings.trekkpliktige and settings.trekkpliktige_file is not None:
        faults.append("TREKKPAALEGG_TREKKPLIKTIGE and TREKKPAALEGG_TREKKPLIKTIGE_FILE: give one of the two, not both")
    if (settings.kafka_certificate_path is None) != (settings.kafka_private_key_path is None):
        faults.append("KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH: give both or neither")
    if ("kafka_schema_registry_user" in given) != ("kafka_schema_registry_password" in given):
        faults.append("KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD: give both or neither")
    files = (settings.kafka_ca_path, settings.kafka_certificate_path, settings.kafka_private_key_path)
    faults += security_faults(settings.kafka_file_properties, has_files=any(files))
    if needs & {"webhook", "receiver"} and settings.webhook_secret is not None:
        faults += secret_part_fault(setting_name("webhook_secret"), settings.webhook_secret)
    if settings.calls_share < 1:
        faults.append(
            f"TREKKPAALEGG_WORKERS: {settings.workers} cannot share {settings.max_concurrent_calls} calls at a time "
            "(TREKKPAALEGG_MAX_CONCURRENT_CALLS): give no more workers than calls"
        )
    return faults
