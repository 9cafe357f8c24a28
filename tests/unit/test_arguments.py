"""Options of every job: an error names the option and the allowed values, and the exit code is 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fraud_adapters.job import arguments
from fraud_embedded import trim
from fraud_producer import __main__ as producer
from fraud_streaming import __main__ as streaming
from fraud_trainer import job as trainer

Main = Callable[[Sequence[str]], Any]
COUNT = "must be a whole number from"
MOMENT = "must be a time with a zone from 1970 to 2199, such as 2026-01-31T12:00:00Z"
NUMBER = "must be a number"
NOT_COUNTS = ["1.5", "1e3", "1_000", "١٢", "１", " 1", "", "x", "0x10", "nan", "9" * 5000, "-1"]
NOT_MOMENTS = [
    *("2026-01-31", "2026-01-31T12:00:00", "now", "", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "1767225600"),
]
COUNTS: dict[Main, list[list[str]]] = {
    producer.main: [
        *(["generate", "--count"], ["generate", "--seed"], ["backfill", "--days"], ["history", "--per-day"]),
        ["replay", "--file", __file__, "--limit"],
    ],
    streaming.main: [
        *(["run", "--batch-size"], ["run", "--max-records"], ["run", "--metrics-port"], ["topics", "--peek"]),
        *(["topics", "--partitions"], ["dead-letters", "--limit"], ["redrive", "--id"]),
    ],
    trim.main: [["--requests"]],
}
MOMENTS: dict[Main, list[list[str]]] = {
    producer.main: [
        *(["generate", "--at"], ["backfill", "--until"], ["history", "--until"]),
        ["replay", "--file", __file__, "--start"],
    ],
    streaming.main: [["dead-letters", "--since"], ["redrive", "--since"]],
    trainer.main: [["load", "--as-of"]],
}
OTHERS: list[tuple[Main, list[str], str, str]] = [
    (producer.main, ["generate", "--count"], "2000000000", f"{COUNT} 1 to 100000000, not '2000000000'"),
    (producer.main, ["backfill", "--days"], "900000", f"{COUNT} 1 to 36500, not '900000'"),
    (producer.main, ["generate", "--run-id"], "\udcff", "must be 1 to 250 characters that can be printed"),
    (producer.main, ["generate", "--run-id"], "", "must be 1 to 250 characters"),
    *(
        (producer.main, ["optimum", "--overlap"], text, f"{NUMBER} from 0 and below 0.5")
        for text in ("0.5", "nan")
    ),
    *(
        (producer.main, ["optimum", "--fraud-rate"], text, f"{NUMBER} above 0 and below 1")
        for text in ("0", "1", "1_0", "inf", "-0.1", "½")
    ),
    (producer.main, ["optimum", "--drift"], "weather=1", "there is no drift 'weather'; known: amount-scale"),
    *(
        (
            producer.main,
            ["optimum", "--drift"],
            text,
            "drift amount-scale needs a strength, a number up to 1e+06",
        )
        for text in ("amount-scale", "amount-scale=1_0", "amount-scale=inf", "amount-scale=1e9")
    ),
    *(
        (producer.main, ["replay", "--file", __file__, "--speed"], text, "must be 0, or a number from 0.1")
        for text in ("-1", "1e-9", "inf", "nan", "1_0", "1e7")
    ),
    *(
        (producer.main, ["generate", "--every"], text, "must be a span")
        for text in ("5", "1_0s", "nans", "2d", "")
    ),
    (producer.main, ["replay", "--file"], "/tmp", "must be a file, and '/tmp' is a folder"),
    (
        producer.main,
        ["replay", "--file"],
        "/nowhere/x.csv",
        "must be a file that exists, not '/nowhere/x.csv'",
    ),
    (streaming.main, ["redrive", "--file"], "/tmp", "must be a file, and '/tmp' is a folder"),
    (streaming.main, ["dead-letters", "--export"], "/tmp", "must be a file, and '/tmp' is a folder"),
    (streaming.main, ["dead-letters", "--export"], "/nowhere/x", "must be in a folder that exists"),
    (trim.main, ["--done"], "/nowhere/x", "must be in a folder that exists"),
    *(
        (streaming.main, ["run", "--max-seconds"], text, f"{NUMBER} above 0 to 86400, not '{text}'")
        for text in ("0", "-1", "nan", "inf", "1_0", "86401")
    ),
    *(
        (streaming.main, ["run", "--max-bad-share"], text, f"{NUMBER} from 0 to 1")
        for text in ("1.1", "nan", "x")
    ),
    (streaming.main, ["dead-letters", "--since"], "999999d", "must not lie before 1970, as 999999d ago does"),
    (
        streaming.main,
        ["dead-letters", "--since"],
        "yesterday",
        f"{MOMENT}, or a span before now, such as 30m",
    ),
]


def refusal(main: Main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    line: str = capsys.readouterr().err.splitlines()[-1]
    return line.partition(": error: ")[2]


@pytest.mark.parametrize(
    ("main", "option"), [(main, option) for main, options in COUNTS.items() for option in options]
)
def test_a_count_is_a_whole_number_in_its_range(
    main: Main, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in NOT_COUNTS:
        *before, name = option
        message = refusal(main, [*before, f"{name}={text}"], capsys)
        assert message.startswith(f"argument {name}: {COUNT} ") and len(message) < 200


@pytest.mark.parametrize(
    ("main", "option"), [(main, option) for main, options in MOMENTS.items() for option in options]
)
def test_a_moment_has_a_zone_and_lies_within_reach(
    main: Main, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in NOT_MOMENTS:
        *before, name = option
        message = refusal(main, [*before, f"{name}={text}"], capsys)
        assert message.startswith(f"argument {name}: {MOMENT}")


@pytest.mark.parametrize(("main", "option", "text", "message"), OTHERS)
def test_what_will_not_do_is_named_with_its_option(
    main: Main, option: list[str], text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    *before, name = option
    assert refusal(main, [*before, f"{name}={text}"], capsys).startswith(f"argument {name}: {message}")


def test_what_is_in_range_is_read() -> None:
    assert arguments.whole_number(0, 2**63 - 1)("9223372036854775807") == 2**63 - 1
    assert arguments.number(0, 1)("1e-3") == 0.001
    assert arguments.moment("2026-01-31t13:00:00.5+01:00").isoformat() == "2026-01-31T12:00:00.500000+00:00"
    assert (arguments.moment_or_ago("1h") - arguments.moment_or_ago("3h")).total_seconds() == pytest.approx(
        7200, abs=5
    )
    assert [arguments.span(text) for text in ("0.1s", "2m", "86400s")] == [0.1, 120, 86400]
    assert producer._speed("0") == 0 and producer._speed("60") == 60
