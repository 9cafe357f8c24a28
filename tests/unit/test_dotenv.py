"""`.env` is read as Docker Compose reads it, or refused; an older one goes on working."""

import base64
from pathlib import Path

import pytest

from config.settings import api_clients
from fraud_launcher.dotenv import BadDotenv, ensure, parse, quote_value, read, with_random_secrets
from tests.support.dotenv_cases import FILES, READ

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / ".env.example"


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_a_value_is_what_compose_reads(text: str, value: str) -> None:
    assert parse(f"A={text}\nB=next\n") == {"A": value, "B": "next"}


@pytest.mark.parametrize(("text", "values"), FILES.items())
def test_a_file_is_what_compose_reads(text: str, values: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    assert read(tmp_path / ".env") == values


# Compose expands `$`, a backslash and a line break; a comment without a value, or after a tab, it takes as
# part of the value; a control character reaches no process, or not the same way.
@pytest.mark.parametrize(
    "text",
    [
        *("pa$word", "${HOME}", "$(HOME)", "'qx", "'qx' b", "'qx\nqy'", '"q$x"', '"q\\x"', '"qx', '"qx" b'),
        *(" # qx", "\t# qx", "qx\t# qy", "qx\xa0# qy", "qx\rqy=1", "qx\0", "'q\x0bx'", "q\x1cx"),
    ],
)
def test_what_compose_would_read_otherwise_is_refused_without_the_value(text: str) -> None:
    with pytest.raises(BadDotenv, match=r"^DB_PASSWORD in \.env: ") as refused:
        parse(f"DB_PASSWORD={text}\n")
    assert text.strip("'\"") not in str(refused.value)
    assert "qx" not in str(refused.value)


def test_comments_and_exports() -> None:
    assert parse("# A=1\nexport B=2\n\n E = f \n") == {"B": "2", "E": "f"}


@pytest.mark.parametrize(
    "line", ["DB_PASSWORD", "export A", "s3cret words", "s3cret words=1", "=s3cret", "\ufeffA=1"]
)
def test_a_line_that_gives_nothing_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(BadDotenv, match=r"^\.env: line 2: .*write NAME=value") as refused:
        parse(f"A=1\n{line}\n")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\nB=caf\xe9\n", "line 2: is not UTF-8"),
        ("A=1\n".encode("utf-16"), "is UTF-16"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_not_text_is_named_and_left_as_it_is(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.mkdir() if content is None else file.write_bytes(content)
    for act in (lambda: read(file), lambda: ensure(file, TEMPLATE)):
        with pytest.raises(BadDotenv, match=message) as refused:
            act()
        assert str(file) in str(refused.value)
    assert file.is_dir() if content is None else file.read_bytes() == content


def test_a_byte_order_mark_loses_no_secret(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    text = with_random_secrets(TEMPLATE.read_text())
    first = next(iter(parse(text)))
    expected = "".join(
        line for line in text.splitlines(keepends=True) if "=" in line and not line.startswith("#")
    )
    file.write_text("\ufeff" + expected.replace("\n", "\r\n"), newline="")
    assert ensure(file, TEMPLATE) == []
    assert read(file)[first] == parse(text)[first]
    older = "".join(line for line in expected.splitlines(keepends=True) if "REDIS_PASSWORD" not in line)
    file.write_text("\ufeff" + older.replace("\n", "\r\n"), newline="")
    assert ensure(file, TEMPLATE) == ["REDIS_PASSWORD"]
    values = read(file)
    assert {**values, "REDIS_PASSWORD": ""} == {**parse(text), "REDIS_PASSWORD": ""}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadDotenv, match=r"file/\.env: cannot be (read|written): Not a directory"):
        ensure(tmp_path / "file" / ".env", TEMPLATE)


@pytest.mark.parametrize(
    "value", [*READ.values(), "a'b\\c", "$", " ", "#", '"\'"', "tab\there", "t\t#", "a: b"]
)
def test_what_is_written_is_read_again(value: str) -> None:
    try:
        text = quote_value(value)
    except BadDotenv:
        assert "\\'" in value or value.endswith("\\")
    else:
        assert parse(f"A={text}\nB=next") == {"A": value, "B": "next"}


def test_an_older_file_keeps_the_secrets_of_its_clients(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("API_KEYS=streaming:old:one,admin:pa$$ word,guest:theirs")
    added = ensure(file, TEMPLATE)
    values = parse(file.read_text())
    assert values["API_KEYS"] == "streaming:old:one,admin:pa$ word,guest:theirs"
    assert values["API_CLIENT_SECRET_STREAMING"] == "old:one"
    assert values["API_CLIENT_SECRET_ADMIN"] == "pa$ word"
    assert "API_CLIENT_SECRET_AIRFLOW" in added
    assert len(values["API_CLIENT_SECRET_AIRFLOW"]) == 64
    assert api_clients(values)["guest"] == "theirs"
    names = [line.partition("=")[0] for line in file.read_text().splitlines() if "=" in line]
    assert len(names) == len(set(names))
    assert ensure(file, TEMPLATE) == []


def test_a_client_with_its_development_secret_keeps_it_too(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("API_KEYS=streaming:change-me-client-streaming\n")
    ensure(file, TEMPLATE)
    assert api_clients(parse(file.read_text()))["streaming"] == "change-me-client-streaming"


def test_the_example_works_as_it_stands() -> None:
    values = parse(TEMPLATE.read_text())
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32
    assert len(values["AIRFLOW_JWT_SECRET"]) >= 64
    assert set(api_clients(values)) == {"streaming", "rollout", "airflow", "admin"}
