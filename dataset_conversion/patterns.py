"""Regular expressions that a user gives to say what belongs together."""

import re

from nnunet_shapekd.dataset_conversion.target import ConversionError


def compiled(pattern: str, argument: str, flags: int = 0) -> re.Pattern[str]:
    """Raises ConversionError, naming the argument, if it is no regular expression."""
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise ConversionError(f"{argument} {pattern}: is no regular expression ({error})") from None


def case_pattern(pattern: str, argument: str, flags: int = 0) -> re.Pattern[str]:
    """Raises ConversionError, naming the argument, also if there is no group ``case``."""
    found = compiled(pattern, argument, flags)
    if "case" not in found.groupindex:
        raise ConversionError(f"{argument} {pattern}: has no group (?P<case>...), which must say what case it is of")
    return found
