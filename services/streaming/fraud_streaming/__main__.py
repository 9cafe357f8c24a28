"""`python -m fraud_streaming run`, `topics`, `dead-letters` and `redrive`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from config.job_results.streaming import FollowResult
from config.services import Backend
from config.settings import (
    ApiClientSettings,
    DatabaseSettings,
    KafkaSettings,
    PlatformSettings,
    StreamServerSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters import job
from fraud_adapters.job import arguments, stopping
from fraud_adapters.preflight import require
from fraud_streaming.consume.job import run
from fraud_streaming.consume.pump import RunLimits
from fraud_streaming.dead_letters import verbs as dead_letter_verbs
from fraud_streaming.follow import ListenAddress, follow
from fraud_streaming.installation import SERVICE, Installation
from fraud_streaming.topics import NAMES, create, describe


def main(argv: Sequence[str]) -> job.Result:
    parser = _parser()
    options = parser.parse_args(argv)
    if "handler" in options:
        result: job.Result = options.handler(options)
        return result
    if options.verb == "topics":
        if options.create:
            if options.topic or options.peek:
                parser.error("--create applies to all four topics: leave out --topic and --peek")
            require(Backend.KAFKA)
            return create(load(KafkaSettings), options.partitions)
        require(Backend.POSTGRES, Backend.KAFKA)
        return describe(load(DatabaseSettings), load(KafkaSettings), options.peek, options.topic)
    platform = load(PlatformSettings)
    streaming = parameters(platform).streaming
    if options.max_bad_share is not None:
        streaming = streaming.model_copy(update={"max_bad_share": options.max_bad_share})
    installation = Installation(
        contract(platform), load(DatabaseSettings), load(KafkaSettings), load(ApiClientSettings), streaming
    )
    if options.follow:
        if options.batch_size or options.max_seconds or options.max_records:
            parser.error(
                "--follow does not end by itself: leave out --batch-size, --max-seconds, --max-records"
            )
        return _follow(installation, options)
    # The follower, above, waits for its servers by itself: it is a service, not a job.
    require(Backend.POSTGRES, Backend.KAFKA, Backend.API)
    limits = RunLimits(
        chunk_records=options.batch_size or streaming.batch_size,
        seconds=options.max_seconds or streaming.drain_seconds,
        records=options.max_records,
    )
    return run(installation, limits)


def _follow(installation: Installation, options: argparse.Namespace) -> FollowResult:
    server = load(StreamServerSettings)
    port = options.metrics_port or server.stream_metrics_port
    return follow(installation, stopping.stop_event(), ListenAddress(server.stream_metrics_host, port))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fraud_streaming", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    large_number = arguments.whole_number(1, 1_000_000_000)
    runner = verbs.add_parser("run", help="score and store the records on the topics, then stop")
    runner.add_argument("--batch-size", type=large_number, help="transactions scored and stored at once")
    runner.add_argument(
        "--max-seconds",
        type=arguments.number(0, 86_400, above=True),
        help="stop reading a topic after this many seconds",
    )
    runner.add_argument(
        "--max-records", type=large_number, help="stop reading a topic after this many records"
    )
    runner.add_argument(
        "--max-bad-share",
        type=arguments.number(0, 1),
        help="stop if a larger share of the records cannot be processed (streaming.max_bad_share)",
    )
    runner.add_argument(
        "--follow", action="store_true", help="keep running as a member of the consumer group until SIGTERM"
    )
    runner.add_argument(
        "--metrics-port",
        type=arguments.whole_number(1, 65_535),
        help="with --follow: where /metrics and /health are served (STREAM_METRICS_PORT)",
    )
    topics = verbs.add_parser("topics", help="positions, ends and lag of the topics")
    topics.add_argument("--create", action="store_true", help="create the topics that do not exist")
    topics.add_argument(
        "--partitions",
        type=arguments.whole_number(1, 10_000),
        default=1,
        help="with --create: partitions of each new topic (default 1)",
    )
    topics.add_argument("--topic", choices=NAMES, help="only this topic")
    topics.add_argument(
        "--peek",
        type=arguments.whole_number(0, 1000),
        default=0,
        metavar="N",
        help="show the latest N records of each topic",
    )
    dead_letter_verbs.add_verbs(verbs)
    return parser


if __name__ == "__main__":
    job.run(SERVICE, main)
