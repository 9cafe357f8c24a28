"""`config.yaml`, its overlays and contracts: a key counts once, and a mistake is named by file and line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from config.parameters import Parameters
from config.settings import CONFIG_DIR, ConfigurationError, PlatformSettings, contract, parameters
from config.yaml_files import NotYaml, YamlFile

ROOT = CONFIG_DIR.parent
# Prometheus and Traefik refuse a repeated key themselves, but only when they start.
SHIPPED = sorted(
    path
    for folder in ("config", "monitoring", "services/gateway/traefik", "tests/contracts")
    for path in (ROOT / folder).rglob("*.y*ml")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped configuration, to be spoilt."""
    shutil.copytree(CONFIG_DIR / "contracts", tmp_path / "contracts")
    for file in CONFIG_DIR.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    return tmp_path


def load(folder: Path) -> Parameters:
    return parameters(PlatformSettings(fraud_config_dir=folder))


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(folder)
    text = str(refused.value)
    assert "\n" not in text and text.endswith(".")
    return text


def add(file: Path, text: str | bytes) -> int:
    """Text added at the end of a file; the line on which it begins."""
    before = file.read_bytes()
    file.write_bytes(before + (text.encode() if isinstance(text, str) else text))
    return before.count(b"\n") + 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_shipped_holds_no_key_twice(path: Path) -> None:
    assert YamlFile.read(path).values == (yaml.safe_load(path.read_text("utf-8")) or {})


def test_a_bar_given_twice_is_refused_with_both_lines(folder: Path) -> None:
    file = folder / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("    min_f1: 0.85\n", "    min_f1: 0.85\n    min_recall: 0.05\n", 1))
    lines = file.read_text().splitlines()
    first, second = (lines.index(f"    min_recall: {bar}") + 1 for bar in ("0.95", "0.05"))
    key = "gates.specification.min_recall"
    assert refusal(folder) == f"{file}: line {second}: {key} is set on line {first} already: keep one."


@pytest.mark.parametrize("name", ["config.yaml", "config.development.yaml"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extra: 1\nextra: 2\n", "extra is set on line"),
        ("extra: {seed: 1, 'seed': 2}\n", "seed is set on line"),
        ("thresholds: caf\xe9\n".encode("latin-1"), "is not UTF-8"),
        ("gate: [\n", "is not YAML: while parsing a flow node"),
        ("\x00: 1\n", "is not YAML: control characters are not allowed"),
        (f"# {'é' * 30}\n\x00: 1\n" + "\n" * 40, "is not YAML: control characters are not allowed"),
        ("extra: 2026-13-45\n", "is not YAML: month must be in 1..12"),
        (f"extra: {'9' * 5000}\n", "is not YAML: Exceeds the limit"),
        ("? [gate]\n: 1\n", "is not YAML: a key is not a name"),
        ("gate: *nothing\n", "is not YAML: found undefined alias"),
        ("---\nextra: x\n", "is not YAML: expected a single document"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(
    folder: Path, name: str, text: str | bytes, message: str
) -> None:
    line = add(folder / name, text)
    refused = refusal(folder)
    assert refused.startswith(f"{folder / name}: line ") and message in refused
    assert int(refused.partition(": line ")[2].partition(":")[0]) in {line, line + 1}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("# one\nsimulator:\n  fraud_rate: 2\n", 3, "simulator.fraud_rate: Input should be less than 1"),
        ("simulator:\n  fraud_rates: 0.1\n", 2, "simulator.fraud_rates: Extra inputs are not permitted"),
        ("simulator:\n", 1, "simulator: Input should be a valid dictionary"),
        (
            "serving:\n  client_scopes:\n    guest:\n      - read\n      - 7\n",
            5,
            "serving.client_scopes.guest.1",
        ),
        (
            "gates:\n  own: {min_frauds: 9}\ngate: own\n",
            2,
            "gates.own: Value error, a gate policy must set at least",
        ),
        ("gates:\n  own: {min_recall: 0.9}\ngate: own\n", 2, "gates.own.min_frauds: Field required"),
        (
            "gates:\n  own:\n    min_recall_at_precision: {recall: 0.5}\n    min_frauds: 9\n",
            3,
            "gates.own.min_recall_at_precision.precision: Field required",
        ),
        ("\ngate: lenient\n", 2, "gate: there is no policy 'lenient'"),
        ("streaming:\n  batch_size: 9000\n", 2, "streaming.batch_size: the API takes 5000"),
    ],
)
def test_a_mistake_in_an_overlay_names_the_overlay(folder: Path, text: str, line: int, message: str) -> None:
    (folder / "config.development.yaml").write_text(text)
    assert refusal(folder).startswith(f"config.development.yaml: line {line}: {message}")


def test_a_mistake_below_an_overlay_names_the_file_itself(folder: Path) -> None:
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("  overlap: 0.02\n", "  overlap: 2\n"))
    line = file.read_text().splitlines().index("  overlap: 2") + 1
    assert refusal(folder).startswith(f"config.yaml: line {line}: simulator.overlap: Input should be less")
    file.write_text(file.read_text().replace("  overlap: 2\n", ""))
    line = file.read_text().splitlines().index("simulator:") + 1
    assert refusal(folder) == f"config.yaml: line {line}: simulator.overlap: Field required."
    file.write_text("# nothing\n")
    assert refusal(folder).startswith("config.yaml: ") and "Field required" in refusal(folder)


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "{}\n", "\ufeff# from Windows\r\n", "null\n"]
)
def test_an_overlay_without_content_changes_nothing(folder: Path, text: str) -> None:
    overlay = folder / "config.development.yaml"
    overlay.unlink()
    without = load(folder)
    overlay.write_bytes(text.encode())
    assert load(folder) == without


