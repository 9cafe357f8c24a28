"""What Airflow's DockerOperator and the platform's own operator may request from the docker-proxy."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.stack.docker_project import ROOT, DockerProject, docker_project, job_image
from tests.support.airflow_metadata import airflow_python
from tests.support.waiting import eventually

SLEEP: Final = ["python", "-c", "import time; print('up', flush=True); time.sleep(1000)"]
# Whole lines: `print` writes the line's end by itself, and those of two streams may come in any order.
HELLO: Final = ["python", "-c", r"import os; os.write(1, b'hello\n'); os.write(2, b'there\n')"]
RESULT: Final = "import os; print('working'); open(os.environ['RESULT_PATH'], 'w').write('{\"seen\": 1}')"
# Executes operators as the task runner does, without its guard, and prints the outcome of each.
TASKS: Final = """
import json, signal, sys
from types import SimpleNamespace
from airflow.providers.docker.operators.docker import DockerOperator
from operators.docker_operator_custom import FraudDockerOperator
ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
for kind, arguments in json.loads(sys.argv[1]):
    cls = FraudDockerOperator if kind == "ours" else DockerOperator
    try:
        task = cls(task_id="t", **arguments)
        assert isinstance(task, DockerOperator)
        signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
        outcome = {"result": cls.execute.__wrapped__(task, {"ti": ti})}
    except Exception as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    print("OUTCOME" + json.dumps(outcome), flush=True)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    with job_image() as image, docker_project(tmp_path_factory.mktemp("proxy"), image) as docker:
        yield docker


@pytest.fixture(autouse=True)
def clean_project(project: DockerProject) -> Iterator[None]:
    yield
    assert eventually(lambda: not project.containers(), 60)


class Tasks:
    """A process in Airflow's environment that executes operators one after the other."""

    def __init__(
        self, project: DockerProject, home: Path, tasks: Sequence[tuple[str, dict[str, Any]]]
    ) -> None:
        requests = [(kind, {"image": project.image, **one}) for kind, one in tasks]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "airflow" / "plugins")]),
            "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "DOCKER_HOST": f"tcp://127.0.0.1:{project.proxy.port}",
        }
        self.process = subprocess.Popen(
            [str(airflow_python()), "-c", TASKS, json.dumps(requests)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def results(self) -> list[dict[str, Any]]:
        """Wait for the end of the process; returns the outcome of each operator."""
        output = self.process.communicate(timeout=120)[0]
        assert self.process.returncode == 0, output
        return [json.loads(line[7:]) for line in output.splitlines() if line.startswith("OUTCOME")]


def plain(**arguments: Any) -> tuple[str, dict[str, Any]]:
    return "plain", {"mount_tmp_dir": False, "auto_remove": "force", "command": HELLO, **arguments}


def exits(code: int) -> dict[str, Any]:
    return {"command": ["python", "-c", f"raise SystemExit({code})"]}


def test_a_docker_operator_does_with_an_image_of_jobs_what_its_users_know(
    project: DockerProject, tmp_path: Path
) -> None:
    code = "import os; print(os.environ['A'], os.environ['B'])"
    results = Tasks(
        project,
        tmp_path,
        [
            plain(xcom_all=True),
            plain(command=["python", "-c", code], environment={"A": "1"}, private_environment={"B": "2"}),
            plain(mem_limit="64m", cpus=0.5, network_mode=project.network, command="echo said"),
            plain(auto_remove="success", command="echo once", container_name="fraud-job-mine"),
            plain(**exits(3)),
            plain(**exits(3), skip_on_exit_code=3),
        ],
    ).results()
    assert sorted(results[0]["result"]) == ["hello", "there"]
    assert [one.get("result") for one in results[1:4]] == ["1 2", "said", "once"]
    assert results[4]["error"] == "DockerContainerFailedException"
    assert "'StatusCode': 3" in results[4]["message"]
    assert results[5]["error"] == "DockerContainerFailedSkipException"
    assert project.proxy.log_is_json()


MOUNTS: Final = "HostConfig.Mounts: jobs mount nothing"
REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"mount_tmp_dir": True}, f"{MOUNTS}; for a DockerOperator set mount_tmp_dir=False."),
    ({"mounts": [{"target": "/x", "source": "v", "type": "volume"}]}, MOUNTS),
    ({"privileged": True}, "HostConfig.Privileged: jobs do not set this."),
    ({"cap_add": ["SYS_ADMIN"]}, "HostConfig.CapAdd: jobs do not set this."),
    ({"network_mode": "host"}, "HostConfig.NetworkMode: jobs have no network but NETWORK."),
    ({"network_mode": "container:fraud-postgres"}, "HostConfig.NetworkMode: "),
    ({"ipc_mode": "host"}, "HostConfig.IpcMode: jobs do not set this."),
    ({"extra_hosts": {"postgres": "10.0.0.1"}}, "HostConfig.ExtraHosts: jobs do not set this."),
    ({"port_bindings": {80: 80}}, "HostConfig.PortBindings: jobs do not set this."),
    ({"shm_size": 2**30}, "HostConfig.ShmSize: jobs do not set this."),
    ({"log_opts_max_size": "1g"}, "HostConfig.LogConfig.Config: jobs do not set this."),
    ({"user": "root"}, "User: jobs do not set this."),
    ({"entrypoint": ["sh"]}, "Entrypoint: jobs do not set this."),
    ({"working_dir": "/"}, "WorkingDir: jobs do not set this."),
    ({"hostname": "postgres"}, "Hostname: jobs do not set this."),
    ({"tty": True}, "Tty: jobs do not set this."),
    ({"labels": {"fraud.project": "other"}}, "Labels.fraud.project"),
    ({"container_name": "fraud-postgres"}, "name: "),
    ({"image": "postgres:17"}, "Image: 'postgres:17' is not an image of jobs"),
    ({"force_pull": True}, "POST /images/create is not a call that jobs need."),
]


