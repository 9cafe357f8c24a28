"""`./fraud data` against a server that behaves as Kaggle's: log-in, redirect, refusals, bad archives."""

from __future__ import annotations

import base64
import io
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fraud_launcher import data
from fraud_launcher.datasets import CREDITCARD, DATA_SETS, PAYSIM, DataSet
from fraud_launcher.datasets.checking import digest_file, shape_of

ROOT = Path(__file__).resolve().parents[2]
ROWS, FRAUDS = 40, 3
LOGIN = "Basic " + base64.b64encode(b"person:key").decode()


def csv_of(data_set: DataSet, rows: int = ROWS, frauds: int = FRAUDS) -> bytes:
    header = ",".join(f'"{name}"' for name in data_set.header)
    place = data_set.header.index(data_set.label)
    lines = [
        ",".join(
            f'"{int(n < frauds)}"' if column == place else str(n + column)
            for column in range(len(data_set.header))
        )
        for n in range(rows)
    ]
    return "\n".join([header, *lines, ""]).encode()


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped.txt", "a name that must not become a path")
        archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Kaggle:
    """What the server answers, and what it was asked."""

    archive: bytes = b""
    refusal: int | None = None
    announced: int | None = None  # a length that is not the archive's
    piece_pause: float = 0.0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    state = Kaggle(zip_of(CREDITCARD.member, csv_of(CREDITCARD)))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/api/"):
                self._site()
            else:
                self._store()

        def _site(self) -> None:
            if self.headers.get("Authorization") != LOGIN:
                self.send_error(401)
            elif state.refusal is not None:
                self.send_error(state.refusal)
            else:
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{state.port}/store/archive.zip?signature=x")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _store(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(state.announced or len(state.archive)))
            self.end_headers()
            for start in range(0, len(state.archive), 512):
                self.wfile.write(state.archive[start : start + 512])
                if state.piece_pause:
                    self.wfile.flush()
                    time.sleep(state.piece_pause)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setenv("KAGGLE_URL", state.url)
    monkeypatch.setenv("KAGGLE_USERNAME", "person")
    monkeypatch.setenv("KAGGLE_KEY", "key")
    for name, data_set in list(DATA_SETS.items()):
        monkeypatch.setitem(DATA_SETS, name, replace(data_set, rows=ROWS, frauds=FRAUDS))
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def run(folder: Path, name: str = "creditcard") -> int:
    return data.run([name, "--folder", str(folder)])


