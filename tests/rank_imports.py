"""What the server that ranks are forked from has imported, so that a rank starts in no time: see `ranks`."""

from __future__ import annotations

import shapes

shapes.install()

import torch._dynamo  # noqa: E402, F401  # after the hook; the first optimizer of a process imports it

import ssltyped.experiment  # noqa: E402, F401  # and with it most of the rest
