"""The form of uids: counts of alphabets and lengths, to compare an export with the previous one.

A profile holds no uid.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SAMPLE = 2_048
"""Uids sampled from each block, at even distances: a profile is about shares, not about counts."""

ALPHABETS = ("digits", "hex", "letters and digits", "with @", "other ASCII", "beyond ASCII")
"""Each uid counts for the first alphabet that contains all its characters."""
_PATTERNS = (
    r"^[0-9]+$",
    r"^[0-9a-fA-F-]+$",
    r"^[0-9A-Za-z_-]+$",
    r"^[\x00-\x7f]*@[\x00-\x7f]*$",
    r"^[\x00-\x7f]+$",
)
_LONGEST = 64
"""Longer uids count as this long."""


class Profile:
    """Counts of uids by their form, added block by block."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        """Start with the counts that `document` returned, or with none."""
        self._counts = Counter(counts or {})

    def look(self, uids: pa.StringArray) -> None:
        """Count the forms of a block's uids; of many, a sample."""
        if not len(uids):
            return
        places = np.linspace(0, len(uids) - 1, min(len(uids), _SAMPLE)).astype(np.int64)
        self.look_at_sample(uids.take(pa.array(places)), len(uids))

    def look_at_sample(self, sample: pa.StringArray, represented: int) -> None:
        """Count the forms of a sample, which stands for a number of uids."""
        if not len(sample):
            return
        alphabets = np.full(len(sample), len(_PATTERNS), np.int64)
        others = np.arange(len(sample))
        for alphabet, pattern in enumerate(_PATTERNS):
            fits = pc.match_substring_regex(sample.take(pa.array(others)), pattern)
            is_fit = fits.to_numpy(zero_copy_only=False)
            alphabets[others[is_fit]] = alphabet
            others = others[~is_fit]
        lengths = np.minimum(pc.binary_length(sample).to_numpy(zero_copy_only=False), _LONGEST)
        # Each uid of the sample represents this many.
        weight = represented / len(sample)
        looks, counts = np.unique(alphabets * (_LONGEST + 1) + lengths, return_counts=True)
        for look, count in zip(looks.tolist(), counts.tolist(), strict=True):
            alphabet, length = divmod(look, _LONGEST + 1)
            key = f"{ALPHABETS[alphabet]} of {length}"
            self._counts[key] += round(count * weight)

    def document(self) -> dict[str, Any]:
        """Return the counts as plain values, for the ledger."""
        return dict(self._counts)

    @property
    def usual(self) -> str | None:
        """A description of the most frequent form; None without uids."""
        return max(self._counts, key=self._counts.__getitem__) if self._counts else None

    def distance(self, other: "Profile") -> float:
        """Return the share of uids that would need another form, from 0 to 1.

        Where lengths vary, as those of e-mail addresses do, only alphabets count. Where nearly all
        uids had one length, another length is another form.
        """
        with_length = self.is_uniform and other.is_uniform
        mine, theirs = self.shares(with_length=with_length), other.shares(with_length=with_length)
        if not mine or not theirs:
            return 0.0
        looks = mine.keys() | theirs.keys()
        return sum(abs(mine.get(look, 0.0) - theirs.get(look, 0.0)) for look in looks) / 2

    def shares(self, *, with_length: bool) -> dict[str, float]:
        """Return the share of the uids of each form."""
        total = sum(self._counts.values())
        shares: defaultdict[str, float] = defaultdict(float)
        for look, count in self._counts.items():
            name = look if with_length else look.rpartition(" of ")[0]
            shares[name] += count / total
        return shares

    @property
    def is_uniform(self) -> bool:
        """Whether nearly all uids have one length."""
        lengths: Counter[str] = Counter()
        for look, count in self._counts.items():
            lengths[look.rpartition(" of ")[2]] += count
        return bool(lengths) and max(lengths.values()) >= _NEARLY_ALL * sum(lengths.values())


_NEARLY_ALL = 0.98


class Inspection:
    """Inspects each uid of an export while it is staged."""

    def __init__(self, uid_pattern: str | None) -> None:
        """Take the regular expression (RE2) that the whole of each uid should match."""
        self.uid_pattern = uid_pattern
        self._pattern = None if uid_pattern is None else rf"\A(?:{uid_pattern})\z"
        self.profile = Profile()
        self.misfits = 0
        """Uids that the pattern does not match."""

    def look(self, uids: pa.StringArray) -> None:
        """Inspect a block's uids."""
        self.profile.look(uids)
        if self._pattern is not None:
            fits = pc.match_substring_regex(uids, self._pattern)
            self.misfits += len(uids) - (pc.sum(fits).as_py() or 0)
