# SPDX-License-Identifier: Apache-2.0
"""The bench ``zeronic``: its points, on the gateware and on real TCP."""

import pytest
from zeronic_hosts import need_hosts

from rackgate_host.bench.command import run_bench
from rackgate_host.bench.zeronic import hosts, run
from rackgate_host.bench.zeronic.bench_frames import HEADER, KEY, data_frame
from rackgate_host.bench.zeronic.datapath import Bed, orders, receive_rate, reorder_rate, response, send_rate
from rackgate_host.errors import UsageError
from rackgate_host.zeronic.errors import NoHosts
from rackgate_host.zeronic.headers import parse_tcp


def test_frames_are_of_the_flow():
    tcp = parse_tcp(data_frame(0x1_0000_0005, bytes(100)))
    assert tcp is not None
    assert (tcp.source, tcp.destination, tcp.source_port, tcp.destination_port) == KEY[:4]
    assert (tcp.sequence, tcp.size, tcp.payload) == (5, HEADER, 100)


def test_orders_are_permutations(seed):
    for order in orders(64, seed).values():
        assert sorted(order) == list(range(64))


@pytest.mark.cosim
def test_cycles_of_the_gateware(seed):
    with Bed("sim:zeronic?variant=brief") as bed:
        for payload in (1, 300, 1448):
            for points in (receive_rate(bed, payload, seed=seed, count=24), send_rate(bed, payload, count=12)):
                figures = {metric: value for metric, value, _ in points}
                assert 0 < figures["payload_bytes_per_cycle"] < figures["bytes_per_cycle"] <= 8.1
                # A bubble a frame, and what the first and the last of so few differ by.
                assert figures["bubbles_per_packet"] <= 2
        found = dict(response(bed, 1448, seed=seed))
        assert 0 < found["last word in to first write"] < found["last word in to entry"]
        for order in orders(16, seed).values():
            # A bubble a frame, and the way of the last to memory: nothing waits for those that are missing.
            assert reorder_rate(bed, 700, order, seed=seed) <= -(-(HEADER + 700) // 8) + 1 + 200 / 16


def test_costs_of_streams(seed):
    need_hosts()
    told = list(hosts.streams("model:zeronic", message=1 << 14, total=1 << 17, seed=seed, report=print))
    assert {mode for mode, *_ in told} == set(hosts.MODES)
    figures = {(mode, metric): value for mode, metric, value, _ in told}
    received = "host_bytes_received_per_payload_byte"
    assert figures["unsplit", received] > 1 > 4 * figures["shim", received] > 0
    assert figures["unsplit", "copied_per_payload_byte"] == 2 > figures["posted", "copied_per_payload_byte"]


@pytest.mark.parametrize(("options", "message"), [
    ({"widths": "4"}, "widths must be of 8, 16 and 32, not 4"), ({"only": "all"}, "only must be cycles or hosts"),
])
def test_refuses(options, message):
    with pytest.raises(UsageError, match=message):
        run_bench("zeronic", options=options)


def test_without_hosts_it_says_why(monkeypatch):
    def impossible():
        raise NoHosts("not here")

    monkeypatch.setattr("rackgate_host.zeronic.namespaces.check_possible", impossible)
    points = list(run(only="hosts"))
    assert [point["why"] for point in points] == ["not here"]
