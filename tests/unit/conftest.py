from hypothesis import HealthCheck, settings

# Examples, not seconds, bound a property test: a busy machine must not fail one.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("steady")
