# SPDX-License-Identifier: Apache-2.0
"""The bench `sabre`: its points and their names, no figure for memory that comes back wrong, and reasons for what
cannot be measured. Images are small and made here; the device's cycles come from a model but where they are the
subject."""

import contextlib
import dataclasses
import json
import os
import time
import zlib

import numpy as np
import pytest
from typer.testing import CliRunner

from rackgate_host.bench.command import run_bench
from rackgate_host.bench.sabre import lazy, peers, restores, run, settings, table, touching
from rackgate_host.bench.sabre.ledger import Ledger
from rackgate_host.bench.sabre.ratios import ratios
from rackgate_host.cli import app
from rackgate_host.errors import DeviceFault, Unavailable, UsageError
from rackgate_host.inflate.driver import InflateDriver
from rackgate_host.sabre import counting, cycles, demo_command, kvm
from rackgate_host.sabre.canned import train
from rackgate_host.sabre.corpora import Corpus, Workload
from rackgate_host.sabre.engines import CycleModel
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.format import PAGE, Kind
from rackgate_host.sabre.guests import GuestKind
from rackgate_host.sabre.restorer import restore
from rackgate_host.sabre.snapshot import Region, Snapshot, write
from rackgate_host.sabre.userfault import supported


@pytest.fixture
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


def memory(pages, seed=1):
    """Pages of words and counters, with every seventh one of noise."""
    dice = np.random.default_rng(seed)
    words = [bytes(dice.integers(97, 122, 6).astype(np.uint8)) for _ in range(300)]
    rows = [b" ".join(words[number] for number in dice.zipf(1.3, 700) % 300)[:PAGE].ljust(PAGE, b"\0")
            for _ in range(pages)]
    made = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, PAGE).copy()
    made[::7] = dice.integers(0, 255, made[::7].shape)
    return made


@pytest.fixture
def corpus(tmp_path):
    """A folder with one small workload, "json"."""
    kinds = np.full(96, ord("a"), np.uint8)
    Corpus.add(tmp_path / "corpus", Workload("json", memory(96), kinds, np.arange(20, 80, dtype=np.uint32),
                                             {"origin": "process", "why": "a test"}))
    return str(tmp_path / "corpus")


SMALL = {"quick": True, "cycles_from": "model", "repeats": 1, "codecs": "libdeflate,lz4", "clock_mhz": 50,
         "guests": "none"}


def test_points(permitted, corpus):
    record = run_bench("sabre", options={**SMALL, "corpus": corpus, "storage": "0.05"})
    points = {(point.case, point.metric): point for point in record.results}
    assert points["ratio-json", "compression_ratio"].paper == 4.5
    assert points["ratio-json", "compression_ratio"].value > 1.2
    for name in ("reap-raw", "device-x4", "device-x4-dynamic", "libdeflate", "lz4"):
        for shape in ("serial", "pipelined"):
            point = points[f"{name}-json-0.05", f"milliseconds_{shape}"]
            assert point.value > 0 and point.conditions["cached_before"] < 0.05
            assert point.conditions["timing"].startswith("paced: 4 engines at 50 MHz" if "device" in name else "wall")
            if name != "reap-raw":
                saving = points[f"{name}-json-0.05", f"saving_percent_{shape}"]
                base = points["reap-raw-json-0.05", f"milliseconds_{shape}"].value
                assert saving.value == pytest.approx((1 - point.value / base) * 100, abs=0.5)
                assert saving.paper == (55.0 if "device" in name else None)
    for shape in ("serial", "pipelined"):
        assert points["restore-json-0.05", f"saving_percent_{shape}"].value == points[
            "device-x4-json-0.05", f"saving_percent_{shape}"].value
        best, worst = (points[f"restore-{end}", f"saving_percent_{shape}"] for end in ("best", "worst"))
        assert best.value >= worst.value and best.conditions["of"].startswith("device-x4")
    assert points["restore-json-0.05", "pipelined_speedup"].floor == 1.0
    assert points["lazy-uffd-json-0.05", "milliseconds"].value > 0 < points["lazy-mmap-json", "milliseconds"].value
    # Reading 96 pages at 50 MB/s takes 7.9 ms, however fast all else is.
    assert points["reap-raw-json-0.05", "milliseconds_pipelined"].value > 7.8
    conditions = points["conditions", "seconds"].conditions
    assert {"load_before", "nice"} < set(conditions) and conditions["points_not_measured"] == 0
    assert (conditions["clock_mhz"], conditions["clock_source"]) == (50, "asked for")
    assert not any(case.startswith(("kvm-", "process-")) for case, _ in points)


