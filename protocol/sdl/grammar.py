"""The strict layer: the structure the official input schema of the SDL allows, said once as data.

The one addition to the official schema is `pricing.P.per`.  Under `Mode.GO` the same walk only warns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from fondaco.protocol.sdl.nodes import FALSES, TRUES, Node, Sort, integer
from fondaco.protocol.sdl.problems import Report
from fondaco.protocol.sdl.shape import Anything, Checker, Either, Fields, Many, Named, Predicate, Scalar, Schema

# --- Leaves ----------------------------------------------------------------------------------------------------


def number(node: Node) -> Fraction | None:
    """A plain number's exact value; None for infinities and whatever is none."""
    if node.sort is Sort.INT:
        return Fraction(integer(node.text) or 0)
    if node.sort is Sort.FLOAT and (node.text[-1:].isdigit() or node.text.endswith(".")):
        return Fraction(float(node.text.replace("_", "")))
    return None


def _between(low: int, high: int | None = None) -> Predicate:
    def test(node: Node) -> bool:
        value = number(node)
        return value is not None and value.denominator == 1 and low <= value and (high is None or value <= high)

    return test


def _integer(low: int, high: int | None = None) -> Scalar:
    wanted = f"an integer {low}..{high}" if high is not None else f"an integer, at least {low}"
    schema = {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high})
    return Scalar((Sort.INT, Sort.FLOAT), wanted, _between(low, high), schema=schema)


def _text(wanted: str = "text", pattern: str = "", *, least: int = 0, suggestion: str = "") -> Scalar:
    compiled = re.compile(pattern, re.ASCII)

    def test(node: Node) -> bool:
        return len(node.text) >= least and compiled.search(node.text) is not None

    schema = (
        {"type": "string"} | ({"pattern": pattern} if pattern else {}) | ({"minLength": least} if least else {})
    )
    return Scalar((Sort.TEXT,), wanted, test if pattern or least else None, suggestion, schema)


def _one_of(*choices: str) -> Scalar:
    schema = {"enum": list(choices)}
    return Scalar((Sort.TEXT,), " or ".join(choices), lambda node: node.text in choices, schema=schema)


def _quantity(
    wanted: str, text: Callable[[str], bool], at_least: Callable[[Fraction], bool], schema: Schema
) -> Scalar:
    def test(node: Node) -> bool:
        if node.sort is Sort.TEXT:
            return text(node.text)
        value = number(node)
        return value is not None and at_least(value)

    return Scalar((Sort.TEXT, Sort.INT, Sort.FLOAT), wanted, test, schema=schema)


_CPU_TEXT = re.compile(r"[0-9]+(\.[0-9]+)?[a-zA-Z]*", re.ASCII)
_CPU_ZERO = re.compile(r"0+(\.0+)?m?", re.ASCII)
_GPU_ZERO = re.compile(r"0+(\.0+)?", re.ASCII)
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)

_BOOLEAN = Scalar((Sort.BOOL,), "true or false", suggestion="write true or false, without quotes")
_TEXT = _text()
_TEXTS = Many(_TEXT)
_PORT = _integer(1, 65_535)
_CPU_UNITS = _quantity(
    "CPUs, as 0.5 or 500m",
    lambda text: _CPU_TEXT.fullmatch(text) is not None and _CPU_ZERO.fullmatch(text) is None,
    lambda value: value > 0,
    {
        "anyOf": [
            {"type": "string", "pattern": f"^{_CPU_TEXT.pattern}$", "not": {"pattern": f"^{_CPU_ZERO.pattern}$"}},
            {"type": "number", "exclusiveMinimum": 0},
        ]
    },
)
_PRICE_AMOUNT = _quantity(
    "a positive price",
    lambda text: _AMOUNT.fullmatch(text) is not None,
    lambda value: value >= 0,
    {"anyOf": [{"type": "string", "pattern": f"^{_AMOUNT.pattern}$"}, {"type": "number", "minimum": 0}]},
)


