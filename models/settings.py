"""How settings are declared, under the name that packages of others import; `models.base.settings` has it all.

No module of sepdash imports this one (a contract holds that): it is here so that theirs keep working.
"""

from __future__ import annotations

from models.base.settings import ParameterGroups as ParameterGroups
from models.base.settings import Section as Section
from models.base.settings import require_multiples as require_multiples
from models.base.settings import run_reference as run_reference
from models.base.settings import setting as setting
