"""Looking at a tape: where numbers go wrong, and what an op means."""

from minigrad.explorer.anomaly import AnomalyError, detect_anomaly
from minigrad.explorer.explain import explain

__all__ = ["AnomalyError", "detect_anomaly", "explain"]
