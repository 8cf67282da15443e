# SPDX-License-Identifier: Apache-2.0
"""The report without a browser: what is read, what stands beside the papers, what is written."""

import json
import os
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackgate_host import cli
from rackgate_host.bench.record import Result
from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.report import drawing, verification
from rackgate_host.report.coverage import Coverage, read_coverage
from rackgate_host.report.drawing import COLOURS, figure, legend
from rackgate_host.report.headlines import beside
from rackgate_host.report.pages import PAGES
from rackgate_host.report.papers import HEADLINES, LOSS_CURVE, PAPERS
from rackgate_host.report.plots import Axis, Level, Plot, Trace
from rackgate_host.report.records import Results, read_results
from rackgate_host.report.site import write_site
from rackgate_host.report.words import conditions_of, number, slug
from rackgate_sim.locks.experiment import PAPER as LOCKS_PAPER
from rackgate_tb.quality.run import ENGINES as MEASURED

SAMPLES = Path(__file__).parent / "data" / "report"
ENGINE = {"engine": "inflate", "line_percent": 97.25, "toggle_percent": 88, "command": "make soak",
          "mutants": {"made": 52, "caught": 50, "explained": 1, "timed_out": 3}}
ENGINES = [Coverage.from_object(ENGINE), Coverage("iaa", 91.0, None, why="not built")]


def point(case, metric, value, **more):
    return {"case": case, "metric": metric, "value": value, "unit": "1", **more}


def record(bench, *points, **more):
    return {"bench": bench, "command": f"rackgate bench {bench} --seed 7", "seed": 7, "commit": "abc1234",
            "version": "0.1.0", "machine": {"cpu": "a processor", "cores": 2}, "results": list(points), **more}


@pytest.fixture
def folder(tmp_path):
    """A folder of records, filled by calls with a name and a JSON value or text."""
    place = tmp_path / "results"
    place.mkdir()

    def put(name, value):
        path = place / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    put.path = place
    return put


def run(*arguments):
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


# What is read -------------------------------------------------------------------------------------------------------


def test_records_are_read(folder):
    folder("iaa.json", record("iaa", point("a", "cycles", 3, conditions={"engines": 2}, paper=4.0)))
    found = read_results(folder.path).find("iaa", "a", "cycles")
    assert found is not None and found.value == 3 and found.condition("engines") == 2
    assert found.condition("nothing") is None and found.result.paper == 4.0
    assert (found.origin.command, found.origin.seed) == ("rackgate bench iaa --seed 7", 7)
    assert found.origin.commit == "abc1234"
    assert found.origin.machine == "a processor, 2 cores"


def test_of_two_records_of_a_bench_the_later_counts(folder):
    new = folder("a.json", record("area", point("x", "lut4", 2), point("y", "lut4", 5), command="new"))
    old = folder("b.json", record("area", point("x", "lut4", 1), point("z", "lut4", 6), command="old"))
    os.utime(old, (1, 1))
    os.utime(new, (2, 2))
    results = read_results(folder.path)
    assert {one.case: one.value for one in results.of("area")} == {"x": 2, "y": 5, "z": 6}
    assert [origin.command for origin in results.origins] == ["old", "new"] and not results.problems


def test_a_point_without_value_is_kept_and_not_selected(folder):
    folder("a.json", record("area", point("x", "lut4", None, why="did not route")))
    results = read_results(folder.path)
    assert results.of("area")[0].result.why == "did not route"
    assert results.find("area", "x", "lut4") is None and results.select("area", "lut4") == []


@pytest.mark.parametrize(("text", "problem"), [
    ("", "a.json cannot be read: "),
    ("{", "a.json cannot be read: "),
    ("[1]", "a.json is not a JSON object"),
    ('{"bench": "iaa"}', "a.json has no list of results"),
    (json.dumps(record("iaa", point("x", "cycles", "3"))), "a.json: point 0 cannot be used: x cycles: value must be a "
     "finite number or None, not '3'"),
    (json.dumps(record("iaa", "nonsense")), "a.json: point 0 cannot be used: "),
    (json.dumps(record("iaa", {"case": "x"})), "a.json: point 0 cannot be used: "),
])
def test_what_cannot_be_used_is_told_and_the_rest_is_shown(folder, tmp_path, text, problem):
    folder("a.json", text)
    folder("b.json", record("iaa", point("engines-2", "scaling", 1)))
    done = run("--results", folder.path, "--out", tmp_path / "report")
    assert done.exit_code == 1 and problem in done.stdout
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Records that could not be used" in page and "b.json" in page


