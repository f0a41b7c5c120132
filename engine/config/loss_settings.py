"""What the settings of every loss have in common; which losses there are is in `engine.config.losses`."""

from __future__ import annotations

from typing import ClassVar

from engine.config.data_settings import DataSettings
from models.base.settings import Section
from models.configs import ModelConfig


class LossSettings(Section):
    """What every loss has: the recipe that trains by it, and how its value is read.

    `unit` is that of the loss; `adds_sources` says whether the loss of several sources is the sum of
    theirs, rather than the mean; `gives_audio`, whether its evaluations have audio to keep, whatever the data;
    `uses_codec`, whether the run learns the codes of the trained codec that the setting `codec` names; `speaks`,
    whether its evaluations make speech of known texts, which `validation.judge` can hear; `in_slices`, whether it is
    computed in `batch.split` slices.
    """

    recipe: ClassVar[str] = "separation"
    unit: ClassVar[str] = ""
    gives_audio: ClassVar[bool] = False
    uses_codec: ClassVar[bool] = False
    speaks: ClassVar[bool] = False
    in_slices: ClassVar[bool] = False

    kind: str

    @property
    def adds_sources(self) -> bool:
        """Whether the loss of several sources is the sum of theirs; otherwise it is their mean."""
        return False

    def misfit(self, data: DataSettings, model: ModelConfig) -> str:
        """Return what in the settings of data or model does not fit this loss, and what to set instead.

        Both suit its recipe. Empty when all fits.
        """
        return ""

    def effect_on(self, model: ModelConfig) -> str:
        """Return what this loss and settings of the model come to together, for the log; may be empty."""
        return ""
