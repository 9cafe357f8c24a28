"""`score`: parse, build, call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from config import constants, settings
from config.job_results.batch import BatchResult
from config.services import Backend
from fraud_adapters.job.code_version import code_version
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_adapters.preflight import require
from fraud_batch.addresses import is_local
from fraud_batch.arguments import ScoringRequest, parser, request_of
from fraud_batch.input_file import digest_ahead
from fraud_batch.run_context import RunContext
from fraud_batch.run_folder import RunFolder
from fraud_batch.scoring import score


def main(arguments: Sequence[str]) -> BatchResult:
    """Run the verb named in `arguments` and return its result.

    Raises:
        JobFailed: the run failed; run it again with the same run id to go on.
        ConfigurationError: a variable or option is missing or wrong.
    """
    now = datetime.now(UTC)
    options = parser(now).parse_args(arguments)
    request = request_of(options)
    digest = digest_ahead(Path(request.file)) if request.file is not None and is_local(request.file) else None
    require(Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE)
    with (
        scratch_directory() as scratch,
        run_context(request, options.dag, options.run_id, scratch) as context,
    ):
        return score(context, request, options.requested_by, digest)


@contextmanager
def run_context(request: ScoringRequest, dag: str, run_id: str, scratch: Path) -> Iterator[RunContext]:
    """Settings and adapters for a run; creates the object store's bucket if it does not exist."""
    platform = settings.load(settings.PlatformSettings)
    parameters, contract = settings.parameters(platform), settings.contract(platform)
    database = settings.load(settings.DatabaseSettings).url
    uri = settings.load(settings.MlflowSettings).tracking_uri
    store = ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)
    store.ensure_bucket()
    folder = RunFolder(store, RunStore(store, dag, run_id, ()).prefix)
    with (
        closing(connect(database, "fraud_batch")) as connection,
        Registry(uri, parameters.serving.max_model_file_bytes) as registry,
    ):
        yield RunContext(
            contract=contract,
            parameters=parameters.batch,
            connection=connection,
            registry=registry,
            folder=folder,
            run_id=run_id,
            dag=dag,
            code_version=code_version(),
            scratch=scratch,
            dask_scheduler=settings.load(settings.DaskSettings).dask_scheduler,
        )