def touched(folder, guest, **changes):
    """Points of 48 pages that a guest touches, by case and metric."""
    data = memory(48).reshape(-1)
    workload = Workload("json", memory(48), np.full(48, ord("a"), np.uint8), np.arange(48))
    image = folder / "json.img"
    data.tofile(image)
    asked = dataclasses.replace(settings.Settings(folder, [0.05], [4], 4, ["libdeflate"], 48, 1, 1, 50.0, "a test",
                                                  "model", 8, 1, guests=[guest]), **changes)
    stored = restores._stored(workload, data, image, asked)
    points = list(touching.points(workload, data, image, stored, {"pages": 48}, asked))
    assert not list(folder.glob("*.first.rgs")), "nothing is left behind"
    return {(point["case"], point["metric"]): point for point in points}


@pytest.mark.parametrize("guest", list(GuestKind))
def test_guests_that_touch(permitted, tmp_path, guest):
    if guest is GuestKind.KVM:
        try:
            kvm.supported()
        except Unavailable as error:
            pytest.skip(str(error))
    points = touched(tmp_path, guest)
    assert points[f"{guest}-lazy-mmap-json", "milliseconds"]["value"] > 0
    lazy = points[f"{guest}-lazy-uffd-json-0.05", "milliseconds"]
    assert lazy["value"] > 0 and lazy["conditions"]["faults"] > 5
    for name in ("reap-raw", "device-x4", "libdeflate"):
        for policy in ("eager", "working_set_first", "resume_at_once"):
            point = points[f"{guest}-{name}-json-0.05", f"milliseconds_{policy}"]
            conditions = point["conditions"]
            assert point["value"] >= conditions["until_it_ran_ms"] > 0
            assert conditions["guest"] == guest and ("kvm" in conditions) == (guest == "kvm")
            assert conditions["timing"].startswith("paced: 4 engines at 50 MHz" if "device" in name else "wall")
            assert ("clock_mhz" in conditions) == ("device" in name)
            if name != "reap-raw":
                saving = points[f"{guest}-{name}-json-0.05", f"saving_percent_{policy}"]
                base = points[f"{guest}-reap-raw-json-0.05", f"milliseconds_{policy}"]["value"]
                assert saving["value"] == pytest.approx((1 - point["value"] / base) * 100, abs=0.5)


def test_without_kvm_points_have_the_reason(tmp_path, monkeypatch):
    def refuse():
        raise Unavailable("/dev/kvm cannot be opened")

    monkeypatch.setattr(touching.kvm, "supported", refuse)
    told = []
    points = touched(tmp_path, "kvm", report=told.append, codecs=[])
    assert {case for case, _ in points} == {"kvm-reap-raw-json-0.05", "kvm-device-x4-json-0.05"} and len(points) == 6
    assert {(point["value"], point["why"]) for point in points.values()} == {(None, "/dev/kvm cannot be opened")}
    assert "no guest in KVM: /dev/kvm cannot be opened" in told


def test_a_run_that_was_broken_off_goes_on(tmp_path):
    folder, calls = tmp_path / "made" / "ledgers", []

    def measure(name):
        calls.append(name)
        yield {"case": name, "metric": "m", "value": 1.5}
        if name == "third":
            raise OSError("the disk is full")

    def run_parts(**about):
        ledger = Ledger(folder, {"seed": 1, **about}, True)
        found = []
        with contextlib.suppress(OSError):
            for name in ("first", "second", "third"):
                found += ledger.part(name, lambda name=name: measure(name))
        return [point["case"] for point in found], ledger.taken

    assert run_parts() == (["first", "second"], 0)
    assert run_parts() == (["first", "second"], 2) and calls == ["first", "second", "third", "third"]
    with Ledger(folder, {"seed": 1}, True).path.open("a") as file:
        file.write('{"part": 1}\nno json\n[]\n{"part": ')
    assert run_parts()[1] == 2
    assert run_parts(pages=7)[1] == 0, "with other options nothing is taken"
    Ledger(folder, {"seed": 2}, False)
    assert run_parts()[1] == 2, "a run beside it that begins anew throws away its own"
    calls.clear()
    ledger = Ledger(folder, {"seed": 1}, False)
    assert list(ledger.part("first", lambda: measure("first"))) and calls == ["first"]


