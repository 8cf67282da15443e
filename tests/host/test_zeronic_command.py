# SPDX-License-Identifier: Apache-2.0
"""``rackgate zeronic``, and that nothing is left behind when a part of it is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.utils import PcapReader
from zeronic_hosts import need_hosts

from rackgate_host import cli
from rackgate_host.errors import UsageError
from rackgate_host.zeronic import namespaces
from rackgate_host.zeronic.errors import NoHosts
from rackgate_host.zeronic.hosts import Hosts, HostsConfig

NAME = f"test-{os.getpid()}"
SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


@pytest.fixture
def zeronic(monkeypatch, capfd):
    """Run ``rackgate zeronic``: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rackgate", "zeronic", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return run


@pytest.fixture
def hosts(tmp_path_factory):
    """Hosts that end with the test, however it ends."""
    need_hosts()
    hosts = Hosts.start(HostsConfig(), tmp_path_factory.mktemp("zn"))
    yield hosts
    hosts.stop()


def namespace_of(pid):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def processes_in(spaces):
    """Processes in these network namespaces."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if namespace_of(entry.name) in spaces:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(event, what, seconds=20):
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


# Crashes


@pytest.mark.parametrize("victim", ["supervisor", "daemon", "program's caller", "stop"])
def test_nothing_is_left_when_a_part_is_killed(hosts, victim):
    program = hosts.popen("a", ["sh", "-c", f"setsid sleep 600 & exec {sys.executable} -c \"{SLEEP[2]}\""],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, split=False)
    assert program.stdout.readline() == b"here\n"
    supervisor, daemons = hosts.pid, [hosts.status(host)["pid"] for host in "ab"]
    with hosts.control("a") as control:
        applications = control.namespace()
        spaces = {os.fstat(applications).st_ino, *map(namespace_of, daemons)}
        os.close(applications)
    assert len(spaces) == 3 and namespace_of(os.getpid()) not in spaces
    inside = set(processes_in(spaces))
    assert len(inside) >= 5  # two daemons, the first process of the PID namespace, the program, and the sleeper
    if victim == "stop":
        assert hosts.stop()
    else:
        os.kill({"supervisor": supervisor, "daemon": daemons[1], "program's caller": program.pid}[victim], 9)
    code = program.wait(20)
    told = program.communicate()[1].decode()
    if victim == "program's caller":
        assert code == -signal.SIGKILL
        wait_until(lambda: set(processes_in(spaces)) == set(daemons), "end of what the program had started")
        assert hosts.status("a")["pid"] == daemons[0]
        return
    assert code == 1 and "Traceback" not in told and "simulated host a has ended, and so has sh" in told
    wait_until(lambda: not processes_in(spaces) and all(map(gone, [supervisor, *daemons, *inside])),
               "end of all processes")
    assert hosts.pid is None
    with pytest.raises(NoHosts, match="not up"):
        hosts.status("a")


def test_hosts_can_be_started_again_after_a_crash(hosts):
    os.kill(hosts.pid, signal.SIGKILL)
    wait_until(lambda: hosts.pid is None, "end of the supervisor")
    with Hosts.start(HostsConfig(), hosts.directory) as again:
        assert again.status("b")["host"] == "b"
        with pytest.raises(NoHosts, match="hosts are up already"):
            Hosts.start(HostsConfig(), hosts.directory)
        assert again.status("b")["host"] == "b"


def test_a_daemon_that_is_slow_to_end_is_not_waited_for_for_ever(hosts):
    os.kill(hosts.status("a")["pid"], signal.SIGSTOP)
    assert hosts.stop()
    assert hosts.pid is None


# Programs


def test_a_programs_end_is_its_own(hosts):
    def code(*program):
        process = hosts.popen("a", program, split=False, stderr=subprocess.PIPE, text=True)
        return process.communicate(timeout=30)[1], process.returncode

    assert code("sh", "-c", "exit 7") == ("", 7)
    assert code("sh", "-c", "kill -9 $$") == ("", 137)
    assert code("no-such-program") == ("rackgate: no-such-program: No such file or directory\n", 127)
    assert code("/") == ("rackgate: /: Permission denied\n", 126)


def test_a_program_is_told_to_end(hosts):
    process = hosts.popen("a", ["sh", "-c", "trap 'exit 9' TERM; echo here; while :; do sleep 0.05; done"], split=False,
                          stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    process.terminate()
    assert process.wait(20) == 9
    process.stdout.close()


def test_a_program_sees_its_own_processes_and_the_interface(hosts):
    process = hosts.popen("b", ["sh", "-c", "ls /proc | grep -c '^[0-9]'; ip -4 -o addr show eth0"], split=False,
                          stdout=subprocess.PIPE, text=True)
    count, address, *_ = process.communicate(timeout=30)[0].splitlines()
    assert int(count) < 6 and "10.77.0.2/24" in address


# Commands


def test_up_run_status_trace_down(zeronic, tmp_path):
    need_hosts()
    try:
        code, out, _ = zeronic("up", "--name", NAME, "--loss", "0,0.5", "--seed", 3, "--json")
        up = json.loads(out)
        assert code == 0 and up["device"] == "model:zeronic" and up["seed"] == 3
        assert up["hosts"]["b"]["address"] == "10.77.0.2"
        assert zeronic("up", "--name", NAME)[0] == 3
        trace = subprocess.Popen(
            [Path(sys.prefix) / "bin" / "rackgate", "zeronic", "trace", tmp_path / "w.pcap", "--name", NAME, "--count",
             "3", "--json"], stdout=subprocess.PIPE)
        send = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM)\n" \
               "for _ in range(200): s.sendto(b'hello', ('10.77.0.2', 9)); time.sleep(0.05)"
        sender = subprocess.Popen([Path(sys.prefix) / "bin" / "rackgate", "zeronic", "run", "--name", NAME, "--unsplit",
                                   "--", sys.executable, "-c", send])
        counted = json.loads(trace.communicate(timeout=60)[0])
        sender.terminate()
        sender.wait()
        assert trace.returncode == 0 and counted["frames"] == 3
        assert counted["bytes"] == (tmp_path / "w.pcap").stat().st_size
        with PcapReader(str(tmp_path / "w.pcap")) as reader:
            assert all(packet[IP].src in ("10.77.0.1", "10.77.0.2") for packet in reader)
        assert zeronic("run", "--name", NAME, "--host", "b", "--", "sh", "-c", "exit 4")[0] == 4
        code, out, _ = zeronic("status", "--name", NAME, "--json")
        status = json.loads(out)
        assert code == 0 and status["pid"] == up["pid"]
        assert status["hosts"]["b"]["wire"]["conditions"]["loss"] == 0.5
        assert status["hosts"]["a"]["wire"]["conditions"]["loss"] == 0
        assert status["hosts"]["a"]["stack"]["whole_down"] >= 3
        assert set(status["hosts"]["a"]) == {"host", "pid", "address", "device", "parameters", "cycles", "seconds",
                                             "cable", "applications", "nic", "stack", "datagrams", "wire", "costs"}
        code, out, _ = zeronic("status", "--name", NAME)
        assert code == 0 and "payload received" in out
    finally:
        code, out, _ = zeronic("down", "--name", NAME, "--json")
    assert code == 0 and json.loads(out) == {"ended": True}
    assert json.loads(zeronic("down", "--name", NAME, "--json")[1]) == {"ended": False}
    for command in (["status"], ["trace", str(tmp_path / "x.pcap")], ["run", "--", "true"]):
        code, _, err = zeronic(*command[:1], "--name", NAME, *command[1:])
        assert code == 3 and "no simulated hosts are up: start them with `rackgate zeronic up`" in err


@pytest.mark.parametrize("arguments, message", [
    (["up", "--loss", "2"], "loss must be 0 to 1, not 2.0"),
    (["up", "--loss", "a"], "--loss must be a number, or 2 with a comma between them, not 'a'"),
    (["up", "--delay", "0,0,0"], "--delay must be a number, or 2"),
    (["up", "--device", "sim:iaa"], "'sim:iaa' is no NIC"),
    (["up", "--device", "moon"], "unknown scheme 'moon'"),
    (["up", "--mtu", "100"], "mtu must be 576 to 9216, not 100"),
    (["up", "--name", "../x"], "a name of hosts must be of letters"),
    (["trace", "x.pcap", "--seconds", "0"], "--seconds must be positive"),
    (["up", "--width", "9", "--name", NAME], "width must be 8, 16 or 32 bytes, not 9"),
])
def test_what_makes_no_sense_is_a_sentence(zeronic, arguments, message):
    if "--width" in arguments:
        need_hosts()
    code, _, err = zeronic(*arguments)
    assert code == 2 and message in " ".join(err.split())


def test_without_root_it_says_so(zeronic, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = zeronic("up", "--name", NAME)
    assert code == 3 and "simulated hosts need root" in err
    assert zeronic("down", "--name", NAME)[0] == 3


def test_without_namespaces_it_says_so(zeronic, monkeypatch):
    class Refusing:
        def unshare(self, flags):
            return -1

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/sbin/ip")
    monkeypatch.setattr(namespaces, "_libc", Refusing())
    code, _, err = zeronic("up", "--name", NAME)
    assert code == 3 and "this machine allows no network namespaces" in err


def test_without_ip_it_says_so(zeronic, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None)
    code, _, err = zeronic("up", "--name", NAME)
    assert code == 3 and "install iproute2" in err


def test_a_path_that_is_too_long(tmp_path):
    need_hosts()
    with pytest.raises(UsageError, match="the path of hosts must have at most 90 bytes"):
        Hosts.start(HostsConfig(), tmp_path / ("x" * 90))


def test_every_command_has_an_example(zeronic):
    for command in ("up", "run", "status", "trace", "down"):
        code, out, _ = zeronic(command, "--help")
        assert code == 0 and re.search(r"Example: rackgate zeronic " + command, " ".join(out.split()))