# --- Rules over several fields -----------------------------------------------------------------------------------


def _is_true(node: Node | None) -> bool:
    return node is not None and (node.text in TRUES if node.sort is Sort.BOOL else node.text == "true")


def _ip_rule(fields: dict[str, Node]) -> str:
    ip, is_global = fields.get("ip"), fields.get("global")
    if ip is None or ip.sort is not Sort.TEXT or not ip.text:
        return ""
    if is_global is not None and is_global.sort is Sort.BOOL and is_global.text not in FALSES:
        return ""
    return "an `ip` needs `global: true` beside it"


def _storage_rule(fields: dict[str, Node]) -> str:
    name = fields["class"].text if "class" in fields else ""
    if name == "ram" and _is_true(fields.get("persistent")):
        return "class `ram` cannot be persistent"
    if name in _DISK_CLASSES and not _is_true(fields.get("persistent")):
        return f"class `{name}` needs `persistent: true`"
    return ""


def _gpu_rule(fields: dict[str, Node]) -> str:
    units = fields.get("units")
    positive = False
    if units is not None:
        value = number(units)
        positive = (
            value > 0 if value is not None else units.sort is Sort.TEXT and not _GPU_ZERO.fullmatch(units.text)
        )
    if positive and "attributes" not in fields:
        return "GPU units need `attributes` that say which models will do"
    if not positive and "attributes" in fields:
        return "GPU `attributes` need `units` above 0"
    return ""


_DISK_CLASSES = ("default", "beta1", "beta2", "beta3")
_YES: Schema = {"enum": [True, "true"]}
_IP_SCHEMA: Schema = {
    "if": {"properties": {"ip": {"type": "string", "minLength": 1}}, "required": ["ip"]},
    "then": {"properties": {"global": {"const": True}}, "required": ["global"]},
}
_STORAGE_SCHEMA: Schema = {
    "allOf": [
        {
            "not": {
                "properties": {"class": {"const": "ram"}, "persistent": _YES},
                "required": ["class", "persistent"],
            }
        },
        {
            "if": {"properties": {"class": {"enum": list(_DISK_CLASSES)}}, "required": ["class"]},
            "then": {"properties": {"persistent": _YES}, "required": ["persistent"]},
        },
    ]
}
_GPU_SCHEMA: Schema = {
    "if": {
        "properties": {
            "units": {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {"type": "string", "not": {"pattern": f"^{_GPU_ZERO.pattern}$"}},
                ]
            }
        },
        "required": ["units"],
    },
    "then": {"required": ["attributes"]},
    "else": {"not": {"required": ["attributes"]}},
}


# --- The document ------------------------------------------------------------------------------------------------

