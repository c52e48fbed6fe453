"""Settings from environment variables, `.env` and `--env-file`: typed, checked, and every fault reported at once.

A program declares its settings as a subclass of `Settings`, one field for each. `read_settings` reads them in this
order: the environment wins over `--env-file`, which wins over `.env` in the working directory. An empty value counts as
missing, because manifests and compose files turn a missing value into an empty one. A secret may also be given as a
file, in the name with `_FILE` after it: that keeps it out of the environment, which `docker inspect` and crash reports
show.

Faults are sentences that begin with the name of the setting and say what to do. No fault holds a value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, get_args
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from trekkpaalegg.errors import SettingsError
from trekkpaalegg.kafka.properties import has_brokers, read_properties, security_faults
from trekkpaalegg.trekkpliktige import TrekkpliktigeRead, parse_trekkpliktige, read_trekkpliktige

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PREFIX = "TREKKPAALEGG_"
FILE_SUFFIX = "_FILE"
_UNPREFIXED = ("kafka_", "maskinporten_")
_SECRET_BYTES_MAX = 65_536
_NAME_LENGTH_MAX = 200
_KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BROKER = re.compile(r"(?:[A-Z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


# Types of settings. A validator raises ValueError with what the value must be; `read_settings` adds the name.


def is_url(text: str) -> bool:
    """Whether it is an address with http or https and a host. It may have a user, a query and a fragment."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _url(text: str) -> str:
    if not is_url(text):
        raise ValueError("must be an address with scheme and host, such as https://host/path")
    parts = urlsplit(text)
    if parts.query or parts.fragment or parts.username:
        raise ValueError("must be an address without user, query or fragment")
    return text


def _base_url(text: str) -> str:
    return _url(text).rstrip("/")


def _api_url(text: str) -> str:
    base = _base_url(text)
    if not base.endswith("/v1"):
        raise ValueError("must end in /v1, such as https://api.skatteetaten.no/api/trekkpaalegg/v1")
    return base


def _registry_url(text: str) -> str:
    for part in text.split(","):
        _url(part.strip())
    return text


