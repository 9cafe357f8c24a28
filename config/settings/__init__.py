"""Settings read from the environment, one class per concern, and parameters read from `config.yaml`.

Precedence, highest first: environment variable, `config.<APP_ENV>.yaml`, `config.yaml`. Wrong values
stop the start with one sentence that names the variable and the fix (`ConfigurationError`).
"""

from config.settings.backends import (
    DaskSettings,
    DatabaseSettings,
    KafkaSettings,
    MlflowSettings,
    ObjectStoreSettings,
    postgres_url,
)
from config.settings.base import ConfigurationError, Settings, load
from config.settings.clients import AirflowClientSettings, ApiAddressSettings, ApiClientSettings
from config.settings.installation import CONFIG_DIR, PlatformSettings, contract, parameters
from config.settings.servers import (
    ApiServerSettings,
    AuditHeadSettings,
    AuditServerSettings,
    LogSettings,
    Replica,
    StreamServerSettings,
    api_clients,
)

__all__ = [
    "CONFIG_DIR",
    "AirflowClientSettings",
    "ApiAddressSettings",
    "ApiClientSettings",
    "ApiServerSettings",
    "AuditHeadSettings",
    "AuditServerSettings",
    "ConfigurationError",
    "DaskSettings",
    "DatabaseSettings",
    "KafkaSettings",
    "LogSettings",
    "MlflowSettings",
    "ObjectStoreSettings",
    "PlatformSettings",
    "Replica",
    "Settings",
    "StreamServerSettings",
    "api_clients",
    "contract",
    "load",
    "parameters",
    "postgres_url",
]
