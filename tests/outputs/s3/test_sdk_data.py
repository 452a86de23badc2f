"""What is left of the SDK's data says the same as all of it, of what is asked for here."""

import re
from pathlib import Path
from typing import Any

import botocore.regions
import pytest
from botocore import xform_name
from botocore.exceptions import EndpointVariantError
from botocore.loaders import Loader
from botocore.model import ServiceModel

import shipper.outputs.s3
from shipper.outputs.s3.sdk_data import OPERATIONS, LeanLoader

LEAN, WHOLE = LeanLoader(), Loader()


def without_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [without_texts(each) for each in value]
    if isinstance(value, dict):
        return {k: without_texts(v) for k, v in value.items() if not (k == "documentation" and isinstance(v, str))}
    return value


def test_every_request_of_the_archives_code_is_known() -> None:
    folder = Path(shipper.outputs.s3.__file__).parent
    called = {name for path in folder.glob("*.py") for name in re.findall(r"\bclient\.([a-z]\w+)\(", path.read_text())}
    assert len(called) >= 10
    assert called <= {xform_name(operation) for operation in OPERATIONS}


def test_its_operations_are_those_of_the_whole_model_with_all_that_they_are_made_of() -> None:
    lean, whole = (ServiceModel(loader.load_service_model("s3", "service-2"), "s3") for loader in (LEAN, WHOLE))
    assert set(lean.operation_names) == OPERATIONS
    assert lean.metadata == whole.metadata
    assert lean.client_context_parameters == whole.client_context_parameters
    for name in OPERATIONS:
        ours, theirs = lean.operation_model(name), whole.operation_model(name)
        assert ours._operation_model == without_texts(theirs._operation_model)
        assert ours.http_checksum == theirs.http_checksum
        for shapes in ((ours.input_shape, theirs.input_shape), (ours.output_shape, theirs.output_shape)):
            assert is_same(*shapes, seen=set())
        assert [shape.name for shape in ours.error_shapes] == [shape.name for shape in theirs.error_shapes]


def is_same(ours: Any, theirs: Any, *, seen: set[str]) -> bool:
    """Two shapes, and those of which they are made."""
    if ours is None or ours.name in seen:
        return ours is theirs or theirs.name == ours.name
    seen.add(ours.name)
    assert ours._shape_model == without_texts(theirs._shape_model)
    pairs = zip(parts(ours), parts(theirs), strict=True)
    return all(is_same(a, b, seen=seen) for a, b in pairs)


def parts(shape: Any) -> list[Any]:
    match shape.type_name:
        case "structure":
            return list(shape.members.values())
        case "list":
            return [shape.member]
        case "map":
            return [shape.key, shape.value]
        case _:
            return []


def test_other_files_are_the_sdks_own() -> None:
    for name in ("partitions", "sdk-default-configuration", "_retry"):
        assert LEAN.load_data(name) == WHOLE.load_data(name)
    for service, kind in (("s3", "endpoint-rule-set-1"), ("sts", "service-2"), ("sso", "service-2")):
        assert LEAN.load_service_model(service, kind) == WHOLE.load_service_model(service, kind)


@pytest.mark.parametrize("service", ["s3", "sts", "portal.sso", "oidc"])
def test_addresses_are_the_same_in_every_region(service: str) -> None:
    lean, whole = (botocore.regions.EndpointResolver(loader.load_data("endpoints")) for loader in (LEAN, WHOLE))
    partitions = whole.get_available_partitions()
    assert lean.get_available_partitions() == partitions
    regions = [r for p in partitions for r in whole.get_available_endpoints(service, p, allow_non_regional=True)]
    assert len(regions) > 20
    for region in [*regions, "mars-east-1", "cn-mars-1"]:
        for more in ({}, {"use_fips_endpoint": True}, {"use_dualstack_endpoint": True}):
            assert address(lean, service, region, **more) == address(whole, service, region, **more)


def address(resolver: Any, service: str, region: str, **more: bool) -> Any:
    try:
        return resolver.construct_endpoint(service, region, **more)
    except EndpointVariantError as exc:
        return str(exc)