def test_ledgers_that_nobody_wrote_to_for_a_month_go(tmp_path):
    for seed in range(3):
        assert list(Ledger(tmp_path, {"seed": seed}, False).part("part", lambda: [{"case": "c"}]))
    old, late, own = (Ledger(tmp_path, {"seed": seed}, True).path for seed in range(3))
    os.utime(old, (0, time.time() - 31 * 24 * 3600))
    os.utime(late, (0, time.time() - 29 * 24 * 3600))
    assert list(Ledger(tmp_path, {"seed": 2}, True).part("part", list)) == [{"case": "c"}]
    assert not old.exists() and late.exists() and own.exists()


def test_points_are_taken_from_the_ledger(corpus, monkeypatch):
    def refuse():
        raise Unavailable("userfaultfd is not permitted")

    monkeypatch.setitem(run.__globals__, "supported", refuse)
    options = {**SMALL, "corpus": corpus, "storage": [0.5], "seed": 77}
    first, second = list(run(**options)), list(run(**options, resume=True))
    assert first[:-1] == second[:-1] and second[-1]["conditions"]["parts_of_an_earlier_run"] == 1
    assert list(run(**{**options, "pages": 50}, resume=True))[-1]["conditions"]["parts_of_an_earlier_run"] == 0


def test_the_record_as_tables():
    """All points of a record stand in the tables, but for those that say how."""
    end = {"load_before": 1.5, "load_after": 2.5, "nice": 0, "clock_mhz": 80.0, "clock_source": "assumed",
           "points_not_measured": 1}
    about = {"megabytes": 4.2, "origin": "microvm"}
    guest = {"touched_pages": 1228, "touches": 1842}
    points = [("conditions", "seconds", 600, end), ("ratio-json", "compression_ratio", 4.444, {}),
              ("ratio-json", "zero_percent", 7.77, {}), ("lazy-mmap-json", "milliseconds", 11.1, {}),
              ("kvm-lazy-mmap-json", "milliseconds", 22.2, {**guest, "kvm": "kvm_amd"}),
              ("process-lazy-mmap-json", "milliseconds", 33.3, guest),
              ("kvm-lazy-uffd-json-0.5", "milliseconds", 44, {}),
              ("process-lazy-uffd-json-0.5", "milliseconds", 55, {}), ("lazy-uffd-json-0.5", "milliseconds", 66.6, {})]
    for flow in ("reap-raw", "device-x4", "zlib"):
        for shape, value in (("serial", 20.25), ("pipelined", 10.25)):
            points.append((f"{flow}-json-0.5", f"milliseconds_{shape}", value + len(flow), about))
            if flow != "reap-raw":
                points.append((f"{flow}-json-0.5", f"saving_percent_{shape}", 40 + len(flow), {}))
    points += [("restore-json-0.5", "saving_percent_serial", 49, {}),
               ("restore-best", "saving_percent_serial", 49.5, {"of": "device-x4-json-0.5"})]
    for name in ("process", "kvm"):
        points.append((f"{name}-reap-raw-json-0.5", "milliseconds_eager", 77.7 + len(name), {}))
    record = {"command": "rackgate bench sabre --json", "commit": "abc", "seed": 1,
              "machine": {"cpu": "Some", "cores": 2}, "results": [
                  {"case": case, "metric": metric, "value": value, "conditions": conditions}
                  for case, metric, value, conditions in points]}
    text = table.tables(record)
    for part in ("`rackgate bench sabre --json` at commit abc", "load 1.5 before and 2.5 after", "80 MHz, assumed",
                 "| json | 4.44 |  |  |  | 7.8 |  |", "| `reap-raw` | 28.2 / 18.2 |",
                 "| `device-x4` | 29.2 / 19.2 (49 / 49 %) |", "| `zlib` | 24.2 / 14.2 (44 / 44 %) |",
                 "| `lazy-uffd` | 66.6 |", "own disk: 11.1", "process / kvm (kvm_amd)", "own disk: 33.3 / 22.2",
                 "| `reap-raw` | eager | 84.7 / 80.7 |", "no prefetch | 55.0 / 44.0 |",
                 "Best saving, serial: 49.5 % (device-x4-json-0.5).", "in 10 minutes", "not measured: 1"):
        assert part in text, (part, text)