HTTP_CASES = ("error", "timeout", "500", "502", "503", "504", "403", "404", "429", "off")
_HTTP_OPTIONS = Fields(
    {
        "max_body_size": _integer(0, 104_857_600),
        "next_cases": Many(_one_of(*HTTP_CASES)),
        "next_timeout": _integer(0),
        "next_tries": _integer(0),
        "proxy_buffer_size": _integer(0, 1_048_576),
        "read_timeout": _integer(0, 60_000),
        "send_timeout": _integer(0, 60_000),
    }
)
_EXPOSE = Fields(
    {
        "port": _PORT,
        "as": _PORT,
        "proto": _one_of("TCP", "UDP", "tcp", "udp"),
        "to": Many(
            Fields(
                {"service": _TEXT, "global": _BOOLEAN, "ip": _text("a name", least=1)},
                rule=_ip_rule,
                rule_schema=_IP_SCHEMA,
            )
        ),
        "accept": _TEXTS,
        "http_options": _HTTP_OPTIONS,
    },
    required=("port",),
)
_SERVICE = Fields(
    {
        "image": _text("an image name", least=1),
        "command": Many(_TEXT, nullable=True),
        "args": Many(_TEXT, nullable=True),
        "env": Many(_TEXT, nullable=True),
        "expose": Many(_EXPOSE, nullable=True),
        "dependencies": Many(Fields({"service": _TEXT})),
        "params": Fields(
            {
                "storage": Named(Fields({"mount": _text("an absolute path", "^/"), "readOnly": _BOOLEAN})),
                "permissions": Fields({"read": Many(_one_of("deployment", "logs", "events"))}),
                "tee": _one_of("cpu", "cpu-gpu"),
            }
        ),
        "credentials": Fields(
            {
                "host": _text("a host name", least=1),
                "email": _text("an address of 5 characters or more", least=5),
                "username": _text("a name", least=1),
                "password": _text("6 characters or more", least=6),
            },
            required=("host", "username", "password"),
        ),
    },
    required=("image",),
)
_VOLUME = Fields(
    {
        "name": _TEXT,
        "size": _text("a size with its unit, as 512Mi"),
        "attributes": Fields(
            {"class": _TEXT, "persistent": Scalar((Sort.BOOL, Sort.TEXT), "true or false")},
            required=("class", "persistent"),
            rule=_storage_rule,
            rule_schema=_STORAGE_SCHEMA,
        ),
    },
    required=("size",),
)
_NVIDIA = Fields({"model": _TEXT, "ram": _TEXT, "interface": _one_of("pcie", "sxm")})
_RESOURCES = Fields(
    {
        "cpu": Fields({"units": _CPU_UNITS, "attributes": Anything()}, required=("units",)),
        "memory": Fields({"size": _text("a size with its unit, as 512Mi")}, required=("size",)),
        "storage": Either(_VOLUME, Many(_VOLUME)),
        "gpu": Fields(
            {
                "units": Scalar((Sort.TEXT, Sort.INT, Sort.FLOAT), "a whole number of GPUs"),
                "attributes": Fields({"vendor": Fields({"nvidia": Many(_NVIDIA, nullable=True)}, nonempty=True)}),
            },
            rule=_gpu_rule,
            rule_schema=_GPU_SCHEMA,
        ),
    },
    required=("cpu", "memory", "storage"),
)
_PRICE = Fields(
    {"amount": _PRICE_AMOUNT, "denom": _one_of("uakt", "uact"), "per": _one_of("hour")},
    required=("denom", "amount"),
)
_PLACEMENT = Fields(
    {
        "attributes": Anything(),
        "pricing": Named(_PRICE),
        "signedBy": Fields({"allOf": _TEXTS, "anyOf": _TEXTS}),
    },
    required=("pricing",),
)
DOCUMENT = Fields(
    {
        "version": Scalar(
            (Sort.TEXT,),
            '"2.0" or "2.1"',
            lambda node: node.text in ("2.0", "2.1"),
            'write version: "2.0"',
            {"enum": ["2.0", "2.1"]},
        ),
        "include": _TEXTS,
        "services": Named(_SERVICE),
        "profiles": Fields(
            {
                "compute": Named(Fields({"resources": _RESOURCES}, required=("resources",))),
                "placement": Named(_PLACEMENT),
            },
            required=("compute", "placement"),
        ),
        "deployment": Named(
            Named(Fields({"profile": _TEXT, "count": _integer(1)}, required=("profile", "count")))
        ),
        "endpoints": Named(Fields({"kind": _one_of("ip")}, required=("kind",)), re.compile("^[a-z]+[-_0-9a-z]+$")),
        "reclamation": Fields(
            {"min_window": _text("a duration as 1h", "^[1-9][0-9]*(s|m|h)$")}, required=("min_window",)
        ),
    },
    required=("version", "services", "profiles", "deployment"),
)


def check_shape(document: Node, report: Report, *, only_warn: bool) -> None:
    """Report every place where `document` leaves the official schema."""
    Checker(report, only_warn=only_warn).check(document, DOCUMENT, ())