@pytest.mark.parametrize(("changes", "problem"), [
    ({"conditions": [1]}, "conditions must be dict, not [1]"),
    ({"case": 3}, "case must be str, not 3"),
    ({"metric": ""}, "there is no metric"),
    ({"floor": "high"}, "floor must be a finite number or null, not 'high'"),
    ({"paper": float("inf")}, "paper must be a finite number or null, not inf"),
    ({"series": {"x": [1, "2"]}}, "series must be an object of lists of finite numbers"),
    ({"series": [1]}, "series must be an object of lists of finite numbers"),
])
def test_points_that_make_no_sense_are_told(folder, changes, problem):
    folder("a.json", record("iaa", {**point("x", "cycles", 1), **changes}))
    assert read_results(folder.path).problems == [f"a.json: point 0 cannot be used: {problem}"]


JUNK = (None, True, "", "text", -1, 0, 1e308, float("nan"), float("inf"), [], [1], {}, {"a": {}}, "<b>")


@pytest.mark.parametrize("seed", range(12))
def test_no_record_is_too_strange(folder, seed):
    """Values anywhere in real records are replaced by others: what is left is shown, and nothing breaks."""
    draw = random.Random(seed)
    print("seed:", seed)

    def spoil(value, rate):
        if draw.random() < rate:
            return draw.choice(JUNK)
        if isinstance(value, dict):
            return {name: spoil(one, rate) for name, one in value.items()}
        return [spoil(one, rate) for one in value] if isinstance(value, list) else value

    for path in SAMPLES.glob("*.json"):
        value = json.loads(path.read_text())
        shape = {name: one if name == "results" else spoil(one, 0.2) for name, one in value.items()}
        folder(path.name, {**shape, "results": [spoil(one, 0.03) for one in value["results"]]})
    results = read_results(folder.path)
    assert any(results.points.values()) and results.problems
    for one in beside(results):
        assert one.verdict and (one.ours is None or one.ours.conditions is not None)
    for page in PAGES.values():
        for section in page.sections(results):
            for plot in section.plots:
                assert plot.table and legend(plot) is not None
                json.dumps(figure(plot), allow_nan=False, default=list)


def test_binary_is_no_record(folder):
    (folder.path / "a.json").write_bytes(b"\xff\xfe\x00")
    assert "a.json cannot be read" in read_results(folder.path).problems[0]


def test_other_json_is_left_alone(folder):
    folder("ledger.json", {"something": 1})
    (folder.path / "sub.json").mkdir()
    assert read_results(folder.path) == Results()


def test_there_may_be_no_records_but_no_file_in_their_place(tmp_path):
    assert read_results(tmp_path / "none") == Results()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder of records"):
        read_results(tmp_path / "file")


@pytest.mark.parametrize("series", [{"x": [1, 2], "y": [1]}, {"x": [float("nan")]}])
def test_the_curve_of_a_point_is_checked(series):
    with pytest.raises(ValueError, match="a b: series must be columns of one length of finite numbers"):
        Result("a", "b", 1, "1", series=series)


def test_the_curve_of_a_point_is_read_again(folder):
    made = Result("tatp-netlock", "grant_median_us", 4.0, "us", series={"percent": (0, 50), "grant_us": (3.0, 4.0)})
    folder("locks.json", record("locks", made.as_dict()))
    found = read_results(folder.path).find("locks", made.case, made.metric)
    assert found is not None and found.result.series == {"percent": [0, 50], "grant_us": [3.0, 4.0]}
    assert "series" not in Result("a", "b", 1, "1").as_dict()


# Coverage -----------------------------------------------------------------------------------------------------------


def test_coverage(folder):
    folder("inflate.json", ENGINE)
    folder("iaa.json", {"engine": "iaa", "line_percent": None, "why": "not built"})
    problems: list[str] = []
    iaa, inflate = read_coverage(folder.path, problems)
    assert not problems and iaa.line_percent is None and iaa.mutants is None and iaa.why == "not built"
    assert inflate.mutants is not None and inflate.mutants.unexplained == 1 and inflate.command == "make soak"
    assert inflate.mutants.timed_out == 3


