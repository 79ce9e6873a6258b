"""The API keeps to its own description: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from live_server import LiveServer
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation.modes import GenerationMode

load_all_checks()
# Random bytes are no photograph, and refusing them is right.
LEFT_OUT = [CHECKS.get_one("positive_data_acceptance")]


@pytest.fixture(scope="module")
def description(live: LiveServer) -> dict[str, object]:
    return httpx.get(f"{live.address}/api/v1/openapi.json").json()


def test_every_route_is_described(description: dict) -> None:
    assert len(description["paths"]) == 11
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            problems = {status for status in operation["responses"] if status >= "4"}
            assert {"400", "401", "403"} <= problems, (method, path)
            for status in problems:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_it_keeps_to_its_description(live: LiveServer, description: dict, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=live.address)
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # there is nothing to send

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def keeps(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=LEFT_OUT)

        keeps()