@pytest.mark.parametrize("text", ["- 1\n", "words\n", "7\n"])
def test_an_overlay_that_is_no_mapping_is_named(folder: Path, text: str) -> None:
    overlay = folder / "config.development.yaml"
    overlay.write_text(text)
    assert refusal(folder) == f"{overlay}: must hold a mapping of names to values."


def test_an_overlay_that_cannot_be_read_is_not_left_out(folder: Path) -> None:
    overlay = folder / "config.development.yaml"
    overlay.unlink()
    overlay.mkdir()
    assert refusal(folder) == f"{overlay}: cannot be read: Is a directory."


def test_merged_keys_may_be_set_again_and_an_anchor_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: &one {b: 1, c: 2}\nd:\n  <<: *one\n  b: 3\ne: *one\n")
    assert YamlFile.read(file).values["d"] == {"b": 3, "c": 2}
    file.write_text("a:\n  <<: {b: 1}\n  <<: {b: 2}\n")
    with pytest.raises(NotYaml, match=r"line 3: a\.<< is set on line 2"):
        YamlFile.read(file)
    file.write_text("[" * 5000)
    with pytest.raises(NotYaml, match="nested too deeply"):
        YamlFile.read(file)
    file.write_text("a: &loop [*loop]\n")
    assert YamlFile.read(file).lines == {("a",): 1, ("a", 0): 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1\n", "version: 1\nversion: 2\n", "line 4: version is set on line 3 already"),
        (
            "{name: v1, type: decimal,",
            "{name: v1, type: decimal, type: text,",
            "fields.1.type is set on line 6",
        ),
        (
            "version: 1\n",
            "version: none\n",
            "creditcard.yaml: line 3: version: Input should be a valid integer",
        ),
        (
            "  - {name: v1, type: decimal,",
            "  - {name: v1, type: money,",
            "line 6: fields.1.type: Input should be",
        ),
        ("name: creditcard", "name: \xe9", "line 2: is not UTF-8"),
    ],
)
def test_a_mistake_in_a_contract_names_its_line(folder: Path, old: str, new: str, message: str) -> None:
    file = folder / "contracts" / "creditcard.yaml"
    file.write_text(file.read_text().replace(old, new, 1), "latin-1")
    with pytest.raises(ConfigurationError, match=r"^FRAUD_CONTRACT: ") as refused:
        contract(PlatformSettings(fraud_contracts_dir=folder / "contracts"))
    assert message in str(refused.value)
