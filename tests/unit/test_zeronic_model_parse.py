# SPDX-License-Identifier: Apache-2.0
"""The model's parser against a second one, which the tests of the gateware's front use."""

import random

from zeronic_frames import BARE_PROFILE, LATER_TCP, UDP_PROFILE, judge, random_frame

from rackgate.zeronic.abi import Counter
from rackgate.zeronic.messages import TCP_PROFILE, Profile
from rackgate_sim.zeronic.parse import Verdict, parse

OFF = Profile(0, 0, 0, 0, 0)


def test_two_parsers_agree(seed):
    draw = random.Random(seed)
    kinds = set()
    for number in range(800):
        profiles = draw.choice(((TCP_PROFILE, UDP_PROFILE, BARE_PROFILE, OFF), (OFF, UDP_PROFILE, OFF, LATER_TCP),
                                (TCP_PROFILE, OFF, BARE_PROFILE, LATER_TCP)))
        frame, is_bad = random_frame(draw), draw.random() < 0.05
        drop, fields = judge(frame, damaged=is_bad, profiles=profiles)
        got = parse(frame, profiles, is_bad)
        if isinstance(got, Counter):
            assert got.name.lower() == drop, (number, frame.hex())
            kinds.add(drop)
            continue
        assert drop is None, (number, drop, frame.hex())
        assert (got != Verdict()) == bool(fields["split"]), (number, frame.hex())
        if got.key:
            assert got.key._asdict() == fields["key"]
            assert {name: getattr(got, name) for name in ("headers", "payload", "flags", "position")} == {
                name: fields[name] for name in ("headers", "payload", "flags", "position")}
            kinds.add(got.key.profile)
        else:
            kinds.add(None)
    assert kinds == {None, 0, 1, 2, 3, "bad_frame", "bad_ip_checksum", "bad_checksum"}
