"""The docker-proxy before the real daemon: what passes, and everything that does not."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import docker
import pytest

from tests.stack.docker_site import Site, job_image, site

SLEEP: Final = ["JOB_SOURCE=import time; print('up', flush=True); time.sleep(1000)"]
RUN: Final = ["python", "-m", "fraud_job"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with job_image() as image, site(tmp_path_factory.mktemp("proxy"), image, grace_s=300) as made:
        yield made


@pytest.fixture
def foreign(here: Site) -> Iterator[str]:
    """A running container that is none of the project's."""
    made = here.daemon.create_container(here.image, ["sleep", "1000"], labels={"fraud.project": "other"})
    here.daemon.start(made["Id"])
    yield str(made["Id"])
    here.daemon.remove_container(made["Id"], force=True)


def body(here: Site, **changed: Any) -> dict[str, Any]:
    return {"Image": here.image, "Cmd": RUN, "Env": SLEEP, **changed}


def create(here: Site, document: object, query: str = "") -> tuple[int, Any]:
    return here.proxy.call("POST", f"/containers/create{query}", document)


@pytest.fixture(scope="module")
def running(here: Site) -> Iterator[str]:
    """A job that runs all the time; nothing below may end it."""
    status, answer = create(here, body(here), "?name=fraud-job-running")
    assert status == 201, answer
    wait = here.proxy.wait(answer["Id"])
    assert here.proxy.call("POST", f"/containers/{answer['Id']}/start")[0] == 204
    yield answer["Id"]
    assert here.daemon.inspect_container(answer["Id"])["State"]["Running"]
    here.proxy.call("DELETE", f"/containers/{answer['Id']}?force=1")
    wait.give_up()


def test_what_the_daemon_gets_is_what_the_proxy_made(here: Site) -> None:
    limits = {"Memory": 64 * 2**20, "NanoCpus": 500_000_000, "PidsLimit": 20}
    labels = {"fraud.dag_id": "one"}
    status, answer = create(here, body(here, Labels=labels, HostConfig=limits), "?name=fraud-job-one")
    assert status == 201
    made = here.daemon.inspect_container(answer["Id"])
    config, host = made["Config"], made["HostConfig"]
    here.proxy.call("DELETE", f"/containers/{answer['Id']}")
    assert made["Name"] == "/fraud-job-one"
    assert (config["Cmd"], config["User"]) == (RUN, "10001:10001")
    assert config["Entrypoint"] == ["/usr/local/bin/fraud-entrypoint"]
    assert config["Labels"].items() >= {"fraud.dag_id": "one", "fraud.project": here.project}.items()
    assert host.items() >= (limits | {"MemorySwap": 64 * 2**20, "NetworkMode": here.network}).items()
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is True
    assert not host["Privileged"]
    assert not any(host[name] for name in ("Binds", "CapAdd", "Devices", "PidMode", "UTSMode", "UsernsMode"))
    assert host["IpcMode"] == "private"
    assert host["LogConfig"]["Config"]["max-size"] == "100m"


def test_limits_are_set_where_none_is_asked_for_and_lowered_where_too_much_is(here: Site) -> None:
    for asked, expected in (
        ({}, (512 * 2**20, 256)),
        ({"Memory": 2**50, "NanoCpus": 2**60, "PidsLimit": 2**31}, (4096 * 2**20, 512)),
    ):
        _, answer = create(here, body(here, HostConfig=asked))
        host = here.daemon.inspect_container(answer["Id"])["HostConfig"]
        here.proxy.call("DELETE", f"/containers/{answer['Id']}")
        assert (host["Memory"], host["PidsLimit"]) == expected
        assert 0 < host["NanoCpus"] <= 2_000_000_000


def test_a_usual_client_can_do_what_a_job_needs(here: Site) -> None:
    url = f"tcp://127.0.0.1:{here.proxy.port}"
    with closing(docker.APIClient(base_url=url, version="auto")) as client:
        host = client.create_host_config(mem_limit="64m", network_mode=here.network)
        source = "print('hello'); open('/result/result.json', 'w').write('{}'); raise SystemExit(3)"
        made = client.create_container(
            here.image,
            RUN,
            environment={"JOB_SOURCE": source},
            labels={"fraud.dag_id": "usual"},
            host_config=host,
            detach=True,
        )
        client.start(made["Id"])
        assert client.wait(made["Id"])["StatusCode"] == 3
        assert client.logs(made["Id"]) == b"hello\n"
        pieces, _about = client.get_archive(made["Id"], "/result/result.json")
        assert b"{}" in b"".join(pieces)
        assert client.inspect_container(made["Id"])["State"]["ExitCode"] == 3
        found = client.containers(all=True, filters={"label": ["fraud.dag_id=usual"]})
        assert [one["Id"] for one in found] == [made["Id"]]
        client.remove_container(made["Id"])
        assert client.containers(all=True, filters={"label": ["fraud.dag_id=usual"]}) == []


