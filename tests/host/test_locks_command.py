# SPDX-License-Identifier: Apache-2.0
"""The command ``rackgate locks``."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rackgate_host import cli
from rackgate_sim.locks import checks
from rackgate_sim.locks.explore import NOT_FINISHED, VIOLATED, Outcome

RACKGATE = str(Path(sys.prefix) / "bin" / "rackgate")
CASE = {"protocol", "configuration", "network", "expected", "verdict", "broken", "message", "states", "transitions",
        "depth", "steps", "seconds", "as_expected", "not_finished", "trace"}


@pytest.fixture
def locks(monkeypatch, capsys):
    """Run ``rackgate locks``: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rackgate", "locks", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return run


@pytest.fixture
def service():
    """``rackgate locks serve`` in a process of its own: the process and its address."""
    process = subprocess.Popen(
        [RACKGATE, "locks", "serve", "--listen", "127.0.0.1:0", "--seconds", "120", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
    watch = threading.Timer(100, process.kill)
    watch.start()
    try:
        for line in process.stderr:
            if found := re.search(r"fisslock on (127\.0\.0\.1:\d+)", line):
                break
        else:
            pytest.fail(f"the service has ended: {process.wait()}")
        yield process, found[1]
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


def test_serve_and_client(service, locks, tmp_path):
    process, address = service
    code, out, _ = locks("client", "--service", address, "--json", "17", "--mode", "shared")
    taken = json.loads(out)
    assert code == 0 and taken.keys() == {"key", "lock", "mode", "fencing_token", "waited", "host", "exit_code"}
    assert (taken["key"], taken["lock"], taken["mode"], taken["host"], taken["exit_code"]) == (17, 17, "shared", 1, 0)
    code, out, _ = locks("client", "--service", address, "a key", "--timeout", "30")
    assert code == 0 and re.match(r"a key: lock \d+ held \(exclusive\), fencing token \d+, after .* given back", out)
    told = tmp_path / "token"
    code, _, _ = locks("client", "--service", address, "17", "--", "sh", "-c",
                       f"echo $RACKGATE_FENCING_TOKEN > {told}; exit 3")
    assert code == 3 and int(told.read_text()) > taken["fencing_token"]

    # While one process holds the lock, another does not get it.
    held, go = tmp_path / "held", tmp_path / "go"
    for pipe in (held, go):
        os.mkfifo(pipe)
    holder = subprocess.Popen([RACKGATE, "locks", "client", "--service", address, "k", "--",
                               "sh", "-c", f"echo > {held}; cat {go}"])
    held.read_text()
    code, _, err = locks("client", "--service", address, "k", "--try")
    assert code == 1 and err == "rackgate: lock 'k' is held\n"
    code, _, err = locks("client", "--service", address, "k", "--timeout", "0.1")
    assert code == 4 and "no exclusive lock of 'k'" in err and "within 0.1 s" in err
    go.write_text("")
    assert holder.wait(30) == 0

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    report = json.loads(out)
    assert process.returncode == 0 and report.keys() == {"protocol", "device", "address", "seconds", "statistics"}
    assert (report["protocol"], report["device"], report["address"]) == ("fisslock", "model:fisslock", address)
    statistics = report["statistics"]
    assert statistics["joined"] == statistics["left"] == 6 and statistics["hosts"] == []
    assert statistics["received"] == statistics["switch"]["received"] > 0


def test_serve_for_some_seconds(locks):
    code, out, err = locks("serve", "--protocol", "server", "--listen", "127.0.0.1:0", "--seconds", "0.1")
    assert code == 0 and "rackgate locks serve" in out and "server on 127.0.0.1:" in err and "no switch" in err


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (("serve", "--listen", "nowhere"), 2, "must look like 127.0.0.1:20000"),
    (("serve", "--seconds", "0"), 2, "seconds must be positive, not 0"),
    (("serve", "--device", "model:inflate"), 2, "'model:inflate' is no switch for locks: there are model:fisslock, "),
    (("serve", "--device", "model:netlock", "--protocol", "fisslock"), 2, "protocol fisslock needs fisslock switch"),
    (("serve", "--device", "udp:127.0.0.1:9?timeout=0.1"), 4, "udp:127.0.0.1:9"),
    (("serve", "--device", "usb:fisslok"), 2, "is no switch for locks"),
    (("serve", "--hosts", "256"), 2, "1 to 255 hosts, not 256"),
    (("serve", "--device", "model:fisslock?word=18", "--hosts", "64"), 2, "1 to 63 hosts with this switch, not 64"),
    (("client", "--service", "127.0.0.1:9", "k"), 3, "no lock service answers at 127.0.0.1:9"),
    (("client", "--service", "x", "k"), 2, "must look like"),
    (("client", "--timeout", "-1", "k"), 2, "timeout must be positive, not -1"),
    (("client", "--timeout", "nan", "k"), 2, "timeout must be positive, not nan"),
    (("client", "--try", "--timeout", "0", "k"), 2, "timeout must be positive, not 0"),
    (("check", "--limit", "0"), 2, "limit must be positive"),
    (("check", "--protocol", "paxos"), 2, "paxos"),
    (("demo", "--clients", "0"), 2, "--clients"),
])
def test_what_makes_no_sense(locks, arguments, code, text):
    got, _, err = locks(*arguments)
    assert got == code and text in " ".join(err.split()), err


