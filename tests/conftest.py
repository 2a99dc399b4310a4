from __future__ import annotations

import torch
from hypothesis import settings

# The same examples in every run: a failure is then a failure of the change at hand. No deadline,
# since a loaded machine is not a wrong result.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Several pytest workers share the cores; more threads each would only wait for one another.
torch.set_num_threads(1)