# --- What a container must not be given --------------------------------------------------------------

HOST: Final[dict[str, Any]] = {
    "privileged": {"Privileged": True},
    "binds": {"Binds": ["/:/host"]},
    "mounts": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]},
    "volumes_from": {"VolumesFrom": ["fraud-postgres"]},
    "volume_driver": {"VolumeDriver": "local"},
    "tmpfs": {"Tmpfs": {"/x": "exec,suid"}},
    "devices": {"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda"}]},
    "device_rules": {"DeviceCgroupRules": ["a *:* rwm"]},
    "gpus": {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]},
    "network": {"NetworkMode": "host"},
    "network_of_another": {"NetworkMode": "container:fraud-postgres"},
    "pid": {"PidMode": "host"},
    "ipc": {"IpcMode": "host"},
    "uts": {"UTSMode": "host"},
    "userns": {"UsernsMode": "host"},
    "cgroupns": {"CgroupnsMode": "host"},
    "cgroup": {"Cgroup": "container:x"},
    "cgroup_parent": {"CgroupParent": "/"},
    "cap_add": {"CapAdd": ["SYS_ADMIN"]},
    "cap_drop": {"CapDrop": ["CHOWN"]},
    "security": {"SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"]},
    "masked": {"MaskedPaths": ["/nowhere"]},
    "readonly_paths": {"ReadonlyPaths": ["/nowhere"]},
    "runtime": {"Runtime": "io.evil.v1"},
    "sysctls": {"Sysctls": {"net.ipv4.ip_forward": "1"}},
    "ports": {"PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
    "publish": {"PublishAllPorts": True},
    "restart": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    "auto_remove": {"AutoRemove": True},
    "log": {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://evil:1"}}},
    "hosts": {"ExtraHosts": ["postgres:10.0.0.1"]},
    "links": {"Links": ["fraud-postgres:db"]},
    "groups": {"GroupAdd": ["0"]},
    "dns": {"Dns": ["10.0.0.1"]},
    "oom": {"OomKillDisable": True},
    "oom_score": {"OomScoreAdj": -1000},
    "ulimits": {"Ulimits": [{"Name": "core", "Soft": 1, "Hard": 1}]},
    "shm": {"ShmSize": 2**40},
    "swap": {"MemorySwap": -1},
    "storage": {"StorageOpt": {"size": "1T"}},
    "init": {"Init": True},
    "case": {"privileged": True},
    "case_memory": {"MEMORY": 2**40},
    "case_folded": {"Bind\u017f": ["/:/host"]},  # which the daemon's decoder takes for an s
    "unknown": {"ReleasedInTenYears": True},
    "id_file": {"ContainerIDFile": "/etc/cron.d/x"},
}
TOP: Final[dict[str, Any]] = {
    "user": {"User": "root"},
    "entrypoint": {"Entrypoint": ["sh"]},
    "directory": {"WorkingDir": "/"},
    "volumes": {"Volumes": {"/host": {}, "/x": {"a": "b"}}},
    "health": {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}},
    "shell": {"Shell": ["sh"]},
    "on_build": {"OnBuild": ["RUN true"]},
    "tty": {"Tty": True},
    "stdin": {"OpenStdin": True},
    "attach": {"AttachStdin": True},
    "host_name": {"Hostname": "postgres"},
    "domain": {"Domainname": "x"},
    "mac": {"MacAddress": "02:42:ac:11:00:02"},
    "ports": {"ExposedPorts": {"80/tcp": {"a": 1}}},
    "endpoints": {"NetworkingConfig": {"EndpointsConfig": {"host": {"Aliases": ["postgres"]}}}},
    "stop": {"StopSignal": "SIGKILL"},
    "stop_time": {"StopTimeout": 9999},
    "platform": {"Platform": "linux"},
    "case": {"hostconfig": {"Privileged": True}},
    "case_image": {"image": "fraud-base:1"},
    "label_project": {"Labels": {"fraud.project": "other"}},
    "label_compose": {"Labels": {"com.docker.compose.project": "x"}},
}