def test_without_userfaultfd(corpus, monkeypatch):
    def refuse():
        raise Unavailable("userfaultfd is not permitted")

    monkeypatch.setitem(run.__globals__, "supported", refuse)
    points = list(run(**{**SMALL, "corpus": corpus, "storage": [0.5, 1]}))
    missing = [point for point in points if point["value"] is None]
    assert {point["case"] for point in missing} == {"restore-json-0.5", "restore-json-1"}
    assert {point["why"] for point in missing} == {"userfaultfd is not permitted"}
    assert points[-1]["conditions"]["points_not_measured"] == len(missing) == 4
    assert any(point["case"] == "ratio-json" for point in points)


@pytest.mark.parametrize(("options", "text"), [
    ({"workloads": "fib"}, "there is no workload 'fib'"), ({"storage": "fast"}, "storage must be float values"),
    ({"engines": ","}, "engines must name at least one"), ({"guests": "xen"}, "guests must be GuestKind values"),
    ({"corpus": "/no/such/folder"}, "holds no corpus"),
    ({"only": "all"}, "only must be ratios or restores, not 'all'")])
def test_options_that_make_no_sense(options, text):
    with pytest.raises(UsageError, match=text):
        list(run(quick=True, **options))


def test_a_peer_that_is_not_installed_has_a_reason(tmp_path, monkeypatch):
    def missing():
        raise ImportError("no lz4")

    monkeypatch.setitem(peers.PEERS, "lz4", missing)
    asked = settings.Settings(tmp_path, [1.0], [1], 1, ["lz4"], 20, 1, 1, 80.0, "a test", "model", 8, 1)
    workload = Workload("json", memory(20), np.full(20, ord("a"), np.uint8), np.arange(20))
    image = tmp_path / "image"
    stored = restores._stored(workload, memory(20).reshape(-1), image, asked)
    flows, why = restores._flows(stored, image, asked, True)
    assert why == {"lz4": "lz4 is not installed: pip install 'rackgate[bench]'"}
    assert [flow.what for flow in flows if flow.serial] == ["reap-raw", "device-x1", "device-x1-dynamic"]


def test_no_figure_for_wrong_memory():
    for result in ({"equal": False}, {"equal": None}, {"equal": True, "wrong": 1}):
        with pytest.raises(DeviceFault, match="zlib: the restored memory differs"):
            settings.checked(result, "zlib")


def test_no_page_has_changed(tmp_path):
    workload = Workload("json", memory(4), np.full(4, ord("a"), np.uint8), np.array([], np.uint32))
    point, = ratios(workload, tmp_path, 10, 1)
    assert point["value"] is None and point["why"] == "no page has changed"


@pytest.fixture
def raw(tmp_path):
    data = memory(30).reshape(-1)
    write(tmp_path / "raw.rgs", [Region("m", 0, data)], mode="raw", deduplicate=False)
    return tmp_path / "raw.rgs", data


