"""What the dense and the tiled backend share: powers of distances, centring, assembling sums."""

from __future__ import annotations