def test_a_docker_operator_that_asks_for_more_is_refused_and_the_field_is_named(
    project: DockerProject, tmp_path: Path
) -> None:
    results = Tasks(project, tmp_path, [plain(**arguments) for arguments, _ in REFUSED]).results()
    for (arguments, sentence), one in zip(REFUSED, results, strict=True):
        assert one.get("error") == "APIError", (arguments, one)
        assert f'("{sentence.replace("NETWORK", project.network)}' in one["message"], (arguments, one)


def running(project: DockerProject) -> bool:
    return [one["State"] for one in project.containers()] == ["running"]


def sleeping(project: DockerProject, home: Path, kind: str) -> Tasks:
    """A task with a running container."""
    arguments = {"command": SLEEP} if kind == "ours" else plain(command=SLEEP, auto_remove="never")[1]
    tasks = Tasks(project, home, [(kind, arguments)])
    assert eventually(lambda: running(project), 60)
    return tasks


@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_the_container_of_a_killed_task_ends(project: DockerProject, tmp_path: Path, kind: str) -> None:
    tasks = sleeping(project, tmp_path, kind)
    tasks.process.kill()
    tasks.process.communicate()
    assert eventually(lambda: not project.containers(), 60)


@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_the_container_of_a_task_that_is_ended_ends(
    project: DockerProject, tmp_path: Path, kind: str
) -> None:
    tasks = sleeping(project, tmp_path, kind)
    tasks.process.terminate()
    [result] = tasks.results()
    assert result["error"] in ("AirflowException", "DockerContainerFailedException")


def test_our_operator_runs_what_a_docker_operator_is_given(project: DockerProject, tmp_path: Path) -> None:
    own_arguments = {"mem_limit": "70m", "cpus": 0.5, "network_mode": project.network, "single": "test"}
    results = Tasks(
        project,
        tmp_path,
        [
            ("ours", {"command": ["python", "-c", RESULT], **own_arguments}),
            ("ours", {"command": "python -c 'raise SystemExit(99)'", "container_name": "fraud-job-mine"}),
            ("ours", exits(5)),
            ("ours", {**exits(5), "skip_on_exit_code": [5]}),
            ("ours", {**exits(0), "network_mode": "host"}),
        ],
    ).results()
    assert results[0] == {"result": {"seen": 1}}
    assert [one["error"] for one in results[1:]] == [
        "AirflowSkipException",
        "AirflowException",
        "AirflowSkipException",
        "AirflowFailException",
    ]
    assert results[4]["message"] == (
        "The Docker proxy refuses the job: "
        f"HostConfig.NetworkMode: jobs have no network but {project.network}."
    )
