"""The positive list: what a job's operator sends in each call, and no field more.

That is what Docker's SDK sends for our runner and for Airflow's own DockerOperator: some fields always, which
then must say nothing.
"""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, ValidationError

from fraud_docker_proxy.refusals import Refused, sentence

_LABEL: Final = r"fraud\.(dag_id|task_id|run_id|map_index|try_number)"

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00]*$")]
LabelName = Annotated[str, Field(pattern=f"^{_LABEL}$")]
LabelIs = Annotated[str, Field(pattern=rf"^{_LABEL}=[^\x00]*$")]
Amount = Annotated[int, Field(gt=0)]


def _only_unset(value: Any) -> Any:
    if value is not False and value not in ([], {}):
        raise ValueError("jobs do not set this")
    return value


def _no_mounts(value: list[Any]) -> list[Any]:
    if value:
        raise ValueError("jobs mount nothing; for a DockerOperator set mount_tmp_dir=False")
    return value


# What Docker's SDK always sends, though nobody asked for it.
Unset = Annotated[Any, AfterValidator(_only_unset)]
NoMounts = Annotated[list[Any], AfterValidator(_no_mounts)]


class Form(BaseModel):
    """A field that is not in the form is refused, in another case too; nothing is taken for another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


F = TypeVar("F", bound=Form)


def fill(form: type[F], document: object) -> F:
    """The form, filled in.

    Raises:
        Refused: it names the first field that is wrong.
    """
    try:
        return form.model_validate(document)
    except ValidationError as error:
        raise Refused(403, sentence(error)) from None


# --- The body of a create call, in the daemon's names --------------------------------------------------


class Logging(Form):
    """How logs are kept, which is the proxy's to say."""

    Type: None = None
    Config: Unset = {}


class Host(Form):
    """What a job may use: bytes, billionths of a processor, a weight of 1024 a processor, processes."""

    Memory: Amount = sys.maxsize
    NanoCpus: Amount = sys.maxsize
    PidsLimit: Amount = sys.maxsize
    CpuShares: Amount = 1024
    NetworkMode: str = "default"
    LogConfig: Logging = Logging()
    Mounts: NoMounts = []
    PortBindings: Unset = {}
    Ulimits: Unset = []


class Job(Form):
    """A container to be made; without a command it runs the image's."""

    Image: str
    Cmd: list[Text] = []
    Env: list[Variable] = []
    Labels: dict[LabelName, Text] = {}
    HostConfig: Host = Host()
    AttachStdout: bool = False
    AttachStderr: bool = False
    AttachStdin: Unset = False
    OpenStdin: Unset = False
    StdinOnce: Unset = False
    Tty: Unset = False
    NetworkDisabled: Unset = False
    ExposedPorts: Unset = {}


# --- Queries -------------------------------------------------------------------------------------------


class Nothing(Form):
    """A call without parameters."""


class Naming(Form):
    """The name of a container to be made, which only jobs have; without one the proxy makes it up."""

    name: str = Field(
        default_factory=lambda: f"fraud-job-{secrets.token_hex(8)}",
        pattern=r"^fraud-(job|single)-[a-zA-Z0-9][a-zA-Z0-9_.-]{0,120}$",
    )


class Filters(Form):
    """The labels a container has, all of them."""

    label: list[LabelIs]


class Listing(Form):
    """Running or not, of a task."""

    all: Literal["1"]
    filters: Json[Filters]
    limit: Literal["-1"] = "-1"
    size: Literal["0"] = "0"
    trunc_cmd: Literal["0"] = "0"


class References(Form):
    """The names of images; DockerOperator asks for its own."""

    reference: list[str] = Field(min_length=1, max_length=1)


class Images(Form):
    """Whether an image of jobs is there."""

    filters: Json[References]
    only_ids: Literal["0"] = "0"
    all: Literal["0"] = "0"


class Waiting(Form):
    """Until it has been started and has ended; without a condition, until it does not run."""

    condition: Literal["next-exit"] | None = None


class Attachment(Form):
    """What it writes from here on; nothing is sent to it."""

    stdout: Literal["1"]
    stderr: Literal["1"]
    stream: Literal["1"]
    logs: Literal["0"]


class Stopping(Form):
    """How many seconds after SIGTERM it is killed; the daemon's ten if not given."""

    t: str | None = Field(default=None, pattern="^[0-9]{1,2}$")


class Removal(Form):
    """Whether with its anonymous volumes, and killed where it runs; as Docker's SDK writes it."""

    force: Literal["True", "False"]
    v: Literal["True", "False"]
    link: Literal["False"]


class Log(Form):
    """Everything, or what came since a second."""

    stdout: Literal["1"]
    stderr: Literal["1"]
    timestamps: Literal["1"]
    follow: Literal["0", "1"]
    since: str | None = Field(default=None, pattern="^[0-9]{1,10}$")


class Archive(Form):
    """The one file that is read out of a container."""

    path: Literal["/result/result.json"]
