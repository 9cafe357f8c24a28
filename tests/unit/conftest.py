from hypothesis import HealthCheck, settings

# Property tests are limited by examples, not seconds, so that a busy machine does not fail one.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("steady")