@pytest.mark.parametrize("asked", HOST.values(), ids=HOST.keys())
def test_no_container_is_made_with_more_of_the_host(here: Site, asked: dict[str, Any]) -> None:
    refused(here, create(here, body(here, HostConfig=asked)), 403)


@pytest.mark.parametrize("asked", TOP.values(), ids=TOP.keys())
def test_no_container_is_made_with_another_configuration(here: Site, asked: dict[str, Any]) -> None:
    refused(here, create(here, body(here, **asked)), 403)


@pytest.mark.parametrize(
    "image", ["postgres:17", "fraud-test-job", "{}@sha256:0", "{} ", "", None, 5, ["{}"]]
)
def test_no_container_is_made_of_another_image(here: Site, image: object) -> None:
    asked = image.replace("{}", here.image) if isinstance(image, str) else image
    refused(here, create(here, body(here, Image=asked)), 403)


def test_an_image_is_meant_as_it_is_listed_not_by_what_it_is(here: Site) -> None:
    image = here.daemon.inspect_image(here.image)["Id"]
    refused(here, create(here, body(here, Image=image)), 403)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"Image": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"HostConfig":' * 9_000 + b"1" + b"}" * 9_000, 400),
        (b'{"Image": "IMAGE", "Image": "IMAGE"}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"Memory": 1, "Memory": 2}}', 400),
        (b'{"Image": "IMAGE", "Image": "other"}', 400),
        (b'{"Image": "IMAGE", "Cmd": "sh -c id"}', 400),
        (b'{"Image": "IMAGE", "Cmd": [1]}', 400),
        (b'{"Image": "IMAGE", "Cmd": ["a\\u0000b"]}', 400),
        (b'{"Image": "IMAGE", "Cmd": ["\\ud800"]}', 400),
        (b'{"Image": "IMAGE", "Env": {"A": "b"}}', 400),
        (b'{"Image": "IMAGE", "Env": ["PATH"]}', 400),
        (b'{"Image": "IMAGE", "Env": ["A=\\u0000"]}', 400),
        (b'{"Image": "IMAGE", "Labels": ["fraud.x=1"]}', 400),
        (b'{"Image": "IMAGE", "Labels": {"fraud.x": 1}}', 400),
        (b'{"Image": "IMAGE", "HostConfig": []}', 400),
        (b'{"Image": "IMAGE", "HostConfig": "x"}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"Memory": "1g"}}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"Memory": true}}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"Memory": -1}}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"PidsLimit": -1}}', 400),
        (b'{"Image": "IMAGE", "HostConfig": {"NanoCpus": 1.5}}', 400),
        (b'{"Image": "IMAGE", "x": "' + b"x" * 256 * 1024 + b'"}', 413),
    ],
)
def test_a_body_that_is_not_plainly_one_of_a_job_is_refused(here: Site, content: bytes, status: int) -> None:
    refused(here, create(here, content.replace(b"IMAGE", here.image.encode())), status)


@pytest.mark.parametrize(
    "query",
    [
        "?name=fraud-postgres",
        "?name=postgres",
        "?name=fraud-job-",
        "?name=fraud-job-a/b",
        "?name=fraud-job-a%00",
        "?name=fraud-job-a%0a",
        "?name=",
        "?name=fraud-job-a&name=fraud-job-b",
        "?name=fraud-job-a&platform=linux",
        "?platform=windows",
        "?Name=x",
        "?%6eame=postgres",
        "?name=fraud-job-a;name=x",
        "?x",
    ],
)
def test_a_query_that_is_not_plainly_a_jobs_is_refused(here: Site, query: str) -> None:
    refused(here, create(here, body(here), query), 400)


def refused(here: Site, answer: tuple[int, Any], expected: int) -> None:
    status, document = answer
    assert status == expected, document
    assert document["message"].endswith(".")
    made = [one["Id"] for one in here.containers() if one["Names"] != ["/fraud-job-running"]]
    for one in made:
        here.daemon.remove_container(one)
    assert made == []


