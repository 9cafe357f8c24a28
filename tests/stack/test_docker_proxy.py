"""The docker-proxy in front of the real daemon: which requests pass, and which are refused."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.stack.docker_project import LIMITS, DockerProject, docker_project, job_image

SLEEP: Final = "import time; print('up', flush=True); time.sleep(1000)"
LOG: Final = "stdout=1&stderr=1&timestamps=1&follow=0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    with job_image() as image, docker_project(tmp_path_factory.mktemp("proxy"), image, grace_s=300) as docker:
        yield docker


@pytest.fixture(scope="module")
def foreign(project: DockerProject) -> Iterator[str]:
    """A running container of another project, with the label of the same DAG."""
    labels = {"fraud.project": "other", "fraud.dag_id": "the_dag"}
    container = project.daemon.create_container(project.image, ["sleep", "1000"], labels=labels)
    project.daemon.start(container["Id"])
    yield str(container["Id"])
    assert project.daemon.inspect_container(container["Id"])["State"]["Running"]
    project.daemon.remove_container(container["Id"], force=True)


def create(project: DockerProject, document: object, query: str | None = None) -> tuple[int, Any]:
    named = f"?name=fraud-job-{secrets.token_hex(6)}" if query is None else query
    return project.proxy.call("POST", f"/containers/create{named}", document)


@pytest.fixture(scope="module")
def running(project: DockerProject) -> Iterator[str]:
    """A job that runs all the time; no test may end it."""
    status, answer = create(project, project.body(SLEEP), "?name=fraud-job-running")
    assert status == 201, answer
    wait = project.proxy.wait(answer["Id"])
    assert project.proxy.call("POST", f"/containers/{answer['Id']}/start")[0] == 204
    yield answer["Id"]
    assert project.daemon.inspect_container(answer["Id"])["State"]["Running"]
    project.proxy.remove(answer["Id"])
    wait.give_up()


def test_what_the_daemon_gets_is_what_the_proxy_made(project: DockerProject) -> None:
    status, answer = create(project, project.body(SLEEP), "?name=fraud-job-one")
    assert status == 201
    details = project.daemon.inspect_container(answer["Id"])
    config, host = details["Config"], details["HostConfig"]
    project.proxy.remove(answer["Id"])
    assert details["Name"] == "/fraud-job-one"
    assert (config["Cmd"], config["User"]) == (["python", "-m", "fraud_job"], "10001:10001")
    assert config["Entrypoint"] == ["/usr/local/bin/fraud-entrypoint"]
    assert config["Labels"].items() >= {"fraud.dag_id": "the_dag", "fraud.project": project.project}.items()
    assert host.items() >= (LIMITS | {"MemorySwap": LIMITS["Memory"], "NetworkMode": project.network}).items()
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is True
    assert not host["Privileged"]
    assert not any(host[name] for name in ("Binds", "CapAdd", "Devices", "PidMode", "UTSMode", "UsernsMode"))
    assert host["IpcMode"] == "private"
    assert host["LogConfig"]["Config"]["max-size"] == "100m"


def test_limits_are_lowered_where_too_much_is_asked_for(project: DockerProject) -> None:
    much = {"Memory": 2**50, "NanoCpus": 2**60, "PidsLimit": 2**31}
    _, answer = create(project, project.body(SLEEP, HostConfig=much))
    host = project.daemon.inspect_container(answer["Id"])["HostConfig"]
    project.proxy.remove(answer["Id"])
    assert (host["Memory"], host["PidsLimit"]) == (4096 * 2**20, 512)
    assert 0 < host["NanoCpus"] <= 2_000_000_000


def test_a_runner_can_do_what_a_job_needs(project: DockerProject) -> None:
    source = "print('hello'); open('/result/result.json', 'w').write('{}'); raise SystemExit(3)"
    status, created = create(project, project.body(source, Labels={"fraud.dag_id": "usual"}))
    assert status == 201, created
    one = f"/containers/{created['Id']}"
    wait = project.proxy.wait(created["Id"])
    assert project.proxy.call("POST", f"{one}/start")[0] == 204
    assert wait.status() == 3
    status, log = project.proxy.call("GET", f"{one}/logs?{LOG}")
    assert (status, log[-6:]) == (200, "hello\n")
    status, archive = project.proxy.call("GET", f"{one}/archive?path=/result/result.json")
    assert (status, archive[:11], archive[512:514]) == (200, "result.json", "{}")
    status, about = project.proxy.call("GET", f"{one}/json")
    assert (status, about["State"]["Status"], about["State"]["ExitCode"]) == (200, "exited", 3)
    assert listed(project, '{"label": ["fraud.dag_id=usual"]}') == (200, [{"Id": created["Id"]}])
    project.proxy.remove(created["Id"])
    assert listed(project, '{"label": ["fraud.dag_id=usual"]}') == (200, [])


def listed(project: DockerProject, filters: str) -> tuple[int, Any]:
    return project.proxy.call("GET", f"/containers/json?all=1&filters={quote(filters)}")


# --- What a container must not get --------------------------------------------------------------

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
    "case_folded": {"Bind\u017f": ["/:/host"]},  # which the daemon's JSON decoder reads as an s
    "unknown": {"ReleasedInTenYears": True},
    "id_file": {"ContainerIDFile": "/etc/cron.d/x"},
    "empty": {"Privileged": False},
    "null": {"Binds": None},
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
    "empty": {"User": ""},
    "null": {"Volumes": None},
    "case": {"hostconfig": {"Privileged": True}},
    "case_image": {"image": "fraud-base:1"},
    "label_project": {"Labels": {"fraud.project": "other"}},
    "label_compose": {"Labels": {"com.docker.compose.project": "x"}},
}


@pytest.mark.parametrize("config", HOST.values(), ids=HOST.keys())
def test_no_container_is_made_with_more_of_the_host(project: DockerProject, config: dict[str, Any]) -> None:
    field = f"HostConfig.{next(iter(config))}".encode("unicode_escape").decode()
    refused(project, create(project, project.body(SLEEP, HostConfig=LIMITS | config)), 403, field)


@pytest.mark.parametrize("network", ["bridge", "none", "fraud-jobs", "", None, "container:fraud-job-running"])
def test_a_job_has_no_other_network(project: DockerProject, network: object) -> None:
    config = LIMITS | {"NetworkMode": network}
    refused(project, create(project, project.body(SLEEP, HostConfig=config)), 403, "HostConfig.NetworkMode")


def test_a_job_may_name_its_network_or_leave_it_to_the_proxy(project: DockerProject) -> None:
    for named in (project.network, "default"):
        _, answer = create(project, project.body(SLEEP, HostConfig=LIMITS | {"NetworkMode": named}))
        details = project.daemon.inspect_container(answer["Id"])
        project.proxy.remove(answer["Id"])
        assert list(details["NetworkSettings"]["Networks"]) == [project.network]


@pytest.mark.parametrize("configuration", TOP.values(), ids=TOP.keys())
def test_no_container_is_made_with_another_configuration(
    project: DockerProject, configuration: dict[str, Any]
) -> None:
    refused(project, create(project, project.body(SLEEP, **configuration)), 403, next(iter(configuration)))


def test_no_container_is_made_without_an_image(project: DockerProject) -> None:
    request = {name: value for name, value in project.body(SLEEP).items() if name != "Image"}
    refused(project, create(project, request), 403, "Image")


def test_what_is_left_out_is_the_images_and_the_most_a_job_gets(project: DockerProject) -> None:
    status, answer = create(project, {"Image": project.image}, "")
    assert status == 201, answer
    details = project.daemon.inspect_container(answer["Id"])
    project.proxy.remove(answer["Id"])
    host = details["HostConfig"]
    assert details["Name"].startswith("/fraud-job-")
    assert details["Config"]["Cmd"] == project.daemon.inspect_image(project.image)["Config"]["Cmd"]
    assert details["Config"]["Labels"]["fraud.project"] == project.project
    assert (host["Memory"], host["PidsLimit"], host["NetworkMode"]) == (4096 * 2**20, 512, project.network)
    assert 0 < host["NanoCpus"] <= 2_000_000_000


@pytest.mark.parametrize(
    "image", ["postgres:17", "fraud-test-job", "{}@sha256:0", "{} ", "", None, 5, ["{}"]]
)
def test_no_container_is_made_of_another_image(project: DockerProject, image: object) -> None:
    requested = image.replace("{}", project.image) if isinstance(image, str) else image
    refused(project, create(project, project.body(SLEEP, Image=requested)), 403, "Image")


def test_an_image_is_meant_as_it_is_listed_not_by_what_it_is(project: DockerProject) -> None:
    image = project.daemon.inspect_image(project.image)["Id"]
    refused(project, create(project, project.body(SLEEP, Image=image)), 403, "Image")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"Cmd": "sh -c id"}, "Cmd"),
        ({"Cmd": [1]}, "Cmd.0"),
        ({"Cmd": ["python", "a\0b"]}, "Cmd.1"),
        ({"Cmd": ["\ud800"]}, "Cmd.0"),
        ({"Env": {"A": "b"}}, "Env"),
        ({"Env": ["PATH"]}, "Env.0"),
        ({"Env": ["A=b", "A=\0"]}, "Env.1"),
        ({"Labels": ["fraud.dag_id=1"]}, "Labels"),
        ({"Labels": {"fraud.dag_id": 1}}, "Labels.fraud.dag_id"),
        ({"Labels": {"fraud.other": "1"}}, "Labels.fraud.other"),
        ({"HostConfig": []}, "HostConfig"),
        ({"HostConfig": "x"}, "HostConfig"),
        ({"HostConfig": None}, "HostConfig"),
        ({"HostConfig": LIMITS | {"Memory": "1g"}}, "HostConfig.Memory"),
        ({"HostConfig": LIMITS | {"Memory": True}}, "HostConfig.Memory"),
        ({"HostConfig": LIMITS | {"Memory": 0}}, "HostConfig.Memory"),
        ({"HostConfig": LIMITS | {"Memory": -1}}, "HostConfig.Memory"),
        ({"HostConfig": LIMITS | {"Memory": float("nan")}}, "HostConfig.Memory"),
        ({"HostConfig": LIMITS | {"PidsLimit": -1}}, "HostConfig.PidsLimit"),
        ({"HostConfig": LIMITS | {"NanoCpus": 1.5}}, "HostConfig.NanoCpus"),
        ({"\ud800": 1}, "A name"),
    ],
)
def test_a_field_of_another_form_is_refused(
    project: DockerProject, changed: dict[str, Any], field: str
) -> None:
    refused(project, create(project, project.body(SLEEP, **changed)), 403, field)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"HostConfig":' * 9_000 + b"1" + b"}" * 9_000,
        b'{"Image": "other", BODY',
        b'{"Image": "IMAGE", BODY',
        b'{"HostConfig": {"Memory": 1, "Memory": 2}, BODY',
        b'{"HostConfig": {"Privileged": true}, BODY',
    ],
)
def test_a_body_that_can_be_read_in_two_ways_is_refused(project: DockerProject, content: bytes) -> None:
    whole = json.dumps(project.body(SLEEP)).encode()
    request = content.replace(b"BODY", whole[1:]).replace(b"IMAGE", project.image.encode())
    refused(project, create(project, request), 400)


def test_a_body_that_is_too_large_is_refused(project: DockerProject) -> None:
    refused(project, create(project, project.body("#" * 256 * 1024)), 413)


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
        "?name=fraud-job-a&platform=linux",
        "?platform=windows",
        "?Name=x",
        "?%6eame=postgres",
        "?name=fraud-job-a;name=x",
        "?x",
    ],
)
def test_a_query_that_is_not_plainly_a_jobs_is_refused(project: DockerProject, query: str) -> None:
    refused(project, create(project, project.body(SLEEP), query), 403)


@pytest.mark.parametrize("second", ["name", "n%61me"])
def test_a_query_with_a_name_twice_is_refused(project: DockerProject, second: str) -> None:
    refused(project, create(project, project.body(SLEEP), f"?name=fraud-job-a&{second}=fraud-job-b"), 400)


def refused(project: DockerProject, answer: tuple[int, Any], expected: int, field: str = "") -> None:
    status, document = answer
    assert status == expected, document
    assert document["message"].startswith(field)
    assert document["message"].endswith(".")
    created = [one["Id"] for one in project.containers() if one["Names"] != ["/fraud-job-running"]]
    for one in created:
        project.daemon.remove_container(one)
    assert created == []


def test_a_client_finds_the_version_and_the_images_of_jobs(project: DockerProject) -> None:
    status, answer = project.proxy.call("GET", "/version")
    assert status == 200
    assert list(answer) == ["ApiVersion"]
    for prefix in ("", f"/v{answer['ApiVersion']}"):
        assert project.proxy.call("GET", f"{prefix}/_ping") == (200, "OK")
        filters = quote(json.dumps({"reference": [project.image]}))
        status, images = project.proxy.call("GET", f"{prefix}/images/json?only_ids=0&all=0&filters={filters}")
        assert (status, images) == (200, [{"RepoTags": [project.image]}])


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
        "POST /containers/ID/kill?signal=KILL",
        "POST /containers/ID/pause",
        "POST /containers/ID/resize?h=1&w=1",
        "GET /containers/ID/export",
        "GET /containers/ID/top",
        "GET /containers/ID/stats",
        "GET /containers/ID/changes",
        "PUT /containers/ID/archive?path=/",
        "HEAD /containers/ID/archive?path=/etc/shadow",
        "HEAD /containers/ID/json",
        "POST /containers/prune",
        "POST /commit?container=ID",
        "POST /build",
        "POST /build/prune",
        "POST /session",
        "POST /grpc",
        "GET /images/json",
        'GET /images/json?filters={"dangling":["true"]}',
        'GET /images/json?filters={"reference":["postgres:17"]}',
        'GET /images/json?filters={"reference":[]}',
        'GET /images/json?all=1&filters={"reference":["x"]}',
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
def test_every_other_call_is_refused(project: DockerProject, running: str, call: str) -> None:
    method, path = call.replace("ID", running).split(" ", 1)
    for prefix in ("", "/v1.41"):
        status, answer = project.proxy.call(method, prefix + path, b"")
        assert status == 403
        assert method == "HEAD" or answer["message"].endswith(".")


@pytest.mark.parametrize(
    "path",
    [
        "//containers/FOREIGN/json",
        "/containers//FOREIGN/json",
        "/containers/FOREIGN/json/",
        "/containers/FOREIGN%2fjson",
        "/containers/%2e%2f/FOREIGN/json",
        "/containers/running/../FOREIGN/json",
        "/containers/running%2f..%2fFOREIGN/json",
        "/containers/FOREIGN/%6a%73%6f%6e",
        "/containers/FOREIGN%3fx/json",
        "/containers/FOREIGN%23/json",
        "/containers/FOREIGN%00/json",
        "/containers/FOREIGN%0a/json",
        "/containers/a%0d%0aX:y/json",
        "/containers/./FOREIGN/json",
        "/containers/FOREIGN;b/json",
        "/containers/%20FOREIGN/json",
        "/v1.41/containers/FOREIGN/json",
        "/v1.41//containers/FOREIGN/json",
        "/v1.41/../containers/FOREIGN/json",
        "http://docker/containers/FOREIGN/json",
        "/\\containers/FOREIGN/json",
        "/containers/../images/json",
        "/containers/%2e%2e/images/json",
        "/containers/..%2fimages/json",
        "/containers/%6a%73%6f%6e",
        "/containers/x%2fjson",
        "/v1.41/v1.41/containers/json/x%00",
        "/_ping/",
    ],
)
def test_a_path_with_two_readings_shows_nothing(project: DockerProject, foreign: str, path: str) -> None:
    status, answer = project.proxy.call("GET", path.replace("FOREIGN", foreign))
    assert status in (403, 404)
    assert list(answer) == ["message"]


CREATE: Final = "POST /containers/create?name=fraud-job-raw"
START: Final = "POST /containers/ID/start"
CHUNKED: Final = "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("line", "rest", "status"),
    [
        (START, "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n", 403),
        (CREATE, "Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: LENGTH\r\n\r\nBODY", 403),
        ("GET /_ping", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", 403),
        ("GET /_ping", "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 403),
        (CREATE, CHUNKED + "\r\n2\r\n{}\r\n0\r\n\r\n", 403),
        (CREATE, CHUNKED + "Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 403),
        (CREATE, CHUNKED + "Content-Length: LENGTH\r\n\r\n0\r\n\r\nBODY", 400),
        (CREATE, "Transfer-Encoding: gzip, chunked\r\nContent-Length: LENGTH\r\n\r\nBODY", 400),
        (CREATE, "Content-Length: 999999999\r\n\r\n" + "x" * (256 * 1024 + 1), 413),
        (CREATE, "Content-Length: -1\r\n\r\nBODY", 400),
        (CREATE, "Content-Length: 2\r\nContent-Length: LENGTH\r\n\r\nBODY", 400),
        (START, "Content-Length: 2\r\n\r\n{}", 400),
        (START, CHUNKED + "\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        ("GET /containers/a\tb/json", "\r\n", 400),
        ("nonsense", "\r\n", 400),
    ],
)
def test_a_message_with_two_readings_does_nothing(
    project: DockerProject, running: str, line: str, rest: str, status: int
) -> None:
    body = json.dumps(project.body(SLEEP))
    request = f"{line} HTTP/1.1\r\nHost: x\r\n{rest}".replace("ID", running)
    request = request.replace("LENGTH", str(len(body))).replace("BODY", body)
    with socket.create_connection(("127.0.0.1", project.proxy.port), timeout=60) as wire:
        wire.sendall(request.encode())
        assert wire.makefile("rb").readline().split()[1] == str(status).encode()
    assert [one["Id"] for one in project.containers()] == [running]
    assert project.daemon.inspect_container(running)["State"]["Running"]


def test_nothing_is_to_be_had_of_a_container_of_another_project(project: DockerProject, foreign: str) -> None:
    name = project.daemon.inspect_container(foreign)["Name"].lstrip("/")
    for one in (foreign, foreign[:12], name):
        for call in (
            f"GET /containers/{one}/json",
            f"GET /containers/{one}/logs?{LOG}",
            f"GET /containers/{one}/archive?path=/result/result.json",
            f"POST /containers/{one}/wait?condition=next-exit",
            f"POST /containers/{one}/attach?logs=0&stdout=1&stderr=1&stream=1",
            f"POST /containers/{one}/start",
            f"POST /containers/{one}/stop?t=1",
            f"DELETE /containers/{one}?force=True&v=True&link=False",
        ):
            method, path = call.split(" ", 1)
            status, answer = project.proxy.call(method, path)
            assert (status, "not one of this project" in answer["message"]) == (403, True), call
    assert project.daemon.inspect_container(foreign)["State"]["Running"]


def test_a_list_holds_this_projects_containers_alone(
    project: DockerProject, foreign: str, running: str
) -> None:
    for filters in ('{"label": []}', '{"label": ["fraud.dag_id=the_dag"]}'):
        assert listed(project, filters) == (200, [{"Id": running}])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?all=1",
        "?all=1&filters=%7B%7D",
        '?all=1&filters={"name":["x"]}',
        '?all=1&filters={"label":["x=y"]}',
        '?all=1&filters={"label":["fraud.project=other"]}',
        '?all=1&filters={"label":["fraud.dag_id=the_dag"],"Label":[]}',
        '?all=1&filters={"label":{"fraud.dag_id":true}}',
        "?all=1&filters=[]",
        "?all=1&filters=x",
        '?all=0&filters={"label":[]}',
        '?all=1&filters={"label":[]}&limit=1',
    ],
)
def test_a_list_that_no_runner_asks_for_is_refused(
    project: DockerProject, foreign: str, running: str, query: str
) -> None:
    status, answer = project.proxy.call("GET", f"/containers/json{query}")
    assert (status, list(answer)) == (403, ["message"])


def test_no_answer_and_no_log_of_the_proxy_holds_a_secret(project: DockerProject) -> None:
    secret = ["DATABASE_URL=geheim", f"JOB_SOURCE={SLEEP}"]
    _, answer = create(project, project.body(SLEEP, Env=secret))
    leaks = [
        create(project, project.body(SLEEP, Env=secret, HostConfig=LIMITS | {"Privileged": True})),
        create(project, project.body(SLEEP, Env=["geheim"])),
        create(project, project.body(SLEEP, Env={"DATABASE_URL": "geheim"})),
        create(project, project.body(SLEEP, Env=["DATABASE_URL=geheim\0"])),
    ]
    _, about = project.proxy.call("GET", f"/containers/{answer['Id']}/json")
    project.proxy.remove(answer["Id"])
    assert about["State"]["Status"] == "created"
    assert [status for status, _ in leaks] == [403] * 4
    lines = project.proxy.log()
    assert "geheim" not in json.dumps([about, leaks, lines])
    assert any(line["event"] == "created" and line["id"] == answer["Id"] for line in lines)
    assert any(line["event"] == "refused" and "Privileged" in line["reason"] for line in lines)


@pytest.mark.parametrize(
    "path", ["/", "/etc/shadow", "/result", "/result/", "/result/../etc/shadow", "/proc/1/root", ""]
)
def test_only_the_result_is_read_out_of_a_container(project: DockerProject, running: str, path: str) -> None:
    status, _ = project.proxy.call("GET", f"/containers/{running}/archive?path={path}")
    assert status == 403


def test_nothing_is_read_out_of_a_container_that_runs(project: DockerProject, running: str) -> None:
    status, _ = project.proxy.call("GET", f"/containers/{running}/archive?path=/result/result.json")
    assert status == 409


@pytest.mark.parametrize(
    "call",
    [
        "GET /_ping?x=1",
        "GET /containers/ID/json?size=1",
        "POST /containers/ID/start?checkpoint=x",
        "POST /containers/ID/stop?t=-1",
        "POST /containers/ID/stop?t=1&signal=STOP",
        "POST /containers/ID/attach?logs=0&stdout=1&stderr=1&stream=1&stdin=1",
        "POST /containers/ID/attach?logs=1&stdout=1&stderr=1&stream=1",
        "POST /containers/ID/wait?condition=removed",
        f"GET /containers/ID/logs?{LOG}&details=1",
        f"GET /containers/ID/logs?{LOG}&tail=1",
        f"GET /containers/ID/logs?{LOG}&since=x",
        "GET /containers/ID/logs?stdout=2&stderr=1&timestamps=1&follow=0",
        "GET /containers/ID/logs?stdout=1",
        "DELETE /containers/ID",
        "DELETE /containers/ID?link=1",
        "DELETE /containers/ID?force=1&v=1&link=1",
    ],
)
def test_a_parameter_no_job_needs_is_refused(project: DockerProject, running: str, call: str) -> None:
    method, path = call.replace("ID", running).split(" ", 1)
    status, answer = project.proxy.call(method, path)
    assert (status, answer["message"][-1]) == (403, ".")


def test_a_job_is_nobody_in_its_container(project: DockerProject) -> None:
    source = (
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)\n"
        "print(os.getuid(), os.getgid(), int(status['CapBnd'], 16), status['NoNewPrivs'].strip())\n"
        "for path in ('/app/x', '/usr/x', '/etc/x', '/opt/venv/x'):\n"
        "    try: open(path, 'w'); print('wrote', path)\n"
        "    except OSError: pass\n"
        "print(os.path.exists('/var/run/docker.sock'), os.listdir('/dev/shm'))\n"
    )
    _, answer = create(project, project.body(source))
    wait = project.proxy.wait(answer["Id"])
    project.proxy.call("POST", f"/containers/{answer['Id']}/start")
    assert wait.status() == 0
    output = project.daemon.logs(answer["Id"]).decode()
    project.proxy.remove(answer["Id"])
    assert output == "10001 10001 0 1\nFalse []\n"
