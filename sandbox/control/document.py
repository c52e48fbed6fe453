"""The OpenAPI document of the control address, made from its commands.

`python -m sandbox.control.document FILE` writes them into the document and keeps what was written there by hand: all
that is neither a path of a command nor a schema, and the commands' summaries.
"""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import TypeAdapter

from sandbox.altinn import commands as altinn_commands
from sandbox.altinn import state as altinn
from sandbox.altinn.delivery import Weather
from sandbox.control import control
from sandbox.control.world import OutsideWorld
from sandbox.maskinporten.state import ScriptedError
from sandbox.skatteetaten import state as skatteetaten
from sandbox.skatteetaten.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

STRUCTS: dict[tuple[str, str], tuple[str, type[msgspec.Struct]]] = {
    ("behaviour", "settings"): ("Behaviour", skatteetaten.Behaviour),
    ("fault", "fault"): ("Fault", Fault),
    ("token-error", "error"): ("ScriptedError", ScriptedError),
    ("altinn-behaviour", "settings"): ("AltinnBehaviour", altinn.Behaviour),
    ("altinn-fault", "fault"): ("AltinnFault", altinn.ApiFault),
    ("altinn-weather", "weather"): ("AltinnWeather", Weather),
}
"""Command and argument → what the JSON object given there must be."""
_REFUSED = {"$ref": "#/components/responses/Refused"}
_UNKNOWN = {"$ref": "#/components/responses/Unknown"}


def control_schemas() -> Json:
    """The schemas of the arguments that are objects of their own."""
    schemas: Json = {}
    for name, kind in STRUCTS.values():
        # Each alone: structs of the two simulated services share names.
        (schema,), others = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        own = schema["$ref"].rpartition("/")[2]
        schemas |= {name if each == own else each: content | {"title": each} for each, content in others.items()}
    return schemas


def control_paths(commands: Mapping[str, control.Command], summaries: Mapping[str, str]) -> Json:
    """A path per command, POST with its arguments, and GET too where none must be given."""
    paths: Json = {}
    for name, command in sorted(commands.items()):
        request, result = _request(name, command), _result(command)
        operation: Json = {
            "operationId": name,
            "summary": (inspect.getdoc(command) or summaries.get(name, "")).partition("\n")[0].removesuffix("."),
            "responses": {"200": {"description": "Done.", "content": _json(result)}, "400": _REFUSED, "404": _UNKNOWN},
        }
        paths[f"/control/{name}"] = {"post": {**operation, "requestBody": request}}
        if not request["required"]:
            paths[f"/control/{name}"]["get"] = {**operation, "operationId": f"{name}-by-get"}
    return paths


def _request(name: str, command: control.Command) -> Json:
    hints = _hints(command)
    schema: Json = {"type": "object", "additionalProperties": False}
    required, properties = [], {}
    for argument, parameter in inspect.signature(command).parameters.items():
        properties[argument] = (
            {"$ref": f"#/components/schemas/{STRUCTS[name, argument][0]}"}
            if (name, argument) in STRUCTS
            else TypeAdapter(hints[argument]).json_schema()
        )
        if parameter.default is inspect.Parameter.empty:
            required.append(argument)
        elif parameter.default is not None:
            properties[argument]["default"] = parameter.default
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": _json(schema)}


def _result(command: control.Command) -> Json:
    schema = TypeAdapter(_hints(command)["return"]).json_schema(mode="serialization")
    inner = schema.get("items")
    if isinstance(inner, dict) and "prefixItems" in inner:
        # A pair, described without prefixItems: tools for OpenAPI stumble over it.
        schema["items"] = {**inner, "items": {"anyOf": inner["prefixItems"]}}
        del schema["items"]["prefixItems"]
    return schema


def _hints(command: control.Command) -> dict[str, Any]:
    return typing.get_type_hints(inspect.unwrap(command), {**vars(altinn_commands), **vars(control)})


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def completed(document: Json) -> Json:
    """The document with the paths and schemas of the commands that there are now.

    What was written by hand is kept: all that is neither a path of a command nor a schema of an argument, and the
    summaries of commands without a docstring.
    """
    with OutsideWorld() as world:
        commands = world.control_commands
    summaries = {
        path.rpartition("/")[2]: operations["post"]["summary"]
        for path, operations in document["paths"].items()
        if path != "/control"
    }
    paths = {"/control": document["paths"]["/control"], **control_paths(commands, summaries)}
    own = {name: schema for name, schema in document["components"]["schemas"].items() if name == "Refusal"}
    components = {**document["components"], "schemas": {**own, **control_schemas()}}
    return {**document, "paths": paths, "components": components}
