"""The OpenAPI document: valid by the specification's own validator, and as large as the routes are many."""

import json
import pathlib

import openapi_spec_validator

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_is_valid():
    document = json.loads(DOCUMENT.read_text())
    assert document["openapi"].startswith("3.1")
    openapi_spec_validator.validate(document)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 200
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
