"""`.env` is read as Docker Compose reads it, or refused; an older one goes on working."""

import base64
from pathlib import Path

import pytest

from config.settings import api_clients
from fraud_embedded.dotenv import BadDotenv, ensure, parse, written

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / ".env.example"

# As written → as Compose v2 reads it (`docker compose config`).
READ = {
    "plain": "plain",
    " spaced ": "spaced",
    "two words # a remark": "two words",
    "a#b": "a#b",
    "#b": "#b",
    "a$$b": "a$b",
    "a\\b\\": "a\\b\\",
    "it's": "it's",
    'x="y"': 'x="y"',
    "'two words'": "two words",
    "'a$b'": "a$b",
    "'a$$b'": "a$$b",
    "'it\\'s'": "it's",
    "'a\\b'": "a\\b",
    "'a\\\\'": "a\\\\",
    "'a#b' # a remark": "a#b",
    '"two words"': "two words",
    '"it\'s"': "it's",
    "''": "",
    "": "",
    "!@%^&*()[]{};:,.<>/?|~`+=-é": "!@%^&*()[]{};:,.<>/?|~`+=-é",
}


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_a_value_is_what_compose_reads(text: str, value: str) -> None:
    assert parse(f"A={text}\nB=next\n") == {"A": value, "B": "next"}


@pytest.mark.parametrize("text", ["pa$word", "${HOME}", "'qx", "'qx' b", '"q$x"', '"q\\x"', '"qx'])
def test_what_compose_would_read_otherwise_is_refused_without_the_value(text: str) -> None:
    with pytest.raises(BadDotenv, match=r"^DB_PASSWORD in \.env: ") as refused:
        parse(f"DB_PASSWORD={text}\n")
    assert text.strip("'\"") not in str(refused.value)


def test_comments_exports_and_lines_without_a_value() -> None:
    assert parse("# A=1\nexport B=2\n\nnonsense\n E = f \n") == {"B": "2", "E": "f"}


@pytest.mark.parametrize("value", [*READ.values(), "a'b\\c", "$", " ", "#", '"\'"', "tab\there"])
def test_what_is_written_is_read_again(value: str) -> None:
    try:
        text = written(value)
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
    assert set(api_clients(values)) == {"streaming", "airflow", "admin"}
