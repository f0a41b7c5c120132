"""A split and a batch, under the name that packages of others import; `engine.batching.batch` has them.

No module of sepdash imports this one (a contract holds that): it is here so that theirs keep working.
"""

from __future__ import annotations

from engine.batching.batch import Batch as Batch
from engine.batching.batch import Split as Split