@pytest.mark.parametrize(("changes", "message"), [
    ({"engine": ""}, "engine must be a name, not ''"),
    ({"line_percent": 101}, "line_percent must be 0 to 100 or null, not 101"),
    ({"toggle_percent": True}, "toggle_percent must be 0 to 100 or null, not True"),
    ({"mutants": 3}, "mutants must be an object or null, not 3"),
    ({"mutants": {"made": 3, "caught": 3}}, "mutants: explained must be a count, not None"),
    ({"mutants": {"made": -1, "caught": 0, "explained": 0}}, "mutants: made must be a count, not -1"),
    ({"mutants": {"made": 3, "caught": 3, "explained": 1}}, "must not be more than made, not 3 and 1 of 3"),
    ({"mutants": {"made": 3, "caught": 2, "explained": 1, "timed_out": 3}}, "must not be more than caught, not 3 of 2"),
])
def test_coverage_is_checked(folder, changes, message):
    folder("inflate.json", {**ENGINE, **changes})
    problems: list[str] = []
    assert read_coverage(folder.path, problems) == []
    assert message in problems[0] and problems[0].startswith("coverage inflate.json: ")


# Beside the papers --------------------------------------------------------------------------------------------------


def test_every_headline_has_a_paper_and_a_way():
    assert {one.paper for one in HEADLINES} == set(PAPERS) == {page.paper for page in PAGES.values() if page.paper}
    assert len({one.key for one in HEADLINES}) == len(HEADLINES)
    for one in HEADLINES:
        assert one.figure and one.place and one.conditions
        assert bool(one.command) != bool(one.beyond)


def test_published_figures_are_those_of_the_benches():
    from rackgate_host.bench.sabre.ratios import PAPER_RATIO
    from rackgate_host.bench.sabre.restores import PAPER_SAVING
    published = {one.key: one for one in HEADLINES}
    assert published["sabre-ratio"].value == PAPER_RATIO and published["sabre-restore"].value == PAPER_SAVING
    assert (published["fisslock-median"].value, published["fisslock-median"].upper) == LOCKS_PAPER["micro"]
    for case in ("tatp", "tpcc"):
        assert published[f"fisslock-{case}"].value == LOCKS_PAPER[case]


def test_published_figures_are_those_of_the_records():
    results, published = read_results(SAMPLES), {one.key: one for one in HEADLINES}
    losses = [one for one in results.select("zeronic", "goodput_fraction") if one.result.paper is not None]
    assert losses and all(one.result.paper == pytest.approx(LOSS_CURVE[one.condition("loss")]) for one in losses)
    ratio = results.find("zeronic", "tcp-65536-posted", "cpu_ratio_unsplit_to_split")
    assert ratio is not None and f"{ratio.result.paper:.2f} times" == published["zeronic-cpu"].figure


def test_without_records_nothing_is_claimed():
    for one in beside(Results()):
        assert one.ours is None
        assert one.verdict == ("missing" if one.headline.command else "beyond")


def test_figures_come_from_the_records(folder):
    folder("sabre.json", record("sabre", point("ratio-json", "compression_ratio", 5.25),
                                point("ratio-bfs", "compression_ratio", 3.0),
                                point("restore-best", "saving_percent_serial", 52.5, conditions={"of": "device-x8"})))
    folder("locks.json", record("locks", point("tatp", "throughput_ratio_netlock", 1.8),
                                point("micro-least", "median_grant_cut_percent", 48.0, conditions={"of": "a"}),
                                point("micro-most", "median_grant_cut_percent", 54.0, conditions={"of": "b"})))
    folder("collectives.json", record("collectives", point("nop", "cycles", 15)))
    folder("zeronic.json", record(
        "zeronic", point("rx-w8-1514", "payload_bytes_per_cycle", 7.5, conditions={"width": 8, "payload": 1448}),
        point("tcp-65536-posted", "cpu_ratio_unsplit_to_split", 6.0),
        point("tcp-65536-posted", "cpu_copied_bytes_per_payload_byte", 0.0)))
    found = {one.headline.key: one for one in beside(read_results(folder.path))}
    shown = {key: (one.ours.figure, one.verdict) for key, one in found.items() if one.ours is not None}
    assert shown == {
        "sabre-ratio": ("5.25 times", "reached"), "sabre-restore": ("52.5 %", "short"),
        "fisslock-tatp": ("1.8 times", "reached"), "fisslock-median": ("48 to 54 %", "within"),
        "accl-nop": ("15 cycles", "reached"), "zeronic-wire": ("93.75 %", "other"),
        "zeronic-cpu": ("6 times", "other"), "zeronic-copies": ("0 bytes", "reached"),
    }
    best = found["sabre-ratio"].ours
    assert best is not None and "json" in best.about and "the least is 3 (bfs)" in best.about


