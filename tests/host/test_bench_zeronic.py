# SPDX-License-Identifier: Apache-2.0
"""The bench ``zeronic``: its points, on the gateware and on real TCP."""

import shutil

import pytest
from zeronic_hosts import need_hosts

from rackgate_host.bench.benches import units_of
from rackgate_host.bench.command import run_bench
from rackgate_host.bench.zeronic import costs, cycles, hosts, run
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
@pytest.mark.xdist_group("native")
def test_cycles_of_the_gateware(seed):
    with Bed("sim:zeronic?variant=brief") as bed:
        for payload in (1, 300, 1448):
            for points in (receive_rate(bed, payload, seed=seed, count=24), send_rate(bed, payload, count=12)):
                figures = {metric: value for metric, value, _ in points}
                assert 0 < figures["payload_bytes_per_cycle"] < figures["bytes_per_cycle"] <= 8.1
                # A bubble a frame, and what the first and the last of so few differ by.
                assert figures["bubbles_per_packet"] <= 2
        found = dict(response(bed, 1448, seed=seed))
        assert 0 < found["last word in to first write"] <= 24 < found["last word in to entry"]
        for order in orders(16, seed).values():
            # A bubble a frame, and the way of the last to memory: nothing waits for those that are missing.
            assert reorder_rate(bed, 700, order, seed=seed) <= -(-(HEADER + 700) // 8) + 1 + 200 / 16


def test_costs_of_streams(seed):
    need_hosts()
    told = list(hosts.streams("model:zeronic", message=1 << 14, total=1 << 17, seed=seed, report=print))
    assert {mode for mode, *_ in told} == set(hosts.MODES)
    figures = {(mode, metric): value for mode, metric, value, _ in told}
    received, copied = "host_bytes_per_payload_byte", "cpu_copied_bytes_per_payload_byte"
    assert figures["unsplit", received] > 1 > 4 * figures["shim", received] > 0
    assert figures["unsplit", copied] == 2 > figures["posted", copied]


def test_losses_are_beside_as_many_bytes_without(seed):
    need_hosts()
    told = list(hosts.losses("model:zeronic", {0.02: 1 << 18, 0.05: 1 << 17}, mode="posted", seed=seed, report=print))
    assert [(loss, size) for loss, size, _ in told] == [(0.02, 1 << 18), (0.05, 1 << 17)]
    assert all(fraction > 0 for *_, fraction in told)


def test_costs_of_redis(seed, monkeypatch):
    need_hosts()
    for program in ("redis-server", "redis-benchmark", "redis-cli"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not there: install redis-server and redis-tools")
    monkeypatch.setattr(costs, "_QUICK_VALUES", (4096,))
    monkeypatch.setattr(costs, "_QUICK_TOTAL", 1 << 18)
    points = list(costs.redis_points("model:zeronic", seed=seed, report=print, quick=True))
    values = {(point["case"], point["metric"]): point["value"] for point in points}
    for case in ("redis-set-4096", "redis-get-4096"):
        assert 0 < values[case, "host_bytes_per_payload_byte"] < 1 < values[case, "host_bytes_per_payload_byte_unsplit"]
        assert values[case, "cpu_copied_bytes_per_payload_byte_unsplit"] == 2


def test_redis_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    point, = costs.redis_points("model:zeronic", seed=1, report=print, quick=True)
    assert point["value"] is None and "install redis-server" in point["why"]


class StandIn:
    """A NIC of which every figure is 1."""

    def __init__(self, url, **options):
        self.width = int(url.rpartition("=")[2])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_names_of_points(monkeypatch):
    """The names of results.md, by width: a record with all widths has each once."""
    monkeypatch.setattr(cycles, "Bed", StandIn)
    for name in ("receive_rate", "send_rate"):
        monkeypatch.setattr(cycles, name, lambda *_, **__: [("bytes_per_cycle", 1.0, "byte/cycle"),
                                                          ("bubbles_per_packet", 1.0, "cycle")])
    monkeypatch.setattr(cycles, "response", lambda *_, **__: [("", 1), ("", 1)])
    monkeypatch.setattr(cycles, "reorder_rate", lambda *_, **__: 1.0)
    points = [(point["case"], point["metric"]) for point in run(only="cycles")]
    assert len(points) == len(set(points))
    for width in (8, 16, 32):
        for case in (f"rx-w{width}-1514", f"tx-w{width}-1514"):
            assert {(case, "bytes_per_cycle"), (case, "bubbles_per_packet")} <= set(points)
        assert (f"lone-w{width}-1514-first-write", "cycles") in points

    spent = {"cpu_seconds_per_gb": (1.0, "s/GB"), "host_bytes_per_payload_byte": (1.0, "1")}
    monkeypatch.setattr(costs, "streams", lambda *_, **__: [
        (mode, metric, *value) for mode in hosts.MODES for metric, value in spent.items()])
    found = [(point["case"], point["metric"]) for point in costs.stream_points("", seed=1, report=print, quick=False)]
    assert len(found) == len(set(found))
    for mode in ("shim", "posted"):
        assert {(f"tcp-65536-{mode}", "cpu_seconds_per_gb"), (f"tcp-65536-{mode}", "cpu_seconds_per_gb_unsplit"),
                (f"tcp-65536-{mode}-unmerged", "host_bytes_per_payload_byte")} <= set(found)


def test_units_are_parts():
    told = [(unit.name, unit.counted) for unit in units_of("zeronic", 1, {})]
    assert told == [("width 8", True), ("width 16", True), ("width 32", True), ("streams", False), ("losses", False),
                    ("redis", False)]
    assert [unit.name for unit in units_of("zeronic", 1, {"quick": True})] == ["width 8", "streams", "losses", "redis"]
    assert [unit.name for unit in units_of("zeronic", 1, {"only": "hosts"})] == ["streams", "losses", "redis"]


@pytest.mark.parametrize(("options", "message"), [
    ({"widths": "4"}, "widths must be of 8, 16 and 32, not 4"),
    ({"only": "all"}, "only must be cycles, hosts, streams, losses, redis, or nothing"),
])
def test_refuses(options, message):
    with pytest.raises(UsageError, match=message):
        run_bench("zeronic", options=options)


def test_without_hosts_it_says_why(monkeypatch):
    def impossible():
        raise NoHosts("not here")

    monkeypatch.setattr("rackgate_host.zeronic.namespaces.check_possible", impossible)
    points = list(run(only="hosts"))
    assert [(point["case"], point["why"]) for point in points] == [
        (name, "not here") for name in ("streams", "losses", "redis")]