# --- What must not be called ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "POST /containers/ID/exec",
        "POST /exec/0123/start",
        "POST /containers/ID/attach?stream=1",
        "GET /containers/ID/attach/ws",
        "POST /containers/ID/update",
        "POST /containers/ID/rename?name=x",
        "POST /containers/ID/restart",
        "POST /containers/ID/pause",
        "POST /containers/ID/resize?h=1&w=1",
        "GET /containers/ID/export",
        "GET /containers/ID/top",
        "GET /containers/ID/stats",
        "GET /containers/ID/changes",
        "PUT /containers/ID/archive?path=/",
        "HEAD /containers/ID/archive?path=/etc/shadow",
        "POST /containers/prune",
        "POST /commit?container=ID",
        "POST /build",
        "POST /build/prune",
        "POST /session",
        "POST /grpc",
        "GET /images/json",
        "POST /images/create?fromImage=x",
        "POST /images/load",
        "GET /images/get?names=x",
        "DELETE /images/x",
        "GET /volumes",
        "POST /volumes/create",
        "GET /networks",
        "POST /networks/create",
        "POST /networks/bridge/connect",
        "GET /info",
        "GET /events",
        "GET /system/df",
        "POST /auth",
        "GET /plugins",
        "POST /plugins/pull?remote=x",
        "GET /distribution/x/json",
        "POST /swarm/init",
        "POST /services/create",
        "GET /secrets",
        "GET /configs",
        "GET /tasks",
        "GET /nodes",
        "GET /checkpoints",
        "OPTIONS /containers/json",
        "PATCH /containers/ID",
        "POST /containers/json",
        "GET /containers/create",
        "CONNECT /containers/json",
    ],
)
def test_every_other_call_is_refused(here: Site, running: str, call: str) -> None:
    method, path = call.replace("ID", running).split(" ", 1)
    for prefix in ("", "/v1.41"):
        status, answer = here.proxy.call(method, prefix + path, b"")
        assert status == 403
        assert method == "HEAD" or answer["message"].endswith(".")


@pytest.mark.parametrize(
    "path",
    [
        "//containers/json",
        "/containers//json",
        "/containers/json/",
        "/v1.41//containers/json",
        "/v1.41/../containers/json",
        "/containers/../images/json",
        "/containers/%2e%2e/images/json",
        "/containers/..%2fimages/json",
        "/containers/x%2fjson",
        "/containers/%6a%73%6f%6e",
        "/containers/a%0d%0aX:y/json",
        "/containers/./json",
        "/containers/a;b/json",
        "/containers/a b/json".replace(" ", "%20"),
        "/v1.41/v1.41/containers/json/x%00",
        "http://docker/containers/json",
        "/\\containers/json",
        "/_ping/",
    ],
)
def test_a_path_with_two_readings_is_refused(here: Site, path: str) -> None:
    status, _ = here.proxy.call("GET", path)
    assert status == 400