# Plots --------------------------------------------------------------------------------------------------------------

PLOT = Plot("A plot", "", Axis("x"), Axis("y"),
            [Trace("one", [1, 2], [3.0, 4.0]), Trace("two", [2, 5], [5.0, 6.0])], "c", [Level(3, "at most")])


def test_the_table_has_what_is_drawn():
    assert PLOT.table == (["x", "one", "two"], [["1", "3", ""], ["2", "4", "5"], ["5", "", "6"]])
    steps = Plot("d", "", Axis("us"), Axis("share"), [Trace("s", [4.0, 8.0], [50, 99], "step")], "c")
    assert steps.table == (["share", "s, us"], [["50", "4"], ["99", "8"]])


def test_the_legend_tells_what_each_line_is():
    names = [(one["name"], one["kind"]) for one in legend(PLOT)]
    assert names == [("one", "line"), ("two", "line"), ("at most: 3", "level")]
    many = Plot("m", "", Axis("x"), Axis("y"), [Trace(str(k), [1], [2.0]) for k in range(COLOURS)], "c")
    assert len({one["colour"] for one in legend(many)}) == COLOURS
    assert len({(one["dash"], one["symbol"]) for one in legend(many)}) == COLOURS


def test_the_figure_is_plotlys():
    trace = Trace("t", ["a", "b"], [1.0, 2.0], "bar")
    bars = Plot("b", "", Axis("case"), Axis("n", log=True), [trace], "c", sideways=True)
    value = figure(bars)
    assert value["data"][0]["orientation"] == "h" and list(value["data"][0]["y"]) == ["a", "b"]
    assert value["layout"]["xaxis"]["type"] == "log" and value["layout"]["yaxis"]["type"] == "category"
    assert figure(PLOT)["layout"]["shapes"][0]["y0"] == 3
    large = Plot("l", "", Axis("x", log=True), Axis("y", log=True), [Trace("t", [1, 2], [float("inf"), 2.0])], "c")
    assert figure(large)["data"][0]["y"] == [None, 2.0] and large.table[1][0] == ["1", "inf"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "pie"}, "kind must be one of line, step, bar, point, not 'pie'"),
    ({"y": [1.0]}, "t: x and y must be of one length, not 2 and 1"),
])
def test_traces_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        Trace(**{"name": "t", "x": [1, 2], "y": [1.0, 2.0], **changes})


def test_words():
    assert [number(one) for one in (1572864, 98.5714, 0.000123456, 1234.5, 12345.6, -113.2, True, None)] == [
        "1,572,864", "98.57", "0.0001235", "1,234", "12,346", "-113.2", "True", "None"]
    assert conditions_of({"a_b": [1, 2], "c": None, "d": True, "e": {"f": 1}}) == [
        ("a b", "1, 2"), ("c", "unknown"), ("d", "yes"), ("e", "f 1")]
    assert conditions_of({"storage_gb_per_s": 0.25, "clock_mhz": 80.0}) == [
        ("storage", "0.25 GB/s"), ("clock", "80 MHz")]
    assert conditions_of({"a": 1, "b": 2}, ("b", "z")) == [("b", "2")]
    assert conditions_of({"path": "x" * 1000})[0][1].endswith("x ...")
    assert slug("Restoring json: GB/s") == "restoring-json-gb-s"