# The model checker


def test_check(locks, monkeypatch):
    small = [case for case in checks.cases() if case.protocol == "published" and not case.is_long]
    monkeypatch.setattr(checks, "cases", lambda: [*small[:3], *(case for case in small if case.broken)])
    code, out, _ = locks("check", "--protocol", "published", "--json")
    report = json.loads(out)
    assert code == 0 and report["passed"] is True
    assert all(case.keys() == CASE and case["as_expected"] for case in report["cases"])
    assert {case["broken"] for case in report["cases"]} == {"", "exclusion", "one_agent", "served", "freed"}
    for case in report["cases"]:
        assert len(case["trace"]) == case["steps"] and (case["verdict"] == VIOLATED) == bool(case["broken"])


def test_the_others_hold(locks):
    code, out, _ = locks("check", "--protocol", "netlock", "--protocol", "server")
    assert code == 0 and out.count("holds") >= 5 and VIOLATED not in out


def test_all_protocols_are_in_the_table():
    found = checks.cases()
    assert {case.protocol for case in found} == set(checks.PROTOCOLS)
    assert {case.expected for case in found if case.protocol != "published"} == {"holds"}
    assert len({(case.protocol, case.name, case.network) for case in found}) == len(found)


def fake(monkeypatch, outcome, broken=""):
    case = checks.Case("published", "one", "ordered", lambda **limits: outcome, broken, story=lambda: ["a step"])
    monkeypatch.setattr(checks, "cases", lambda: [case])


@pytest.mark.parametrize(("verdict", "broken", "code"), [
    (VIOLATED, "exclusion", 0), (VIOLATED, "", 1), ("holds", "exclusion", 1), (NOT_FINISHED, "", 4), ("holds", "", 0)])
def test_exit_codes_of_check(locks, monkeypatch, verdict, broken, code):
    steps = ("acquire 0",) if verdict == VIOLATED else ()
    fake(monkeypatch, Outcome(verdict, "invariant", "two hold it", 5, 6, 7, 0, 0.1, steps), broken)
    got, out, _ = locks("check")
    assert got == code
    assert ("acquire 0" in out) == (code == 1 and verdict == VIOLATED), "an unexpected trace is shown"
    got, out, _ = locks("check", "--traces")
    assert ("a step" in out) == (verdict == VIOLATED and bool(broken))


def test_a_search_ends_at_its_limit(locks):
    code, out, _ = locks("check", "--protocol", "published", "--long", "--limit", "0.001", "--json")
    report = json.loads(out)
    assert code == 4 and not report["passed"]
    assert any(case["not_finished"] and "seconds went by" in case["message"] for case in report["cases"])


# The demonstration


def check_demo(locks, device):
    code, out, _ = locks("demo", "--device", device, "--clients", "2", "--rounds", "5", "--json")
    report = json.loads(out)
    assert code == 0 and report["right"] is True and report["counted"] == report["wanted"] == 20
    assert report.keys() == {"device", "right", "wanted", "counted", "workers", "seconds", "cycles", "packets", "late"}
    assert [worker["locks"] for worker in report["workers"]] == [5] * 4
    assert "deadlock" in report["late"] and "this client holds 'left'" in report["late"]


@pytest.mark.parametrize("device", ["model:fisslock", "model:netlock"])
def test_demo_on_models(locks, device):
    check_demo(locks, device)


@pytest.mark.cosim
@pytest.mark.xdist_group("fisslock")
def test_demo_on_the_verilated_switch(locks):
    check_demo(locks, "sim:fisslock?locks=1024&variant=brief")


def test_demo_in_words(locks):
    code, out, _ = locks("demo", "--device", "model:fisslock", "--clients", "1", "--rounds", "3")
    assert code == 0 and "6 of 6 counted" in out and "host 2, client 0" in out and "What next:" in out
