"""Ports: the specified ones, else all moved by the next offset at which every one is free."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import ConfigurationError
from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses, choose
from fraud_embedded.processes import ports
from fraud_embedded.processes.ports import free_ports, is_free
from fraud_embedded.servers import objectstore


def free_but(*ports: int) -> Callable[[int], bool]:
    return lambda port: port not in ports


def test_the_specified_ports_come_first() -> None:
    chosen = choose(None, None, free_but())
    stack = chosen.stack
    assert (stack.postgres, stack.kafka, stack.mlflow, stack.object_store) == (5432, 9092, 5000, 8333)
    assert (chosen.api, chosen.api_metrics) == (8000, 8001)


def test_one_taken_port_moves_all_of_them() -> None:
    chosen = choose(None, None, free_but(5000))
    assert chosen == Addresses(100)
    assert chosen.stack.postgres == 5532


def test_a_taken_range_is_passed_over() -> None:
    assert choose(None, None, free_but(5432, 8100, 9292)) == Addresses(300)


def test_the_kept_offset_is_used_again_though_the_specified_ports_are_free() -> None:
    assert choose(200, None, free_but()) == Addresses(200)


def test_a_kept_offset_that_was_taken_meanwhile_gives_way() -> None:
    assert choose(200, None, free_but(5200)) == Addresses(0)


def test_an_explicit_offset_that_clashes_names_the_port() -> None:
    assert choose(0, "700", free_but()) == Addresses(700)
    with pytest.raises(ConfigurationError, match=r"PORT_OFFSET=100 clashes: taken are mlflow 5100"):
        choose(None, "100", free_but(5100))


@pytest.mark.parametrize("text", ["-1", "x", "99999", "1.5", "60000", "²"])
def test_a_wrong_offset_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="PORT_OFFSET is "):
        choose(None, text, free_but())


def test_nothing_free_is_said() -> None:
    with pytest.raises(ConfigurationError, match="No range of ports is free"):
        choose(None, None, lambda _: False)


def test_no_two_servers_share_a_port_at_any_offset() -> None:
    assert len(set(addresses.SPECIFIED.values())) == len(addresses.SPECIFIED)


def test_the_offset_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    assert addresses.read(state) is None
    addresses.keep(state, Addresses(300))
    assert addresses.read(state) == 300
    state.write_text("[]")
    assert addresses.read(state) is None


def test_a_listener_on_any_address_takes_the_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)


def test_a_port_is_given_to_one_process_even_before_its_server_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_ports(1)[0]
    monkeypatch.setattr(ports, "_RANGE", range(port, port + 1))
    code = (
        "from fraud_embedded.processes import ports; "
        "ports._RANGE = range({0}, {0} + 1); print(ports.free_ports(1))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code.format(port)], capture_output=True, text=True, check=True, timeout=30
    )
    assert other.stdout.strip() == "[]"
    assert free_ports(1) == []


def test_a_strangers_socket_file_blocks_the_port_for_all_but_root(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    path = Path(f"/tmp/seaweedfs-master-grpc-{port}.sock")
    assert not objectstore.blocked(port)
    path.touch()
    try:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        assert objectstore.blocked(port)
        objectstore.remove_sockets([port])
        assert path.exists()
        monkeypatch.undo()
        assert not objectstore.blocked(port)
        objectstore.remove_sockets([port])
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)
