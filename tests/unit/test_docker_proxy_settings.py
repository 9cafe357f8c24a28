"""The docker-proxy's settings: a wrong one stops the start and is named."""

from __future__ import annotations

import pytest

from fraud_docker_proxy.settings import InvalidSettings, from_environment


def test_an_empty_variable_is_none() -> None:
    settings = from_environment({"PROXY_IMAGES": "jobs:1, ml:1", "PROXY_GRACE_S": "", "DOCKER_SOCKET": "/x"})
    assert settings.images == {"jobs:1", "ml:1"}
    assert (settings.grace_s, settings.socket) == (10.0, "/x")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PROXY_IMAGES", "", ": list the images of jobs, separated by commas."),
        ("PROXY_IMAGES", " , ", ": list the images of jobs, separated by commas."),
        ("PROXY_IMAGES", "jobs:1,no image", ".1: String should match pattern"),
        ("PROXY_PROJECT", "A b", ": String should match pattern"),
        ("PROXY_NETWORK", "host", ": jobs need a dedicated network: set its name."),
        ("PROXY_USER", "0:0", ": String should match pattern"),
        ("PROXY_USER", "1000:0", ": String should match pattern"),
        ("PROXY_MAX_MEMORY_MIB", "0", ": Input should be greater than 0."),
        ("PROXY_MAX_CPUS", "nan", ": Input should be"),
        ("PROXY_MAX_PIDS", "1.5", ": Input should be a valid integer"),
        ("PROXY_GRACE_S", "inf", ": Input should be less than"),
        ("PROXY_GRACE_S", "soon", ": Input should be a valid number"),
        ("PROXY_PORT", "65536", ": Input should be less than 65536."),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        from_environment({"PROXY_IMAGES": "jobs:1", variable: value})
    assert str(refusal.value).startswith(variable + message)
