"""The JSON Schema of the configuration file."""

from __future__ import annotations

import json

from bridge.config.load import json_schema


def test_the_schema_is_of_draft_2020_12_and_closed() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "mail-bridge configuration"
    assert schema["additionalProperties"] is False
    sections = [part for part in schema["$defs"].values() if "properties" in part]
    assert len(sections) >= 8
    assert all(part["additionalProperties"] is False for part in sections)
    json.dumps(schema)


def test_the_schema_takes_references_where_numbers_and_choices_are_expected() -> None:
    definitions = json_schema()["$defs"]
    port = definitions["EndpointOverride"]["properties"]["port"]["anyOf"][0]
    assert port["anyOf"] == [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"\$\{.+\}"},
    ]
    assert {"type": "string", "pattern": r"\$\{.+\}"} in definitions["LogConfig"]["properties"]["level"]["anyOf"]


def test_the_schema_knows_the_forms_of_a_listener() -> None:
    definitions = json_schema()["$defs"]
    imap = definitions["Listeners"]["properties"]["imap"]
    assert imap["default"] == "localhost:1143"
    assert imap["anyOf"][0]["anyOf"][0] == {"enum": ["off", False]}, "YAML 1.1 reads `off` as false"
    assert definitions["ListenAddress"]["anyOf"][0] == {"type": "string", "minLength": 1}


def test_the_schema_wants_a_client_or_a_service_account_of_google() -> None:
    google = json_schema()["$defs"]["GoogleProvider"]
    assert google["anyOf"] == [{"required": ["client_id", "client_secret"]}, {"required": ["service_account_file"]}]
