"""Judges answers of `apr run --json-schema` by the jsonschema package of PyPI.

    python3 judge_schemas.py APR [N] [-m MODEL]

N answers (500), spread over schemas that leave no room to go on for ever, seeds and temperatures
up to 100, each of which has to end and be valid; not part of the tests of the workspace, which ask a judge in Rust.
"""

import json
import subprocess
import sys

import jsonschema


def closed(properties, **more):
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False, **more}


SCHEMAS = [
    closed({
        "id": {"type": "integer", "minimum": 1, "maximum": 99999},
        "status": {"enum": ["open", "paid", 'sent "now"', "été"]},
        "note": {"type": ["string", "null"], "maxLength": 12},
        "lines": {"type": "array", "minItems": 1, "maxItems": 3, "items": closed({
            "sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            "price": {"type": "number", "minimum": 0, "exclusiveMaximum": 100,
                      "multipleOf": 0.25},
        })},
    }),
    {"$defs": {"leaf": closed({"v": {"type": "boolean"}}),
               "node": closed({"v": {"type": "boolean"}, "l": {"$ref": "#/$defs/leaf"},
                               "r": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}})},
     "$ref": "#/$defs/node"},
    {"anyOf": [closed({"kind": {"const": "circle"}, "r": {"type": "integer", "minimum": -9,
                                                                 "maximum": 99999}}),
               closed({"kind": {"const": "text"}, "id": {"type": "string", "format": "uuid"}})]},
    {"type": "array", "minItems": 2, "maxItems": 4, "items": {"allOf": [
        {"type": "integer", "minimum": 5}, {"type": "integer", "multipleOf": 3, "maximum": 700}]}},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 2, "maxLength": 4}},
     "patternProperties": {"^x[0-9]$": {"type": "number", "minimum": -1, "maximum": 1,
                                       "multipleOf": 0.5}},
     "additionalProperties": False, "required": ["a"], "maxProperties": 4},
]
TEMPERATURES = [0, 0.5, 0.8, 1, 1.5, 2, 5, 10, 100]


def main():
    apr, *rest = sys.argv[1:]
    count = int(rest.pop(0)) if rest and rest[0].isdigit() else 500
    valid = 0
    for n in range(count):
        schema = SCHEMAS[n % len(SCHEMAS)]
        temperature = TEMPERATURES[n // len(SCHEMAS) % len(TEMPERATURES)]
        command = [apr, "run", "-q", "--json", "-p", "Say:", "-s", str(n), "--temp",
                   str(temperature), "--top-k", "0", "--top-p", "1",
                   "--json-schema", json.dumps(schema), *rest]
        record = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert record["finish_reason"] == "stop_token", record
        jsonschema.validate(json.loads(record["text"]), schema)
        valid += 1
    print(f"{valid} of {count} answers are valid")


main()
