"""What Dify makes of an OpenAPI document when it is imported as a custom tool, and what it sends when a tool is used.

In our own words after its parser and its caller (`api/core/tools/utils/parser.py`, `.../custom_tool/tool.py`), with
what they fail on as `Refused`, and what they silently make worse as `Refused`, too: a parameter whose type they do not
know becomes text, and one that is a reference has no name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "post", "put", "delete", "patch", "head")
TYPES = {"integer": "number", "number": "number", "boolean": "boolean", "string": "string"}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOLS_MAX = 100
DESCRIPTION_MAX = 1_024
"""Of a function, for the language models that choose among tools."""


class Refused(Exception):
    pass


def _demand(true: object, why: str) -> None:
    if not true:
        raise Refused(why)


@dataclass
class Tool:
    name: str
    description: str
    url: str
    method: str
    operation: dict[str, Any]
    parameters: dict[str, dict[str, Any]]
    """By name: type, required, default."""


def imported(document: dict[str, Any]) -> dict[str, Tool]:
    """By name. Raises Refused."""
    _demand("info" in document, "no info")
    _demand(document.get("servers"), "no server")
    server = document["servers"][0]["url"]
    _demand(re.match(r"https?://[^/]+", server) and not server.endswith("/"), f"no address to call: {server}")
    tools: dict[str, Tool] = {}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                tool = _tool(server + path, method, item[method])
                _demand(tool.name not in tools, f"{tool.name} is there twice")
                tools[tool.name] = tool
    _demand(len(tools) <= TOOLS_MAX, "too many tools")
    return tools


def _tool(url: str, method: str, operation: dict[str, Any]) -> Tool:
    name, description = operation.get("operationId", ""), operation.get("description", "")
    _demand(NAME.fullmatch(name), f"no name of a tool: {name!r}")
    _demand(0 < len(description) <= DESCRIPTION_MAX, f"{name}: a model cannot choose by its description")
    parameters: dict[str, dict[str, Any]] = {}

    def add(where: str, schema: dict[str, Any], text: str, required: bool) -> None:
        _demand(NAME.fullmatch(where), f"{name}: {where!r} is no name")
        _demand(where not in parameters, f"{name}: {where} is duplicated")
        _demand(schema.get("type") in TYPES, f"{name}: {where} is no scalar")
        _demand(text, f"{name}: {where} is not described")
        parameters[where] = {"type": TYPES[schema["type"]], "required": required, "default": schema.get("default")}

    for parameter in operation.get("parameters", []):
        _demand("name" in parameter, f"{name}: a parameter is a reference")
        # An optional header is sent without a value.
        _demand(parameter["in"] in ("query", "path") or parameter.get("required"), f"{name}: an optional header")
        required = parameter.get("required", False)
        add(parameter["name"], parameter["schema"], parameter.get("description", ""), required)
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        _demand(list(content) == ["application/json"], f"{name}: its body is not JSON alone")
        schema = content["application/json"]["schema"]
        _demand("$ref" not in schema, f"{name}: its body is a reference")
        for field, inner in schema["properties"].items():
            add(field, inner, inner.get("description", ""), field in schema.get("required", []))
    return Tool(name, description, url, method, operation, parameters)


def request_of(tool: Tool, **given: Any) -> tuple[str, str, dict[str, Any], bytes | None, dict[str, str]]:
    """method, URL, query, body, headers. Raises Refused."""
    values = dict(given)
    for name, parameter in tool.parameters.items():
        if parameter["required"] and name not in values:
            _demand(parameter["default"] is not None, f"{tool.name}: {name} is missing")
            values[name] = parameter["default"]
    url, query, headers, body = tool.url, {}, {}, None
    for parameter in tool.operation.get("parameters", []):
        name = parameter["name"]
        value = values.get(name, parameter["schema"].get("default", ""))
        if parameter["in"] == "path":
            url = url.replace(f"{{{name}}}", str(value))
        elif parameter["in"] == "header":
            headers[name] = str(value)
        elif value != "":
            query[name] = value
    if "requestBody" in tool.operation:
        properties = tool.operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
        fields = {**defaults, **{name: value for name, value in values.items() if name in properties}}
        body, headers["Content-Type"] = json.dumps(fields).encode(), "application/json"
    return tool.method.upper(), url, query, body, headers
