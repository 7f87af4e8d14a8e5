"""Training and testing by scanner vendor, for sets that say whose scanner an image is from."""

from collections import Counter
from collections.abc import Sequence

from nnunet_shapekd.dataset_conversion.target import option


def learned_vendors() -> Sequence[str] | None:
    """The field of an options class."""
    said = "train on these vendors only, test on the others' patients, too"
    return option("--train-vendors", nargs="+", metavar="VENDOR", help=said)


def judged_vendors() -> Sequence[str] | None:
    """The field of an options class."""
    said = "test on these vendors only, leave out the others' patients"
    return option("--test-vendors", nargs="+", metavar="VENDOR", help=said)


def subset_by_vendor(
    subset: str, vendor: str, training: Sequence[str] | None, testing: Sequence[str] | None
) -> str | None:
    """ "Tr" or "Ts" of a patient, None if left out.

    Args:
        subset: as the set itself or the folders say.
        vendor: the patient's.
        training: vendors to train on; None is all.
        testing: vendors to test on; None is all.
    """
    if subset == "Tr" and (training is None or _is_among(vendor, training)):
        return "Tr"
    return "Ts" if testing is None or _is_among(vendor, testing) else None


def vendor_problems(known: set[str], training: Sequence[str] | None, testing: Sequence[str] | None) -> list[str]:
    """Vendors asked for that no patient has."""
    there = ", ".join(sorted(known)) or "none"
    return [
        f"{argument} {vendor}: no such vendor; there are {there}"
        for argument, vendors in (("--train-vendors", training), ("--test-vendors", testing))
        for vendor in vendors or ()
        if not _is_among(vendor, known)
    ]


def vendor_remark(subset_of: Sequence[tuple[str, str]]) -> str:
    """How many patients of which vendor there are, from (vendor, subset) of each."""
    n = Counter(subset_of)
    shown = ", ".join(f"{vendor} {n[vendor, 'Tr']} + {n[vendor, 'Ts']}" for vendor in sorted({v for v, _ in n}))
    return f"Patients by vendor, training + test: {shown}."


def _is_among(vendor: str, vendors: Sequence[str] | set[str]) -> bool:
    return vendor.casefold() in {other.casefold() for other in vendors}