def left(folder: Path) -> set[str]:
    """The files in the folder, without the lock."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_file_is_fetched_once_and_then_checked(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    assert run(folder) == 0
    assert "40 rows, 3 frauds, SHA-256" in capsys.readouterr().out
    assert left(folder) == {"creditcard.csv", "creditcard.csv.sha256"}
    assert (folder / "creditcard.csv").read_bytes() == csv_of(CREDITCARD)
    assert not (tmp_path / "escaped.txt").exists()
    # The key goes to the site alone, not to the store that the site refers to.
    assert [login for _, login in kaggle.requests] == [LOGIN, None]
    assert run(folder) == 0
    assert "its digest is the recorded one" in capsys.readouterr().out
    assert len(kaggle.requests) == 2


def test_paysim_has_its_own_shape(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.archive = zip_of(PAYSIM.member, csv_of(PAYSIM))
    assert run(tmp_path, "paysim") == 0
    assert (tmp_path / "paysim.csv").exists()
    assert "ealaxi/paysim1" in kaggle.requests[0][0]


def test_the_published_shapes() -> None:
    assert (CREDITCARD.rows, CREDITCARD.frauds, len(CREDITCARD.header)) == (284_807, 492, 31)
    assert (PAYSIM.rows, PAYSIM.frauds, len(PAYSIM.header)) == (6_362_620, 8_213, 11)


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((403, 2), "open http://127.0.0.1:{port}/datasets/mlg-ulb/creditcardfraud and accept its terms"),
        ((404, 1), "Kaggle does not know mlg-ulb/creditcardfraud"),
        ((429, 1), "Kaggle answers 429"),
        ((500, 1), "Kaggle answers 500"),
    ],
)
def test_a_refusal_is_one_sentence(
    kaggle: Kaggle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refusal: tuple[int, int],
    sentence: str,
) -> None:
    kaggle.refusal, code = refusal
    assert run(tmp_path) == code
    assert sentence.format(port=kaggle.port) in capsys.readouterr().err
    assert not left(tmp_path)


def test_a_wrong_key_is_one_sentence(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "secret-but-wrong")
    assert run(tmp_path) == 2
    message = capsys.readouterr().err
    assert "correct KAGGLE_USERNAME and KAGGLE_KEY" in message
    assert "secret-but-wrong" not in message


def test_without_credentials_it_says_what_to_do(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    assert run(tmp_path) == 2
    assert "KAGGLE_USERNAME is not set" in capsys.readouterr().err
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert run(tmp_path) == 2
    message = capsys.readouterr().err
    assert "https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud" in message
    assert str(tmp_path / "creditcard.csv") in message
    assert not kaggle.requests


def test_credentials_may_be_in_kaggle_s_own_file_or_in_the_env_file(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text('{"username": "person"}')
    assert run(tmp_path / "data") == 2
    assert "kaggle.json cannot be used" in capsys.readouterr().err
    (tmp_path / "kaggle.json").write_text('{"username": "person", "key": "key"}')
    assert run(tmp_path / "data") == 0
    (tmp_path / "kaggle.json").unlink()
    (tmp_path / ".env").write_text("KAGGLE_USERNAME=person\nKAGGLE_KEY=key\n")
    assert run(tmp_path / "other") == 0


def broken_archive() -> bytes:
    whole = bytearray(zip_of(CREDITCARD.member, csv_of(CREDITCARD)))
    place = whole.index(b"creditcard.csv") + 60
    whole[place : place + 40] = bytes(40)
    return bytes(whole)


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (b"<html>not an archive</html>", "is broken"),
        (broken_archive(), "is broken"),
        (zip_of("other.csv", b"x"), "instead of creditcard.csv"),
        (
            zip_of(CREDITCARD.member, csv_of(CREDITCARD, rows=39)),
            "has 39 rows with 3 frauds instead of 40 with 3",
        ),
        (
            zip_of(CREDITCARD.member, csv_of(CREDITCARD, frauds=4)),
            "40 rows with 4 frauds instead of 40 with 3",
        ),
        (zip_of(CREDITCARD.member, csv_of(PAYSIM)), "does not have the columns Time, V1, V2"),
        (zip_of(CREDITCARD.member, csv_of(CREDITCARD) + b"1,2\n"), "row 41 does not have 31 columns"),
        (zip_of(CREDITCARD.member, csv_of(CREDITCARD) + b"x" * 9000), "a line of more than 4096 bytes"),
    ],
)
def test_a_bad_archive_leaves_nothing(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: bytes, sentence: str
) -> None:
    kaggle.archive = archive
    assert run(tmp_path) == 1
    assert sentence in capsys.readouterr().err
    assert not left(tmp_path)


def test_a_bomb_is_refused_before_it_fills_the_disk(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(DATA_SETS["creditcard"], most_bytes=2 * 2**20)
    monkeypatch.setitem(DATA_SETS, "creditcard", small)
    kaggle.archive = zip_of(CREDITCARD.member, csv_of(CREDITCARD) + b"0" * 5 * 2**20)
    assert len(kaggle.archive) < 2**16
    assert run(tmp_path) == 1
    assert "is larger than 2 MiB" in capsys.readouterr().err
    assert not left(tmp_path)


def test_a_transfer_that_is_cut_off_is_said(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.announced = len(kaggle.archive) + 1000
    assert run(tmp_path) == 1
    message = capsys.readouterr().err
    assert "was cut off" in message or "failed (IncompleteRead" in message
    assert not left(tmp_path)


def test_nobody_answers(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_URL", "http://127.0.0.1:1")
    assert run(tmp_path) == 1
    assert "failed (" in capsys.readouterr().err
    monkeypatch.setenv("KAGGLE_URL", "file:///etc")
    assert run(tmp_path) == 2
    assert "KAGGLE_URL must be an address" in capsys.readouterr().err


def test_a_file_that_was_put_there_is_checked_and_its_digest_kept(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "creditcard.csv"
    file.write_bytes(csv_of(CREDITCARD, rows=41))
    assert run(tmp_path) == 1
    assert "has 41 rows" in capsys.readouterr().err
    file.write_bytes(csv_of(CREDITCARD))
    assert run(tmp_path) == 0
    assert digest_file(file).read_text().split() == [shape_of(file, CREDITCARD).digest, "creditcard.csv"]
    changed = csv_of(CREDITCARD).replace(b"44", b"45", 1)
    assert changed != csv_of(CREDITCARD)
    file.write_bytes(changed)
    assert run(tmp_path) == 1
    assert "is not the file whose digest" in capsys.readouterr().err
    assert not kaggle.requests


def test_a_killed_download_leaves_no_file_and_the_next_run_begins_afresh(
    kaggle: Kaggle, tmp_path: Path
) -> None:
    kaggle.piece_pause = 0.5
    program = [
        sys.executable,
        str(ROOT / "services" / "launcher"),
        "data",
        "creditcard",
        "--folder",
        str(tmp_path),
    ]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        partial = tmp_path / ".creditcard.zip.part"
        deadline = time.monotonic() + 60
        while not partial.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert left(tmp_path) == {".creditcard.zip.part"}
    kaggle.piece_pause = 0
    assert run(tmp_path) == 0
    assert left(tmp_path) == {"creditcard.csv", "creditcard.csv.sha256"}


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert data.run(["titanic"]) == 2
    assert "name creditcard or paysim" in capsys.readouterr().err


def test_data_is_never_committed() -> None:
    assert "/data/" in (ROOT / ".gitignore").read_text().splitlines()
