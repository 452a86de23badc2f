"""What becomes of old indices: the configured `retention` as a policy of ILM or of ISM. Bodies only, no requests."""

from collections.abc import Mapping
from typing import Any

from shipper.outputs.elasticsearch.config import RetentionConfig, RolloverConfig
from shipper.values import show_duration

DESCRIPTION = "Made by `shipper setup`; changes are overwritten."
META = {"managed_by": "shipper", "description": DESCRIPTION}
ISM_PRIORITY = 200  # of its patterns among those of other policies
_PRIORITIES = {"hot": 100, "warm": 50, "cold": 0}  # the order in which indices are recovered
_UNITS = {"tb": 2**40, "gb": 2**30, "mb": 2**20, "kb": 2**10, "b": 1}


def show_size(count: int) -> str:
    """As both servers write sizes: 50gb is 50 GiB."""
    return next(f"{count // size}{unit}" for unit, size in _UNITS.items() if count % size == 0)


def ilm_policy(retention: RetentionConfig, *, rolls_over: bool) -> dict[str, Any]:
    """https://www.elastic.co/docs/manage-data/lifecycle/index-lifecycle-management"""
    rollover = _rollover("max_age", "max_size", retention.rollover) if rolls_over else {}
    phases: dict[str, Any] = {"hot": {"min_age": "0ms", "actions": rollover | _ilm_priority("hot")}}
    if retention.warm is not None:
        phases["warm"] = _ilm_phase(retention.warm, {"forcemerge": {"max_num_segments": 1}} | _ilm_priority("warm"))
    if retention.cold is not None:
        phases["cold"] = _ilm_phase(retention.cold, {"readonly": {}} | _ilm_priority("cold"))
    if retention.delete is not None:
        phases["delete"] = _ilm_phase(retention.delete, {"delete": {"delete_searchable_snapshot": True}})
    return {"phases": phases, "_meta": META}


def _rollover(age: str, size: str, rollover: RolloverConfig) -> dict[str, Any]:
    return {"rollover": {age: show_duration(rollover.max_age), size: show_size(rollover.max_size)}}


def _ilm_priority(phase: str) -> dict[str, Any]:
    return {"set_priority": {"priority": _PRIORITIES[phase]}}


def _ilm_phase(min_age_s: float, actions: dict[str, Any]) -> dict[str, Any]:
    return {"min_age": show_duration(min_age_s), "actions": actions}


def ism_policy(retention: RetentionConfig, *, pattern: str, rolls_over: bool) -> dict[str, Any]:
    """https://docs.opensearch.org/latest/im-plugin/ism/policies/"""
    actions: dict[str, list[dict[str, Any]]] = {
        "hot": [_rollover("min_index_age", "min_size", retention.rollover)] if rolls_over else [],
        "warm": [{"force_merge": {"max_num_segments": 1}}],
        "cold": [{"read_only": {}}],
        "delete": [{"delete": {}}],
    }
    ages = {"warm": retention.warm, "cold": retention.cold, "delete": retention.delete}
    names = ["hot", *(name for name, age in ages.items() if age is not None)]
    condition = "min_rollover_age" if rolls_over else "min_index_age"
    states = []
    for name, following in zip(names, [*names[1:], None], strict=True):
        priority = [{"index_priority": {"priority": _PRIORITIES[name]}}] if name in _PRIORITIES else []
        transitions = []
        if following is not None:
            conditions = {condition: show_duration(ages[following] or 0.0)}
            transitions = [{"state_name": following, "conditions": conditions}]
        states.append({"name": name, "actions": actions[name] + priority, "transitions": transitions})
    return {
        "description": DESCRIPTION,
        "default_state": "hot",
        "states": states,
        "ism_template": [{"index_patterns": [pattern], "priority": ISM_PRIORITY}],
    }


def plain_ism_policy(answered: Mapping[str, Any]) -> dict[str, Any]:
    """A policy as it was put: the server adds times, retries, and defaults."""
    states = [
        {
            "name": state["name"],
            "actions": [_plain_action(action) for action in state.get("actions", [])],
            "transitions": state.get("transitions", []),
        }
        for state in answered.get("states", [])
    ]
    templates = answered.get("ism_template") or []
    return {
        "description": answered.get("description"),
        "default_state": answered.get("default_state"),
        "states": states,
        "ism_template": [{key: each.get(key) for key in ("index_patterns", "priority")} for each in templates],
    }


def _plain_action(action: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {kind: value for kind, value in action.items() if kind not in ("retry", "timeout")}
    return {
        kind: {key: each for key, each in value.items() if not (kind == "rollover" and key == "copy_alias")}
        for kind, value in kinds.items()
    }