def _brokers(text: str) -> str:
    if not all(_BROKER.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError("must be host:port, several separated by commas")
    return text


def _kafka_name(text: str) -> str:
    if not _KAFKA_NAME.fullmatch(text) or len(text) > _NAME_LENGTH_MAX:
        raise ValueError(f"must be letters, digits, `.`, `_` or `-`, at most {_NAME_LENGTH_MAX}")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


def _organisation_numbers(text: object) -> object:
    if not isinstance(text, str):
        return text
    read = parse_trekkpliktige(text, PREFIX + "TREKKPLIKTIGE")
    return tuple(trekkpliktig.organisasjonsnummer for trekkpliktig in read.trekkpliktige)


Url = Annotated[str, AfterValidator(_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ApiUrl = Annotated[str, AfterValidator(_api_url)]
RegistryUrl = Annotated[str, AfterValidator(_registry_url)]
Brokers = Annotated[str, AfterValidator(_brokers)]
KafkaName = Annotated[str, AfterValidator(_kafka_name)]
ExistingFile = Annotated[Path, AfterValidator(_file)]
OrganisationNumbers = Annotated[tuple[str, ...], BeforeValidator(_organisation_numbers)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]
"""0 means any free port."""


# What programs declare.


class Settings(BaseModel):
    """Base of all settings. A field is a setting: its name in capitals, with `TREKKPAALEGG_` before it.

    Fields that begin with `kafka_` or `maskinporten_` have no prefix: those names are nais's. A field of type
    `SecretStr` is masked in repr and may be given as a file. Fields in `DERIVED` are no settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    DERIVED: ClassVar[frozenset[str]] = frozenset()


class KafkaSettings(Settings):
    """What every program that talks to Kafka reads."""

    DERIVED: ClassVar[frozenset[str]] = frozenset({"kafka_file_properties"})

    topic_prefix: KafkaName = "trekkpaalegg"
    instance_id: KafkaName | None = None
    http_host: str = "0.0.0.0"  # noqa: S104  probes and scrapers come from outside the container
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
    """The content of `KAFKA_PROPERTIES_FILE`; not in repr, because it may hold passwords."""

    @property
    def client_id(self) -> str:
        """The name of the program in the brokers' logs and metrics."""
        return "trekkpaalegg"

    @property
    def tls_files(self) -> dict[str, Path | None]:
        """The files of certificates and key, by librdkafka's property."""
        return {
            "ssl.ca.location": self.kafka_ca_path,
            "ssl.certificate.location": self.kafka_certificate_path,
            "ssl.key.location": self.kafka_private_key_path,
        }

    @property
    def has_tls_files(self) -> bool:
        """Whether any of them is given."""
        return any(self.tls_files.values())


class SourceSettings(Settings):
    """Where the API is, which employers to read, and as which Maskinporten client."""

    api_url: ApiUrl = ""
    trekkpliktige: OrganisationNumbers = ()
    trekkpliktige_file: ExistingFile | None = None
    authentication: Literal["egen", "systembruker", "delegert"] = "systembruker"
    maks_antall: PositiveInt = 2500
    max_concurrent_calls: PositiveInt = 5
    maskinporten_client_id: str = ""
    maskinporten_client_jwk: SecretStr = SecretStr("")
    maskinporten_scopes: str = "skatteetaten:trekkpaalegg"
    maskinporten_well_known_url: Url | None = None
    maskinporten_issuer: Url | None = None
    maskinporten_token_endpoint: Url | None = None


_S = TypeVar("_S", bound=Settings)
_K = TypeVar("_K", bound=KafkaSettings)


class SettingsRead(NamedTuple, Generic[_S]):
    """`settings` has the default where a value is missing or faulty; `given` are the fields that have a value."""

    settings: _S
    given: frozenset[str]
    faults: list[str]


def setting_name(field: str) -> str:
    """The environment variable of a field."""
    return field.upper() if field.startswith(_UNPREFIXED) else PREFIX + field.upper()


def setting_names(model: type[Settings]) -> dict[str, str]:
    """The environment variables of all its fields, and the field of each."""
    return {setting_name(field): field for field in model.model_fields if field not in model.DERIVED}


def secret_file_names(model: type[Settings]) -> list[str]:
    """The environment variables that may name a file with a secret."""
    return [name + FILE_SUFFIX for name in _secret_names(model)]


def _secret_names(model: type[Settings]) -> list[str]:
    annotations = {name: model.model_fields[field].annotation for name, field in setting_names(model).items()}
    return [name for name, annotation in annotations.items() if SecretStr in (annotation, *get_args(annotation))]


def read_settings(
    model: type[_S], env_file: Path | None, environ: Mapping[str, str], other_names: Iterable[str] = ()
) -> SettingsRead[_S]:
    """Read the settings of one model. `other_names`: settings of other programs, which are known but not read.

    The caller reads the files that settings name, checks what must be given and what contradicts itself, and raises
    `SettingsError` with all faults.
    """
    names = setting_names(model)
    given, faults = _read_environment(env_file, environ, [*names, *secret_file_names(model), *other_names])
    given |= _read_secret_files(given, _secret_names(model), faults)
    texts = {field: given[name] for name, field in names.items() if name in given}
    # A secret whose file is faulty is given, but has no text.
    typed = _typed(model, {field: text for field, text in texts.items() if text}, faults)
    return SettingsRead(model.model_validate(typed), frozenset(texts), faults)


def _typed(model: type[Settings], texts: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """The texts that the model accepts; the others are reported in `faults`."""
    good = {}
    for field, text in texts.items():
        try:
            model.model_validate({field: text})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            faults.append(f"{setting_name(field)}: {_in_words(first['type'], first['msg'], first.get('ctx', {}))}")
        except SettingsError as error:
            faults += error.faults
        else:
            good[field] = text
    return good


def _in_words(kind: str, message: str, context: dict[str, Any]) -> str:
    """What pydantic's kind of error means to the person who must correct the setting."""
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


# Checks that programs share.


def with_kafka_properties(settings: _K, faults: list[str]) -> _K:
    """The settings with the content of `KAFKA_PROPERTIES_FILE`; its faults are added to `faults`."""
    if settings.kafka_properties_file is None:
        return settings
    try:
        properties = read_properties(settings.kafka_properties_file)
    except SettingsError as error:
        faults += error.faults
        return settings
    return settings.model_copy(update={"kafka_file_properties": properties})


def kafka_faults(settings: KafkaSettings, given: Collection[str], *, needed: bool) -> list[str]:
    """What is missing, if the program needs Kafka, and what contradicts itself."""
    faults = []
    if needed and "kafka_brokers" not in given and not has_brokers(settings.kafka_file_properties):
        faults.append("KAFKA_BROKERS: missing; give host:port, several separated by commas")
    if (settings.kafka_certificate_path is None) != (settings.kafka_private_key_path is None):
        faults.append("KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH: give both or neither")
    if ("kafka_schema_registry_user" in given) != ("kafka_schema_registry_password" in given):
        faults.append("KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD: give both or neither")
    return faults + security_faults(settings.kafka_file_properties, has_files=settings.has_tls_files)


def missing(fields: Iterable[tuple[str, str]], given: Collection[str]) -> list[str]:
    """A fault for each (field, hint) that is not given."""
    return [f"{setting_name(field)}: missing; {hint}" for field, hint in fields if field not in given]


API_NEEDED = ("api_url", "give the API's base address, up to and with /v1")
TREKKPLIKTIGE_NEEDED = (
    "trekkpliktige",
    "give organisation numbers, or a file of them in TREKKPAALEGG_TREKKPLIKTIGE_FILE",
)
"""Needed unless `trekkpliktige_file` is given."""


def maskinporten_missing(given: Collection[str]) -> list[str]:
    """What is missing to get tokens of Maskinporten."""
    needed = [
        ("maskinporten_client_id", "give the client's id from Maskinporten"),
        ("maskinporten_client_jwk", "give the client's private RSA key as a JWK"),
    ]
    if not {"maskinporten_issuer", "maskinporten_token_endpoint"} <= set(given):
        needed.append(
            ("maskinporten_well_known_url", "give it, or both MASKINPORTEN_ISSUER and MASKINPORTEN_TOKEN_ENDPOINT")
        )
    return missing(needed, given)


def read_employers(settings: SourceSettings, faults: list[str]) -> TrekkpliktigeRead:
    """The employers, from the list or the file; none if neither is given. Their faults are added to `faults`."""
    if settings.trekkpliktige and settings.trekkpliktige_file is not None:
        faults.append("TREKKPAALEGG_TREKKPLIKTIGE and TREKKPAALEGG_TREKKPLIKTIGE_FILE: give one of the two, not both")
    read = TrekkpliktigeRead(())
    try:
        if settings.trekkpliktige_file is not None:
            read = read_trekkpliktige(settings.trekkpliktige_file)
        elif settings.trekkpliktige:
            # The text was valid already; this reads the warnings.
            read = parse_trekkpliktige(",".join(settings.trekkpliktige), PREFIX + "TREKKPLIKTIGE")
        read.require_single(settings.authentication)
    except SettingsError as error:
        faults += error.faults
    return read


# Reading the text of settings.


def _read_environment(
    env_file: Path | None, environ: Mapping[str, str], known: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The text of each known name, and every fault: unreadable files and unknown names."""
    faults: list[str] = []
    given: dict[str, str] = {}
    if (beside := Path(".env")).is_file():
        given |= _read_env_file(beside, faults)
    if env_file is not None:
        given |= _read_env_file(env_file, faults)
    given |= environ
    own = {name: text for name, text in given.items() if not _is_service_link(name, text)}
    for name in sorted(own):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "see the README for the names there are"
            faults.append(f"{name}: no such setting; {hint}")
    return {name: own[name].strip() for name in known if own.get(name, "").strip()}, faults


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes injected this variable for a service whose name begins with `trekkpaalegg`.

    A service `trekkpaalegg-http` gives `TREKKPAALEGG_HTTP_PORT=tcp://…`: a known name, but not our setting.
    Source: Kubernetes documentation, "Accessing the Service", environment variables.
    """
    if not name.startswith(PREFIX):
        return False
    tail = name.removeprefix(PREFIX[:-1])
    if tail.endswith("_SERVICE_HOST") or "_SERVICE_PORT" in tail:
        return True
    is_port = "_PORT_" in tail or tail.endswith("_PORT")
    return is_port and (
        value.startswith("tcp://") or ("_PORT_" in tail and tail.endswith(("_PROTO", "_ADDR", "_PORT")))
    )


def _read_env_file(path: Path, faults: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for binding in parse_stream(lines):
                if binding.error:
                    faults.append(f"{path}: line {binding.original.line} is not of the form NAME=value")
                elif binding.key is not None:
                    values[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read ({type(error).__name__}); give a readable UTF-8 file")
    return values


def _read_secret_files(given: Mapping[str, str], secret_names: Iterable[str], faults: list[str]) -> dict[str, str]:
    """The text of each secret that is given as a file; empty, and a fault, if the file cannot be used.

    Blanks and line ends around the secret are removed: editors and `echo` add them.
    """
    read: dict[str, str] = {}
    for name in secret_names:
        file_name = name + FILE_SUFFIX
        if file_name not in given:
            continue
        if name in given:
            faults.append(f"{name} and {file_name}: give one of the two, not both")
            continue
        read[name] = ""
        path = given[file_name]
        try:
            with Path(path).open("rb") as file:
                content = file.read(_SECRET_BYTES_MAX + 1)
            if len(content) > _SECRET_BYTES_MAX:
                faults.append(f"{file_name}: {path} is too large for a secret; give a file that holds the secret alone")
                continue
            read[name] = content.decode("utf-8-sig").strip()
            if not read[name]:
                faults.append(f"{file_name}: {path} is empty; give a file that holds the secret alone")
        except FileNotFoundError:
            faults.append(f"{file_name}: there is no file {path}; make it, or mount the secret there")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{file_name}: {path} cannot be read ({type(error).__name__}); give a readable UTF-8 file")
    return read
