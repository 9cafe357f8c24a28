"""Building with additional certificates, and pushing, with real Docker and a real registry."""

from __future__ import annotations

import os
import tarfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fraud_launcher.bootstrap import ROOT
from fraud_launcher.compose import HOST_CERTIFICATES
from fraud_launcher.image_push import run as push
from tests.stack.docker_cli import docker, docker_output, image, remove_labelled
from tests.stack.stack import wait_for

OFFLINE_BASE = "fraud-detection/base:offline"
MARK = f"certificates-of-this-build-{uuid.uuid4().hex}"
LABEL = f"fraud.test={uuid.uuid4().hex}"
BUILT = f"fraud-detection-test/docker-proxy:{uuid.uuid4().hex}"
SERVICE = """
services:
  docker-proxy:
    image: {image}
    build:
      context: {root}
      dockerfile: services/Dockerfile
      target: server
      args: [SERVICE=docker-proxy, PYTHON_IMAGE]
      labels: ["{label}"]
      secrets: [ca-bundle]
secrets:
  ca-bundle: {{ file: {bundle} }}
"""


@pytest.fixture
def removed() -> Iterator[None]:
    yield
    remove_labelled(f"label={LABEL}", "container", "image", "volume")


def _build(folder: Path, certificates: str) -> str:
    """Rebuild the smallest image with these certificates; returns the error, or an empty string."""
    image("fraud-detection/docker-proxy:local")
    bundle = folder / "bundle.pem"
    bundle.write_text(certificates)
    described = SERVICE.format(image=BUILT, root=ROOT, label=LABEL, bundle=bundle)
    (folder / "compose.yml").write_text(described)
    offline = not docker("image", "inspect", OFFLINE_BASE).returncode
    (folder / ".env").write_text(f"PYTHON_IMAGE={OFFLINE_BASE}\n" if offline else "")
    project = ["--project-name", f"fraud-test-{uuid.uuid4().hex[:8]}", "--project-directory", str(folder)]
    files = ["--file", str(folder / "compose.yml"), "--env-file", str(folder / ".env")]
    done = docker("compose", *project, *files, "--progress", "plain", "build", "--no-cache")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _certificates() -> str:
    trusted = Path(os.environ.get("CA_BUNDLE") or HOST_CERTIFICATES)
    return (trusted if trusted.is_file() else Path(certifi.where())).read_text(encoding="utf-8")


@pytest.mark.usefixtures("removed")
def test_certificates_of_a_build_are_used_and_left_in_no_image(tmp_path: Path) -> None:
    assert _build(tmp_path, f"# {MARK}\n{_certificates()}") == ""
    assert MARK not in docker_output("history", "--no-trunc", BUILT)
    saved = tmp_path / "image.tar"
    docker_output("save", "--output", str(saved), BUILT)
    assert not _held(saved, MARK.encode())
    # Proves that the search works: this text is in a file of the image.
    assert _held(saved, b"requests HEALTH_URL")


@pytest.mark.usefixtures("removed")
def test_no_certificate_but_those_given_is_trusted(tmp_path: Path) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in _build(tmp_path, _one_certificate())


def _held(saved: Path, content: bytes) -> bool:
    """Whether a file of a layer contains the bytes; the layers of `docker save` are plain archives."""
    with tarfile.open(saved) as layers:
        for layer in layers:
            file = layers.extractfile(layer)
            if file is not None and content in file.read():
                return True
    return False


def _one_certificate() -> str:
    """A certificate that signs no other."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on this machine; yields its address."""
    if docker("image", "inspect", OFFLINE_BASE).returncode:
        name = "registry:2"
        if docker("image", "inspect", name).returncode and docker("pull", "--quiet", name).returncode:
            pytest.skip("not run: neither the image registry:2 nor the offline base is to be had")
        command: list[str] = []
    else:
        name, command = _registry_of_debian(tmp_path), ["docker-registry", "serve", "/etc/registry.yml"]
    container = docker_output(
        "run", "--detach", "--label", LABEL, "--publish", "127.0.0.1::5000", name, *command
    )
    address = docker_output("port", container, "5000/tcp").splitlines()[0]
    yield address
    docker("rm", "--force", "--volumes", container)
    remove_labelled(f"label={LABEL}", "image")


def _registry_of_debian(folder: Path) -> str:
    name = f"fraud-detection-test/registry:{uuid.uuid4().hex}"
    (folder / "registry.yml").write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\nhttp: {addr: ':5000'}\n"
    )
    (folder / "Dockerfile").write_text(
        f"FROM {OFFLINE_BASE}\nLABEL {LABEL}\n"
        "RUN apt-get update && apt-get install --yes --no-install-recommends docker-registry\n"
        "COPY registry.yml /etc/registry.yml\n"
    )
    done = docker("build", "--quiet", "--tag", name, str(folder))
    if done.returncode:
        pytest.skip(f"not run: Debian's docker-registry cannot be installed: {done.stderr.strip()[-200:]}")
    return name


def test_a_pushed_image_is_the_one_that_is_pulled(registry: str, tmp_path: Path) -> None:
    local = "fraud-detection/docker-proxy:local"
    identity = image(local)["Id"]
    described = f"services: {{proxy: {{image: '{local}', build: {{context: .}}}}}}\n"
    (tmp_path / "docker-compose.local.yml").write_text(described)
    wait_for(lambda: _answers(registry), 60)
    pushed = f"{registry}/fraud-detection/docker-proxy:1.2.3"
    try:
        assert push([f"REGISTRY={registry}", "TAG=1.2.3"], tmp_path) == 0
        docker_output("image", "rm", pushed)
        docker_output("pull", "--quiet", pushed)
        assert image(pushed)["Id"] == identity
    finally:
        docker("image", "rm", pushed)


def _answers(registry: str) -> bool:
    return httpx.get(f"http://{registry}/v2/", trust_env=False).status_code == 200
