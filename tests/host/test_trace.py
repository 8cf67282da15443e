# SPDX-License-Identifier: Apache-2.0
"""``rackgate trace``: the spans agree with what drivers report, and both outputs can be read."""

import json
import os
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from rackgate_host import cli
from rackgate_host.trace import job as trace_job
from rackgate_host.trace.job import Job
from rackgate_host.trace.page import page
from rackgate_host.trace.perfetto import trace_events
from rackgate_sim.timeline.stages import stages
from rackgate_sim.timeline.timeline import Row, Span

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROWS = [
    Row("door", "state", "house.door", "house.Door", "Open & <shut>", "", "OPEN",
        (Span("SHUT", 12, 13), Span("OPENING", 13, 15))),
    Row("door", "o", "house.door", "house.Door", "Open & <shut>", "guest", "",
        (Span("moves", 10, 12), Span("waits", 12, 15), Span("moves", 15, 16))),
    Row("attic", "o", "house.attic", "house.Attic", "Nobody comes here", "ghost", "", ()),
]


@pytest.fixture
def job(tmp_path):
    return Job("two </script> guests", "house", "sim:house", {"width": 8}, "0123", 10, 20, {"a": tmp_path / "a.fst"},
               {"cycles": 5})


@pytest.fixture
def rackgate(capsys, monkeypatch, tmp_path):
    """Run the command: its exit code, and what it printed. Waves and traces go to a folder of the test's."""
    monkeypatch.setattr(trace_job, "build_root", lambda: tmp_path / "build")
    monkeypatch.setattr("rackgate_host.trace.command.build_root", lambda: tmp_path / "build")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["rackgate", "trace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


# ---- what is written ----


def spans_of(trace):
    """Spans of a trace by thread, in the order of the file; the names of threads."""
    names, found = {}, defaultdict(list)
    for event in trace["traceEvents"]:
        place = event["pid"], event["tid"]
        if event["ph"] == "M" and event["name"] == "thread_name":
            names[place] = event["args"]["name"]
        elif event["ph"] == "X":
            found[place].append((event["name"], event["ts"], event["ts"] + event["dur"]))
    return {names[place]: spans for place, spans in found.items()}, list(names.values())


def test_trace_events(job):
    trace = json.loads(json.dumps(trace_events(job, {"a": ROWS, "b": ROWS[:1]})))
    spans, names = spans_of(trace)
    assert names == ["door: state", "door: o", "attic: o", "door: state"]
    assert spans["door: o"] == [("moves", 10, 12), ("waits", 12, 15), ("moves", 15, 16)]
    processes = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert processes == ["a", "b"]
    assert trace["otherData"]["unit of time"] == "one clock cycle" and trace["otherData"]["cycles"] == "5"
    one = next(e for e in trace["traceEvents"] if e["name"] == "waits")
    assert one["args"] == {"first cycle": 12, "last cycle": 14, "cycles": 3, "place": "house.door", "carries": "guest",
                           "source": "house.Door"}


def test_page_has_everything_in_itself(job):
    text = page("house", job, {"a": ROWS})
    assert "two &lt;/script&gt; guests" in text and text.count("</script>") == 1
    assert not re.search(r"https?://|@[A-Z]+@|\bsrc=", text)
    assert "connect-src" not in text and "default-src 'none'" in text
    data = json.loads(re.search(r"const data = (.*);\n", text)[1])
    assert data["begin"] == 10 and data["nodes"][0]["rows"][1]["spans"] == [["moves", 10, 12], ["waits", 12, 15],
                                                                            ["moves", 15, 16]]
    assert "<td>SHUT&nbsp;1, OPENING&nbsp;2</td>" in text and "Open &amp; &lt;shut&gt;" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium fonts-dejavu-core")
@pytest.mark.xdist_group("chromium")
@pytest.mark.thorough
def test_page_in_a_browser(job, tmp_path):
    from playwright.sync_api import sync_playwright

    file, wrong = tmp_path / "page.html", []
    file.write_text(page("house", job, {"a": ROWS}))
    with sync_playwright() as tools:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        for size, scheme in (((1280, 900), "light"), ((375, 812), "dark")):
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme,
                                          offline=True)
            tab = context.new_page()
            tab.set_default_timeout(60_000)
            tab.on("console", lambda message: wrong.append(message.text))
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.goto(file.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            box = tab.locator("canvas").bounding_box()
            gutter = tab.evaluate("gutter")
            # The middle of cycle 13 in the row of the stream.
            tab.mouse.move(box["x"] + gutter + 3.5 / 10 * (box["width"] - gutter), box["y"] + 24 + 20 + 18 + 9)
            assert "waits: cycles 12 to 14 (3)" in tab.locator("#tip").inner_text()
            before = tab.locator("canvas").screenshot()
            tab.locator("[data-do=in]").click()
            assert tab.evaluate("[from, to]") != [10, 20] and tab.locator("canvas").screenshot() != before
            tab.locator("[data-do=all]").click()
            assert tab.evaluate("[from, to]") == [10, 20]
            context.close()
        browser.close()
    assert wrong == []


# ---- the command ----


@pytest.mark.parametrize("arguments, message", [
    (["inflate", "nowhere"], "there is no file nowhere"),
    (["inflate", "--device", "model:inflate"], "is drawn from the simulated gateware, sim:inflate, not from model:"),
    (["locks", "--device", "sim:inflate"], "is drawn from the simulated gateware, sim:fisslock, not from sim:inflate"),
    (["zeronic", "--device", "sim:balancer"], "not from sim:balancer"),
    (["collectives", "--device", "model:collective"], "not from model:collective"),
    (["collectives", "--bytes", "1022"], "--bytes must be a multiple of 4, not 1022"),
    (["inflate", "-o", "no/such/folder/a.json"], "there is no folder"),
])
def test_mistakes_get_a_sentence(rackgate, arguments, message):
    code, out, err = rackgate(*arguments)
    assert code == 2 and out == "" and err.startswith("rackgate: ") and message in err and err.count("\n") == 1


def test_an_empty_file(rackgate, tmp_path):
    (tmp_path / "empty").touch()
    code, _, err = rackgate("inflate", tmp_path / "empty")
    assert code == 2 and "is empty: there is nothing to inflate" in err


# ---- on the gateware ----


def traced(rackgate, tmp_path, system, *arguments):
    """Run a trace with all outputs: its summary, its rows by stage and name, each for each node, and its spans."""
    target = tmp_path / "trace.json"
    code, out, _ = rackgate(system, *arguments, "-o", target, "--html", "--json")
    assert code == 0
    summary = json.loads(out)
    spans, names = spans_of(json.loads(target.read_text()))
    shown = stages({"locks": "fisslock", "collectives": "collective"}.get(system, system))
    assert {row["stage"] for row in summary["rows"]} == {stage.name for stage in shown}
    assert len(names) == len(summary["rows"])
    text = Path(summary["page"]).read_text()
    assert all(stage.name in text for stage in shown)
    rows = defaultdict(list)
    for row in summary["rows"]:
        rows[row["stage"], row["row"]].append(row)
        assert row["first"] is None or summary["begin"] <= row["first"] <= row["last"] < summary["end"]
    assert all(Path(path).stat().st_size > 10_000 for path in summary["waves"])
    return summary, rows, spans


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_a_page_inflated(rackgate, tmp_path):
    file = tmp_path / "page"
    file.write_bytes(b"".join(b"%d bottles of beer on the wall\n" % (99 - k) for k in range(99)))
    size = file.stat().st_size
    summary, rows, spans = traced(rackgate, tmp_path, "inflate", file)
    (context,), (written,), (record,) = rows["context", "state"], rows["writer", "w"], rows["record", "w"]
    # The completion record counts from the cycle in which the context has the task to the last answer from memory.
    reported = summary["reported"]
    assert reported["bytes out"] == size
    assert sum(context["cycles"][state] for state in ("START", "READ", "WORK", "DRAIN")) == reported["cycles"]
    assert summary["cycles"] >= reported["cycles"]
    assert written["cycles"]["moves"] == -(-size // 8) and record["cycles"]["moves"] == 8
    assert rows["memory port", "mem__w"][0]["cycles"]["moves"] == -(-size // 8) + 8
    (read,) = rows["source reader", "r"]
    assert -(-reported["bytes in"] // 8) <= read["cycles"]["moves"] <= -(-reported["bytes in"] // 8) + 1
    assert [what for what, _, _ in spans["context: state"]] == ["START", "READ", "WORK", "DRAIN", "RECORD"]
    assert all(first[2] == second[1] for first, second in zip(spans["context: state"], spans["context: state"][1:],
                                                              strict=False))


@pytest.mark.soak
@pytest.mark.xdist_group("native")
def test_packets_through_the_lock_pipeline(rackgate, tmp_path):
    summary, rows, spans = traced(rackgate, tmp_path, "locks", "--packets", "3", "--device", "sim:fisslock?locks=256")
    reported = summary["reported"]
    for name in ("i", "o"):
        for stage in ("ingress stages", "register array of locks", "copies", "egress stages"):
            assert rows[stage, name][0]["cycles"] == {"moves": 3}
    assert rows["frames in", "net_rx"][0]["cycles"]["moves"] == reported["words in"]
    assert rows["frames out", "net_tx"][0]["cycles"]["moves"] == reported["words out"]
    first, last = rows["frames in", "net_rx"][0]["first"], rows["frames out", "net_tx"][0]["last"]
    assert last - first + 1 == reported["cycles from first word to last"]
    from rackgate.fisslock.hardened import pipeline
    from rackgate.pisa.pipeline import PipelineCore
    from rackgate.pisa.tables import runtime_table

    core = PipelineCore(pipeline(locks=256), make_table=runtime_table)
    enters, leaves = spans["ingress stages: i"], spans["ingress stages: o"]
    assert [b[1] - a[1] for a, b in zip(enters, leaves, strict=True)] == [core.latency] * 3


@pytest.mark.soak
@pytest.mark.xdist_group("native")
def test_a_segment_placed(rackgate, tmp_path):
    summary, rows, _ = traced(rackgate, tmp_path, "zeronic", "--bytes", "512")
    reported = summary["reported"]
    (frame,), (burst,), (payload,) = rows["frames in", "net_rx"], rows["placement", "aw"], rows["placement", "w"]
    assert frame["cycles"]["moves"] == reported["words in"]
    assert burst["first"] - frame["last"] == reported["cycles from last word to first write"]
    # The interrupt rises when the entry's write has been answered.
    answered = rows["ring port", "mem__1__b"][0]["last"]
    assert 0 <= reported["cycles from last word to entry"] - (answered - frame["last"]) <= 4
    assert 512 / 8 <= payload["cycles"]["moves"] <= 512 / 8 + 1
    assert rows["payload port", "mem__0__b"][0]["last"] < rows["entry writer", "w"][0]["first"]


@pytest.mark.soak
@pytest.mark.xdist_group("native")
def test_an_allreduce(rackgate, tmp_path):
    summary, rows, _ = traced(rackgate, tmp_path, "collectives", "--ranks", "2", "--bytes", "1024")
    assert {row["node"] for row in summary["rows"]} == {"rank 0", "rank 1"} and len(summary["waves"]) == 2
    for rank in range(2):
        context, call = rows["context 0", "state"][rank], rows["calls", "call"][rank]
        done = rows["completer", "o"][rank]
        assert call["cycles"]["moves"] == 1 and done["cycles"]["moves"] == 1
        # A call's cycles are counted from when it is whole to when its completion is given out.
        assert done["last"] - call["first"] + 1 == summary["reported"][f"cycles of rank {rank}"]
        assert context["cycles"]["RUNNING"] <= summary["cycles"]
        assert rows["link in", "net_rx"][rank]["cycles"]["moves"] == \
            rows["link out", "net_tx"][1 - rank]["cycles"]["moves"]
        assert rows["reducer", "o"][rank]["cycles"]["moves"] >= 1024 // 8 // 2
