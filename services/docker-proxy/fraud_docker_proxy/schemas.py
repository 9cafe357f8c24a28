"""The permitted fields of each call; any other field is refused.

They are the fields that Docker's SDK sends for our runner and for Airflow's DockerOperator. Some of them the
SDK always sends, and those must be empty.
"""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, ValidationError

from fraud_docker_proxy.refusals import RequestRefused, sentence

_LABEL: Final = r"fraud\.(dag_id|task_id|run_id|map_index|try_number)"

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00]*$")]
LabelName = Annotated[str, Field(pattern=f"^{_LABEL}$")]
LabelFilter = Annotated[str, Field(pattern=rf"^{_LABEL}=[^\x00]*$")]
PositiveAmount = Annotated[int, Field(gt=0)]


def _only_unset(value: Any) -> Any:
    if value is not False and value not in ([], {}):
        raise ValueError("jobs do not set this")
    return value


def _no_mounts(value: list[Any]) -> list[Any]:
    if value:
        raise ValueError("jobs mount nothing; for a DockerOperator set mount_tmp_dir=False")
    return value


# Fields that Docker's SDK always sends, also when they are not set.
AlwaysUnset = Annotated[Any, AfterValidator(_only_unset)]
NoMounts = Annotated[list[Any], AfterValidator(_no_mounts)]


class CallSchema(BaseModel):
    """Refuses unknown fields, including names in another case, and converts no types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


SchemaT = TypeVar("SchemaT", bound=CallSchema)


def validate(schema: type[SchemaT], document: object) -> SchemaT:
    """The document as an instance of `schema`.

    Raises:
        RequestRefused: it names the first invalid field.
    """
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise RequestRefused(403, sentence(error)) from None


# --- The body of a create call, with the daemon's names --------------------------------------------------


class LogConfigSchema(CallSchema):
    """The log driver, which the proxy sets itself."""

    Type: None = None
    Config: AlwaysUnset = {}


class HostConfigSchema(CallSchema):
    """The limits of a job: memory in bytes, CPUs in billionths, CPU shares (1024 per CPU) and processes."""

    Memory: PositiveAmount = sys.maxsize
    NanoCpus: PositiveAmount = sys.maxsize
    PidsLimit: PositiveAmount = sys.maxsize
    CpuShares: PositiveAmount = 1024
    NetworkMode: str = "default"
    LogConfig: LogConfigSchema = LogConfigSchema()
    Mounts: NoMounts = []
    PortBindings: AlwaysUnset = {}
    Ulimits: AlwaysUnset = []


class CreateBody(CallSchema):
    """The container to create; without `Cmd` it runs the image's command."""

    Image: str
    Cmd: list[Text] = []
    Env: list[Variable] = []
    Labels: dict[LabelName, Text] = {}
    HostConfig: HostConfigSchema = HostConfigSchema()
    AttachStdout: bool = False
    AttachStderr: bool = False
    AttachStdin: AlwaysUnset = False
    OpenStdin: AlwaysUnset = False
    StdinOnce: AlwaysUnset = False
    Tty: AlwaysUnset = False
    NetworkDisabled: AlwaysUnset = False
    ExposedPorts: AlwaysUnset = {}


# --- Queries -------------------------------------------------------------------------------------------


class NoParameters(CallSchema):
    """A call without parameters."""


class CreateQuery(CallSchema):
    """The name of the container to create. Only jobs have such names; the proxy generates a missing one."""

    name: str = Field(
        default_factory=lambda: f"fraud-job-{secrets.token_hex(8)}",
        pattern=r"^fraud-(job|single)-[a-zA-Z0-9][a-zA-Z0-9_.-]{0,120}$",
    )


class LabelFilters(CallSchema):
    """Labels, all of which a container must have."""

    label: list[LabelFilter]


class ListQuery(CallSchema):
    """Lists the containers of a task, running or not."""

    all: Literal["1"]
    filters: Json[LabelFilters]
    limit: Literal["-1"] = "-1"
    size: Literal["0"] = "0"
    trunc_cmd: Literal["0"] = "0"


class ImageFilters(CallSchema):
    """The image to look for; DockerOperator filters by the name of its own image."""

    reference: list[str] = Field(min_length=1, max_length=1)


class ImagesQuery(CallSchema):
    """Looks for an image of jobs on this machine."""

    filters: Json[ImageFilters]
    only_ids: Literal["0"] = "0"
    all: Literal["0"] = "0"


class WaitQuery(CallSchema):
    """`next-exit` waits until the container has started and ended; otherwise until it is not running."""

    condition: Literal["next-exit"] | None = None


class AttachQuery(CallSchema):
    """Reads the output from now on; nothing is sent to the container."""

    stdout: Literal["1"]
    stderr: Literal["1"]
    stream: Literal["1"]
    logs: Literal["0"]


class StopQuery(CallSchema):
    """`t` is the number of seconds between SIGTERM and SIGKILL; the daemon's default is ten."""

    t: str | None = Field(default=None, pattern="^[0-9]{1,2}$")


class RemoveQuery(CallSchema):
    """Whether to kill a running container and to remove its anonymous volumes, as Docker's SDK sends it."""

    force: Literal["True", "False"]
    v: Literal["True", "False"]
    link: Literal["False"]


class LogsQuery(CallSchema):
    """Reads the whole log, or the log since a time in seconds."""

    stdout: Literal["1"]
    stderr: Literal["1"]
    timestamps: Literal["1"]
    follow: Literal["0", "1"]
    since: str | None = Field(default=None, pattern="^[0-9]{1,10}$")


class ArchiveQuery(CallSchema):
    """Reads the result file, the only file that may be read from a container."""

    path: Literal["/result/result.json"]