@pytest.mark.parametrize("name", list(peers.PEERS))
def test_peers_restore_what_they_wrote(permitted, raw, tmp_path, name):
    pytest.importorskip({"lz4": "lz4.block", "zstd": "zstandard"}[name])
    path, data = raw
    summary = peers.write(path, tmp_path / "peer.rgs", name)
    assert set(summary.kinds) == {Kind.DYNAMIC, Kind.RAW} and summary.ratio > 1.1
    engine = {"engine": "rackgate_host.bench.sabre.peers:PeerEngine", "engine_options": {"codec": name, "workers": 1}}
    buffers, _ = restore(tmp_path / "peer.rgs", **engine)
    assert bytes(buffers[0]) == data.tobytes()
    with Snapshot.open(tmp_path / "peer.rgs") as snapshot:
        snapshot.verify_file()
        part = next(part for part in snapshot if part.kind is Kind.DYNAMIC)
    damaged = bytearray((tmp_path / "peer.rgs").read_bytes())
    damaged[part.offset + part.size // 2] ^= 0xff
    (tmp_path / "peer.rgs").write_bytes(damaged)
    with pytest.raises(SabreError, match=f"partition {part.number} "):
        restore(tmp_path / "peer.rgs", **engine)


def test_raw_pages_are_installed_as_they_are_read(permitted, raw, tmp_path):
    path, data = raw
    for serial in (True, False):
        buffers, report = restore(path, engine="rackgate_host.bench.sabre.peers:RawEngine", serial=serial)
        assert bytes(buffers[0]) == data.tobytes() and report.seconds["decompress"] == 0
    write(tmp_path / "other.rgs", [Region("m", 0, data)])
    with pytest.raises(SabreError, match="must be of mode raw"):
        restore(tmp_path / "other.rgs", engine="rackgate_host.bench.sabre.peers:RawEngine")


def test_lazy_mapping(tmp_path):
    image = tmp_path / "image"
    memory(40).tofile(image)
    result = lazy.lazy_mmap(image, [(0, 3), (0, 39), (0, 0)])
    assert result["equal"] and 0 < result["guest_seconds"] < 5
    with pytest.raises(SabreError, match="the guest with a mapped image failed: .*No such file"):
        lazy.lazy_mmap(tmp_path / "none", [(0, 0)])


def snapshots(folder, mode="dynamic"):
    path = folder / f"{mode}.rgs"
    write(path, [Region("m", 0, memory(30).reshape(-1))], mode=mode)
    return path


@pytest.mark.parametrize("mode", ["dynamic", "canned"])
@pytest.mark.parametrize("device", ["inflate", "iaa"])
def test_cycles_are_counted_once(tmp_path, monkeypatch, device, mode):
    monkeypatch.setenv("RACKGATE_CACHE", str(tmp_path))
    with Snapshot.open(snapshots(tmp_path, mode)) as snapshot:
        first = cycles.cycles_of(snapshot, device=f"model:{device}", sample=12)
        how = {"inflate": "single jobs, 64 in flight", "iaa": "LIST jobs of 128 pages"}[device]
        assert first.conditions["cycles"] == f"counted on model:{device}, {how}"
        assert first.conditions["pages_counted"] == 12
        counted_as = {"inflate": "fixed codes: the same tokens, and no header",
                      "iaa": "canned tables, in the device's memory"}[device]
        assert first.conditions["canned_counted_as"] == (counted_as if mode == "canned" else None)
        assert (first.conditions["cycles_of_a_page_alone"] is not None) == (device == "iaa")
        assert first.latency >= 0, "the model takes a page at a time: there is none"
        assert len(list((tmp_path / "sabre-cycles").iterdir())) == 1
        monkeypatch.setattr(counting, "_on_jobs", None)  # neither may be called again
        monkeypatch.setattr(counting, "_on_lists", None)
        again = cycles.cycles_of(snapshot, device=f"model:{device}", sample=12)
        assert np.array_equal(first.of, again.of) and first.latency == again.latency
        kinds = snapshot.partitions["kind"]
        assert (first.of[kinds != Kind.ZERO] > 0).all()
        assert np.allclose(first.of[kinds == Kind.RAW], 512)


def test_cycles_of_a_batch_add_up(connect):
    pages = [counting.Page(zlib.compress(bytes(page), 6, -15), bytes(page)) for page in memory(9)]
    device = connect("model:inflate")
    driver = InflateDriver.of(device)
    begin = device.cycles
    counted = counting._batch(driver, pages, 0)
    assert (counted >= 0).all() and 9 * 256 < counted.sum() <= device.cycles - begin
    spoilt = [*pages[:4], counting.Page(pages[4].stream, bytes(PAGE)), *pages[5:]]
    with pytest.raises(DeviceFault, match="page 104 did not come out"):
        counting._batch(driver, spoilt, 100)


def test_cycles_of_lists_add_up(connect):
    contents = [bytes(page) for page in memory(150)]
    table, = train(contents, 1)
    pages = [counting.Page(table.encode(content), content, table.header) for content in contents[:140]]
    pages += [counting.Page(zlib.compress(content, 6, -12), content) for content in contents[140:]]
    device = connect("model:iaa")
    begin = device.cycles
    found = counting._on_lists(device, pages, lambda line: None)
    assert len(found) == 151 and (found > 0).all() and 150 * 256 < found[1:].sum() <= device.cycles - begin
    assert found[0] > 256, "a page alone"
    free = device.allocate(PAGE).device_address
    counting._on_lists(device, pages[:3], lambda line: None)
    assert device.allocate(PAGE).device_address <= free + 2 * PAGE, "buffers and tables are given back"
    pages[130] = counting.Page(pages[130].stream, bytes(PAGE), table.header)
    with pytest.raises(DeviceFault, match="page 130 did not come out"):
        counting._on_lists(device, pages, lambda line: None)


def test_cycles_without_a_simulator(tmp_path, monkeypatch):
    def missing(url, **options):
        raise Unavailable("there is no compiler")

    monkeypatch.setattr(counting, "open_device", missing)
    with Snapshot.open(snapshots(tmp_path)) as snapshot:
        found = cycles.cycles_of(snapshot)
        assert found.conditions["why_modelled"] == "there is no compiler"
        part = next(part for part in snapshot if part.kind is Kind.DYNAMIC)
        model = CycleModel()
        assert found.of[part.number] == pytest.approx(model.per_page + model.per_stored * part.size)


def test_clock(tmp_path):
    assert cycles.clock(tmp_path) == (80.0, "assumed: no record of `rackgate bench area`")
    points = [{"case": "inflate-2x32k", "metric": "lut4", "value": 7},
              {"case": "inflate-2x32k", "metric": "fmax_mhz", "value": 93.5},
              {"case": "iaa-1x2x32k", "metric": "fmax_mhz", "value": None},
              {"case": "inflate-2x4k", "metric": "fmax_mhz", "value": 84.5}]
    (tmp_path / "area.json").write_text(json.dumps({"commit": "abc", "results": points[3:]}))
    assert cycles.clock(tmp_path) == (84.5, "routed, inflate-2x4k of `rackgate bench area` at commit abc; the "
                                            "accelerator itself was not routed")
    (tmp_path / "area.json").write_text(json.dumps({"commit": "abc", "results": points}))
    assert cycles.clock(tmp_path) == (93.5, "routed, inflate-2x32k of `rackgate bench area` at commit abc; the "
                                            "accelerator itself was not routed")
    points[2]["value"] = 71
    (tmp_path / "area.json").write_text(json.dumps({"commit": "abc", "results": points}))
    assert cycles.clock(tmp_path) == (71.0, "routed, iaa-1x2x32k of `rackgate bench area` at commit abc")
    for text in ("{", "[]", "3"):
        (tmp_path / "area.json").write_text(text)
        assert cycles.clock(tmp_path)[0] == 80.0


def test_demo(permitted, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_command, "build_root", lambda: tmp_path)  # others may be running one in the checkout
    done = CliRunner().invoke(app, ["sabre", "demo", "--pages", "64", "--engine", "software", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["restored"] and shown["equal"] and not shown["wrong"] and shown["timing"] == "wall"
    assert list(tmp_path.glob("sabre/demo-*")) == []


def test_demo_without_userfaultfd(monkeypatch):
    def refuse():
        raise Unavailable("not permitted here")

    monkeypatch.setattr(demo_command, "supported", refuse)
    done = CliRunner().invoke(app, ["sabre", "demo"])
    assert done.exit_code == 0 and "No restore here: not permitted here" in done.stdout
    done = CliRunner().invoke(app, ["sabre", "demo", "--json"])
    assert json.loads(done.stdout) == {"restored": False, "why": "not permitted here"}


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_demo_with_the_simulated_engine(permitted):
    done = CliRunner().invoke(app, ["sabre", "demo", "--pages", "64", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["equal"] and shown["cycles_from"]["cycles"].startswith("counted on sim:inflate")
    assert 1 < shown["cycles_from"]["bytes_per_cycle"] < 16
    assert "prediction" in shown["timing"]
