"""The positive list: what a runner says in each call, and no field more."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from fraud_docker_proxy.refusals import Refused, sentence

_LABEL: Final = r"fraud\.(dag_id|task_id|run_id|map_index|try_number)"

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00]*$")]
LabelName = Annotated[str, Field(pattern=f"^{_LABEL}$")]
LabelIs = Annotated[str, Field(pattern=rf"^{_LABEL}=[^\x00]*$")]
Amount = Annotated[int, Field(gt=0)]


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


class Limits(Form):
    """What a job may use: bytes, billionths of a processor, processes."""

    Memory: Amount
    NanoCpus: Amount
    PidsLimit: Amount


class Job(Form):
    """A container to be made."""

    Image: str
    Cmd: list[Text]
    Env: list[Variable]
    Labels: dict[LabelName, Text]
    HostConfig: Limits


# --- Queries -------------------------------------------------------------------------------------------


class Nothing(Form):
    """A call without parameters."""


class Naming(Form):
    """The name of a container to be made, which only jobs have."""

    name: str = Field(pattern=r"^fraud-(job|single)-[a-zA-Z0-9][a-zA-Z0-9_.-]{0,120}$")


class Filters(Form):
    """The labels a container has, all of them."""

    label: list[LabelIs]


class Listing(Form):
    """Running or not, of a task."""

    all: Literal["1"]
    filters: Json[Filters]


class Waiting(Form):
    """Until it has been started and has ended."""

    condition: Literal["next-exit"]


class Stopping(Form):
    """How many seconds after SIGTERM it is killed."""

    t: str = Field(pattern="^[0-9]{1,2}$")


class Removal(Form):
    """With its anonymous volumes, and killed where it runs."""

    force: Literal["1"]
    v: Literal["1"]


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
