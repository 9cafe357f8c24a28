"""Downloads a data set's archive from Kaggle over its public API. Standard library only."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from fraud_launcher import dotenv
from fraud_launcher.datasets import MIB, DataFailure, DataSet, NotConfigured

SITE: Final = "https://www.kaggle.com"
VARIABLES: Final = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_URL")
_SECONDS: Final = 60  # without a byte
_PIECE: Final = MIB

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Account:
    """A Kaggle user and the address of the site."""

    user: str
    key: str = field(repr=False)
    site: str = SITE

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.key}".encode()).decode("ascii")


def account(root: Path, home: Path, environ: Mapping[str, str]) -> Account | None:
    """The credentials of the environment, else of `.env`, else of kaggle.json; None if there are none.

    Raises:
        NotConfigured: there are some that cannot be used; the sentence names them.
    """
    values = _dotenv(root) | {name: environ[name] for name in VARIABLES if environ.get(name)}
    site = (values.get("KAGGLE_URL") or SITE).rstrip("/")
    if urlsplit(site).scheme not in {"http", "https"}:
        raise NotConfigured(
            "KAGGLE_URL must be an address such as https://www.kaggle.com: correct or unset it."
        )
    user, key = values.get("KAGGLE_USERNAME"), values.get("KAGGLE_KEY")
    if user and key:
        return Account(user, key, site)
    if user or key:
        missing = "KAGGLE_KEY" if user else "KAGGLE_USERNAME"
        raise NotConfigured(
            f"{missing} is not set: set both KAGGLE_USERNAME and KAGGLE_KEY, or none of them."
        )
    file = Path(environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle") / "kaggle.json"
    return _from_file(file, site) if file.exists() else None


def _from_file(file: Path, site: str) -> Account:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return Account(document["username"], document["key"], site)
    except (OSError, ValueError, LookupError, TypeError):
        raise NotConfigured(
            f'{file} cannot be used: it must hold {{"username": "…", "key": "…"}}, as Kaggle makes it.'
        ) from None


def _dotenv(root: Path) -> dict[str, str]:
    try:
        return {name: value for name, value in dotenv.read(root / ".env").items() if name in VARIABLES}
    except FileNotFoundError:
        return {}
    except dotenv.BadDotenv as error:
        raise NotConfigured(str(error)) from None


def download(data_set: DataSet, credentials: Account, target: Path, progress: Progress) -> None:
    """Write the archive to `target`; an existing file is replaced.

    Raises:
        NotConfigured: Kaggle refuses the credentials, or its rules were not accepted.
        DataFailure: it does not answer, does not know the data set, or the transfer was cut off.
    """
    address = f"{credentials.site}/api/v1/datasets/download/{data_set.slug}"
    request = urllib.request.Request(address)  # noqa: S310 - http or https, as checked
    # Not sent along when Kaggle refers to the store that has the archive.
    request.add_unredirected_header("Authorization", credentials.authorization)
    try:
        with _opener(credentials).open(request, timeout=_SECONDS) as answer, target.open("wb") as file:
            _copy(answer, file, data_set, progress)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(error.code, data_set, credentials) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise DataFailure(
            f"The download of {data_set.slug} from {credentials.site} failed ({reason}): run it again, "
            "or fetch "
            f"the file by hand from {data_set.page(credentials.site)}."
        ) from None


def _copy(answer: Any, file: IO[bytes], data_set: DataSet, progress: Progress) -> None:
    length = answer.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    done = 0
    while piece := answer.read(_PIECE):
        done += len(piece)
        if done > data_set.most_bytes:
            raise DataFailure(
                f"The archive of {data_set.slug} is larger than {data_set.most_bytes // MIB} MiB, which "
                "it should "
                "not be: nothing was kept."
            )
        file.write(piece)
        progress(done, total)
    if total is not None and done < total:
        raise DataFailure(
            f"The download of {data_set.slug} was cut off after {done:,} of {total:,} bytes: run it again."
        )


def unpack(archive: Path, data_set: DataSet, target: Path) -> None:
    """Write the data set's member of the archive to `target`. No name in the archive becomes a path.

    Raises:
        DataFailure: the archive is broken, does not have the member, or the member is too large.
    """
    try:
        with zipfile.ZipFile(archive) as container:
            if data_set.member not in container.namelist():
                names = ", ".join(container.namelist()[:3]) or "nothing"
                raise DataFailure(
                    f"The archive of {data_set.slug} holds {names} instead of {data_set.member}: "
                    "nothing was kept."
                )
            with container.open(data_set.member) as member, target.open("wb") as file:
                _copy_bounded(member, file, data_set)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise DataFailure(
            f"The archive of {data_set.slug} is broken ({' '.join(str(error).split())}): run ./fraud "
            "data again."
        ) from None


def _copy_bounded(member: IO[bytes], file: IO[bytes], data_set: DataSet) -> None:
    # Counted while it is read: the size that an archive states of its member may be wrong.
    left = data_set.most_bytes
    while piece := member.read(_PIECE):
        left -= len(piece)
        if left < 0:
            raise DataFailure(
                f"{data_set.member} is larger than {data_set.most_bytes // MIB} MiB, which it should not be: "
                "nothing was kept."
            )
        file.write(piece)


def _refusal(status: int, data_set: DataSet, credentials: Account) -> DataFailure:
    page = data_set.page(credentials.site)
    if status == 401:
        return NotConfigured(
            f"Kaggle does not accept the user {credentials.user}: correct KAGGLE_USERNAME and KAGGLE_KEY "
            f"(a new key: {credentials.site}/settings)."
        )
    if status == 403:
        return NotConfigured(
            f"Kaggle does not allow {credentials.user} to download {data_set.slug}: log in, open {page} and "
            "accept its terms, then run it again."
        )
    if status == 404:
        return DataFailure(
            f"Kaggle does not know {data_set.slug}: look it up at {page}, and put {data_set.member} into the "
            f"folder as {data_set.file}."
        )
    return DataFailure(f"Kaggle answers {status} to the download of {data_set.slug}: try again later.")


def _opener(credentials: Account) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoDowngrade(credentials.site))


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from https to http, and to nothing but these."""

    def __init__(self, site: str) -> None:
        self._schemes = {"https"} if site.startswith("https:") else {"http", "https"}

    def redirect_request(self, *details: Any) -> Any:
        *_, newurl = details
        if urlsplit(newurl).scheme not in self._schemes:
            raise urllib.error.URLError("the site refers to an address without encryption")
        return super().redirect_request(*details)
