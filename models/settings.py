"""How settings are declared, under the name that packages of other people import (`models.base.settings` has it all).

Folders of `models` import that module itself: this one stands beside what imports them.
"""

from __future__ import annotations

from models.base.settings import ParameterGroups as ParameterGroups
from models.base.settings import Section as Section
from models.base.settings import require_multiples as require_multiples
from models.base.settings import run_reference as run_reference
from models.base.settings import setting as setting
