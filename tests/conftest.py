"""What all tests share: hypothesis without a stopwatch."""

from hypothesis import HealthCheck, settings

# How long an example takes tells about the machine, not about the code.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("brief", untimed, max_examples=50)
# The same laws, searched harder: pytest --hypothesis-profile=thorough
settings.register_profile("thorough", untimed, max_examples=2000)
settings.load_profile("brief")