CREATE: Final = "POST /containers/create"
CHUNKED: Final = "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("line", "rest", "status"),
    [
        ("POST /containers/ID/start", "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n", 403),
        ("GET /_ping", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", 403),
        ("GET /_ping", "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 403),
        (CREATE, CHUNKED + "\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (CREATE, CHUNKED + "Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (CREATE, "Content-Length: 999999999\r\n\r\n", 413),
        (CREATE, "Content-Length: -1\r\n\r\n", 400),
        (CREATE, "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        ("POST /containers/ID/start", "Content-Length: 2\r\n\r\n{}", 400),
        ("GET /containers/a\tb/json", "\r\n", 400),
        ("nonsense", "\r\n", 400),
    ],
)
def test_a_message_with_two_readings_is_refused(
    here: Site, running: str, line: str, rest: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", here.proxy.port), timeout=60) as wire:
        wire.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n{rest}".replace("ID", running).encode())
        assert wire.makefile("rb").readline().split()[1] == str(status).encode()
    assert here.daemon.inspect_container(running)["State"]["Running"]


def test_nothing_is_to_be_had_of_a_container_of_another_project(here: Site, foreign: str) -> None:
    name = here.daemon.inspect_container(foreign)["Name"].lstrip("/")
    for one in (foreign, foreign[:12], name):
        for call in (
            f"GET /containers/{one}/json",
            f"GET /containers/{one}/logs?stdout=1",
            f"GET /containers/{one}/archive?path=/result/result.json",
            f"POST /containers/{one}/wait",
            f"POST /containers/{one}/start",
            f"POST /containers/{one}/stop",
            f"POST /containers/{one}/kill",
            f"DELETE /containers/{one}?force=1",
        ):
            method, path = call.split(" ", 1)
            status, answer = here.proxy.call(method, path)
            assert (status, "none of this project" in answer["message"]) == (403, True), call
    assert here.daemon.inspect_container(foreign)["State"]["Running"]


def test_a_list_holds_this_projects_containers_alone(here: Site, foreign: str, running: str) -> None:
    for query in ("", "?all=1", "?all=1&filters=%7B%7D"):
        _, found = here.proxy.call("GET", f"/containers/json{query}")
        assert [one["Id"] for one in found] == [running]
    label = json.dumps({"label": ["fraud.project=other"]}).replace(" ", "").replace('"', "%22")
    assert here.proxy.call("GET", f"/containers/json?all=1&filters={label}") == (200, [])
    for filters in ('{"name":["x"]}', '{"label":["x=y"]}', '{"label":{"fraud.x":true}}', "[]", "x"):
        quoted = filters.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
        status, _ = here.proxy.call("GET", f"/containers/json?filters={quoted}")
        assert status in (400, 403)


def test_an_inspection_and_the_log_of_the_proxy_hold_no_secret(here: Site) -> None:
    _, answer = create(here, body(here, Env=["DATABASE_URL=geheim", *SLEEP], HostConfig={}))
    create(here, body(here, Env=["DATABASE_URL=geheim", *SLEEP], HostConfig={"Privileged": True}))
    _, about = here.proxy.call("GET", f"/containers/{answer['Id']}/json")
    here.proxy.call("DELETE", f"/containers/{answer['Id']}")
    assert about["State"]["Status"] == "created"
    assert "geheim" not in json.dumps(about)
    lines = here.proxy.log()
    assert "geheim" not in json.dumps(lines)
    assert any(line["event"] == "created" and line["id"] == answer["Id"] for line in lines)
    assert any(line["event"] == "refused" and "Privileged" in line["reason"] for line in lines)


@pytest.mark.parametrize(
    "path", ["/", "/etc/shadow", "/result", "/result/", "/result/../etc/shadow", "/proc/1/root", ""]
)
def test_only_the_result_is_read_out_of_a_container(here: Site, running: str, path: str) -> None:
    status, _ = here.proxy.call("GET", f"/containers/{running}/archive?path={path}")
    assert status == 403


def test_nothing_is_read_out_of_a_container_that_runs(here: Site, running: str) -> None:
    status, _ = here.proxy.call("GET", f"/containers/{running}/archive?path=/result/result.json")
    assert status == 409


@pytest.mark.parametrize(
    "call",
    [
        "POST /containers/ID/kill?signal=SIGSTOP",
        "POST /containers/ID/stop?t=-1",
        "POST /containers/ID/wait?condition=removed",
        "POST /containers/ID/start?checkpoint=x",
        "GET /containers/ID/logs?stdout=1&details=1",
        "GET /containers/ID/logs?stdout=2",
        "DELETE /containers/ID?link=1",
    ],
)
def test_a_parameter_no_job_needs_is_refused(here: Site, running: str, call: str) -> None:
    method, path = call.replace("ID", running).split(" ", 1)
    status, answer = here.proxy.call(method, path)
    assert (status, answer["message"][-1]) == (400, ".")


def test_a_job_is_nobody_in_its_container(here: Site) -> None:
    source = (
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)\n"
        "print(os.getuid(), os.getgid(), int(status['CapBnd'], 16), status['NoNewPrivs'].strip())\n"
        "for path in ('/app/x', '/usr/x', '/etc/x', '/opt/venv/x'):\n"
        "    try: open(path, 'w'); print('wrote', path)\n"
        "    except OSError: pass\n"
        "print(os.path.exists('/var/run/docker.sock'), os.listdir('/dev/shm'))\n"
    )
    _, answer = create(here, body(here, Env=[f"JOB_SOURCE={source}"]))
    wait = here.proxy.wait(answer["Id"])
    here.proxy.call("POST", f"/containers/{answer['Id']}/start")
    assert wait.status() == 0
    said = here.daemon.logs(answer["Id"]).decode()
    here.proxy.call("DELETE", f"/containers/{answer['Id']}")
    assert said == "10001 10001 0 1\nFalse []\n"
