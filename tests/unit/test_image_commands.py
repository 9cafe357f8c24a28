"""`./fraud build`, `push` and `images-offline`: what they refuse, and what Docker is asked for."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from fraud_launcher import compose, image_offline
from fraud_launcher.bootstrap import LauncherError
from fraud_launcher.image_builds import built_images, labels, require_bundle, services_to_build, short_name
from fraud_launcher.image_push import run, target

ROOT = Path(__file__).resolve().parents[2]
# Records its arguments; an image whose name is in `missing` does not exist.
DOCKER = """#!/bin/sh
case "$*" in
    *"config --no-interpolate --format json") cat config.json; exit ;;
    *"image inspect"*) for last; do :; done; ! grep -qxF "$last" missing; exit ;;
    "compose version"*) echo 2.40.3; exit ;;
    version*) exit ;;
    "push --quiet "*refusing*) echo "denied" >&2; exit 1 ;;
esac
echo "$*" >> calls
"""
IMAGES = {"api": "fraud-detection/api:local", "topics": "fraud-detection/jobs:local"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two images, where Docker is a script."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    services = {name: {"image": image, "build": {}} for name, image in IMAGES.items()}
    (tmp_path / "config.json").write_text(
        json.dumps({"services": {**services, "redis": {"image": "redis:8"}}})
    )
    (tmp_path / "missing").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("REGISTRY", raising=False)
    monkeypatch.delenv("TAG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_image_is_tagged_and_pushed(project: Path) -> None:
    assert run(["REGISTRY=registry.example:5000/team/", "TAG=1.4.0"], project) == 0
    pushed = [f"registry.example:5000/team/fraud-detection/{name}:1.4.0" for name in ("api", "jobs")]
    expected = [
        line
        for image, name in zip(sorted(IMAGES.values()), pushed, strict=True)
        for line in (f"tag {image} {name}", f"push --quiet {name}")
    ]
    assert (project / "calls").read_text().splitlines() == expected


def test_a_registry_that_refuses_ends_the_push(project: Path) -> None:
    assert run(["REGISTRY=refusing.example", "TAG=1"], project) == 1
    assert "jobs" not in (project / "calls").read_text()


def test_nothing_is_pushed_while_an_image_is_not_built(project: Path) -> None:
    (project / "missing").write_text(IMAGES["topics"] + "\n")
    with pytest.raises(LauncherError, match="Not built: jobs"):
        run(["REGISTRY=registry.example", "TAG=1"], project)
    assert not (project / "calls").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "REGISTRY"),
        (["REGISTRY=r.example"], "TAG"),
        (["TAG=1"], "REGISTRY"),
        (["REGISTRY=https://r.example", "TAG=1"], "REGISTRY"),
        (["REGISTRY=r.example", "TAG=a b"], "TAG"),
        (["REGISTRY=r.example", "TAG=1", "tag=2"], "tag=2"),
        (["r.example"], "r.example"),
    ],
)
def test_what_is_missing_or_malformed_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(LauncherError, match=re.escape(named)):
        target(arguments, {})


def test_make_hands_registry_and_tag_on_in_the_environment() -> None:
    assert target([], {"REGISTRY": "r.example", "TAG": "1"}) == ("r.example", "1")
    assert target(["TAG=2"], {"REGISTRY": "r.example", "TAG": "1"}) == ("r.example", "2")


def test_an_image_is_named_by_itself_or_by_the_service_that_builds_it(project: Path) -> None:
    images = built_images(project)
    assert images == IMAGES
    assert services_to_build(["jobs", "topics", "api"], images) == ["topics", "topics", "api"]
    assert services_to_build([], images) == []
    with pytest.raises(LauncherError, match=r"no image 'redis' .* api, jobs"):
        services_to_build(["redis"], images)


def test_two_builds_of_a_commit_are_labelled_alike(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "4.5"\n')
    assert labels(tmp_path) == {"IMAGE_VERSION": "4.5"}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    date = {
        **os.environ,
        "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
        "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
    }
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], env=date, check=True)
    first = labels(tmp_path)
    assert first == labels(tmp_path)
    assert first["IMAGE_CREATED"].startswith("2026-01-02T03:04:05") and len(first["IMAGE_REVISION"]) == 40
    (tmp_path / "new").write_text("")
    assert labels(tmp_path)["IMAGE_REVISION"] == first["IMAGE_REVISION"] + "-modified"


def test_every_build_takes_the_base_the_labels_and_the_certificates() -> None:
    described = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text())
    builds = {name: one["build"] for name, one in described["services"].items() if "build" in one}
    assert {short_name(described["services"][name]["image"]) for name in builds} >= {
        "api",
        "jobs",
        "ml",
        "airflow",
    }
    for build in builds.values():
        assert {"PYTHON_IMAGE", "IMAGE_VERSION", "IMAGE_REVISION", "IMAGE_CREATED"} <= set(build["args"])
        assert build["secrets"] == ["ca-bundle"]


def test_the_offline_images_are_of_the_official_ones_major_version() -> None:
    text = (ROOT / "docker-compose.local.yml").read_text()
    official = dict(re.findall(r"\$\{(\w+_IMAGE):-[^:]+:v?([\d.]+)", text))
    offline = dict(re.findall(r"^(\w+_IMAGE)=fraud-detection/(\w+):offline$", _offline_env(), re.MULTILINE))
    assert set(official) - set(offline) == {"GRAFANA_IMAGE"}
    builds = yaml.safe_load((ROOT / "images" / "compose.yml").read_text())["services"]
    for name, version in official.items():
        if name in offline:
            first = (ROOT / builds[offline[name]]["build"]["dockerfile"]).read_text().splitlines()[0]
            held = re.search(r" (\d+)(\.\d+)? of ", first)
            assert held and held[1] == version.split(".")[0], f"{name}={version}, but: {first}"


def _offline_env() -> str:
    return (ROOT / "images" / "offline.env").read_text()


def test_certificates_that_no_build_can_take_are_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    with pytest.raises(LauncherError, match=r"CA_BUNDLE names .*bundle.pem, which does not exist"):
        require_bundle(bundle)
    bundle.write_bytes(b"x" * 500 * 1024)
    require_bundle(bundle)
    require_bundle(Path(os.devnull))
    bundle.write_bytes(b"x" * (500 * 1024 + 1))
    with pytest.raises(LauncherError, match=r"CA_BUNDLE names .* 501 KiB, and a build takes 500"):
        require_bundle(bundle)


def test_the_offline_base_gets_security_updates_of_the_mirror_it_came_from() -> None:
    sources = image_offline.with_updates("deb http://mirror.example/debian trixie main\n")
    assert "deb http://mirror.example/debian-security trixie-security main\n" in sources
    assert image_offline.with_updates("something else") == "something else"


def test_without_root_the_offline_base_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(image_offline, "require_compose", lambda: None)
    monkeypatch.setattr(compose, "ROOT", project)
    (project / "missing").write_text(image_offline.IMAGE + "\n")
    with pytest.raises(LauncherError, match="root"):
        image_offline.run([])
