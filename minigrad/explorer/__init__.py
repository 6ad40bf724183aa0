"""Looking at a tape: where numbers go wrong."""

from minigrad.explorer.anomaly import AnomalyError, detect_anomaly

__all__ = ["AnomalyError", "detect_anomaly"]
