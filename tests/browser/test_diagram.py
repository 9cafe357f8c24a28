"""The architecture's diagram renders as Mermaid draws it, which is how GitHub and editors show it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.browser.conftest import Visit
from tests.support.api_server import ROOT
from tests.support.architecture_diagram import NODE, SOURCE

PACKAGE: Final = "mermaid@11.12.0"
SHA256: Final = "93492e4d609be83653a41c435f4cbd7e74419f7fa6b4fc90a8c983195f64af82"
MEMBER: Final = "package/dist/mermaid.min.js"
RENDER: Final = """async source => {
    mermaid.initialize({startOnLoad: false});
    document.body.innerHTML = (await mermaid.render('diagram', source)).svg;
}"""


@pytest.fixture(scope="session")
def mermaid() -> Path:
    """Mermaid's command line from npm's registry; without npm or network the test is skipped."""
    folder = ROOT / ".local" / "npm"
    package = folder / f"{PACKAGE.replace('@', '-')}.tgz"
    if not package.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("not run: there is no npm to fetch Mermaid with")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            command = [npm, "pack", PACKAGE, "--silent"]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
            )
        except subprocess.TimeoutExpired:
            pytest.skip("not run: npm did not fetch Mermaid within two minutes")
        if done.returncode:
            pytest.skip(f"not run: npm cannot fetch Mermaid: {done.stderr.strip()[-200:]}")
    assert hashlib.sha256(package.read_bytes()).hexdigest() == SHA256
    program = folder / "mermaid.min.js"
    with tarfile.open(package) as archive:
        content = archive.extractfile(MEMBER)
        assert content is not None
        program.write_bytes(content.read())
    return program


def test_the_diagram_renders_with_every_node(visit: Visit, mermaid: Path) -> None:
    visit.page.set_content("<!doctype html><body></body>")
    visit.page.add_script_tag(path=mermaid)
    visit.page.evaluate(RENDER, SOURCE)
    drawn = visit.page.evaluate("[...document.querySelectorAll('g.node')].map(node => node.id)")
    assert len(drawn) == len(NODE.findall(SOURCE))
    assert [name for name in NODE.findall(SOURCE) if not [one for one in drawn if f"-{name}-" in one]] == []
    assert visit.screenshot("architecture").stat().st_size > 20_000
    assert (visit.hosts, visit.problems) == (set(), [])
