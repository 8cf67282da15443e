# SPDX-License-Identifier: Apache-2.0
"""Devices, and clusters of them, for the driver tests: each test that asks for one runs on every world there is."""

import pytest
from bridged import LINKS, open_bridged
from collective_ranks import Clusters
from worlds import BRIDGED_WORLDS, WORLDS

import rackgate_host


@pytest.fixture(params=[*WORLDS, *BRIDGED_WORLDS])
def world(request):
    """Scheme of the worlds, one after the other."""
    return request.param


@pytest.fixture(scope="module")
def clusters():
    """Clusters of engines, of which a file's tests may use what others have opened."""
    clusters = Clusters()
    yield clusters
    clusters.close()


@pytest.fixture
def connect(seed):
    """Open devices that are closed after the test."""
    opened = []

    def connect(url, **options):
        scheme, _, rest = url.partition(":")
        is_bridged = scheme in LINKS and rest.partition("?")[0].isalpha()
        device = open_bridged(url, seed, options) if is_bridged else rackgate_host.open(url, **options)
        opened.append(device)
        return device

    yield connect
    for device in opened:
        device.close()


@pytest.fixture
def device(connect, world):
    """An inflate device as it comes by default, in each world."""
    return connect(f"{world}:inflate")


@pytest.fixture
def model(connect):
    """An inflate device that is the golden model: fast."""
    return connect("model:inflate?memory=16M")
