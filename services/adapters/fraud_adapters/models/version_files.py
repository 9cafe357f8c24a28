"""The files of a model version: its manifest and its reference profile, checked by their digests.

Apart from `loading`, which imports the engines, so that what only reads a profile needs neither of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fraud_adapters.job.failures import RefusedFailure
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest
from fraud_core.profile import Profile


class ModelRefused(RefusedFailure):
    """The directory holds no model that this installation may serve; one sentence gives the reason."""


def read_profile(directory: Path, manifest: Manifest) -> Profile | None:
    """The reference profile of a version, or None if it has none.

    Args:
        directory: holds the version's files.
        manifest: the version's, whose digest was checked.

    Raises:
        ModelRefused: the file is missing, altered, or is not a profile.
    """
    if manifest.profile is None:
        return None
    content = checked_file(directory / manifest.profile, manifest.digests[manifest.profile])
    try:
        return Profile.from_json(content)
    except ValueError:
        raise ModelRefused(f"{manifest.profile} is not a model's reference profile.") from None


def checked_manifest(directory: Path, expected_digest: str) -> Manifest:
    """The manifest in a directory.

    Raises:
        ModelRefused: it is missing, unreadable, or its digest is not the expected one.
    """
    path = directory / manifests.FILE_NAME
    try:
        manifest = Manifest.from_json(path.read_bytes())
    except OSError as error:
        raise ModelRefused(f"The model's manifest cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ModelRefused(f"{manifests.FILE_NAME} is not a model's manifest.") from None
    if manifest.digest() != expected_digest:
        raise ModelRefused(f"The model's digest is {manifest.digest()}, not {expected_digest} as registered.")
    return manifest


def checked_file(path: Path, expected: str) -> bytes:
    """The file's content, read once, so that what was checked is what is loaded."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"The model's file {path.name} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise ModelRefused(f"The model's file {path.name} is not the one its manifest names: digests differ.")
    return content