# Pages --------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Names, links and scripts of a page, and whether its elements close in order."""

    VOID = {"meta", "link", "br", "path", "rect", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.links, self.tags = [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.names += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> does not fit"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The report of the recorded samples."""
    place = tmp_path_factory.mktemp("report")
    results = read_results(SAMPLES)
    assert not results.problems and results.origins
    return write_site(results, ENGINES, place, source="samples")


def test_pages_are_whole(site):
    pages = [name for name in site.written if name.endswith(".html")]
    assert len(pages) == len(PAGES) + 2
    for name in pages:
        page = Page((site.folder / name).read_text())
        assert len(page.names) == len(set(page.names)), f"{name}: a name stands twice"
        assert [tag for tag, _ in page.tags].count("h1") == 1
        for link in page.links:
            if not link.startswith(("data:", "#")):
                assert (site.folder / link.partition("#")[0]).is_file(), f"{name} links to {link}"


def test_every_plot_has_values_in_a_table_and_a_command(site):
    plots = 0
    for name in PAGES:
        text = (site.folder / f"{name}.html").read_text()
        for card in re.findall(r'<figure class="plot-card".*?</figure>', text, re.DOTALL):
            if 'class="plot"' in card:
                plots += 1
                assert 'role="img"' in card and "aria-label" in card and "<table>" in card
                shown = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', card)[1])
                assert shown["data"] and all(len(trace["x"]) for trace in shown["data"])
            assert re.search(r"<code>rackgate bench [a-z]+", card)
    assert plots > 20


def test_what_is_missing_is_said(tmp_path):
    write_site(Results(), [], tmp_path, source="nothing")
    front = (tmp_path / "index.html").read_text()
    assert front.count("Not measured here") == len(HEADLINES)
    for name, page in PAGES.items():
        text = (tmp_path / f"{name}.html").read_text()
        for bench in page.benches:
            assert f"<code>rackgate bench {bench}</code>" in text
    assert sorted(verification.ENGINES) == sorted(MEASURED)
    text = (tmp_path / "verification.html").read_text()
    assert text.count("not measured") == 3 * len(MEASURED)
    assert all(f"python -m rackgate_tb.quality {name}" in text for name in MEASURED)


def test_text_of_records_is_no_markup(folder, tmp_path):
    evil = "</script><script>alert(1)</script>"
    folder("locks.json", record("locks", point("tatp", "throughput_ratio_netlock", 2.0, source=evil),
                                command=f"rackgate {evil}", commit=evil))
    folder("iaa.json", record("iaa", point(evil, "bytes_per_cycle", 2.0)))
    write_site(read_results(folder.path), [], tmp_path / "out", source=evil)
    for path in (tmp_path / "out").glob("*.html"):
        assert "<script>alert" not in path.read_text()


def test_failed_parts_and_coverage_are_shown(folder, tmp_path):
    folder("iaa.json", record("iaa", failed=[{"unit": "engines-8", "why": "no memory left"}]))
    (tmp_path / "coverage").mkdir()
    (tmp_path / "coverage" / "inflate.json").write_text(json.dumps(ENGINE))
    done = run("--results", folder.path, "--coverage", tmp_path / "coverage", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["coverage"] == ["inflate"]
    assert "engines-8: no memory left" in (tmp_path / "out" / "index.html").read_text()
    text = (tmp_path / "out" / "verification.html").read_text()
    for shown in ("97.2 %", "88.0 %", "50 (96.2 %)", "make soak"):
        assert shown in text


# The command --------------------------------------------------------------------------------------------------------


def test_json(tmp_path):
    done = run("--results", SAMPLES, "--coverage", SAMPLES, "--out", tmp_path / "report", "--json")
    told = json.loads(done.stdout)
    assert set(told) == {"index", "written", "records", "problems", "headlines", "coverage"}
    assert Path(told["index"]).is_file() and "plotly.min.js" in told["written"]
    assert {one["key"] for one in told["headlines"]} == {one.key for one in HEADLINES}
    assert any(one["measured"] for one in told["headlines"])


def test_a_folder_that_is_not_there(tmp_path):
    done = run("--results", tmp_path / "none")
    assert isinstance(done.exception, UsageError) and str(tmp_path / "none") in str(done.exception)


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    write_site(Results(), [], tmp_path, source="nothing")
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_without_plotly_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(Unavailable, match=r"rackgate\[report\]"):
        drawing.plotly_script()


# Colours ------------------------------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance by WCAG 2.1."""
    parts = [int(colour[place:place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes():
    """Colours by name, of the light and the dark scheme."""
    text = Path(drawing.__file__).with_name("static").joinpath("report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    found = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    assert len(found) == 2 and set(found[0]) == set(found[1])
    return found


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme):
    colours = schemes()[scheme]
    for ground in ("ground", "card"):
        for text in ("text", "muted", "link"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for series in range(COLOURS):
            assert contrast(colours[f"series-{series}"], colours[ground]) >= 3, (series, ground)
        assert contrast(colours["level"], colours[ground]) >= 3
    for label in ("reached", "short", "other", "missing"):
        assert contrast(colours[label], colours[f"{label}-ground"]) >= 4.5, label
