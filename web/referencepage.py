"""The OpenAPI document as a page: all of it in one, so that the browser searches it, and without a script."""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from shlex import quote
from typing import Any

import orjson

from web.contract import JSON
from web.sent import NOW

Json = Mapping[str, Any]
_ORIGIN = "http://127.0.0.1:8080"
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>StreamLens: reference</title>
  <link rel="icon" href="/static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/static/reference.css">
</head>
<body>
  <header>
    <h1><a href="/">StreamLens</a></h1>
    <p>Reference, version {version}; <a href="/openapi.json">as OpenAPI</a></p>
  </header>
  <nav aria-label="Routes">{contents}</nav>
  <main>
  <p>{about}</p>
  {routes}
  <h2 id="schemas">Schemas</h2>
  {schemas}
  </main>
</body>
</html>
"""


def page(document: Json) -> str:
    """The HTML of a document of `web.openapi`."""
    operations = {tag["name"]: [*_operations(document, tag["name"])] for tag in document["tags"]}
    return _PAGE.format(
        version=escape(document["info"]["version"]),
        about=_prose(document["info"]["description"]),
        contents="".join(_contents(tag, found) for tag, found in operations.items()),
        routes="".join(
            f"<h2>{tag}</h2>" + "".join(_section(*operation) for operation in found)
            for tag, found in operations.items()
        ),
        schemas="".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
    )


def _operations(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _contents(tag: str, operations: Iterable[tuple[str, str, Json]]) -> str:
    links = (
        f'<li><a href="#{operation["operationId"]}">{method} {escape(path)}</a></li>'
        for method, path, operation in operations
    )
    return f"<h2>{tag}</h2><ul>{''.join(links)}</ul>"


def _section(method: str, path: str, operation: Json) -> str:
    scope = operation["security"][0]["bearer"][0] if operation["security"] else None
    needs = f"With keys: scope <code>{scope}</code>." if scope else "Needs no key."
    parts = [
        f'<section id="{operation["operationId"]}"><h3>{method} <code>{escape(path)}</code></h3>',
        f"<p>{_prose(operation['summary'])} {needs}</p>",
        *(f"<p>{_prose(text)}</p>" for text in operation.get("description", "").split("\n\n") if text),
    ]
    if parameters := operation.get("parameters"):
        parts.append(_table("Parameters", (_parameter(each) for each in parameters)))
    if body := operation.get("requestBody"):
        parts.append(_table("Body", (_content(kind, told) for kind, told in body["content"].items())))
    parts.append(_table("Answers", _answers(operation["responses"])))
    parts.append(f"<pre>{escape(example(method, path, operation))}</pre></section>")
    return "".join(parts)


def _parameter(parameter: Json) -> tuple[str, str, str]:
    schema, notes = parameter["schema"], [_prose(parameter["description"])] if "description" in parameter else []
    if parameter.get("required"):
        notes.append("Required")
    if "default" in schema:
        default = schema["default"]
        notes.append(
            f"Default <code>{escape(','.join(default) if isinstance(default, list) else _json(default))}</code>"
        )
    return f"<code>{escape(parameter['name'])}</code>", _type(schema), "; ".join(notes)


def _answers(responses: Json) -> Iterator[tuple[str, str, str]]:
    """Those that are good, and problems in one row: what their statuses mean is the same everywhere."""
    problems: dict[str, list[str]] = {}
    for status, answer in responses.items():
        kinds = _kinds(answer.get("content", {}))
        if status >= "400":
            problems.setdefault(kinds, []).append(f'<abbr title="{escape(answer["description"])}">{status}</abbr>')
        else:
            yield status, kinds, _prose(answer["description"])
    for kinds, statuses in problems.items():
        yield ", ".join(statuses), kinds, ""


def _content(kind: str, told: Json) -> tuple[str, str]:
    return f"<code>{escape(kind)}</code>", _type(told["schema"]) if told else "as its specification has it"


def _kinds(content: Json) -> str:
    """Content types, and what they hold where it has a name; those that hold the same together."""
    names: dict[str, list[str]] = {}
    for kind, told in content.items():
        reference = _type(told["schema"]) if told and "$ref" in told["schema"] else ""
        names.setdefault(reference, []).append(f"<code>{escape(kind)}</code>")
    return ", ".join(f"{reference} {', '.join(kinds)}".strip() for reference, kinds in names.items())


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(field)}</code>",
            _type(told),
            "; ".join([*(["Required"] if field in required else []), *_described(told)]),
        )
        for field, told in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{_prose(schema.get("description", ""))}</p>'
        f"{_table('Fields', rows)}</section>"
    )


def _described(schema: Json) -> list[str]:
    return [_prose(each["description"]) for each in (schema, *schema.get("anyOf", ())) if "description" in each]


def _type(schema: Json) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in values)
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"[{', '.join(map(_type, schema['prefixItems']))}]"
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object":
            return (
                f"object of {_type(schema['additionalProperties'])}" if schema.get("additionalProperties") else "object"
            )
        case "string" if "description" in schema and "format" not in schema:
            return _prose(schema["description"]).lower()
        case "string":
            return "time" if schema.get("format") == "date-time" else "text" + _bounds(schema, "minLength", "maxLength")
        case str(name):
            return name + _bounds(schema, "minimum", "maximum")
    return "anything"


def _bounds(schema: Json, low: str, high: str) -> str:
    if high not in schema:
        return ""
    return f", {schema[low]:,} to {schema[high]:,}" if low in schema else f", up to {schema[high]:,}"


def _table(caption: str, rows: Iterable[Iterable[str]]) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{caption}</caption><tbody>{lines}</tbody></table></div>' if lines else ""
    )


def example(method: str, path: str, operation: Json) -> str:
    """A command that asks for a route, or sends it its example."""
    endless = "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    asked = "&".join(_asked(each) for each in operation.get("parameters", ()) if _needed(each))
    words = ["curl", "-sSN" if endless else "-sS", quote(_ORIGIN + path + (f"?{asked}" if asked else ""))]
    content = operation.get("requestBody", {}).get("content", {})
    if "example" in content.get(JSON, {}):
        # The time of the example is that of the shell which sends it.
        words += ["-d", quote(_json(content[JSON]["example"])).replace(NOW, "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'")]
    elif content:
        words += ["-H", quote(f"Content-Type: {next(iter(content))}"), "--data-binary", "@body"]
    elif method != "GET":
        words += ["-X", method]
    return " ".join(words)


def _needed(parameter: Json) -> bool:
    return parameter["in"] == "query" and bool(parameter.get("required"))


def _asked(parameter: Json) -> str:
    """With its first example."""
    value = parameter["schema"].get("examples", [parameter["name"]])[0]
    return f"{parameter['name']}={','.join(value) if isinstance(value, list) else value}"


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
