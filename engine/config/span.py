"""A length of training: an amount and the counter it is measured on.

`"1000 updates"`, `"6400 items"`, `"7200 audio_seconds"`, `"3 epochs"`: every schedule, EMA, validation, logging
and stopping setting names its clock this way, so that none is stretched by accident when a batch grows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from engine.config.old_names import current_clock

Clock = Literal["updates", "micro_batches", "items", "audio_seconds", "epochs"]
CLOCKS: tuple[Clock, ...] = get_args(Clock)

# Counters of all clocks fit into the 64 bits of the store up to there; more is a slip of the pen.
MAX_AMOUNT = 1e12

_PATTERN = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s+([a-z_]+)\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """`amount` counts of `clock`; items are training examples, an epoch is one pass over all of them."""

    amount: float
    clock: Clock

    def __str__(self) -> str:
        number = int(self.amount) if float(self.amount).is_integer() else self.amount
        return f"{number} {self.clock}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `"1000 updates"`.

        Raises:
            ValueError: when the text is no number followed by the name of a clock, or a huge one.
        """
        match = _PATTERN.fullmatch(text)
        clock = current_clock(match[2]) if match is not None else ""
        if match is None or clock not in CLOCKS:
            raise ValueError(
                f"expected an amount and a clock ({', '.join(CLOCKS)}), like '1000 updates'"
            )
        amount = float(match[1].replace("_", ""))
        if amount > MAX_AMOUNT:
            raise ValueError(f"expected at most {MAX_AMOUNT:g} {clock}")
        return cls(amount, clock)

    @classmethod
    def _from_plain(cls, value: object) -> Span:
        # A number without its clock deserves the same answer as a wrong text.
        return cls.parse(value if isinstance(value, str) else "")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from_text = core_schema.no_info_after_validator_function(
            cls._from_plain, core_schema.any_schema()
        )
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), from_text]
            ),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return _as_text(_PATTERN.pattern)


def _as_text(pattern: str) -> dict[str, Any]:
    """Return the JSON schema of a span; the name of a clock in `pattern` is narrowed to those known."""
    pattern = pattern.replace("([a-z_]+)", f"(?:{'|'.join(CLOCKS)})")
    return {
        "type": "string", "format": "span", "pattern": f"^{pattern}$", "examples": ["1000 updates"],
    }  # fmt: skip


def _above_zero(span: Span) -> Span:
    if span.amount <= 0:
        raise ValueError("must be above 0")
    return span


# Text that is no 0 before the clock: what `_above_zero` accepts.
_POSITIVE = rf"(?!\s*[0_.]+(?:[eE]|\s)){_PATTERN.pattern}"
PositiveSpan = Annotated[Span, AfterValidator(_above_zero), WithJsonSchema(_as_text(_POSITIVE))]
