"""Tasks × strategies × seeds → learning curves."""

from surveyor.lab.benchmark.conduct import Outcome, benchmark
from surveyor.lab.benchmark.loading import load_benchmark
from surveyor.lab.benchmark.schema import BenchmarkSpec

__all__ = ["BenchmarkSpec", "Outcome", "benchmark", "load_benchmark"]
