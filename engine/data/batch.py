"""A split and a batch, under the name that packages of other people import (`engine.batching.batch` has them).

Folders of `engine.data` import that module itself: this one stands beside what imports them.
"""

from __future__ import annotations

from engine.batching.batch import Batch as Batch
from engine.batching.batch import Split as Split
