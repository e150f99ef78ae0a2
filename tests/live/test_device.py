"""The device: what it measures, and what it advises."""

import json

import pytest
from click.testing import CliRunner

from clapedge.cli import cli
from clapedge.diagnostics.device import Measured, advise, measure
from clapedge.model.cpu import usable_cores


def measured(**window_ms: float) -> list[Measured]:
    """Return measurements by names such as `int8_2`: variant and threads."""
    return [
        Measured(name.partition("_")[0], int(name.partition("_")[2]), ms, ms / 1e3) for name, ms in window_ms.items()
    ]


@pytest.mark.parametrize(
    ("figures", "advice"),
    [
        ({"fp32_1": 90.0, "fp32_4": 45.0, "int8_1": 35.0, "int8_4": 20.0}, ("int8", 1, 0.5)),
        ({"fp32_1": 190.0, "fp32_4": 90.0}, ("fp32", 1, 1.0)),
        ({"int8_1": 400.0, "int8_4": 200.0}, ("int8", 4, 1.0)),
        ({"int8_1": 1500.0, "int8_4": 450.0}, ("int8", 4, 2.0)),
        ({"int8_1": 9000.0, "int8_4": 3000.0}, ("int8", 4, 10.0)),
    ],
)
def test_the_advice_is_the_fastest_variant_few_threads_and_a_hop_that_leaves_room(
    figures: dict[str, float], advice: tuple[str, int, float]
) -> None:
    given = advise(measured(**figures))
    assert (given.variant, given.threads, given.hop) == advice
    assert given.keeps_up


def test_a_device_that_is_too_slow_is_told_so() -> None:
    given = advise(measured(int8_1=15_000.0))
    assert given.hop == 10.0
    assert not given.keeps_up
    assert given.share == pytest.approx(1.5)


def test_this_device_is_measured_in_every_variant() -> None:
    report = measure()
    assert {one.variant for one in report.measured} == {"fp32", "int8"}
    assert {one.threads for one in report.measured} >= {1, usable_cores()}
    assert all(one.window_ms > 0 for one in report.measured)
    assert (report.provider, report.weights) == ("cpu", "demo")


def test_the_doctor_shows_the_device_as_table_and_as_json() -> None:
    table = CliRunner().invoke(cli, ["doctor", "--device"], catch_exceptions=False)
    assert "listen with  --precision" in table.output
    done = CliRunner().invoke(cli, ["doctor", "--device", "--format", "json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["cores"] == usable_cores()
    assert set(report["advice"]) == {"variant", "threads", "hop", "share", "keeps_up"}
