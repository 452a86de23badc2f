"""What is decided about a bucket's lifecycle rules, without a bucket."""

from typing import Any

import pytest

from shipper.errors import ShipperError
from shipper.outputs.s3.config import LifecycleConfig, ManifestConfig, S3Config
from shipper.outputs.s3.lifecycle import Rule, differences, merged_rules, refuse_to_weaken, wanted_rules, warnings

DAY = 86400.0
CONFIG = S3Config(name="archive", bucket="logs")
FULL = LifecycleConfig(glacier=30 * DAY, deep_archive=180 * DAY, expire=365 * DAY)


def expiry(prefix: str, days: int, **members: Any) -> Rule:
    return {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}, **members}


def test_rules_are_for_the_folder_of_the_keys_and_lists_outlive_what_they_list() -> None:
    assert wanted_rules(CONFIG, FULL) == [
        {
            "ID": "shipper-archive-objects",
            "Status": "Enabled",
            "Filter": {"Prefix": "logs/"},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}, {"Days": 180, "StorageClass": "DEEP_ARCHIVE"}],
            "Expiration": {"Days": 365},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
        {
            "ID": "shipper-archive-manifest",
            "Status": "Enabled",
            "Filter": {"Prefix": "manifest/"},
            "Expiration": {"Days": 366},
        },
    ]


def test_without_ages_nothing_is_moved_or_deleted_but_what_was_never_completed() -> None:
    (rule,) = wanted_rules(CONFIG, LifecycleConfig())
    assert rule.keys() == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}


def test_rules_of_others_stay_as_they_are() -> None:
    theirs = expiry("other/", 3, Odd={"member": 1})
    neighbour = {"ID": "shipper-archive-2-objects", "Status": "Enabled", "Filter": {"Prefix": "x/"}}
    old = {"ID": "shipper-archive-objects", "Status": "Disabled", "Prefix": "logs/"}
    wanted = wanted_rules(CONFIG, LifecycleConfig())
    assert merged_rules(CONFIG, [theirs, old, neighbour], wanted) == [theirs, neighbour, *wanted]


def test_the_difference_is_told_member_by_member() -> None:
    wanted = wanted_rules(CONFIG, FULL)
    assert differences(CONFIG, [expiry("x/", 1), *wanted], wanted) == []
    before = [*wanted_rules(CONFIG, LifecycleConfig(glacier=10 * DAY, expire=365 * DAY))]
    before[0] = {**before[0], "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    assert differences(CONFIG, before, wanted) == [
        "lifecycle rule shipper-archive-objects: changes",
        '  - NoncurrentVersionExpiration: {"NoncurrentDays": 1}',
        "  + to DEEP_ARCHIVE: after 180 days",
        "  ~ to GLACIER: after 10 days -> after 30 days",
    ]
    lines = differences(CONFIG, wanted, wanted_rules(CONFIG, LifecycleConfig()))
    assert "lifecycle rule shipper-archive-manifest: is to go" in lines


def test_a_rule_in_the_form_of_old_is_the_same_rule() -> None:
    (rule,) = wanted_rules(CONFIG, LifecycleConfig())
    old = {**{name: value for name, value in rule.items() if name != "Filter"}, "Prefix": "logs/"}
    assert differences(CONFIG, [old], [rule]) == []


@pytest.mark.parametrize("prefix", ["", "logs/", "logs/audit/"])
def test_what_somebody_else_keeps_longer_is_not_let_expire(prefix: str) -> None:
    with pytest.raises(ShipperError, match="the lifecycle rule theirs of the bucket logs, which shipper did not make"):
        refuse_to_weaken(CONFIG, [expiry(prefix, 3650)], wanted_rules(CONFIG, FULL))


@pytest.mark.parametrize(
    "theirs",
    [
        expiry("other/", 3650),
        expiry("logs/", 3650, Status="Disabled"),
        expiry("logs/", 30),
        expiry("logs/", 3650, ID="shipper-archive-objects"),
    ],
)
def test_other_rules_are_no_reason_to_refuse(theirs: Rule) -> None:
    refuse_to_weaken(CONFIG, [theirs], wanted_rules(CONFIG, FULL))


def test_a_rule_that_lets_expire_what_is_to_be_kept_is_told() -> None:
    (line,) = warnings(CONFIG, [expiry("logs/", 30)], wanted_rules(CONFIG, FULL))
    assert "the lifecycle rule theirs, which shipper did not make, lets logs/ expire after 30 days already" in line
    assert warnings(CONFIG, [expiry("logs/", 400), expiry("x/", 1)], wanted_rules(CONFIG, FULL)) == []
    assert len(warnings(CONFIG, [expiry("", 400)], wanted_rules(CONFIG, LifecycleConfig()))) == 1


def sentences(**settings: Any) -> list[str]:
    config = S3Config(bucket="logs", **settings)
    return [f.sentence for f in (*config.flaws(), *(config.lifecycle.flaws() if config.lifecycle else ()))]


def test_what_a_bucket_cannot_do_is_said_when_the_configuration_is_read() -> None:
    assert sentences(lifecycle=FULL) == []
    assert "whole days" in sentences(lifecycle=LifecycleConfig(expire=3600.0))[0]
    assert sentences(lifecycle=LifecycleConfig(glacier=9 * DAY, expire=9 * DAY)) == ["must come after glacier"]
    template = type(CONFIG.key).parse("{namespace}/{id}.ndjson.gz")
    assert "a folder of its own" in sentences(lifecycle=FULL, key=template)[0]
    assert "must not stand below logs/" in sentences(lifecycle=FULL, manifest=ManifestConfig(prefix="logs/lists/"))[0]
    assert "ends in /" in next(iter(ManifestConfig(prefix="lists").flaws())).sentence
