# SPDX-License-Identifier: Apache-2.0
"""Driver of the collective engine, with mpi4py's habits.

>>> import numpy as np
>>> from rackgate_host.collective import SUM, open_cluster
>>> def program(comm):
...     result = np.empty(1, np.float32)
...     comm.Allreduce(np.ones(1, np.float32), result, op=SUM)
...     return float(result[0])
>>> with open_cluster("model", ranks=4) as cluster:
...     cluster.run(program)
[4.0, 4.0, 4.0, 4.0]
"""

from .cluster import Cluster, open_cluster
from .communicator import Communicator
from .constants import ANY_SOURCE, ANY_TAG, IN_PLACE, MAX, MIN, PROC_NULL, SUM, UNDEFINED, Stream
from .engine import Engine
from .errors import CollectiveError, CollectiveTimeout
from .requests import Request, Status, wait_all

__all__ = ["ANY_SOURCE", "ANY_TAG", "Cluster", "CollectiveError", "CollectiveTimeout", "Communicator", "Engine",
           "IN_PLACE", "MAX", "MIN", "PROC_NULL", "Request", "SUM", "Status", "Stream", "UNDEFINED", "open_cluster",
           "wait_all"]
