# SPDX-License-Identifier: Apache-2.0
"""The bench of the way to a board: what it measures, not how much."""

import pytest
from bridged import golden_bridge

import rackgate_host
from rackgate_host import DeviceFault, UsageError
from rackgate_host.bench import wire
from rackgate_host.bench.command import run_bench
from rackgate_sim.bridge_links import UdpBridge

METRICS = ["write_bytes_per_second", "read_bytes_per_second", "round_trip_us", "cpu_seconds_per_gb"]


@pytest.mark.thorough
def test_its_points():
    record = run_bench("wire", options={"only": "server", "size": 1 << 16, "repeats": 1})
    assert [(one.case, one.metric) for one in record.results] == [("server", metric) for metric in METRICS]
    assert all(one.value > 0 and one.holds for one in record.results)
    assert record.results[0].conditions["bytes"] == 1 << 16 and record.results[0].conditions["requests"] > 100


def test_wrong_bytes_are_seen():
    bridge = golden_bridge()
    with UdpBridge(bridge) as serving, rackgate_host.open(serving.url) as device:
        assert set(wire.measure(device, 4096, 1, 1)) == set(METRICS)
        bridge.device.write = lambda address, data: None
        with pytest.raises(DeviceFault, match="memory has other bytes than were written"):
            wire.measure(device, 4096, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "udp,usb"}, "no case 'usb'; it has udp, uart, server"),
        ({"size": 5000}, "size must be a multiple of 4096"),
        ({"repeats": 0}, "repeats at least 1, not 4194304 and 0"),
    ],
)
def test_usage(options, message):
    with pytest.raises(UsageError, match=message):
        run_bench("wire", options=options)
