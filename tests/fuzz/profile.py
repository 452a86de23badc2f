"""A pytest plugin: how much is drawn in each run of `make fuzz`."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=2000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
