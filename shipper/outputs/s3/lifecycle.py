"""The bucket's lifecycle rules that an output asks for, and what becomes of those that are there. Pure: no requests.

A bucket has one list of rules, which is only ever written as a whole. Ours are known by their ids; all others stay as
they are, member for member.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shipper.errors import ShipperError
from shipper.outputs.s3.config import LifecycleConfig, S3Config
from shipper.outputs.s3.keys import fixed_folder

DAY_S = 86400
Rule = Mapping[str, Any]


def wanted_rules(config: S3Config, lifecycle: LifecycleConfig) -> list[Rule]:
    objects: dict[str, Any] = {
        "ID": f"{_own_ids(config)}objects",
        "Status": "Enabled",
        "Filter": {"Prefix": fixed_folder(config.key)},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _days(lifecycle.abort_uploads)},
    }
    ages = (("GLACIER", lifecycle.glacier), ("DEEP_ARCHIVE", lifecycle.deep_archive))
    transitions = [{"Days": _days(age), "StorageClass": name} for name, age in ages if age is not None]
    if transitions:
        objects["Transitions"] = transitions
    if lifecycle.expire is None:
        return [objects]
    objects["Expiration"] = {"Days": _days(lifecycle.expire)}
    if config.manifest is None:
        return [objects]
    lists = {
        "ID": f"{_own_ids(config)}manifest",
        "Status": "Enabled",
        "Filter": {"Prefix": config.manifest.prefix},
        "Expiration": {"Days": _days(lifecycle.expire) + 1},  # not before what it lists
    }
    return [objects, lists]


def merged_rules(config: S3Config, current: Sequence[Rule], wanted: Sequence[Rule]) -> list[Rule]:
    """What the bucket should have: others' rules as they are, and ours."""
    return [rule for rule in current if not _is_ours(config, rule)] + list(wanted)


def differences(config: S3Config, current: Sequence[Rule], wanted: Sequence[Rule]) -> list[str]:
    """In words; empty when nothing is to be done."""
    before = {_id(rule): _in_words(rule) for rule in current if _is_ours(config, rule)}
    after = {_id(rule): _in_words(rule) for rule in wanted}
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, {}), after.get(name, {})
        changes = list(_changes(old, new))
        if changes:
            done = "is to go" if not new else "changes" if old else "is new"
            lines += [f"lifecycle rule {name}: {done}", *(f"  {change}" for change in changes)]
    return lines


def refuse_to_weaken(config: S3Config, current: Sequence[Rule], wanted: Sequence[Rule]) -> None:
    """Raises ShipperError where somebody else keeps longer what our rules would expire: the sooner end counts."""
    for rule in current:
        days = _expires_after(rule)
        if _is_ours(config, rule) or days is None or rule["Status"] != "Enabled":
            continue
        for own in wanted:
            own_days = _expires_after(own)
            if own_days is not None and own_days < days and _overlap(_prefix(rule), _prefix(own)):
                raise ShipperError(
                    f"the lifecycle rule {_id(rule)} of the bucket {config.bucket}, which shipper did not make, keeps "
                    f"{_prefix(rule) or 'all'} for {days} days; {_id(own)} would let it expire after {own_days}. "
                    "Nothing is changed: raise lifecycle.expire, or change that rule"
                )


def warnings(config: S3Config, current: Sequence[Rule], wanted: Sequence[Rule]) -> list[str]:
    """Rules of others that let expire what the configuration keeps."""
    lines = []
    for rule in current:
        days = _expires_after(rule)
        if _is_ours(config, rule) or days is None or rule["Status"] != "Enabled":
            continue
        sooner = [
            own for own in wanted if _overlap(_prefix(rule), _prefix(own)) and days < (_expires_after(own) or days + 1)
        ]
        if sooner:
            lines.append(
                f"mind: the lifecycle rule {_id(rule)}, which shipper did not make, lets {_prefix(rule) or 'all'} "
                f"expire after {days} days already"
            )
    return lines


def _own_ids(config: S3Config) -> str:
    """What the ids of this output's rules begin with."""
    return f"shipper-{config.name}-"


def _is_ours(config: S3Config, rule: Rule) -> bool:
    return _id(rule) in (f"{_own_ids(config)}objects", f"{_own_ids(config)}manifest")


def _id(rule: Rule) -> str:
    return str(rule.get("ID", ""))


def _days(seconds: float) -> int:
    return round(seconds / DAY_S)


def _prefix(rule: Rule) -> str:
    """Of the keys that it is about; a rule of old has it beside the filter."""
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix", chosen.get("And", {}).get("Prefix", rule.get("Prefix", ""))))


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _expires_after(rule: Rule) -> int | None:
    days = rule.get("Expiration", {}).get("Days")
    return None if days is None else int(days)


def _in_words(rule: Rule) -> dict[str, str]:
    """Each thing that it says, whatever form the server gives it back in."""
    words = {"keys": _prefix(rule) or "all", "status": str(rule.get("Status", ""))}
    for transition in rule.get("Transitions", ()):
        age = f"after {transition['Days']} days" if "Days" in transition else str(transition.get("Date"))
        words[f"to {transition['StorageClass']}"] = age
    if (days := _expires_after(rule)) is not None:
        words["expiry"] = f"after {days} days"
    if abort := rule.get("AbortIncompleteMultipartUpload"):
        words["abort of unfinished uploads"] = f"after {abort['DaysAfterInitiation']} days"
    known = ("ID", "Prefix", "Filter", "Status", "Transitions", "Expiration", "AbortIncompleteMultipartUpload")
    others = {name: value for name, value in rule.items() if name not in known and value}
    others |= {f"filter {name}": value for name, value in rule.get("Filter", {}).items() if name != "Prefix"}
    return words | {name: json.dumps(value, default=str) for name, value in others.items()}


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            yield f"+ {name}: {after[name]}"
        elif name not in after:
            yield f"- {name}: {before[name]}"
        elif before[name] != after[name]:
            yield f"~ {name}: {before[name]} -> {after[name]}"
