"""Training and testing by scanner vendor, for sets that say whose scanner an image is from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_shapekd.dataset_conversion.target import Options, option


@dataclass(frozen=True, kw_only=True)
class VendorOptions(Options):
    """Whose scanners' images are trained on and judged; None is all vendors'."""

    train_vendors: Sequence[str] | None = option(
        "--train-vendors",
        nargs="+",
        metavar="VENDOR",
        help="train on these vendors only, test on the others' patients, too",
    )
    test_vendors: Sequence[str] | None = option(
        "--test-vendors",
        nargs="+",
        metavar="VENDOR",
        help="test on these vendors only, leave out the others' patients",
    )

    def subset_of(self, vendor: str, subset: str) -> str | None:
        """ "Tr" or "Ts" of a vendor's patient, in that subset by the set or the folders; None if left out."""
        if subset == "Tr" and (self.train_vendors is None or _is_among(vendor, self.train_vendors)):
            return "Tr"
        return "Ts" if self.test_vendors is None or _is_among(vendor, self.test_vendors) else None

    def vendor_problems(self, known: set[str]) -> list[str]:
        """Vendors asked for that no patient has."""
        there = ", ".join(sorted(known)) or "none"
        return [
            f"{argument} {vendor}: no such vendor; there are {there}"
            for argument, vendors in (("--train-vendors", self.train_vendors), ("--test-vendors", self.test_vendors))
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
