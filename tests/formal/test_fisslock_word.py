# SPDX-License-Identifier: Apache-2.0
"""Proofs about one step of the hardened lock switch: any packet, any word that is legal.

The expressions are those of the declaration, as the gateware lowers them; that a step is atomic is proved of the
register array. Each property is also shown to be able to fail.
"""

import pytest
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Mux
from runner import ProofFailed, prove, specification

from rackgate.fisslock.abi import State, Type
from rackgate.fisslock.hardened import lock, pipeline
from rackgate.pisa.lower import lower

pytestmark = pytest.mark.formal

FAULTS = ("an agent of nothing", "takes any count", "takes any sender", "joins writers", "wraps", "forgets the epoch",
          "renews for another", "lets readers in", "numbers of another epoch")


def step(word, fault=None):
    """One access to the register."""
    m = specification()
    one = pipeline(16, word)
    access = one.ingress[0]
    form = {name: item.width for name, item in access.register.word.fields.items()}
    packet = {id(item): AnyConst(item.width) for item in lock.fields.values()}
    before = {name: AnyConst(width) for name, width in form.items()}
    packet |= {id(item): before[name] for name, item in access.register.word.fields.items()}
    get = {name: packet[id(item)] for name, item in lock.fields.items()}

    def value(expr):
        return lower(expr, lambda item: packet[id(item)])

    after, out = dict(before), {item.target.name: 0 for action in access.actions for item in action.out}
    for action in reversed(access.actions):
        when = value(action.when)
        after = {name: Mux(when, value(expr), after[name]) for name, expr in access.new_word(action).items()}
        shown = {item.target.name: value(item.value) for item in action.out}
        out = {name: Mux(when, shown.get(name, 0), old) for name, old in out.items()}

    def legal(word):
        free, exclusive = word["state"] == State.FREE, word["state"] == State.EXCLUSIVE
        return ((free == (word["agent"] == 0)) & (~free | (word["count"] == 0)) & (~exclusive | (word["count"] == 0)))

    top = (1 << form["count"]) - 1
    acquire, free_up, transfer, renew, release = (
        get["type"] == kind for kind in (Type.ACQUIRE, Type.FREE, Type.TRANSFER, Type.RENEW, Type.RELEASE))
    was_free, is_free = before["state"] == State.FREE, after["state"] == State.FREE
    same_epoch = before["epoch"] == after["epoch"]
    own = ~was_free & (get["agent"] == before["agent"]) & (get["epoch"] == before["epoch"])
    joined = out["joined"] & out["grant"]
    if fault == "an agent of nothing":
        after["agent"] = before["agent"]
    elif fault == "takes any count":
        after["state"] = Mux(own & free_up, State.FREE, after["state"])
        after["agent"] = Mux(own & free_up, 0, after["agent"])
        after["count"] = Mux(own & free_up, 0, after["count"])
        is_free = after["state"] == State.FREE
    elif fault == "takes any sender":
        own = own & (get["agent"] != 1)
    elif fault == "joins writers":
        joined = joined | (acquire & (before["state"] == State.SHARED_WRITER))
    elif fault == "wraps":
        after["count"] = Mux(acquire & (before["count"] == top), 0, after["count"])
    elif fault == "forgets the epoch":
        same_epoch = same_epoch | transfer

    elif fault == "renews for another":
        after["agent"] = Mux(renew & ~same_epoch, get["machine_id"], after["agent"])
    elif fault == "lets readers in":
        after["state"] = Mux(renew & (before["state"] == State.SHARED_WRITER), State.SHARED, after["state"])
    elif fault == "numbers of another epoch":
        out["count"] = Mux(release, get["count"], out["count"])

    changed = ~was_free & (~same_epoch | is_free)
    renewed = renew & ~same_epoch
    opened = (before["state"] == State.SHARED_WRITER) & (after["state"] == State.SHARED)
    m.d.comb += [
        Assume(legal(before)),
        Assert(legal(after), "a free lock has an agent or a count"),
        # An epoch begins with an ACQUIRE of a free lock, a TRANSFER or a RENEW, and is one more than the last.
        Assert(same_epoch | (after["epoch"] == (before["epoch"] + 1)[:form["epoch"]]), "the epoch jumped"),
        Assert(same_epoch | renew | out["grant"] & out["makes_agent"] & (acquire & was_free | transfer),
               "an epoch from nowhere"),
        # A RENEW leaves agent and mode, and grants nothing; with CANCEL it lets readers in again.
        Assert(~renew | (before["agent"] == after["agent"]) & ~out["grant"], "a RENEW changed the agent"),
        Assert(~renewed | (after["count"] == 0), "a RENEW left the count"),
        Assert(~renew | (after["state"] == before["state"]) | renewed & opened & get["cancel"],
               "a RENEW changed the mode"),
        Assert(is_free | (before["agent"] == after["agent"]) | ~same_epoch, "the agent changed within an epoch"),
        # Only its agent ends it, and only when all grants are accounted for.
        Assert(~changed | own & (free_up | transfer | renew), "somebody else ended the epoch"),
        Assert(~changed | (get["count"] == before["count"]), "the epoch ended though a grant is not accounted for"),
        # Grants come of a free lock, of a reader beside readers, or of its agent.
        Assert(~out["grant"] | acquire & was_free | own & transfer | joined, "a grant from nowhere"),
        Assert(~joined | acquire & (before["state"] == State.SHARED) & ~get["exclusive"] & ~get["retry"]
               & (before["count"] != top), "a reader joined who must not"),
        Assert(~joined | (after["count"] == before["count"] + 1) & (out["count"] == after["count"]), "a number twice"),
        Assert(~same_epoch | is_free | (after["count"] >= before["count"]), "the count went back"),
        Assert(~same_epoch | is_free | (after["state"] == before["state"])
               | acquire & (before["state"] == State.SHARED) & (after["state"] == State.SHARED_WRITER),
               "the mode changed within an epoch"),
        # RELEASE changes nothing, and numbers grants of this epoch only; TRANSFER, FREE and RENEW are always answered
        # with the epoch, REJECT to the agent only.
        Assert(~release | unchanged(before, after), "RELEASE changed the word"),
        Assert(~release | was_free | out["tell"], "RELEASE did not come to the agent"),
        Assert(~release | ~out["tell"] | (out["count"] == 0)
               | (get["epoch"] == before["epoch"]) & (out["count"] == get["count"]), "the number of another epoch"),
        Assert(~(free_up | renew) | out["answer"], "no answer"),
        Assert(~out["answer"] | (out["epoch"] == after["epoch"]), "an answer with another epoch"),
        Assert(~out["rejected"] | own & (get["count"] != before["count"]), "a REJECT without a reason"),
        # What is told goes to the agent.
        Assert(~out["tell"] | (out["agent"] == before["agent"]) & ~was_free, "told to somebody else"),
    ]
    return m


def unchanged(before, after):
    same = 1
    for name in before:
        same = same & (before[name] == after[name])
    return same


@pytest.mark.parametrize("word", [18, 36])
def test_one_step(word):
    prove(step(word), f"fisslock_word_{word}", mode="bmc", depth=1)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_proof_can_fail(fault):
    with pytest.raises(ProofFailed, match="test_fisslock_word.py"):
        prove(step(18, fault), f"fisslock_word_{fault.replace(' ', '_')}", mode="bmc", depth=1)
