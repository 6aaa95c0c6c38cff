"""Property tests run on shared, noisy machines: slowness is not a failure here."""

from hypothesis import HealthCheck, settings

settings.register_profile("freshet", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("freshet")
