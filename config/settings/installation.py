"""The installation: its environment, its transaction contract, and its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from config import constants
from config.parameters import Parameters, load_parameters
from config.settings.base import ConfigurationError, Settings
from config.yaml_files import YamlFile
from fraud_core.contract import Contract, ContractError

CONFIG_DIR = Path(__file__).resolve().parents[1]


class PlatformSettings(Settings):
    """The installation: its environment, its transaction contract, and the location of its files."""

    app_env: Literal["development", "testing", "production"] = "development"
    fraud_contract: str = Field(default=constants.CONTRACT_DEFAULT, pattern=r"^[a-z][a-z0-9_]{0,30}$")
    fraud_contracts_dir: Path = CONFIG_DIR / "contracts"
    fraud_config_dir: Path = CONFIG_DIR


def parameters(platform: PlatformSettings) -> Parameters:
    """The non-secret parameters in force: `config.yaml` under the overlay of `APP_ENV`.

    Raises:
        ConfigurationError: a file is missing, not YAML, or holds a wrong value; the key is named.
    """
    try:
        return load_parameters(platform.fraud_config_dir, platform.app_env)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def contract(platform: PlatformSettings) -> Contract:
    """The transaction contract of this installation.

    Raises:
        ConfigurationError: `FRAUD_CONTRACT` names no file, or the file is not a valid contract.
    """
    path = platform.fraud_contracts_dir / f"{platform.fraud_contract}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in platform.fraud_contracts_dir.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"FRAUD_CONTRACT: there is no contract {path}; contracts found: {known}.")
    try:
        file = YamlFile.read(path)
        return Contract.from_mapping(file.values)
    except ContractError as error:
        raise ConfigurationError(f"FRAUD_CONTRACT: {file.origin(error.location)}: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"FRAUD_CONTRACT: {error}") from None
